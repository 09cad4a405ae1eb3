// SPDX-License-Identifier: Apache-2.0
//! Samples of the agent itself: its parts, the device plugins, the reaper.

use std::time::UNIX_EPOCH;

use super::{Samples, f};
use crate::context::Context;

pub(super) fn collect(samples: &mut Samples, context: &Context) {
    samples.add(&f::BUILD_INFO, &[env!("CARGO_PKG_VERSION")], 1);
    for (part, health) in context.health.all() {
        samples.add(&f::PART_READY, &[part], u64::from(health.ready));
        samples.add(&f::PART_RESTARTS, &[part], health.restarts);
    }
    for pool in context.devices.all() {
        let resource = pool.resource.as_str();
        samples.add(&f::POOL_DEVICES, &[resource], pool.devices);
        samples.add(&f::POOL_HEALTHY, &[resource], pool.healthy);
        samples.add(&f::POOL_ALLOCATED, &[resource], pool.allocated);
        samples.add(&f::POOL_REGISTERED, &[resource], u64::from(pool.registered));
        samples.add(
            &f::POOL_REGISTRATIONS,
            &[resource],
            pool.registrations_total,
        );
        samples.add(&f::POOL_ALLOCATIONS, &[resource], pool.allocations_total);
        let failures = pool.allocation_failures_total;
        samples.add(&f::POOL_ALLOCATION_FAILURES, &[resource], failures);
    }
    if context.config.reaper.is_none() {
        return;
    }
    let reaper = context.reaper.counts();
    samples.add(&f::REAPER_RUNS, &[], reaper.runs_total);
    samples.add(&f::REAPER_RELEASED, &[], reaper.released_total);
    samples.add(&f::REAPER_FAILED, &[], reaper.failed_total);
    let last = reaper
        .last_run
        .and_then(|last| last.duration_since(UNIX_EPOCH).ok());
    if let Some(last) = last {
        samples.real(&f::REAPER_LAST_RUN, &[], last.as_secs_f64());
    }
}
