// SPDX-License-Identifier: Apache-2.0
//! The two rings in their mapping.
#![allow(unsafe_code, reason = "slots that the kernel and we write in turn")]

use std::fmt;
use std::io;
use std::mem;
use std::os::fd::OwnedFd;
use std::ptr;
use std::slice;
use std::sync::atomic::{
    AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
};

use rustix::mm::{MapFlags, ProtFlags};

use super::Next;
use super::frame::{RxFrame, VNET_HDR_BYTES, VnetHdr};
use super::long::LongFrames;
use crate::error::Error;

/// Bytes of a tpacket2_hdr, aligned: where the sockaddr_ll lies when receiving and the data when
/// sending.
const HEADER: usize = size_of::<libc::tpacket2_hdr>().next_multiple_of(libc::TPACKET_ALIGNMENT);
/// Bytes of a send slot that are not the frame's.
pub(super) const TX_OVERHEAD: u32 = 32 + 10;
const _: () = assert!(TX_OVERHEAD as usize == HEADER + VNET_HDR_BYTES);

/// TPID of a tag whose TPID the kernel does not tell (before Linux 3.14).
const TPID_8021Q: u16 = 0x8100;
/// Bytes of an Ethernet header, the least the kernel sends.
const ETH_HEADER: usize = 14;
const CACHE_LINE: u32 = 64;
/// Status of a send slot that the kernel is not done with.
const TX_BUSY: u32 = libc::TP_STATUS_SEND_REQUEST | libc::TP_STATUS_SENDING;

/// Layout of a ring's slots in blocks: a slot never crosses a block, so blocks end in a gap unless
/// the slot size divides theirs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Geometry {
    block_bytes: u32,
    blocks: u32,
    slot_bytes: u32,
    slots_per_block: u32,
}

impl Geometry {
    /// The blocks for `slots` slots of `slot_bytes`, both rounded up.
    pub(super) fn new(ring: &'static str, slots: u32, slot_bytes: u32) -> Result<Geometry, Error> {
        const MIN_BLOCK: u32 = 64 << 10;
        let bad = Error::PacketSlots {
            ring,
            slots,
            slot_bytes,
        };
        if !(1..=1 << 16).contains(&slots) || !(128..=1 << 18).contains(&slot_bytes) {
            return Err(bad);
        }
        let slot_bytes = slot_bytes.next_multiple_of(CACHE_LINE);
        // Eight slots or more in a block keep the gap at its end below an eighth.
        let block_bytes = (8 * slot_bytes).next_power_of_two().max(MIN_BLOCK);
        let slots_per_block = block_bytes / slot_bytes;
        let blocks = slots.div_ceil(slots_per_block);
        // The kernel counts a ring's bytes in 32 bits.
        if u64::from(blocks) * u64::from(block_bytes) > u64::from(u32::MAX >> 1) {
            return Err(bad);
        }
        Ok(Geometry {
            block_bytes,
            blocks,
            slot_bytes,
            slots_per_block,
        })
    }

    pub(super) fn request(self) -> libc::tpacket_req {
        libc::tpacket_req {
            tp_block_size: self.block_bytes,
            tp_block_nr: self.blocks,
            tp_frame_size: self.slot_bytes,
            tp_frame_nr: self.blocks * self.slots_per_block,
        }
    }

    pub(super) fn bytes(self) -> usize {
        self.blocks as usize * self.block_bytes as usize
    }

    /// Offsets of the slots, in bytes from the start of the ring.
    fn offsets(self) -> impl Iterator<Item = usize> {
        (0..self.blocks as usize).flat_map(move |block| {
            let start = block * self.block_bytes as usize;
            (0..self.slots_per_block as usize).map(move |n| start + n * self.slot_bytes as usize)
        })
    }
}

/// Ring of slots, and the next one to look at.
struct Ring {
    slots: Box<[*mut u8]>,
    slot_bytes: usize,
    next: usize,
}

impl Ring {
    fn new(base: *mut u8, geometry: Geometry) -> Ring {
        Ring {
            slots: geometry
                .offsets()
                .map(|offset| base.wrapping_add(offset))
                .collect(),
            slot_bytes: geometry.slot_bytes as usize,
            next: 0,
        }
    }

    #[inline(always)]
    fn slot(&self) -> *mut u8 {
        self.slots[self.next]
    }

    #[inline(always)]
    fn advance(&mut self) {
        self.next += 1;
        if self.next == self.slots.len() {
            self.next = 0;
        }
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("slots", &self.slots.len())
            .field("slot_bytes", &self.slot_bytes)
            .field("next", &self.next)
            .finish()
    }
}

/// The status word of a slot. Acquire and Release make the slot's other bytes go with it.
///
/// # Safety
/// `slot` is a slot of a live mapping.
#[inline(always)]
unsafe fn status<'a>(slot: *mut u8) -> &'a AtomicU32 {
    const { assert!(mem::offset_of!(libc::tpacket2_hdr, tp_status) == 0) };
    // SAFETY: tp_status is the first field of the header, aligned, and changed atomically by both
    // sides; the caller says that the slot is of a live mapping.
    unsafe { AtomicU32::from_ptr(slot.cast()) }
}

/// Both rings, mapped.
#[derive(Debug)]
pub(super) struct Rings {
    base: *mut u8,
    bytes: usize,
    rx: Ring,
    tx: Ring,
    /// The send slot written last; at first one that was never written.
    last_sent: *mut u8,
    /// Send slots, in order up to the next to write, that were not yet seen to be free again.
    in_flight: usize,
}

// SAFETY: owns its mapping; every access goes through one `&mut Rings` at a time (`has_frames`
// reads one atomic).
unsafe impl Send for Rings {}

impl Rings {
    /// Maps both rings of a socket, which the kernel lays out receive first.
    pub(super) fn map(fd: &OwnedFd, rx: Geometry, tx: Geometry) -> io::Result<Rings> {
        let bytes = rx.bytes() + tx.bytes();
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::SHARED;
        // SAFETY: a new mapping at an address that the kernel chooses.
        let base = unsafe { rustix::mm::mmap(ptr::null_mut(), bytes, protection, flags, fd, 0)? };
        let base = base.cast::<u8>();
        let tx_base = base.wrapping_add(rx.bytes());
        let (rx, tx) = (Ring::new(base, rx), Ring::new(tx_base, tx));
        Ok(Rings {
            base,
            bytes,
            last_sent: tx.slot(),
            in_flight: 0,
            rx,
            tx,
        })
    }

    #[inline]
    pub(super) fn has_frames(&self) -> bool {
        // SAFETY: a slot of our mapping.
        unsafe { status(self.rx.slot()) }.load(Relaxed) & libc::TP_STATUS_USER != 0
    }

    #[inline]
    pub(super) fn recv(
        &mut self,
        max: usize,
        long: &mut LongFrames,
        fd: &OwnedFd,
        mut f: impl FnMut(RxFrame<'_>) -> Next,
    ) -> usize {
        let mut taken = 0;
        // Slots, not frames: those that hold none for us count too.
        for _ in 0..max {
            let slot = self.rx.slot();
            // SAFETY: a slot of our mapping.
            let state = unsafe { status(slot) };
            let bits = state.load(Acquire);
            if bits & libc::TP_STATUS_USER == 0 {
                break;
            }
            // Of each such slot the kernel keeps one frame, in the order of the slots.
            let kept = bits & libc::TP_STATUS_COPY != 0;
            // SAFETY: the slot is ours since the acquire load and until the store below.
            let frame = unsafe { read_slot(slot, self.rx.slot_bytes) };
            if let Some(frame) = frame {
                let whole = if kept { long.whole(fd, &frame) } else { None };
                if f(whole.unwrap_or(frame)) == Next::Leave {
                    break;
                }
                taken += 1;
            }
            if kept {
                long.taken(fd);
            }
            state.store(libc::TP_STATUS_KERNEL, Release);
            self.rx.advance();
        }
        taken
    }

    pub(super) fn max_frame(&self) -> usize {
        self.tx.slot_bytes - TX_OVERHEAD as usize
    }

    #[inline]
    pub(super) fn send(&mut self, write: impl FnOnce(&mut [u8]) -> usize) -> bool {
        let max = self.max_frame();
        let slot = self.tx.slot();
        // SAFETY: a slot of our mapping.
        let state = unsafe { status(slot) };
        if state.load(Acquire) & TX_BUSY != 0 {
            return false;
        }
        // SAFETY: the header of a slot is followed by a virtio_net_hdr, within the slot.
        let vnet = unsafe { slot.add(HEADER) };
        // SAFETY: the kernel is done with the slot, so it is ours until the store below. The
        // virtio_net_hdr of zeros says that nothing is left to do for the frame.
        unsafe { vnet.write_bytes(0, VNET_HDR_BYTES) };
        // SAFETY: the frame follows, within the slot.
        let frame = unsafe { vnet.add(VNET_HDR_BYTES) };
        // SAFETY: `max` bytes from there to the end of the slot, which is ours. Memory of a ring is
        // zeroed when it is made, so all its bytes are initialised.
        let len = write(unsafe { slice::from_raw_parts_mut(frame, max) });
        if len < ETH_HEADER || len > max {
            return true;
        }
        let tp_len = u32::try_from(VNET_HDR_BYTES + len).unwrap_or(u32::MAX);
        // SAFETY: as above.
        unsafe { (*slot.cast::<libc::tpacket2_hdr>()).tp_len = tp_len };
        state.store(libc::TP_STATUS_SEND_REQUEST, Release);
        self.last_sent = slot;
        self.tx.advance();
        // With all slots in flight the one just written was the oldest, seen free only now.
        self.in_flight = (self.in_flight + 1).min(self.tx.slots.len());
        true
    }

    /// Slots that are free, from the next to write on, as far as that is known in order: the kernel
    /// sends in order, so it is all of them or a few less.
    #[inline]
    pub(super) fn tx_room(&mut self) -> usize {
        let slots = self.tx.slots.len();
        while self.in_flight > 0 {
            let ahead = self.tx.next + slots - self.in_flight;
            let oldest = self.tx.slots[if ahead < slots { ahead } else { ahead - slots }];
            // SAFETY: a slot of our mapping.
            if unsafe { status(oldest) }.load(Relaxed) & TX_BUSY != 0 {
                break;
            }
            self.in_flight -= 1;
        }
        slots - self.in_flight
    }

    /// Whether the kernel has still to be asked to send something. It takes slots in order, so the
    /// last one tells.
    pub(super) fn has_unsent(&self) -> bool {
        // SAFETY: a slot of our mapping.
        unsafe { status(self.last_sent) }.load(Relaxed) & libc::TP_STATUS_SEND_REQUEST != 0
    }
}

impl Drop for Rings {
    fn drop(&mut self) {
        // SAFETY: what `map` mapped; no reference into it lives longer than a call.
        let unmapped = unsafe { rustix::mm::munmap(self.base.cast(), self.bytes) };
        debug_assert!(unmapped.is_ok());
    }
}

/// Frame that the kernel put into a slot; `None` for a frame that this host sent.
///
/// # Safety
/// The slot is `slot_bytes` long and the caller's for as long as the frame lives.
#[inline(always)]
unsafe fn read_slot<'a>(slot: *const u8, slot_bytes: usize) -> Option<RxFrame<'a>> {
    // SAFETY: the header begins the slot, aligned; the caller has the slot to itself.
    let header = unsafe { slot.cast::<libc::tpacket2_hdr>().read() };
    // SAFETY: the sockaddr_ll follows the header, within the slot.
    let address = unsafe { slot.add(HEADER) }.cast::<libc::sockaddr_ll>();
    // SAFETY: it is aligned, and the caller has the slot to itself.
    let packet_type = unsafe { (*address).sll_pkttype };
    if packet_type == libc::PACKET_OUTGOING {
        return None;
    }
    let mac = usize::from(header.tp_mac);
    let len = header.tp_snaplen as usize;
    // The kernel keeps to both; a slice must not depend on it.
    if mac < HEADER + VNET_HDR_BYTES || mac > slot_bytes || len > slot_bytes - mac {
        return None;
    }
    // SAFETY: the virtio_net_hdr lies before the frame, within the slot as checked.
    let vnet = unsafe { slot.add(mac - VNET_HDR_BYTES) };
    // SAFETY: bytes need no alignment, and the caller has the slot to itself.
    let vnet = VnetHdr::parse(unsafe { vnet.cast::<[u8; VNET_HDR_BYTES]>().read() });
    // SAFETY: the frame begins within the slot as checked.
    let frame = unsafe { slot.add(mac) };
    // SAFETY: it ends within the slot as checked, and the caller has the slot to itself for as long as
    // the frame lives.
    let data = unsafe { slice::from_raw_parts(frame, len) };
    let has = |bit| header.tp_status & bit != 0;
    let tpid = if has(libc::TP_STATUS_VLAN_TPID_VALID) {
        header.tp_vlan_tpid
    } else {
        TPID_8021Q
    };
    let wire_len = header.tp_len as usize;
    Some(RxFrame {
        data,
        wire_len,
        vlan: has(libc::TP_STATUS_VLAN_VALID).then_some((tpid, header.tp_vlan_tci)),
        csum_not_ready: vnet.csum_not_ready,
        gso: vnet.gso,
        truncated: len < wire_len,
        losing: has(libc::TP_STATUS_LOSING),
    })
}
