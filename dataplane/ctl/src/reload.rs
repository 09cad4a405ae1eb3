// SPDX-License-Identifier: Apache-2.0
//! `sluicectl reload`: the engine reads its configuration and its policies again.

use std::fmt::Write as _;

use sluice_api::ReloadReport;
use sluice_api::client::Client;

use super::Failure;
use super::output::{Output, Style};

/// Has the configuration read again; problems of it are a failure, settings that stay are none.
pub(super) fn run(client: &Client, output: &mut Output) -> Result<(), Failure> {
    let report = client.reload()?;
    output.show(&report, text)?;
    if report.problems.is_empty() {
        Ok(())
    } else {
        Err(Failure::Shown)
    }
}

fn text(report: &ReloadReport, _: Style) -> String {
    let mut text = String::new();
    for problem in &report.problems {
        let _ = writeln!(text, "{problem}");
    }
    if !report.problems.is_empty() {
        text.push_str("nothing was changed\n");
        return text;
    }
    for one in &report.changed {
        let _ = writeln!(text, "changed: {}: {} (was {})", one.key, one.now, one.was);
    }
    for one in &report.kept {
        let _ = writeln!(
            text,
            "kept: {}: {} (the file has {}): {}",
            one.key, one.running, one.wanted, one.why
        );
    }
    if report.changed.is_empty() && report.kept.is_empty() {
        text.push_str("the configuration is as it was\n");
    }
    let _ = writeln!(text, "{} policies in force", report.policies);
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_report_says_what_changed_what_stays_and_why() {
        let report = |value| serde_json::from_value::<ReloadReport>(value).unwrap();
        let text = |value| super::text(&report(value), Style::plain());
        let mixed = text(json!({
            "changed": [{"key": "log", "was": "info", "now": "debug"}],
            "kept": [{"key": "socket", "running": "/a", "wanted": "/b", "why": "restart"}],
            "policies": 3
        }));
        let expected = "changed: log: debug (was info)\n\
                        kept: socket: /a (the file has /b): restart\n3 policies in force\n";
        assert_eq!(mixed, expected);
        let wrong = text(json!({"problems": ["f.yaml:1:1: log: no"]}));
        assert_eq!(wrong, "f.yaml:1:1: log: no\nnothing was changed\n");
        assert!(text(json!({})).contains("as it was"));
    }
}
