// SPDX-License-Identifier: Apache-2.0
//! [`PolicyFolder`]: the policies on disk, which are those in force.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use sluice_api::PolicyProblem;
use sluice_host::engine::RecordError;
use sluice_host::store::{self, Staged};
use sluice_host::{Durability, FileError};

use crate::problem::unreadable;
use crate::{Files, SETS, SUFFIX};

/// Mode of policy files: people read them.
const MODE: u32 = 0o644;
/// Largest file that is read: no policy comes near this size.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// Folder of policy files.
#[derive(Debug, Clone)]
pub struct PolicyFolder {
    dir: PathBuf,
}

impl PolicyFolder {
    /// Names the folder; nothing is read yet.
    pub fn new(dir: PathBuf) -> PolicyFolder {
        PolicyFolder { dir }
    }

    /// Path of the folder.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Reads every `*.yaml` in it and in its folder of sets, names with a leading dot excepted. A
    /// folder that is not there has no files.
    ///
    /// # Errors
    /// A folder or a file cannot be read.
    pub fn read(&self) -> Result<Files, Vec<PolicyProblem>> {
        let mut files = Files::new();
        let mut problems = Vec::new();
        self.read_into("", &mut files, &mut problems);
        self.read_into(&format!("{SETS}/"), &mut files, &mut problems);
        match problems.is_empty() {
            true => Ok(files),
            false => Err(problems),
        }
    }

    /// Reads the files of one folder, whose names begin with `prefix`.
    fn read_into(&self, prefix: &str, files: &mut Files, problems: &mut Vec<PolicyProblem>) {
        let folder = self.dir.join(prefix);
        let cannot = |error| unreadable(&folder.to_string_lossy(), &error);
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => {
                problems.push(cannot(error));
                return;
            }
        };
        for entry in entries {
            let name = match entry {
                Ok(entry) => entry.file_name().to_string_lossy().into_owned(),
                Err(error) => {
                    problems.push(cannot(error));
                    continue;
                }
            };
            if name.starts_with('.') || !name.ends_with(SUFFIX) {
                continue;
            }
            let name = format!("{prefix}{name}");
            match read_file(&self.dir.join(&name)) {
                Ok(text) => {
                    files.insert(name, text);
                }
                Err(error) => problems.push(unreadable(&name, &error)),
            }
        }
    }

    /// Makes the folder hold `new` where it held `old`: every file is written beside its place
    /// first, so that what can fail has failed before the first rename.
    ///
    /// # Errors
    /// Something could not be written; the folder holds `old`, as far as that could be had.
    pub fn replace(&self, old: &Files, new: &Files) -> Result<(), RecordError> {
        let changed = || {
            new.iter()
                .filter(|(name, text)| old.get(*name) != Some(*text))
        };
        let mut staged: Vec<Staged> = Vec::new();
        for folder in self.folders(changed().map(|(name, _)| name)) {
            store::make_dir(&folder, 0o777)?;
        }
        for (name, text) in changed() {
            let path = self.dir.join(name);
            staged.push(store::stage(
                &path,
                text.as_bytes(),
                MODE,
                Durability::Synced,
            )?);
        }
        let done = staged
            .into_iter()
            .try_for_each(Staged::commit)
            .map_err(RecordError::from)
            .and_then(|()| self.remove_all(old.keys().filter(|name| !new.contains_key(*name))));
        if let Err(error) = done {
            self.put_back(old, new);
            return Err(error);
        }
        let removed = old.keys().filter(|name| !new.contains_key(*name));
        for folder in self.folders(removed.chain(changed().map(|(name, _)| name))) {
            store::sync_dir(&folder)?;
        }
        Ok(())
    }

    /// Folders of files of these names, each once, the outer one first.
    fn folders<'n>(&self, names: impl Iterator<Item = &'n String>) -> BTreeSet<PathBuf> {
        let folders = names.filter_map(|name| Some(self.dir.join(name).parent()?.to_owned()));
        folders.collect()
    }

    fn remove_all<'n>(&self, names: impl Iterator<Item = &'n String>) -> Result<(), RecordError> {
        for name in names {
            let path = self.dir.join(name);
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(FileError::at("remove", path)(error).into());
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Makes the folder hold `old` again after a change to `new` went wrong halfway.
    fn put_back(&self, old: &Files, new: &Files) {
        let restored = old
            .iter()
            .filter(|(name, text)| new.get(*name) != Some(*text))
            .try_for_each(|(name, text)| {
                let path = self.dir.join(name);
                store::write(&path, text.as_bytes(), MODE, Durability::Synced)
                    .map_err(RecordError::from)
            })
            .and_then(|()| self.remove_all(new.keys().filter(|name| !old.contains_key(*name))));
        if let Err(error) = restored {
            tracing::error!(
                "{} holds a mix of old and new policies, and the old ones are in force: {error}",
                self.dir.display()
            );
        }
    }
}

/// Reads one policy file.
///
/// # Errors
/// It is not there, too big, or not UTF-8.
pub fn read_file(path: &Path) -> io::Result<String> {
    let size = std::fs::metadata(path)?.len();
    if size > MAX_FILE_BYTES {
        return Err(io::Error::other(format!(
            "it is {size} bytes long, and {MAX_FILE_BYTES} are the most"
        )));
    }
    std::fs::read_to_string(path)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str)]) -> Files {
        list.iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
            .collect()
    }

    #[test]
    fn the_folder_is_read_whole() {
        let dir = tempfile::tempdir().unwrap();
        let folder = PolicyFolder::new(dir.path().join("none"));
        assert_eq!(folder.read().unwrap(), Files::new());
        let folder = PolicyFolder::new(dir.path().to_owned());
        std::fs::create_dir_all(dir.path().join("sets/deeper")).unwrap();
        std::fs::create_dir(dir.path().join("other")).unwrap();
        let all = ["a.yaml", "b.yml", ".c.yaml", "d.yaml~", "e"];
        for name in all.into_iter().chain([
            "sets/s.yaml",
            "sets/t",
            "sets/deeper/u.yaml",
            "other/v.yaml",
        ]) {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        let read = [("a.yaml", "a.yaml"), ("sets/s.yaml", "sets/s.yaml")];
        assert_eq!(folder.read().unwrap(), files(&read));
        std::fs::write(dir.path().join("f.yaml"), [0xff]).unwrap();
        assert_eq!(folder.read().unwrap_err()[0].file, "f.yaml");
    }

    #[test]
    fn replacing_writes_what_changed_and_removes_what_went() {
        let dir = tempfile::tempdir().unwrap();
        let folder = PolicyFolder::new(dir.path().join("policies"));
        let first = files(&[("a.yaml", "1"), ("b.yaml", "2")]);
        folder.replace(&Files::new(), &first).unwrap();
        assert_eq!(folder.read().unwrap(), first);
        let second = files(&[("b.yaml", "3"), ("c.yaml", "4")]);
        folder.replace(&first, &second).unwrap();
        assert_eq!(folder.read().unwrap(), second);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
        let with_set = files(&[("b.yaml", "3"), ("sets/s.yaml", "5")]);
        folder.replace(&second, &with_set).unwrap();
        assert_eq!(folder.read().unwrap(), with_set);
        folder.replace(&with_set, &first).unwrap();
        assert_eq!(folder.read().unwrap(), first);
    }

    #[test]
    fn a_failed_replacement_leaves_the_old() {
        let dir = tempfile::tempdir().unwrap();
        let folder = PolicyFolder::new(dir.path().to_owned());
        let old = files(&[("a.yaml", "1"), ("b.yaml", "2")]);
        folder.replace(&Files::new(), &old).unwrap();
        // A folder in the way of c.yaml: its rename fails, after a.yaml's succeeded.
        std::fs::create_dir_all(dir.path().join("c.yaml/x")).unwrap();
        let new = files(&[("a.yaml", "9"), ("c.yaml", "3")]);
        folder.replace(&old, &new).unwrap_err();
        std::fs::remove_dir_all(dir.path().join("c.yaml")).unwrap();
        assert_eq!(folder.read().unwrap(), old);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
