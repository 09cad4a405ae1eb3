// SPDX-License-Identifier: Apache-2.0
//! Section `reaper`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use sluice_yaml::{Checker, Scalar};

/// Section `reaper` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    every: Option<Scalar>,
    grace: Option<Scalar>,
    cni_dir: Option<Scalar>,
    host_mounts: Option<Scalar>,
    dry_run: Option<Scalar>,
}

/// Section `reaper`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReaperConfig {
    /// Time between two runs.
    pub every: Duration,
    /// Time for which a pod must be gone before what it left is released.
    pub grace: Duration,
    /// Folder of CNI state, in which the plugins keep their records.
    pub cni_dir: PathBuf,
    /// Whether namespaces are looked for, and plugins run, in the mount namespace of the host's first process.
    pub host_mounts: bool,
    /// Whether it is only said what would be released.
    pub dry_run: bool,
}

impl Default for ReaperConfig {
    fn default() -> ReaperConfig {
        ReaperConfig {
            every: Duration::from_secs(60),
            grace: Duration::from_secs(300),
            cni_dir: PathBuf::from("/var/lib/cni"),
            host_mounts: true,
            dry_run: false,
        }
    }
}

/// Checks the section.
pub(super) fn check(checker: &mut Checker<'_>, raw: &Raw) -> ReaperConfig {
    let default = ReaperConfig::default();
    let cni_dir: &Path = &default.cni_dir;
    ReaperConfig {
        every: time(
            checker,
            "reaper.every",
            raw.every.as_ref(),
            default.every,
            1,
        ),
        grace: time(
            checker,
            "reaper.grace",
            raw.grace.as_ref(),
            default.grace,
            0,
        ),
        cni_dir: checker.path(
            "reaper.cni_dir",
            raw.cni_dir.as_ref(),
            &cni_dir.to_string_lossy(),
        ),
        host_mounts: checker.flag(
            "reaper.host_mounts",
            raw.host_mounts.as_ref(),
            default.host_mounts,
        ),
        dry_run: checker.flag("reaper.dry_run", raw.dry_run.as_ref(), default.dry_run),
    }
}

/// Parses a time of at least so many seconds, and a day at most.
fn time(
    checker: &mut Checker<'_>,
    key: &str,
    raw: Option<&Scalar>,
    default: Duration,
    least: u64,
) -> Duration {
    let Some(raw) = raw else { return default };
    match seconds(&raw.value) {
        Some(found) if (least..=86_400).contains(&found) => Duration::from_secs(found),
        _ => {
            let message = format!(
                "\"{}\" is not allowed: use a whole number with s, m or h behind it, from {least}s to 24h (default {}s)",
                raw.value,
                default.as_secs()
            );
            checker.problem(Some(raw.referenced), key, message);
            default
        }
    }
}

fn seconds(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::AgentConfig;
    use super::*;

    #[test]
    fn times_have_a_unit() {
        let parse = |text: &str| AgentConfig::parse(Path::new("a.yaml"), text, None);
        let config = parse("reaper: {every: 10s, grace: 1h, dry_run: true, host_mounts: false}\n");
        let config = config.unwrap().reaper.unwrap();
        assert_eq!((config.every.as_secs(), config.grace.as_secs()), (10, 3600));
        assert!(config.dry_run && !config.host_mounts);
        assert_eq!(
            parse("reaper: {}\n").unwrap().reaper.unwrap(),
            ReaperConfig::default()
        );
        let said = parse("reaper: {every: 0s, grace: '5'}\n")
            .unwrap_err()
            .to_string();
        assert!(
            said.contains("reaper.every") && said.contains("reaper.grace"),
            "{said}"
        );
    }
}
