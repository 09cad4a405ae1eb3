// SPDX-License-Identifier: Apache-2.0
//! Policies: files to be checked or applied, reports about them, and those in force.

use serde::{Deserialize, Serialize};

/// Policy files as they are on disk, to be checked or applied together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyFiles {
    /// Files, one policy or one named set each.
    pub files: Vec<PolicyFile>,
    /// Whether policies that are not among `files` are removed (`PUT` only).
    #[serde(default)]
    pub replace_all: bool,
}

/// Name and text of a policy file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyFile {
    /// Name, for messages and, on apply, for the file in the policy directory; of a named set with
    /// `sets/` before it. Engines of release 0.1 refuse such names.
    pub name: String,
    /// Text of the file.
    pub yaml: String,
}

/// Report of checking or applying policies. With a problem nothing was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyReport {
    /// Errors, by file, line and column.
    pub problems: Vec<PolicyProblem>,
    /// Probable mistakes that have a meaning; they do not keep policies from being applied.
    #[serde(default)]
    pub warnings: Vec<PolicyProblem>,
    /// Policies that are not as they were in force before, in order of name.
    #[serde(default)]
    pub changes: Vec<PolicyChange>,
    /// The policies, in order of name: as checked, or as in force.
    pub policies: Vec<PolicyStatus>,
    /// The version the workers judge by now.
    pub version: u64,
}

/// Difference between the policies in force before and those of a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyChange {
    /// Name of the policy.
    pub policy: String,
    /// The file it is in, or was.
    pub file: String,
    /// Kind of the change.
    pub kind: ChangeKind,
}

/// Kind of a change of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// Policy of a name that none had.
    Added,
    /// Changed text.
    Changed,
    /// Policy whose name none has any more.
    Removed,
}

/// Error or warning about a policy file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyProblem {
    /// The file's name.
    pub file: String,
    /// From 1; 0 where none applies.
    pub line: usize,
    /// From 1; 0 where none applies.
    pub column: usize,
    /// Message: what is wrong, and what is allowed.
    pub message: String,
}

/// Status of one policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyStatus {
    /// Name of the policy.
    pub name: String,
    /// The file it was read from.
    pub file: String,
    /// The uplink it is limited to; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uplink: Option<String>,
    /// The VIDs it applies to (0 is untagged).
    pub vids: Vec<u16>,
    /// Written rules.
    pub rules: usize,
    /// Named sets that it uses, in order of name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sets: Vec<String>,
    /// Default verdict towards pods.
    pub default_ingress: String,
    /// Default verdict from pods.
    pub default_egress: String,
    /// Whether its verdicts are only tried: what it would drop or reject passes, counted and logged.
    /// The default verdicts are then `accept` or `audit`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub audit: bool,
}
