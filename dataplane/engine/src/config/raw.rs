// SPDX-License-Identifier: Apache-2.0
//! Configuration file as written: its keys, and every value as text with its position, so that
//! [`super::check`] can say where each wrong one is and go on to the next.

use std::path::Path;

use serde::Deserialize;
use serde_saphyr::{Error, Spanned};

use super::Problem;

/// Value as written, with its position in the file.
pub(super) type Scalar = Spanned<String>;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawConfig {
    pub(super) uplinks: Option<Vec<Spanned<RawUplink>>>,
    pub(super) workers: Option<RawWorkers>,
    pub(super) memory: Option<RawMemory>,
    pub(super) idle: Option<RawIdle>,
    pub(super) limits: Option<RawLimits>,
    pub(super) posing: Option<RawPosing>,
    pub(super) policies: Option<Scalar>,
    pub(super) state_dir: Option<Scalar>,
    pub(super) run_dir: Option<Scalar>,
    pub(super) socket: Option<Scalar>,
    pub(super) log: Option<Scalar>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawUplink {
    pub(super) name: Option<Scalar>,
    pub(super) driver: Option<Scalar>,
    pub(super) device: Option<Scalar>,
    pub(super) read: Option<Scalar>,
    pub(super) write: Option<Scalar>,
    pub(super) mtu: Option<Scalar>,
    pub(super) ring_frames: Option<Scalar>,
    pub(super) native: Option<Scalar>,
    pub(super) tpids: Option<Spanned<Vec<Scalar>>>,
    pub(super) worker: Option<Scalar>,
    pub(super) posing: Option<RawPosingLimits>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawWorkers {
    pub(super) count: Option<Scalar>,
    pub(super) cores: Option<Spanned<Vec<Scalar>>>,
    pub(super) pin: Option<Scalar>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawMemory {
    pub(super) small_mbufs: Option<Scalar>,
    pub(super) large_mbufs: Option<Scalar>,
    pub(super) flow_cache: Option<Scalar>,
    pub(super) huge_pages: Option<Scalar>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawIdle {
    pub(super) pause_after: Option<Scalar>,
    pub(super) sleep_after: Option<Scalar>,
    pub(super) sleep_cap_us: Option<Scalar>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLimits {
    pub(super) attachment: Option<RawFloodLimits>,
    pub(super) wire: Option<RawWireLimits>,
    pub(super) groups: Option<Scalar>,
    pub(super) macs: Option<Scalar>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFloodLimits {
    pub(super) broadcast: Option<RawRate>,
    pub(super) multicast: Option<RawRate>,
    pub(super) arp_nd: Option<RawRate>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawWireLimits {
    pub(super) broadcast: Option<RawRate>,
    pub(super) multicast: Option<RawRate>,
    pub(super) arp_nd: Option<RawRate>,
    pub(super) groups: Option<RawRate>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRate {
    pub(super) rate: Option<Scalar>,
    pub(super) burst: Option<Scalar>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPosing {
    pub(super) loosest: Option<Scalar>,
    pub(super) promiscuous: Option<Scalar>,
    pub(super) pfs: Option<Vec<Spanned<RawPf>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPosingLimits {
    pub(super) loosest: Option<Scalar>,
    pub(super) promiscuous: Option<Scalar>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPf {
    pub(super) name: Option<Scalar>,
    pub(super) loosest: Option<Scalar>,
    pub(super) promiscuous: Option<Scalar>,
}

/// Parses the structure of the file.
pub(super) fn parse(file: &Path, text: &str) -> Result<RawConfig, Problem> {
    // An empty file is a mapping without keys.
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options::<Option<RawConfig>>(text, options)
        .map(Option::unwrap_or_default)
        .map_err(|error| problem(file, text, &error))
}

/// First problem of the structure.
fn problem(file: &Path, text: &str, error: &Error) -> Problem {
    let (line, column) = error
        .location()
        .map_or((0, 0), |at| (at.line(), at.column()));
    let (key, message) = match error.without_snippet() {
        Error::SerdeUnknownField {
            field, expected, ..
        } => (
            field.clone(),
            format!(
                "there is no such key here: use one of {}",
                expected.join(", ")
            ),
        ),
        Error::DuplicateMappingKey { key, .. } => (
            key.clone().unwrap_or_default(),
            "this key is here twice: keep one of them".to_owned(),
        ),
        Error::NullIntoString { .. } => (
            key_before(text, line, column),
            "there is no value: write one, or leave the key out".to_owned(),
        ),
        _ => (key_before(text, line, column), one_line(&error.to_string())),
    };
    Problem {
        file: file.to_owned(),
        line,
        column,
        key,
        message,
    }
}

/// Last key written before a position: the one that a value of the wrong shape belongs to.
fn key_before(text: &str, line: u64, column: u64) -> String {
    let mut found = "";
    for (number, content) in (1u64..)
        .zip(text.lines())
        .take_while(|(number, _)| *number <= line)
    {
        let content = content.split(" #").next().unwrap_or_default();
        let chars = if number < line {
            usize::MAX
        } else {
            usize::try_from(column).unwrap_or(1)
        };
        let end = content
            .char_indices()
            .nth(chars)
            .map_or(content.len(), |(at, _)| at);
        for (colon, _) in content[..end].match_indices(':') {
            let ends_key = matches!(content[colon + 1..].chars().next(), None | Some(' '));
            let word = content[..colon]
                .rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .next()
                .unwrap_or_default();
            if ends_key && !word.is_empty() {
                found = word;
            }
        }
    }
    found.to_owned()
}

/// Message of the parser for structure that fits nothing: its first line, without the position.
fn one_line(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    let line = line.strip_prefix("error: ").unwrap_or(line);
    let line = line.split(" at line ").next().unwrap_or(line);
    format!("{line}; see `sluiced --help` for the form of the file")
}
