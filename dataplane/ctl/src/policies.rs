// SPDX-License-Identifier: Apache-2.0
//! `sluicectl policies check`, `apply` and `remove`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use sluice_api::client::Client;
use sluice_api::{PolicyFile, PolicyFiles, PolicyProblem, PolicyReport};

use super::output::{Output, Style};
use super::{Failure, tables};
use sluice_policies::{Files, PolicyFolder, SETS, compile, is_set, read_file, statuses};

/// Checks files with the engine's own reader and compiler, without an engine. Problems bear the
/// paths that were given.
pub(super) fn check(paths: &[PathBuf], output: &mut Output) -> Result<(), Failure> {
    let named: Files = read(paths)?
        .into_iter()
        .map(|file| (file.path, file.text))
        .collect();
    let mut files = sets_beside(&named)?;
    files.extend(named.clone());
    let report = match compile(0, &files, None) {
        Ok(compiled) => PolicyReport {
            problems: Vec::new(),
            warnings: {
                let warnings = compiled.warnings.into_iter();
                // Policies that are not among these files may use a set that lies beside them, or is
                // checked alone.
                let has_policies = named.keys().any(|path| !is_set(path));
                let is_asked = |warning: &PolicyProblem| {
                    !is_set(&warning.file) || has_policies && named.contains_key(&warning.file)
                };
                warnings.filter(is_asked).collect()
            },
            changes: Vec::new(),
            policies: statuses(&compiled.set),
            version: 0,
        },
        Err(problems) => PolicyReport {
            problems,
            warnings: Vec::new(),
            changes: Vec::new(),
            policies: Vec::new(),
            version: 0,
        },
    };
    show(&report, tables::report, output)
}

/// Reads the sets in the folders of policies that were named alone, with their paths.
fn sets_beside(named: &Files) -> Result<Files, Failure> {
    let folders = named.keys().filter(|path| !is_set(path));
    let folders = folders.filter_map(|path| Path::new(path).parent());
    let folders: BTreeSet<PathBuf> = folders.map(|folder| folder.join(SETS)).collect();
    let mut files = Files::new();
    for path in folders {
        let found = PolicyFolder::new(path.clone()).read().map_err(|problems| {
            let path = path.clone();
            Failure::Folder { path, problems }
        })?;
        for (name, text) in found {
            files.insert(path.join(&name).display().to_string(), text);
        }
    }
    Ok(files)
}

/// Applies files through the engine.
pub(super) fn apply(
    client: &Client,
    paths: &[PathBuf],
    replace_all: bool,
    output: &mut Output,
) -> Result<(), Failure> {
    let files = read(paths)?
        .into_iter()
        .map(|file| PolicyFile {
            name: file.name,
            yaml: file.text,
        })
        .collect();
    let report = client.apply_policies(&PolicyFiles { files, replace_all })?;
    show(&report, tables::changes, output)
}

/// Removes a policy through the engine.
pub(super) fn remove(
    client: &Client,
    name: &str,
    force: bool,
    output: &mut Output,
) -> Result<(), Failure> {
    let report = client.remove_policy(name, force)?;
    show(&report, tables::changes, output)
}

fn show(
    report: &PolicyReport,
    table: fn(&PolicyReport, Style) -> String,
    output: &mut Output,
) -> Result<(), Failure> {
    output.show(report, table)?;
    if report.problems.is_empty() {
        Ok(())
    } else {
        Err(Failure::Shown)
    }
}

/// Policy file that was read.
struct Found {
    /// Path as it was given, for messages.
    path: String,
    /// Name in the folder of policies.
    name: String,
    text: String,
}

/// Reads files, and those of folders.
fn read(paths: &[PathBuf]) -> Result<Vec<Found>, Failure> {
    let mut found = Vec::new();
    for path in paths {
        if path.is_dir() {
            let files = PolicyFolder::new(path.clone()).read().map_err(|problems| {
                let path = path.clone();
                Failure::Folder { path, problems }
            })?;
            if files.is_empty() {
                return Err(Failure::NoFiles { path: path.clone() });
            }
            for (name, text) in files {
                found.push(Found {
                    path: path.join(&name).display().to_string(),
                    name,
                    text,
                });
            }
        } else {
            let text = read_file(path).map_err(|source| Failure::File {
                path: path.clone(),
                source,
            })?;
            found.push(Found {
                path: path.display().to_string(),
                name: file_name(path),
                text,
            });
        }
    }
    Ok(found)
}

/// Name that a file has in the folder of policies: its own, in `sets` if it lies in such a folder.
fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match is_set(&path.to_string_lossy()) {
        true => format!("{SETS}/{name}"),
        false => name.into_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_as_in_the_folder_of_policies() {
        let dir = tempfile::tempdir().unwrap();
        let sets = dir.path().join(SETS);
        std::fs::create_dir(&sets).unwrap();
        std::fs::write(dir.path().join("a.yaml"), "name: a\nvlans: $v\n").unwrap();
        std::fs::write(sets.join("v.yaml"), "name: v\nvlans: [7]\n").unwrap();
        let names = |paths: &[PathBuf]| -> Vec<String> {
            let found = read(paths).unwrap_or_else(|_| panic!("{paths:?}"));
            found.into_iter().map(|file| file.name).collect()
        };
        assert_eq!(names(&[dir.path().to_owned()]), ["a.yaml", "sets/v.yaml"]);
        assert_eq!(names(&[sets.join("v.yaml")]), ["sets/v.yaml"]);
        let alone = [dir.path().join("a.yaml")];
        assert_eq!(names(&alone), ["a.yaml"]);

        // A policy that is checked alone finds the sets that lie beside it.
        let named: Files = read(&alone)
            .unwrap_or_else(|_| panic!("{alone:?}"))
            .into_iter()
            .map(|file| (file.path, file.text))
            .collect();
        let mut files = sets_beside(&named).unwrap_or_else(|_| panic!("{named:?}"));
        assert_eq!(files.len(), 1);
        files.extend(named);
        let compiled = compile(0, &files, None).unwrap();
        assert_eq!(statuses(&compiled.set)[0].vids, [7]);
    }
}
