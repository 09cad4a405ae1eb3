// SPDX-License-Identifier: Apache-2.0
//! Reader of a rule's limit.

use super::keys;
use super::kind::Word;
use super::kind::{Form, Grammar, Kind, Read, word};
use super::reader::{Fields, Reader};
use super::value_error::ValueError;
use super::words::LIMIT_SCOPES;
use crate::limit::{Limit, LimitScope};
use crate::verdict::Verdict;

/// Most rules with a limit in a policy: an attachment has as many buckets for those of its policies.
const MOST_LIMITS: usize = 16;

/// Rate: a number a second.
pub(crate) enum RateKind {}

impl Kind for RateKind {
    type Value = u64;

    const GRAMMAR: Grammar = Grammar {
        name: "rates",
        forms: &[Form {
            name: "number a second, in thousands with `k`, millions with `M`, thousands of millions with `G`",
            pattern: "[0-9]+[kMG]?/s",
            examples: &["1000/s", "20k/s", "10M/s"],
        }],
        ..Grammar::NONE
    };

    fn read(text: &str) -> Read<u64> {
        let refused = || ValueError::Rate(text.to_owned());
        let number = text.strip_suffix("/s").ok_or_else(refused)?;
        let digits = number.trim_end_matches(['k', 'M', 'G']);
        let factor = match number.strip_prefix(digits) {
            Some("") => 1,
            Some("k") => 1_000,
            Some("M") => 1_000_000,
            Some("G") => 1_000_000_000,
            _ => return Err(refused()),
        };
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let number: Option<u64> = is_number.then(|| digits.parse().ok()).flatten();
        let rate = number.and_then(|number| number.checked_mul(factor));
        rate.filter(|rate| (1..=Limit::MOST_PER_SECOND).contains(rate))
            .ok_or_else(refused)
    }
}

/// Length of a burst.
pub(crate) enum BurstKind {}

impl Kind for BurstKind {
    type Value = u32;

    const GRAMMAR: Grammar = Grammar {
        name: "bursts",
        forms: &[Form {
            name: "time from `1ms` to `10000ms`, or in seconds",
            pattern: "[0-9]+(ms|s)",
            examples: &["100ms", "2s"],
        }],
        ..Grammar::NONE
    };

    fn read(text: &str) -> Read<u32> {
        let in_unit = |unit: &str, factor: u32| {
            let digits = text.strip_suffix(unit)?;
            let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            let number: Option<u32> = is_number.then(|| digits.parse().ok()).flatten();
            number.and_then(|number| number.checked_mul(factor))
        };
        let burst = in_unit("ms", 1).or_else(|| in_unit("s", 1000));
        burst
            .filter(|burst| (1..=Limit::MOST_BURST_MS).contains(burst))
            .ok_or_else(|| ValueError::Burst(text.to_owned()))
    }
}

/// Traffic that shares a limit.
pub(crate) enum LimitScopeKind {}

impl Kind for LimitScopeKind {
    type Value = LimitScope;

    const GRAMMAR: Grammar = Grammar {
        name: "scopes of limits",
        words: || Word::plain(LIMIT_SCOPES),
        ..Grammar::NONE
    };

    fn read(text: &str) -> Read<LimitScope> {
        word(text, "a scope of a limit", LIMIT_SCOPES)
    }
}

/// Reads the limit of a rule.
pub(super) fn read(
    reader: &mut Reader<'_>,
    rule: &Fields<'_, '_>,
    verdict: Option<Verdict>,
) -> Option<Limit> {
    let node = rule.node("limit")?;
    let fields = reader.keyed(node, "`limit`", keys::LIMIT, &[])?;
    let frames = reader.one::<RateKind>(&fields, "frames");
    let bytes = reader.one::<RateKind>(&fields, "bytes");
    let burst = reader.one::<BurstKind>(&fields, "burst");
    let per = reader.one::<LimitScopeKind>(&fields, "per");
    if !fields.has("frames") && !fields.has("bytes") {
        let message = "`limit` needs `frames` or `bytes`, such as `limit: {frames: 1000/s}`";
        reader.problem(node.at, message);
    }
    if let Some(verdict @ (Verdict::Drop | Verdict::Reject)) = verdict {
        let message = format!(
            "`limit` goes with `verdict: accept`, which it bounds; by this rule nothing passes ({verdict})"
        );
        reader.problem(rule.at("limit"), message);
    }
    Some(Limit {
        frames,
        bytes,
        burst_ms: burst.unwrap_or(Limit::BURST_MS),
        per: per.unwrap_or(LimitScope::Attachment),
    })
}

/// Refuses more rules with limits than there are buckets for.
pub(super) fn check_number(reader: &mut Reader<'_>, rules: &[crate::policy::Rule]) {
    let mut limited = rules.iter().filter(|rule| rule.limit.is_some());
    if let Some(rule) = limited.nth(MOST_LIMITS) {
        let message = format!(
            "more than {MOST_LIMITS} rules of the policy have a `limit`; give one rule the conditions of several"
        );
        reader.problem(rule.at, message);
    }
}
