// SPDX-License-Identifier: Apache-2.0
//! Failures of a call, each with its CNI error code.

use std::io;
use std::path::PathBuf;

use serde_json::{Value, json};
use sluice_host::FileError;

use crate::spec::version::Version;

/// A failed call. Its [`code`](Error::code) is that of the CNI specification (section "Error"),
/// or the one a delegate answered with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing is known of the container (CHECK without an ADD).
    #[error("{0}")]
    Unknown(String),
    /// The environment lacks a variable or holds a bad one.
    #[error("{0}")]
    Environment(String),
    /// Standard input could not be read.
    #[error("cannot read the configuration from standard input: {0}")]
    Stdin(#[source] io::Error),
    /// Text is not the JSON that it should be.
    #[error("{what} is not valid JSON: line {line}, column {column}: {why}{hint}")]
    Json {
        /// Source of the text: `the configuration`, `the result of bridge`.
        what: String,
        /// From 1.
        line: usize,
        /// From 1, in bytes.
        column: usize,
        /// Message of the parser.
        why: String,
        /// Empty, or what is probably meant.
        hint: String,
    },
    /// The configuration says something that cannot be done.
    #[error("{0}")]
    Config(String),
    /// The CNI version asked for does not go with the call.
    #[error("{0}")]
    Version(String),
    /// `CNI_NETNS` cannot be used.
    #[error("{0}")]
    Netns(String),
    /// Not now.
    #[error("{0}")]
    TryAgain(String),
    /// STATUS: no ADD can be served.
    #[error("{0}")]
    Unavailable(String),
    /// STATUS: no ADD can be served, and existing containers are cut off.
    #[error("{0}")]
    Limited(String),
    /// A file could not be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// Delegate or ipam plugin failed.
    #[error(transparent)]
    Plugin(#[from] PluginError),
    /// Several steps of a teardown failed; the others were taken.
    #[error("{}", join(.0))]
    Several(Vec<Error>),
    /// Something that should work did not.
    #[error("{0}")]
    Internal(String),
}

/// The failure of a plugin that this one ran.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{plugin}: {msg}")]
pub struct PluginError {
    /// Plugin and its role: `delegate bridge of network x on eth0`.
    pub plugin: String,
    /// Code that the plugin gave; 999 if it gave none.
    pub code: u32,
    /// Message that the plugin gave.
    pub msg: String,
    /// Details that the plugin gave.
    pub details: String,
}

fn join(errors: &[Error]) -> String {
    let texts: Vec<String> = errors.iter().map(Error::to_string).collect();
    texts.join("; ")
}

impl Error {
    /// Returns a conversion for `map_err` that adds the operation and the path.
    pub fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| FileError::at(action, path)(source).into()
    }

    /// All of `errors` as one, or nothing if there is none.
    ///
    /// # Errors
    /// The errors.
    pub fn collect(mut errors: Vec<Error>) -> Result<(), Error> {
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(Error::Several(errors)),
        }
    }

    /// The CNI error code. Several errors have the first one's.
    pub fn code(&self) -> u32 {
        match self {
            Error::Version(_) => 1,
            Error::Unknown(_) => 3,
            Error::Environment(_) => 4,
            Error::Stdin(_) | Error::File(_) => 5,
            Error::Json { .. } => 6,
            Error::Config(_) => 7,
            Error::Netns(_) => 8,
            Error::TryAgain(_) => 11,
            Error::Unavailable(_) => 50,
            Error::Limited(_) => 51,
            Error::Plugin(failure) => failure.code,
            Error::Several(errors) => errors.first().map_or(999, Error::code),
            Error::Internal(_) => 999,
        }
    }

    /// Whether a retry gives the same answer: what was asked for, or with what, is refused (codes 1 to 4 and
    /// 6 to 8; a plugin that is not installed is 7). 5 is trouble with a file, which passes.
    pub fn is_final(&self) -> bool {
        match self {
            Error::Several(errors) => errors.iter().all(Error::is_final),
            error => matches!(error.code(), 1..=4 | 6..=8),
        }
    }

    /// The `details` member: what a delegate gave there, or a configuration hint.
    fn details(&self) -> &str {
        match self {
            Error::Plugin(failure) => &failure.details,
            Error::Several(errors) => errors.first().map_or("", Error::details),
            _ => "",
        }
    }

    /// The error object that goes to standard output.
    pub fn to_json(&self, version: Version) -> Value {
        let mut object = json!({
            "cniVersion": version.as_str(),
            "code": self.code(),
            "msg": self.to_string(),
        });
        if !self.details().is_empty() {
            object["details"] = self.details().into();
        }
        object
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn plugin(code: u32) -> Error {
        Error::Plugin(PluginError {
            plugin: "delegate x".into(),
            code,
            msg: "no".into(),
            details: "because".into(),
        })
    }

    #[test]
    fn a_delegates_code_and_details_are_kept() {
        let json = plugin(107).to_json(Version::V1_0_0);
        assert_eq!(json["code"], 107);
        assert_eq!(json["msg"], "delegate x: no");
        assert_eq!(json["details"], "because");
        assert_eq!(json["cniVersion"], "1.0.0");
    }

    #[test]
    fn several_errors_name_all_and_have_the_first_ones_code() {
        let error = Error::collect(vec![plugin(3), Error::Config("also this".into())]).unwrap_err();
        assert_eq!(error.code(), 3);
        assert_eq!(error.to_string(), "delegate x: no; also this");
        assert!(Error::collect(Vec::new()).is_ok());
    }

    #[test]
    fn what_a_retry_may_mend_is_told_from_what_it_does_not() {
        for code in [1, 2, 3, 4, 6, 7, 8] {
            assert!(plugin(code).is_final(), "{code}");
        }
        for code in [5, 11, 50, 100, 999] {
            assert!(!plugin(code).is_final(), "{code}");
            assert!(!Error::Several(vec![plugin(7), plugin(code)]).is_final());
        }
    }
}
