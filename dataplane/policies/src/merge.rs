// SPDX-License-Identifier: Apache-2.0
//! [`merge`]: a change of the policy files, made in memory and checked before anything is written.

use sluice_api::{PolicyFiles, PolicyProblem};

use crate::problem::problem;
use crate::{Files, SETS, SUFFIX};

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
                     `.`, no leading dot, and {SUFFIX} at the end; for a set {SETS}/ before it"
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

/// Whether a name can be that of a policy file or of a set's: it stays in the folder and is read there.
fn good_name(name: &str) -> bool {
    let in_sets = name
        .strip_prefix(SETS)
        .and_then(|name| name.strip_prefix('/'));
    let name = in_sets.unwrap_or(name);
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
    fn merging_keeps_or_replaces() {
        let old = files(&[("a.yaml", "1"), ("b.yaml", "2")]);
        let kept = merge(&old, &change(&[("b.yaml", "3")], false)).unwrap();
        assert_eq!(kept, files(&[("a.yaml", "1"), ("b.yaml", "3")]));
        let replaced = merge(&old, &change(&[("b.yaml", "3")], true)).unwrap();
        assert_eq!(replaced, files(&[("b.yaml", "3")]));
        for name in [
            "../x.yaml",
            "x",
            ".x.yaml",
            ".yaml",
            "a b.yaml",
            "",
            "sets/../x.yaml",
            "sets/sets/x.yaml",
            "sets/.yaml",
            "other/x.yaml",
            "/sets/x.yaml",
        ] {
            assert!(
                merge(&old, &change(&[(name, "1")], false)).is_err(),
                "{name} was taken"
            );
        }
        let with_set = merge(&old, &change(&[("sets/x.yaml", "1")], false)).unwrap();
        assert_eq!(with_set.len(), 3);
        assert!(merge(&old, &change(&[("a.yaml", "1"), ("a.yaml", "2")], false)).is_err());
    }
}
