// SPDX-License-Identifier: Apache-2.0
//! Kinds of values that are words or names.

use super::kind::{Form, Grammar, Kind, Read, Word, find, no_word, word};
use super::value_error::ValueError;
use super::words::{BOOLEANS, DIRECTIONS, FRAGMENTS, SERVICES, STATES, Service, VERDICTS};
use crate::matches::Fragments;
use crate::policy::Directions;
use crate::states::State;
use crate::verdict::Verdict;

/// Most characters of a comment.
const MAX_COMMENT: usize = 200;

const NAME_FORM: Form = Form {
    name: "at most 63 letters, digits, `-`, `_` and `.`, a letter or digit first",
    pattern: "[A-Za-z0-9][A-Za-z0-9._-]{0,62}",
    examples: &["allow-sip", "voice_2", "0.a"],
};

/// Defines a kind whose values are the words of a table.
macro_rules! words {
    ($($(#[$doc:meta])* $kind:ident: $value:ty = $name:literal, $article:literal, $words:ident;)*) => {$(
        $(#[$doc])*
        pub(crate) enum $kind {}

        impl Kind for $kind {
            type Value = $value;

            const GRAMMAR: Grammar = Grammar {
                name: $name,
                words: || Word::plain($words),
                ..Grammar::NONE
                };

            fn read(text: &str) -> Read<$value> {
                word(text, $article, $words)
            }
        }
    )*};
}

words! {
    /// Verdict of a rule or a default.
    VerdictKind: Verdict = "verdicts", "a verdict", VERDICTS;
    /// Directions of a rule.
    DirectionKind: Directions = "directions", "a direction", DIRECTIONS;
    /// Truth value.
    BooleanKind: bool = "truth values", "a truth value", BOOLEANS;
    /// State of a connection.
    StateKind: State = "states", "a state of a connection", STATES;
    /// Kind of fragments.
    FragmentsKind: Fragments = "fragments", "a kind of fragments", FRAGMENTS;
}

/// Service.
pub(crate) enum ServiceKind {}

impl Kind for ServiceKind {
    type Value = Service;

    const GRAMMAR: Grammar = Grammar {
        name: "services",
        words: || Word::numbered(SERVICES, |service| service.to_string()),
        ..Grammar::NONE
    };

    fn read(text: &str) -> Read<Service> {
        word(text, "a service", SERVICES)
    }
}

/// Name of a policy, a set or an uplink.
pub(crate) enum NameKind {}

impl Kind for NameKind {
    type Value = String;

    const GRAMMAR: Grammar = Grammar {
        name: "names",
        takes_any_scalar: true,
        forms: &[NAME_FORM],
        ..Grammar::NONE
    };

    fn read(text: &str) -> Read<String> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if starts_well && text.len() <= 63 && text.chars().all(allowed) {
            return Ok(text.to_owned());
        }
        Err(ValueError::Name(text.to_owned()))
    }
}

/// Name of a rule; `default` is refused, since counters call a direction's default so.
pub(crate) enum RuleNameKind {}

impl Kind for RuleNameKind {
    type Value = String;

    const GRAMMAR: Grammar = Grammar {
        name: "names of rules",
        forms: &[Form {
            name: "like a name, but not `default`",
            ..NAME_FORM
        }],
        ..NameKind::GRAMMAR
    };

    fn read(text: &str) -> Read<String> {
        match text {
            "default" => Err(ValueError::ReservedName),
            _ => NameKind::read(text),
        }
    }
}

/// Whether frames are logged, and one of how many.
pub(crate) enum LogKind {}

impl LogKind {
    /// Highest sample.
    const MOST: u32 = 1_000_000;
}

impl Kind for LogKind {
    /// Number of frames of which one is logged; 0 if none is.
    type Value = u32;

    const GRAMMAR: Grammar = Grammar {
        name: "logs",
        words: || Word::plain(BOOLEANS),
        forms: &[Form {
            name: "one of so many frames, up to 1000000",
            pattern: "1/[0-9]+",
            examples: &["1/100"],
        }],
        ..Grammar::NONE
    };

    fn read(text: &str) -> Read<u32> {
        if let Some(digits) = text.strip_prefix("1/") {
            let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
            let sample: Option<u32> = is_number.then(|| digits.parse().ok()).flatten();
            let sample = sample.filter(|sample| (1..=LogKind::MOST).contains(sample));
            return sample.ok_or_else(|| ValueError::LogSample(text.to_owned()));
        }
        let logs = find(text, BOOLEANS).map(u32::from);
        let or_else = Some("1/100 for one of a hundred frames");
        logs.ok_or_else(|| no_word(text, "a value of `log`", BOOLEANS, or_else))
    }
}

/// Version of the language that a file is written in.
pub(crate) enum VersionKind {}

impl Kind for VersionKind {
    type Value = u8;

    const GRAMMAR: Grammar = Grammar {
        name: "versions",
        numbers: Some((1, 2)),
        forms: &[Form {
            name: "1 or 2",
            pattern: "[12]",
            examples: &["1", "2"],
        }],
        ..Grammar::NONE
    };

    fn read(text: &str) -> Read<u8> {
        match text {
            "1" => Ok(1),
            "2" => Ok(2),
            _ => Err(ValueError::Version(text.to_owned())),
        }
    }
}

/// Comment, which has no meaning to the firewall.
pub(crate) enum CommentKind {}

impl Kind for CommentKind {
    type Value = String;

    const GRAMMAR: Grammar = Grammar {
        name: "comments",
        takes_any_scalar: true,
        forms: &[Form {
            name: "text of one line, at most 200 characters",
            pattern: "[^\\u0000-\\u001f]{1,200}",
            examples: &["SIP from the branch offices"],
        }],
        ..Grammar::NONE
    };

    fn read(text: &str) -> Read<String> {
        // A line feed or an escape would write into the logs that show it.
        if text.chars().any(char::is_control) || text.chars().count() > MAX_COMMENT {
            return Err(ValueError::Comment);
        }
        Ok(text.to_owned())
    }
}
