// SPDX-License-Identifier: Apache-2.0
//! Results so far, in a file that is correct at any moment: a virtual machine may be lost in the middle of a
//! case, and the next one continues from the file.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::run::{Outcome, Ran};

/// Maximum number of times a case is begun: emulation may lose a machine once without the case's fault.
const TRIES: u32 = 2;

/// Results of the cases that ran, and the file they are written to.
#[derive(Debug, Default)]
pub(crate) struct Results {
    path: Option<PathBuf>,
    ran: Vec<Ran>,
}

impl Results {
    /// Creates results that are written to `path`; with `resume`, those already in the file count.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
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

    /// Records that a case begins and returns the number of times it has begun, or `None` if it is done.
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

    /// Replaces the record of a case's beginning by its result.
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
