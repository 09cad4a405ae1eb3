// SPDX-License-Identifier: Apache-2.0
//! Learning: what frames say about where MAC addresses are that no attachment has as its own.
//!
//! A pod's frame from another address than its own, which anti-spoofing has let pass, enters the address
//! for the pod; a frame of the wire from an address that a pod had takes it back. A pod has so many
//! addresses at most ([`Limits::macs`](crate::limits::Limits::macs)), and learns so many a second: each
//! is a change that the flow caches of all workers see, and an entry in the tables of the switches
//! behind the uplink.

use std::sync::atomic::{AtomicUsize, Ordering};

use sluice_packet::{FlowKey, Mac};

use super::attachment::Attachment;
use super::learned::{Holder, Learned, LearnedTable};
use super::state::WorkerState;
use super::tables::{SegmentTable, Tables};
use crate::drops::DropReason;
use crate::ids::AttachmentId;

/// Buckets of learned addresses, and segments, that are looked at for old ones at a time.
const BUCKETS_AT_ONCE: usize = 8;
const SEGMENTS_AT_ONCE: usize = 64;
const MILLIS: u64 = 1_000;
const NANOS_PER_MILLI: u64 = 1_000_000;

/// Second of a worker's clock, as entries note it.
#[inline]
pub(crate) fn second(now_ms: u64) -> u32 {
    // After 136 years addresses would be thought young.
    #[allow(clippy::cast_possible_truncation, reason = "see above")]
    let second = (now_ms / MILLIS) as u32;
    second
}

/// Holder's form of an attachment.
#[inline]
pub(crate) fn holder(id: AttachmentId) -> Holder {
    Holder::Slot(slot(id))
}

/// Slot of an attachment, as entries note it.
pub(crate) fn slot(id: AttachmentId) -> u16 {
    u16::try_from(id.slot()).unwrap_or(0)
}

/// Learns that an attachment of this worker sends from the source of `key`.
///
/// # Errors
/// [`DropReason::MacLimited`], [`DropReason::MacFlapping`]: the frame is to go no further.
#[inline]
pub(crate) fn from_pod(
    tables: &Tables,
    segment: &SegmentTable,
    attachment: &Attachment,
    key: &FlowKey,
    now_ms: u64,
) -> Result<(), DropReason> {
    if key.src_mac == attachment.identity.mac.0 {
        return Ok(());
    }
    let table = segment.learned.as_deref();
    let table = table.ok_or(DropReason::MacLimited)?;
    let (mac, now_s) = (key.src_mac(), second(now_ms));
    if table.refresh(mac, holder(attachment.id), now_s) {
        return Ok(());
    }
    take(tables, table, attachment, mac, now_ms)
}

#[cold]
fn take(
    tables: &Tables,
    table: &LearnedTable,
    attachment: &Attachment,
    mac: Mac,
    now_ms: u64,
) -> Result<(), DropReason> {
    let own = &attachment.identity.learned;
    let has_room = own.get() < attachment.macs;
    let now_ns = now_ms.saturating_mul(NANOS_PER_MILLI);
    if !has_room || !attachment.learning.take(now_ns) {
        return Err(DropReason::MacLimited);
    }
    match table.take(mac, slot(attachment.id), second(now_ms)) {
        Learned::Known => {}
        Learned::Taken { from } => {
            own.add();
            if let Some(from) = from {
                attachment.counts.mac_moves.add(1);
                lose(tables, from, true);
            }
        }
        Learned::Flapping => return Err(DropReason::MacFlapping),
        Learned::Full => return Err(DropReason::MacLimited),
    }
    Ok(())
}

/// Learns that the source of a frame from the wire is there, if an attachment had it.
#[inline]
pub(crate) fn from_wire(tables: &Tables, segment: &SegmentTable, key: &FlowKey, now_ms: u64) {
    let Some(table) = segment.learned.as_deref() else {
        return;
    };
    if let Some(lost) = table.take_to_wire(key.src_mac(), second(now_ms)) {
        lose(tables, Holder::Slot(lost), true);
    }
}

/// Notes that a holder has one address less, since it has moved or is too old.
#[cold]
fn lose(tables: &Tables, from: Holder, has_moved: bool) {
    let Holder::Slot(slot) = from else {
        return;
    };
    if let Some(Some(entry)) = tables.attachments.get(usize::from(slot)) {
        entry.identity.learned.remove();
        if has_moved {
            entry.counts.mac_moves.add(1);
        }
    }
}

/// Place at which a worker's search for old addresses goes on.
#[derive(Debug, Default)]
pub(crate) struct AgeCursor {
    segment: usize,
    bucket: usize,
}

/// Looks for old addresses in the segments of the uplinks that this worker polls, a few at a time.
pub(crate) fn age(tables: &Tables, state: &mut WorkerState) {
    let now_s = second(state.now_ms);
    let cursor = &mut state.age_cursor;
    for _ in 0..SEGMENTS_AT_ONCE.min(tables.segments.len()) {
        let Some(segment) = tables.segments.get(cursor.segment) else {
            *cursor = AgeCursor::default();
            continue;
        };
        let uplink = tables.uplink(segment.id.uplink());
        let is_own = uplink.is_some_and(|uplink| uplink.worker == state.id);
        if let Some(table) = segment.learned.as_deref().filter(|_| is_own)
            && cursor.bucket < table.buckets()
        {
            for _ in 0..BUCKETS_AT_ONCE {
                table.age(cursor.bucket, now_s, |holder| lose(tables, holder, false));
                cursor.bucket += 1;
            }
            return;
        }
        cursor.segment += 1;
        cursor.bucket = 0;
    }
}

/// Number of the addresses that an attachment has learned. Its own worker adds, and whoever takes one away
/// removes.
#[derive(Debug, Default)]
pub(crate) struct LearnedCount(AtomicUsize);

impl LearnedCount {
    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn remove(&self) {
        let one_less = |count: usize| count.checked_sub(1);
        let _ = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
    }
}
