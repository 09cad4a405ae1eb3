// SPDX-License-Identifier: Apache-2.0
//! Delivery: frames are copied into a pod's ring.

use sluice_mem::{Burst, Mbuf};

use crate::drops::DropReason;
use crate::frame::tagging::Tagging;
use crate::ids::AttachmentId;
use crate::pipeline::state::WorkerState;

/// Copies frames into the pod's ring and frees them.
pub(crate) fn deliver(state: &mut WorkerState, id: AttachmentId, burst: &mut Burst) {
    deliver_borrowed(state, id, burst.as_slice());
    state.pools.free_burst(burst);
}

/// Copies frames into the pod's ring; those that do not fit are counted. They stay the caller's, so
/// that a flooded frame needs no clone.
pub(crate) fn deliver_borrowed(state: &mut WorkerState, id: AttachmentId, frames: &[Mbuf]) {
    if frames.is_empty() {
        return;
    }
    let Some(attachment) = state.attachment(id) else {
        state
            .counts
            .drops
            .add(DropReason::Gone, frames.len() as u64);
        return;
    };
    let tagging: Tagging = attachment.tagging;
    let drops = &attachment.counts.ingress_drops;
    let Some(port) = &mut attachment.port else {
        drops.add(DropReason::LinkDown, frames.len() as u64);
        return;
    };
    match port.deliver(frames, tagging) {
        Ok(sent) => {
            attachment.counts.traffic.sent(sent.frames, sent.bytes);
            if sent.unfit > 0 {
                drops.add(DropReason::TooLong, sent.unfit as u64);
            }
            let taken = sent.frames + sent.unfit + sent.pending;
            let left = frames.len().saturating_sub(taken);
            if left > 0 {
                drops.add(DropReason::RingFull, left as u64);
            }
            if !attachment.dirty {
                attachment.dirty = true;
                state.dirty.push(id.slot());
            }
            state.counts.pending.add(sent.pending as u64);
        }
        Err(fault) => {
            drops.add(DropReason::LinkDown, frames.len() as u64);
            state.quarantine(id, fault);
        }
    }
}

/// Makes everything delivered since the last call visible to the pods.
pub(crate) fn publish(state: &mut WorkerState) {
    while let Some(slot) = state.dirty.pop() {
        if let Some(Some(attachment)) = state.attachments.get_mut(slot) {
            attachment.dirty = false;
            if let Some(port) = &mut attachment.port {
                port.flush();
            }
        }
    }
}
