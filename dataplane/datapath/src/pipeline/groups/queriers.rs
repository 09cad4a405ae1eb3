// SPDX-License-Identifier: Apache-2.0
//! Queriers: the routers whose queries hosts answer. A membership that its host renews for none of
//! them is over; in a segment without querier nobody is asked, and none ends by age.

use std::collections::HashMap;

use sluice_packet::membership::Query;

use crate::ids::SegmentId;
use crate::pipeline::tables::Tables;

/// Querier of one protocol in one segment, as of its last general query.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Querier {
    /// Since when there has been one without a break.
    since_ms: u64,
    last_ms: u64,
    membership_ms: u64,
    /// Time after the last query until which the querier counts as being there; 0: there was none.
    present_ms: u64,
}

impl Querier {
    fn is_present(&self, now_ms: u64) -> bool {
        self.present_ms > 0 && now_ms.saturating_sub(self.last_ms) <= self.present_ms
    }

    /// Whether a membership that was renewed last at `renewed_ms` is over: hosts were asked all the
    /// time that a membership lives, and this one did not answer.
    pub(crate) fn is_over(&self, renewed_ms: u64, now_ms: u64) -> bool {
        let unanswered_ms = now_ms.saturating_sub(renewed_ms.max(self.since_ms));
        self.is_present(now_ms) && unanswered_ms > self.membership_ms
    }
}

/// Queriers of all segments that have attachments: of IGMP and of MLD.
#[derive(Debug, Default)]
pub(crate) struct Queriers(HashMap<SegmentId, [Querier; 2]>);

impl Queriers {
    /// Keeps a place for each segment of the tables, and for no other.
    pub(crate) fn follow(&mut self, tables: &Tables) {
        self.0.retain(|&id, _| tables.segment(id).is_some());
        for segment in &tables.segments {
            self.0.entry(segment.id).or_default();
        }
    }

    /// Notes a general query.
    pub(crate) fn note(&mut self, segment: SegmentId, is_v6: bool, query: &Query, now_ms: u64) {
        let Some(both) = self.0.get_mut(&segment) else {
            return;
        };
        let querier = &mut both[usize::from(is_v6)];
        if !querier.is_present(now_ms) {
            querier.since_ms = now_ms;
        }
        querier.last_ms = now_ms;
        querier.membership_ms = query.membership_ms();
        querier.present_ms = query.present_ms();
    }

    /// Returns the querier of a segment.
    pub(crate) fn get(&self, segment: SegmentId, is_v6: bool) -> Option<&Querier> {
        self.0.get(&segment).map(|both| &both[usize::from(is_v6)])
    }
}
