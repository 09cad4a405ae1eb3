// SPDX-License-Identifier: Apache-2.0
//! Samples of the engine as a whole: health, balance, policies, control requests.

use super::{Samples, f};
use crate::node::EngineState;

pub(super) fn collect(samples: &mut Samples, state: &EngineState) {
    let status = &state.status;
    let health = &status.health;
    samples.real(&f::SCRAPE_SECONDS, &[], state.took.as_secs_f64());
    samples.add(&f::ENGINE_INFO, &[&health.version], 1);
    samples.add(&f::ENGINE_READY, &[], u64::from(health.ready));
    samples.add(&f::ENGINE_DEGRADED, &[], u64::from(health.degraded));
    samples.add(&f::ENGINE_DRAINING, &[], u64::from(health.draining));
    let problems = u64::try_from(health.problems.len()).unwrap_or(u64::MAX);
    samples.add(&f::ENGINE_PROBLEMS, &[], problems);
    samples.add(&f::ENGINE_UPTIME, &[], status.uptime_seconds);
    samples.add(&f::BALANCED, &[], u64::from(state.balance.balanced));
    #[allow(
        clippy::cast_precision_loss,
        reason = "a difference is small, or wrong anyway"
    )]
    let difference = state.balance.total.difference as f64;
    samples.real(&f::BALANCE_DIFFERENCE, &[], difference);
    samples.add(&f::POLICY_VERSION, &[], status.policy_version);
    let requests = status.requests;
    let outcomes = [
        ("answered", requests.answered),
        ("refused", requests.refused),
        ("turned_away", requests.turned_away),
        ("timed_out", requests.timed_out),
    ];
    for (outcome, number) in outcomes {
        samples.add(&f::CONTROL_REQUESTS, &[outcome], number);
    }
    for rule in &state.rules {
        let labels = [
            rule.policy.as_str(),
            rule.rule.as_str(),
            rule.direction.as_str(),
            rule.verdict.as_str(),
        ];
        samples.add(&f::RULE_HITS, &labels, rule.frames);
        samples.add(&f::RULE_BYTES, &labels, rule.bytes);
    }
}
