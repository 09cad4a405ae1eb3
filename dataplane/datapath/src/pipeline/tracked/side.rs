// SPDX-License-Identifier: Apache-2.0
//! Sides of a frame's way at which policies judge, as far as the lookup stage needs them: whether the connection alone
//! decides there, and under which scope it is.

use sluice_firewall::Direction;
use sluice_firewall::connections::Scope;

use super::super::policy_context::PolicyContext;
use super::super::state::WorkerState;
use super::super::tables::Tables;
use crate::frame::destination::{Destination, PackedDestination};
use crate::ids::{AttachmentId, SegmentId};

/// Side of a frame's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Nothing is judged here: an uplink, or an attachment of another worker, which judges itself.
    Open,
    /// The frame's connection decides: every policy is stateful.
    Tracked {
        /// Scope of the connections.
        scope: Scope,
        /// Longest frame in bytes that the attachment takes.
        max_frame: usize,
    },
    /// Rules decide, of one policy at least.
    Rules,
}

/// Side of the pod that sends into a segment.
pub(super) fn of_sender(
    tables: &Tables,
    state: &WorkerState,
    sender: AttachmentId,
    segment: SegmentId,
) -> Side {
    // Where addresses are learned, the classify stage has to see every frame.
    let learns = tables
        .segment(segment)
        .is_none_or(|segment| segment.learned.is_some());
    match learns {
        true => Side::Rules,
        false => judged(tables, state, sender, segment, Direction::Egress),
    }
}

/// Side of whom a frame goes to.
pub(super) fn of_receiver(
    tables: &Tables,
    state: &WorkerState,
    destination: PackedDestination,
    segment: SegmentId,
) -> Side {
    match destination.unpack() {
        Destination::Attachment(id) => judged(tables, state, id, segment, Direction::Ingress),
        Destination::Uplink(_) => Side::Open,
        _ => Side::Rules,
    }
}

fn judged(
    tables: &Tables,
    state: &WorkerState,
    attachment: AttachmentId,
    segment: SegmentId,
    direction: Direction,
) -> Side {
    let found = state.attachments.get(attachment.slot());
    let Some(found) = found.and_then(Option::as_deref) else {
        return Side::Open;
    };
    if found.id != attachment {
        return Side::Open;
    }
    let context = PolicyContext {
        tables,
        attachment,
        direction,
    };
    match context.policies(segment) {
        Ok(policies) if context.are_all_stateful(policies) => Side::Tracked {
            scope: Scope::new(found.tracked_as, segment.vid()),
            max_frame: found.max_frame,
        },
        _ => Side::Rules,
    }
}
