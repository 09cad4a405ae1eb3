// SPDX-License-Identifier: Apache-2.0
//! Differences of the engine's counters between two moments.

use std::collections::BTreeMap;
use std::time::Duration;

use sluice_api::Counters;

use super::engine::Engine;
use super::failure::{Failure, expect_eq};
use super::interrupt::{Interrupt, Poll};

/// Longest time until counters show what frames have already shown.
const LIMIT: Duration = Duration::from_secs(10);
/// Time for which the counters must then stay the same.
const STAY: Duration = Duration::from_millis(200);

/// A rule: policy, direction (`ingress` or `egress`), name or `default`.
pub(super) type Rule<'a> = (&'a str, &'a str, &'a str);

/// A reading of all counters.
#[derive(Debug)]
pub(super) struct Reading {
    counters: Counters,
}

impl Reading {
    /// Reads them.
    pub(super) fn take(engine: &Engine<'_>) -> Result<Reading, Failure> {
        let counters = engine.ask("its counters", |client| client.counters())?;
        Ok(Reading { counters })
    }

    /// Frames that a rule decided.
    pub(super) fn rule(&self, (policy, direction, rule): Rule<'_>) -> Result<u64, Failure> {
        let found = self
            .counters
            .rules
            .iter()
            .find(|one| one.policy == policy && one.direction == direction && one.rule == rule);
        found.map(|one| one.frames).ok_or_else(|| {
            let what = format!("the counter of rule {rule} of policy {policy}, {direction}");
            Failure::unexpected(what, "there is one", "the engine has none")
        })
    }

    /// Frames that each rule with verdict drop or reject, defaults included, decided.
    fn refused(&self) -> BTreeMap<String, u64> {
        let refusing = self
            .counters
            .rules
            .iter()
            .filter(|one| one.verdict != "accept");
        refusing
            .map(|one| {
                (
                    format!("{} {} {}", one.policy, one.direction, one.rule),
                    one.frames,
                )
            })
            .collect()
    }

    /// Frames from a pod that ended for a reason.
    pub(super) fn egress_drops(&self, attachment: &str, reason: &str) -> u64 {
        let counters = self.counters.attachments.get(attachment);
        counters
            .and_then(|one| one.egress_drops.get(reason))
            .copied()
            .unwrap_or(0)
    }

    /// Frames to a pod that ended for a reason.
    pub(super) fn ingress_drops(&self, attachment: &str, reason: &str) -> u64 {
        let counters = self.counters.attachments.get(attachment);
        counters
            .and_then(|one| one.ingress_drops.get(reason))
            .copied()
            .unwrap_or(0)
    }

    /// Frames that the kernel had no room for on the way to the engine.
    pub(super) fn kernel_dropped(&self, uplink: &str) -> u64 {
        let status = self.counters.uplinks.get(uplink);
        status
            .and_then(|one| one.drops.get("kernel_dropped"))
            .copied()
            .unwrap_or(0)
    }
}

/// Waits until a rule's counter rose by exactly `frames` since `before`, and makes sure that it stays
/// there and that no other rule refused anything meanwhile.
pub(super) fn expect_refused(
    engine: &Engine<'_>,
    interrupt: &Interrupt,
    before: &Reading,
    rule: Rule<'_>,
    frames: u64,
) -> Result<(), Failure> {
    expect_rise(engine, interrupt, before, rule, frames)?;
    interrupt.pause(STAY)?;
    let (before, after) = (before.refused(), Reading::take(engine)?.refused());
    let (policy, direction, name) = rule;
    let expected = BTreeMap::from([(format!("{policy} {direction} {name}"), frames)]);
    let what = "what rules that drop or reject counted meanwhile";
    expect_eq(what, &expected, &rises(&before, &after))
}

/// Counts that rose, with the difference.
fn rises(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let rise = |(name, now): (&String, &u64)| {
        let more = now - before.get(name).copied().unwrap_or(0).min(*now);
        (more > 0).then(|| (name.clone(), more))
    };
    after.iter().filter_map(rise).collect()
}

/// Waits until a rule's counter rose by exactly `frames` since `before`.
pub(super) fn expect_rise(
    engine: &Engine<'_>,
    interrupt: &Interrupt,
    before: &Reading,
    rule: Rule<'_>,
    frames: u64,
) -> Result<(), Failure> {
    let (policy, direction, name) = rule;
    let start = before.rule(rule)?;
    let what =
        format!("rule {name} of policy {policy}, {direction}, to count {frames} frames more");
    interrupt.wait_for(&what, LIMIT, || {
        let now = Reading::take(engine)?.rule(rule)?;
        Ok(if now == start + frames {
            Poll::Found(())
        } else {
            Poll::NotYet(format!("it counted {}", now - start))
        })
    })
}
