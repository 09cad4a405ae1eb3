// SPDX-License-Identifier: Apache-2.0
//! Rule or default that a counter slot stands for.

use std::fmt;

use crate::policy::Policy;
use crate::verdict::{Direction, Verdict};

/// Rule, or a direction's default, in an operator's terms.
///
/// Displays as `allow-sip (line 7, accept)`, `#3 (line 12, drop)` or `default (drop)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleInfo {
    /// Name as written; `None` for rules without one and for the default.
    pub name: Option<String>,
    /// Comment as written; `None` for rules without one and for the default.
    pub comment: Option<String>,
    /// Number of the rule in its policy, from 1 and over both directions; 0 for the default.
    pub number: usize,
    /// Line where it begins, from 1; 0 for the default and for rules that come from no file.
    pub line: usize,
    /// Verdict of the frames that it decides.
    pub verdict: Verdict,
    /// Whether frames that it decides are logged.
    pub log: bool,
}

impl RuleInfo {
    /// Infos of one direction by slot: its rules, then its default.
    pub(crate) fn of(policy: &Policy, direction: Direction) -> Box<[RuleInfo]> {
        let rules = policy.rules_of(direction).map(|(index, rule)| {
            let (verdict, log) = policy.decision(rule);
            RuleInfo {
                name: rule.name.clone(),
                comment: rule.comment.clone(),
                number: index + 1,
                line: rule.at.line,
                verdict,
                log,
            }
        });
        let (verdict, log) = policy.default_decision(direction);
        let default = RuleInfo {
            name: None,
            comment: None,
            number: 0,
            line: 0,
            verdict,
            log,
        };
        rules.chain([default]).collect()
    }

    /// Whether this is a direction's default.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.number == 0
    }

    /// The rule's name, else its number as `#3`, or `default`. Names cannot look like the other two.
    #[must_use]
    pub fn label(&self) -> String {
        match &self.name {
            _ if self.is_default() => "default".to_owned(),
            Some(name) => name.clone(),
            None => format!("#{}", self.number),
        }
    }
}

impl fmt::Display for RuleInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label())?;
        match self.line {
            0 => write!(f, " ({})", self.verdict),
            line => write!(f, " (line {line}, {})", self.verdict),
        }
    }
}
