// SPDX-License-Identifier: Apache-2.0
//! The one folder that everything of the demo lies in, and the mark that all its names bear.

use std::fs::{DirBuilder, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::failure::Failure;

/// Prefix of the names of every demo; this process's id follows.
pub(super) const MARK: &str = "sgd";

/// The folder; removed on drop.
#[derive(Debug)]
pub(super) struct Home {
    mark: String,
    dir: PathBuf,
}

impl Home {
    /// Makes it. Its name holds this process's id, as all names of the demo do.
    pub(super) fn make() -> Result<Home, Failure> {
        let mark = format!("{MARK}{}", std::process::id());
        let dir = std::env::temp_dir().join(&mark);
        DirBuilder::new()
            .mode(0o700)
            .create(&dir)
            .map_err(Failure::broken(format!(
                "make the folder {}",
                dir.display()
            )))?;
        let home = Home { mark, dir };
        for folder in ["log", "policies", "changed"] {
            let dir = home.path(folder);
            DirBuilder::new()
                .mode(0o700)
                .create(&dir)
                .map_err(Failure::broken(format!(
                    "make the folder {}",
                    dir.display()
                )))?;
        }
        Ok(home)
    }

    /// Prefix of every name of this demo: at most 10 characters.
    pub(super) fn mark(&self) -> &str {
        &self.mark
    }

    /// The folder.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// A path in it.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The log of one program.
    pub(super) fn log(&self, program: &str) -> PathBuf {
        self.dir.join("log").join(program)
    }

    /// Writes a file in it.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<PathBuf, Failure> {
        let path = self.path(name);
        std::fs::write(&path, text)
            .map_err(Failure::broken(format!("write {}", path.display())))?;
        Ok(path)
    }

    /// The files below some of its folders, relative to it.
    pub(super) fn files(&self, folders: &[&str]) -> Vec<String> {
        let mut found = Vec::new();
        for folder in folders {
            list(&self.path(folder), &mut found);
        }
        let short = |path: PathBuf| {
            let path = path.strip_prefix(&self.dir).unwrap_or(&path);
            path.display().to_string()
        };
        let mut names: Vec<String> = found.into_iter().map(short).collect();
        names.sort();
        names
    }

    /// The last lines of every log.
    pub(super) fn log_tails(&self, lines: usize) -> Vec<String> {
        let mut tails = Vec::new();
        for name in self.files(&["log"]) {
            let text = end_of(&self.dir.join(&name)).unwrap_or_default();
            let all: Vec<&str> = text.lines().collect();
            let program = name.trim_start_matches("log/").to_owned();
            for line in all.iter().skip(all.len().saturating_sub(lines)) {
                tails.push(format!("{program}: {line}"));
            }
        }
        tails
    }

    /// Removes it with all that is in it.
    pub(super) fn remove(&self) -> Result<(), Failure> {
        match std::fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                let what = format!("remove {}", self.dir.display());
                Err(Failure::broken(what)(error))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // The comparison at the end finds and names what could not be removed.
        let _ = self.remove();
    }
}

/// Everything below `dir` that is no folder.
fn list(dir: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => list(&entry.path(), found),
            _ => found.push(entry.path()),
        }
    }
}

/// The last 64 KiB of a file.
fn end_of(path: &Path) -> std::io::Result<String> {
    const MOST: u64 = 64 << 10;
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(MOST)))?;
    let mut bytes = Vec::new();
    file.take(MOST).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
