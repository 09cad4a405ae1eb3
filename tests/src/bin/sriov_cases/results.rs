//! The results so far, in a file that is true at any moment: a machine may be lost under a case, and the
//! next one goes on from there.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::run::{Outcome, Ran};

/// How often a case is begun: a machine under emulation may be lost without its doing, once.
const TRIES: u32 = 2;

/// What ran, and where it is written.
#[derive(Debug, Default)]
pub(crate) struct Results {
    path: Option<PathBuf>,
    ran: Vec<Ran>,
}

impl Results {
    /// Results to be written to `path`; with `resume`, those that are there already count.
    ///
    /// # Errors
    ///
    /// What is there cannot be read.
    pub(crate) fn new(path: Option<&Path>, resume: bool) -> Result<Self> {
        let mut ran = Vec::new();
        if let Some(path) = path.filter(|path| resume && path.exists()) {
            let text = std::fs::read_to_string(path)?;
            ran = serde_json::from_str(&text)
                .with_context(|| format!("{} holds no results", path.display()))?;
        }
        Ok(Self {
            path: path.map(Path::to_path_buf),
            ran,
        })
    }

    /// Writes down that a case begins, and says how often it has by now; none when it is done.
    pub(crate) fn begin(&mut self, case: &str) -> Result<Option<u32>> {
        let earlier = self.ran.iter().position(|one| one.case == case);
        let mut begun = 0;
        if let Some(at) = earlier {
            let one = &self.ran[at];
            if one.outcome != Outcome::Lost || one.begun >= TRIES {
                return Ok(None);
            }
            begun = one.begun;
            self.ran.remove(at);
        }
        self.ran.push(Ran {
            case: case.to_owned(),
            outcome: Outcome::Lost,
            begun: begun + 1,
            seconds: 0.0,
            why: "the machine was lost under it".to_owned(),
            notes: Vec::new(),
        });
        self.write()?;
        Ok(Some(begun + 1))
    }

    /// Puts what a case came to in the place of what its beginning left.
    pub(crate) fn end(&mut self, ran: Ran) -> Result<()> {
        self.ran.retain(|one| one.case != ran.case);
        self.ran.push(ran);
        self.write()
    }

    pub(crate) fn ran(&self) -> &[Ran] {
        &self.ran
    }

    fn write(&self) -> Result<()> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        let json = serde_json::to_string_pretty(&self.ran)?;
        // Whole or not at all: this machine may be gone between two writes.
        let new = path.with_extension("new");
        std::fs::write(&new, json)
            .and_then(|()| std::fs::rename(&new, path))
            .with_context(|| format!("cannot write {}", path.display()))
    }
}
