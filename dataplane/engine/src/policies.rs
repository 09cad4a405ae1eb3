// SPDX-License-Identifier: Apache-2.0
//! Folder of policies: read as a whole, compiled as a whole, changed as a whole.
//!
//! The policies on disk are those in force: applying policies reads the folder again, merges the new
//! files in memory, compiles everything, and only then writes.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use sluice_api::{PolicyFiles, PolicyProblem, PolicyStatus};
use sluice_firewall::{Direction, Policy, PolicySet, Problem};

use sluice_host::store::{self, Staged};
use sluice_host::{Durability, FileError};

use crate::records::RecordError;

/// Suffix of policy files.
const SUFFIX: &str = ".yaml";
/// Mode of policy files: people read them.
const MODE: u32 = 0o644;
/// Largest file that is read: no policy comes near this size.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// Policy files by name, with their text.
pub type Files = BTreeMap<String, String>;

/// Result of compiling policy files.
#[derive(Debug)]
pub struct Compiled {
    /// Compiled policies, for the workers.
    pub set: PolicySet,
    /// Probable mistakes that do not keep the policies from being applied.
    pub warnings: Vec<PolicyProblem>,
}

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

    /// Reads every `*.yaml` in it, names with a leading dot excepted. A folder that is not there
    /// has no policies.
    ///
    /// # Errors
    /// The folder or a file cannot be read.
    pub fn read(&self) -> Result<Files, Vec<PolicyProblem>> {
        let entries = match std::fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Files::new()),
            Err(error) => return Err(vec![unreadable(&self.dir.to_string_lossy(), &error)]),
        };
        let mut files = Files::new();
        let mut problems = Vec::new();
        for entry in entries {
            let name = match entry {
                Ok(entry) => entry.file_name().to_string_lossy().into_owned(),
                Err(error) => {
                    problems.push(unreadable(&self.dir.to_string_lossy(), &error));
                    continue;
                }
            };
            if name.starts_with('.') || !name.ends_with(SUFFIX) {
                continue;
            }
            match read_file(&self.dir.join(&name)) {
                Ok(text) => {
                    files.insert(name, text);
                }
                Err(error) => problems.push(unreadable(&name, &error)),
            }
        }
        if problems.is_empty() {
            Ok(files)
        } else {
            Err(problems)
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
        if changed().next().is_some() {
            store::make_dir(&self.dir, 0o777)?;
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
        if old != new {
            store::sync_dir(&self.dir)?;
        }
        Ok(())
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

/// Applies `change` to `files` and returns the result.
///
/// # Errors
/// Names that cannot be those of policy files, or are there twice.
pub fn merge(files: &Files, change: &PolicyFiles) -> Result<Files, Vec<PolicyProblem>> {
    let mut merged = if change.replace_all {
        Files::new()
    } else {
        files.clone()
    };
    let mut seen = Files::new();
    let mut problems = Vec::new();
    for file in &change.files {
        if !good_name(&file.name) {
            problems.push(problem(
                &file.name,
                format!(
                    "it cannot be the name of a policy file: use letters, digits, `-`, `_` and \
                     `.`, no leading dot, and {SUFFIX} at the end"
                ),
            ));
        } else if seen.insert(file.name.clone(), String::new()).is_some() {
            problems.push(problem(
                &file.name,
                "it is there twice: send each file once".into(),
            ));
        }
        merged.insert(file.name.clone(), file.yaml.clone());
    }
    if problems.is_empty() {
        Ok(merged)
    } else {
        Err(problems)
    }
}

/// Checks and compiles files together. Tables that `previous` has already are taken from there.
///
/// # Errors
/// Every problem of the files.
pub fn compile(
    version: u64,
    files: &Files,
    previous: Option<&PolicySet>,
) -> Result<Compiled, Vec<PolicyProblem>> {
    let mut policies = Vec::new();
    let mut problems = Vec::new();
    for (name, text) in files {
        match Policy::parse(name, text) {
            Ok(policy) => policies.push(policy),
            Err(found) => problems.extend(found.into_iter().map(from_problem)),
        }
    }
    policies.sort_by(|a, b| (&a.name, &a.file).cmp(&(&b.name, &b.file)));
    if !problems.is_empty() {
        return Err(problems);
    }
    let set = PolicySet::build_from(version, &policies, previous)
        .map_err(|problems| problems.into_iter().map(from_problem).collect::<Vec<_>>())?;
    let warnings = policies
        .iter()
        .flat_map(|policy| policy.warnings())
        .map(from_problem)
        .collect();
    Ok(Compiled { set, warnings })
}

/// Status of each policy of a set, in order of name.
pub fn statuses(set: &PolicySet) -> Vec<PolicyStatus> {
    let mut statuses: Vec<PolicyStatus> = set
        .iter()
        .map(|(_, policy)| PolicyStatus {
            name: policy.name().to_owned(),
            file: policy.file().to_owned(),
            uplink: policy.uplink().map(str::to_owned),
            vids: {
                let ranges = policy.vlans().iter();
                let mut vids: Vec<u16> = ranges
                    .flat_map(|range| range.vids())
                    .map(u16::from)
                    .collect();
                vids.sort_unstable();
                vids.dedup();
                vids
            },
            rules: policy.written_rules(),
            default_ingress: policy.default_verdict(Direction::Ingress).to_string(),
            default_egress: policy.default_verdict(Direction::Egress).to_string(),
        })
        .collect();
    statuses.sort_by(|a, b| a.name.cmp(&b.name));
    statuses
}

/// Creates a problem that belongs to no line of a file.
pub fn problem(file: &str, message: String) -> PolicyProblem {
    PolicyProblem {
        file: file.to_owned(),
        line: 0,
        column: 0,
        message,
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

fn unreadable(file: &str, error: &io::Error) -> PolicyProblem {
    problem(file, format!("it cannot be read: {error}"))
}

fn from_problem(problem: Problem) -> PolicyProblem {
    PolicyProblem {
        file: problem.file,
        line: problem.line,
        column: problem.column,
        message: problem.message,
    }
}

/// Whether a name can be that of a policy file: it stays in the folder and is read there.
fn good_name(name: &str) -> bool {
    name.len() <= 128
        && name.len() > SUFFIX.len()
        && name.ends_with(SUFFIX)
        && !name.starts_with('.')
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use sluice_api::PolicyFile;

    fn policy(name: &str, vlan: u16) -> String {
        format!("name: {name}\nvlans: [{vlan}]\ndefault: {{ingress: drop, egress: accept}}\n")
    }

    fn files(list: &[(&str, &str)]) -> Files {
        list.iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
            .collect()
    }

    fn change(list: &[(&str, &str)], replace_all: bool) -> PolicyFiles {
        let files = list
            .iter()
            .map(|(name, yaml)| PolicyFile {
                name: (*name).into(),
                yaml: (*yaml).into(),
            })
            .collect();
        PolicyFiles { files, replace_all }
    }

    #[test]
    fn the_folder_is_read_whole() {
        let dir = tempfile::tempdir().unwrap();
        let folder = PolicyFolder::new(dir.path().join("none"));
        assert_eq!(folder.read().unwrap(), Files::new());
        let folder = PolicyFolder::new(dir.path().to_owned());
        for name in ["a.yaml", "b.yml", ".c.yaml", "d.yaml~", "e"] {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        assert_eq!(folder.read().unwrap(), files(&[("a.yaml", "a.yaml")]));
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

    #[test]
    fn merging_keeps_or_replaces() {
        let old = files(&[("a.yaml", "1"), ("b.yaml", "2")]);
        let kept = merge(&old, &change(&[("b.yaml", "3")], false)).unwrap();
        assert_eq!(kept, files(&[("a.yaml", "1"), ("b.yaml", "3")]));
        let replaced = merge(&old, &change(&[("b.yaml", "3")], true)).unwrap();
        assert_eq!(replaced, files(&[("b.yaml", "3")]));
        for name in ["../x.yaml", "x", ".x.yaml", ".yaml", "a b.yaml", ""] {
            assert!(
                merge(&old, &change(&[(name, "1")], false)).is_err(),
                "{name} was taken"
            );
        }
        assert!(merge(&old, &change(&[("a.yaml", "1"), ("a.yaml", "2")], false)).is_err());
    }

    #[test]
    fn compiling_reports_every_file() {
        let good = policy("voice", 210);
        let compiled = compile(7, &files(&[("voice.yaml", &good)]), None).unwrap();
        assert_eq!(compiled.set.version(), 7);
        let statuses = statuses(&compiled.set);
        assert_eq!(
            (statuses[0].name.as_str(), statuses[0].vids.as_slice()),
            ("voice", &[210][..])
        );
        assert_eq!(statuses[0].default_egress, "accept");

        let bad = files(&[
            ("a.yaml", "name: a\nvlnas: [1]\n"),
            ("b.yaml", "["),
            ("c.yaml", &good),
        ]);
        let problems = compile(1, &bad, None).unwrap_err();
        let found: Vec<&str> = problems
            .iter()
            .map(|problem| problem.file.as_str())
            .collect();
        assert!(
            found.contains(&"a.yaml") && found.contains(&"b.yaml"),
            "{problems:?}"
        );
        assert_eq!(problems[0].line, 2, "{problems:?}");
    }

    #[test]
    fn the_samples_are_good() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/policies");
        let files = PolicyFolder::new(dir).read().unwrap();
        assert!(files.len() >= 2, "{:?}", files.keys());
        let compiled = compile(1, &files, None).unwrap();
        assert_eq!(compiled.warnings, []);
    }

    #[test]
    fn two_policies_do_not_share_a_segment() {
        let clash = files(&[("a.yaml", &policy("a", 5)), ("b.yaml", &policy("b", 5))]);
        let problems = compile(1, &clash, None).unwrap_err();
        assert!(problems[0].message.contains("VLAN 5"), "{problems:?}");
    }
}
