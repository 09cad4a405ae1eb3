// SPDX-License-Identifier: Apache-2.0
//! Claims: link-local addresses that an attachment takes by using them, as hosts make them of a
//! secret (RFC 7217) or of chance (RFC 8981) and not of their MAC.
//!
//! The first that uses an address has it until it is detached; duplicate address detection is such a
//! use. At most [`MOST`] in each VLAN, and never one that another attachment of the VLAN was given,
//! has made of its MAC, or has claimed, on whichever uplink of the network it is. An attachment that
//! comes later and was given a claimed address takes it away ([`yield_to_given`]).
//!
//! Only the worker that owns an attachment writes its claims. Two workers whose attachments want one
//! address at the same moment first write it and then look at the other's: at least one of them sees
//! the other's and gives way. Both may; then neither has it, and may try again.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use crate::drops::DropReason;
use crate::ids::AttachmentId;
use crate::pipeline::attachment::Attachment;
use crate::pipeline::identity::{Identity, link_local_with};
use crate::pipeline::tables::{NetworkVlan, SegmentTable, Tables};

const NANOS_PER_MILLI: u64 = 1_000_000;
/// Most addresses that an attachment can claim in a VLAN.
pub(crate) const MOST: usize = 4;

/// Interface ids of an attachment's claims in one VLAN; 0: free.
#[derive(Debug, Default)]
pub(crate) struct Claims([AtomicU64; MOST]);

impl Claims {
    /// The interface ids that are claimed.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u64> {
        let ids = self.0.iter().map(|id| id.load(Ordering::Relaxed));
        ids.filter(|&id| id != 0)
    }

    fn has(&self, id: u64) -> bool {
        self.iter().any(|claimed| claimed == id)
    }

    /// A place for one more.
    fn free(&self) -> Option<&AtomicU64> {
        self.0.iter().find(|id| id.load(Ordering::Relaxed) == 0)
    }
}

/// Claims the link-local address with the interface id `id` for an attachment of this worker.
///
/// # Errors
/// [`DropReason::LinkLocalTaken`]: another attachment has it. [`DropReason::LinkLocalLimited`]: the
/// attachment has as many as it may, or asked for too many lately.
#[cold]
pub(crate) fn claim(
    tables: &Tables,
    segment: &SegmentTable,
    attachment: &Attachment,
    id: u64,
    now_ms: u64,
) -> Result<(), DropReason> {
    let vid = segment.id.vid();
    let Some(claims) = attachment.identity.claims(vid) else {
        return Err(DropReason::NoSegment);
    };
    if claims.has(id) {
        return Ok(());
    }
    let free = claims.free().ok_or(DropReason::LinkLocalLimited)?;
    // To look at all others takes time, which a pod must not be able to ask for at will.
    if !attachment
        .claims
        .take(now_ms.saturating_mul(NANOS_PER_MILLI))
    {
        return Err(DropReason::LinkLocalLimited);
    }
    let address = link_local_with(id).octets();
    if segment.network.is_given_to_another(&address, attachment.id) {
        return Err(DropReason::LinkLocalTaken);
    }
    attachment
        .identity
        .claim_count
        .fetch_add(1, Ordering::Relaxed);
    free.store(id, Ordering::Relaxed);
    // Between the store and the loads of others' claims: of two that do this at the same time, one
    // sees the other's store (as in Dekker's algorithm).
    fence(Ordering::SeqCst);
    let taken = segment.network.members.iter().any(|&member| {
        let identity = match tables.attachment(member) {
            Some(entry) if member != attachment.id => &entry.identity,
            _ => return false,
        };
        identity.claims(vid).is_some_and(|claims| claims.has(id))
    });
    if taken {
        give_up(&attachment.identity, free);
        return Err(DropReason::LinkLocalTaken);
    }
    Ok(())
}

/// Gives up the claims of a worker's attachment on addresses that others were given, now that the
/// tables have changed.
pub(crate) fn yield_to_given(tables: &Tables, id: AttachmentId, identity: &Identity) {
    // A trunk has thousands of places, and this is done at every change of the tables.
    if identity.claim_count.load(Ordering::Relaxed) == 0 {
        return;
    }
    let Some(uplink) = tables.attachment(id).map(|entry| entry.uplink) else {
        return;
    };
    for (vid, claims) in identity.all_claims() {
        for place in &claims.0 {
            let claimed = place.load(Ordering::Relaxed);
            if claimed == 0 {
                continue;
            }
            let segment = tables.segment_of(uplink, vid);
            let address = link_local_with(claimed).octets();
            if segment.is_some_and(|segment| segment.network.is_given_to_another(&address, id)) {
                give_up(identity, place);
            }
        }
    }
}

/// Empties a place that has a claim.
fn give_up(identity: &Identity, place: &AtomicU64) {
    place.store(0, Ordering::Relaxed);
    identity.claim_count.fetch_sub(1, Ordering::Relaxed);
}

impl NetworkVlan {
    /// Whether an address is that of an attachment other than `own` from its beginning: configured, or
    /// the link-local one made of its MAC.
    pub(crate) fn is_given_to_another(&self, address: &[u8; 16], own: AttachmentId) -> bool {
        let found = self
            .given
            .binary_search_by_key(address, |(given, _)| *given);
        let holder = found.ok().and_then(|at| self.given.get(at));
        holder.is_some_and(|(_, holder)| *holder != own)
    }
}
