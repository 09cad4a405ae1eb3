// SPDX-License-Identifier: Apache-2.0
//! Queriers: the routers whose queries hosts answer. A membership that its host renews for none of
//! them is over; in a segment without querier nobody is asked, and none ends by age.

use std::sync::atomic::{AtomicU64, Ordering};

use sluice_packet::membership::Query;

/// Querier of one protocol in one segment, as of its last general query. Any worker that sees a query
/// notes it; their clocks are the same.
#[derive(Debug, Default)]
pub(crate) struct Querier {
    /// Since when there has been one without a break.
    since_ms: AtomicU64,
    last_ms: AtomicU64,
    membership_ms: AtomicU64,
    /// Time after the last query until which the querier counts as being there; 0: there was none.
    present_ms: AtomicU64,
}

fn get(time: &AtomicU64) -> u64 {
    time.load(Ordering::Relaxed)
}

impl Querier {
    fn is_present(&self, now_ms: u64) -> bool {
        let present_ms = get(&self.present_ms);
        present_ms > 0 && now_ms.saturating_sub(get(&self.last_ms)) <= present_ms
    }

    /// Whether a membership that was renewed last at `renewed_ms` is over: hosts were asked all the
    /// time that a membership lives, and this one did not answer.
    pub(crate) fn is_over(&self, renewed_ms: u64, now_ms: u64) -> bool {
        let unanswered_ms = now_ms.saturating_sub(renewed_ms.max(get(&self.since_ms)));
        self.is_present(now_ms) && unanswered_ms > get(&self.membership_ms)
    }

    /// Notes a general query.
    fn note(&self, query: &Query, now_ms: u64) {
        if !self.is_present(now_ms) {
            self.since_ms.store(now_ms, Ordering::Relaxed);
        }
        self.last_ms.store(now_ms, Ordering::Relaxed);
        let lives_ms = query.membership_ms();
        self.membership_ms.store(lives_ms, Ordering::Relaxed);
        self.present_ms.store(query.present_ms(), Ordering::Relaxed);
    }
}

/// Queriers of a segment: of IGMP and of MLD. They outlive a version of the tables.
#[derive(Debug, Default)]
pub(crate) struct Queriers([Querier; 2]);

impl Queriers {
    /// Notes a general query.
    pub(crate) fn note(&self, is_v6: bool, query: &Query, now_ms: u64) {
        self.0[usize::from(is_v6)].note(query, now_ms);
    }

    /// Returns the querier of a protocol.
    pub(crate) fn get(&self, is_v6: bool) -> &Querier {
        &self.0[usize::from(is_v6)]
    }
}
