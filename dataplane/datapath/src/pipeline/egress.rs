// SPDX-License-Identifier: Apache-2.0
//! Egress: from the pod.

use sluice_mem::{Burst, Mbuf};

use super::classify;
use super::dispatch::dispatch;
use super::judge;
use super::lookup::Lookup;
use super::parse;
use super::room;
use super::state::WorkerState;
use super::tables::Tables;
use super::tracked::Source;
use crate::ids::AttachmentId;
use crate::ports::seam::PortContext;

/// Egress flow, over one burst of one attachment. Returns the number of frames received.
///
/// A frame for an attachment of this worker is judged twice: by its sender's policies, and by its
/// receiver's, which is that one's ingress from its judge stage on.
pub(crate) fn egress(tables: &Tables, state: &mut WorkerState, slot: usize) -> usize {
    let room = room::of_pod(state, slot);
    if room == 0 {
        room::hold_back(state, slot);
        return 0;
    }
    let mut burst = Burst::with_room(room);
    let Some(sender) = receive(state, slot, &mut burst) else {
        return 0;
    };
    let received = burst.len();
    if received == 0 {
        room::found_empty(state, slot);
        return 0;
    }
    let copies = state.copies_caused();
    let buckets = parse::from_pod(state, sender, &mut burst);
    let mut flows = Lookup::new();
    flows.look_up(tables, state, Source::Pod(sender), &buckets, &mut burst);
    if !flows.all_hit() {
        classify::from_pod(tables, state, sender, &mut flows, &mut burst);
        judge::at_sender(tables, state, sender, &mut flows, &mut burst);
        judge::at_receivers(tables, state, &mut flows, &mut burst);
    }
    dispatch(tables, state, &flows, &mut burst);
    let copies = state.copies_caused().wrapping_sub(copies);
    room::settle(state, slot, room, received, copies);
    received
}

/// Copies a burst in from the pod's ring. `None` if there is no such attachment or no peer.
fn receive(state: &mut WorkerState, slot: usize, burst: &mut Burst) -> Option<AttachmentId> {
    let attachment = state.attachments.get_mut(slot)?.as_deref_mut()?;
    let id = attachment.id;
    let port = attachment.port.as_mut()?;
    let mut context = PortContext {
        pools: &mut state.pools,
        drops: &attachment.counts.rx_lost,
    };
    let received = port.rx_burst(&mut context, burst);
    if !burst.is_empty() {
        let bytes = burst.iter().map(Mbuf::len).sum();
        attachment.counts.traffic.received(burst.len(), bytes);
    }
    if let Err(fault) = received {
        state.quarantine(id, fault);
    }
    Some(id)
}
