// SPDX-License-Identifier: Apache-2.0
//! Split virtqueue in shared memory: its three parts, every access checked by [`SharedRegion`].

use std::sync::atomic::{Ordering, fence};

use sluice_mem::{OutOfRange, SharedRegion, SharedTable};
use sluice_peer::BURST;
use sluice_peer::checks::disabled;

use crate::fault::Fault;
use crate::memory::Memory;
use crate::msg::RingAddresses;
use crate::refusal::Refusal;

/// Flag of a descriptor: the chain goes on in `next`.
pub(crate) const NEXT: u16 = 1;
/// Flag of a descriptor: the device writes it.
pub(crate) const WRITE: u16 = 2;
/// Flag of a descriptor: it names a table of descriptors.
pub(crate) const INDIRECT: u16 = 4;

/// Flag of the available ring: the front end wants no interrupts (VIRTQ_AVAIL_F_NO_INTERRUPT).
const NO_INTERRUPT: u16 = 1;
/// Flag of the used ring: we want no kicks (VIRTQ_USED_F_NO_NOTIFY).
const NO_NOTIFY: u16 = 1;

/// Offset of the index in the available and in the used ring; the flags are before it.
const INDEX_AT: usize = 2;
/// Offset of the entries in the available and in the used ring.
const ENTRIES_AT: usize = 4;
/// Bytes of an entry of the available ring.
const AVAILABLE: usize = 2;
/// Bytes of an entry of the used ring.
const USED: usize = 8;

/// Descriptor as it was read, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Descriptor {
    pub(crate) address: u64,
    pub(crate) len: u32,
    pub(crate) flags: u16,
    pub(crate) next: u16,
}

impl Descriptor {
    /// Reads one from its 16 bytes, which are little-endian.
    #[inline(always)]
    pub(crate) fn decode(bytes: [u8; 16]) -> Descriptor {
        let whole = u128::from_le_bytes(bytes);
        #[allow(
            clippy::cast_possible_truncation,
            reason = "each takes its own bits of the whole"
        )]
        Descriptor {
            address: whole as u64,
            len: (whole >> 64) as u32,
            flags: (whole >> 96) as u16,
            next: (whole >> 112) as u16,
        }
    }
}

/// Size and addresses of a ring, as the front end sent them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parts {
    /// Binary logarithm of the size, 1 to 15.
    pub(crate) log2: u8,
    pub(crate) addresses: RingAddresses,
}

/// Part of a ring: a range of a region.
#[derive(Debug)]
struct Part {
    memory: SharedRegion,
    at: usize,
}

impl Part {
    fn find(
        memory: &Memory,
        parts: &Parts,
        (part, address, align): (&'static str, u64, usize),
        len: usize,
    ) -> Result<Part, Refusal> {
        let wrong = || Refusal::RingAddress {
            index: parts.addresses.index,
            part,
            address,
            align,
        };
        let (memory, at) = memory.find_user(address, len).ok_or_else(wrong)?;
        if !at.is_multiple_of(align) && !disabled("ring-align") {
            return Err(wrong());
        }
        Ok(Part {
            memory: memory.clone(),
            at,
        })
    }
}

/// Ring whose parts all lie in the front end's memory.
#[derive(Debug)]
pub(crate) struct Ring {
    descriptors: SharedTable,
    available: Part,
    used: Part,
}

/// Error of an access outside the region: unreachable, since the ring lies inside; an error is safer
/// than a panic.
fn gone(_: OutOfRange) -> Fault {
    Fault::MemoryGone
}

impl Ring {
    /// Finds the parts of a ring.
    ///
    /// # Errors
    /// A part is not inside one region, or not aligned (virtio 1.2, section 2.7: 16, 2 and 4 bytes).
    pub(crate) fn new(memory: &Memory, parts: &Parts) -> Result<Ring, Refusal> {
        let size = 1_usize << parts.log2;
        let RingAddresses {
            descriptors,
            used,
            available,
            ..
        } = parts.addresses;
        let table = ("descriptor table", descriptors, 16);
        let table = Part::find(memory, parts, table, 16 * size)?;
        // Behind the entries each has one more, for notification by index.
        let len = ENTRIES_AT + AVAILABLE * size + 2;
        let available = Part::find(memory, parts, ("available ring", available, 2), len)?;
        let len = ENTRIES_AT + USED * size + 2;
        let used = Part::find(memory, parts, ("used ring", used, 4), len)?;
        let descriptors = SharedTable::new(table.memory, table.at, parts.log2);
        Ok(Ring {
            descriptors: descriptors.map_err(|_| Refusal::Fault(Fault::MemoryGone))?,
            available,
            used,
        })
    }

    /// Descriptors, 2 to 32768.
    #[inline(always)]
    pub(crate) fn size(&self) -> u16 {
        self.descriptors.mask() + 1
    }

    /// Reads the available index. The acquire makes the entries and descriptors before it visible.
    #[inline(always)]
    pub(crate) fn available_index(&self) -> Result<u16, Fault> {
        self.available
            .memory
            .load_u16(self.available.at + INDEX_AT, Ordering::Acquire)
            .map_err(gone)
    }

    /// Reads the used index, which is ours and tells where a ring goes on that ran before.
    pub(crate) fn used_index(&self) -> Result<u16, Fault> {
        self.used
            .memory
            .load_u16(self.used.at + INDEX_AT, Ordering::Relaxed)
            .map_err(gone)
    }

    /// Reads the entries of the available ring from index `next` on, as many as `heads` has room for.
    #[inline(always)]
    pub(crate) fn heads(&self, next: u16, heads: &mut [u16]) -> Result<(), Fault> {
        let mut bytes = [0_u8; AVAILABLE * BURST];
        let count = heads.len().min(BURST);
        let slot = usize::from(next & self.descriptors.mask());
        // At most two runs: up to the ring's end, and from its beginning on.
        let first = count.min(usize::from(self.size()) - slot);
        let (to_end, from_start) = bytes[..AVAILABLE * count].split_at_mut(AVAILABLE * first);
        let Part { memory, at } = &self.available;
        let entry = |slot: usize| at + ENTRIES_AT + AVAILABLE * slot;
        memory.copy_in(entry(slot), to_end).map_err(gone)?;
        if !from_start.is_empty() {
            memory.copy_in(entry(0), from_start).map_err(gone)?;
        }
        for (head, bytes) in heads.iter_mut().zip(bytes.as_chunks().0) {
            *head = u16::from_le_bytes(*bytes);
        }
        Ok(())
    }

    /// Reads descriptor `number`, which is checked.
    ///
    /// # Errors
    /// There is no such descriptor.
    #[inline(always)]
    pub(crate) fn descriptor(&self, number: u16) -> Result<Descriptor, Fault> {
        if number >= self.size() && !disabled("head-range") {
            return Err(Fault::Descriptor {
                index: number,
                size: self.size(),
            });
        }
        Ok(Descriptor::decode(self.descriptors.read(number)))
    }

    /// Hints that descriptor `number` will be read soon.
    #[inline(always)]
    pub(crate) fn prefetch(&self, number: u16) {
        self.descriptors.prefetch(number);
    }

    /// Writes used entries from index `next` on: the buffers that begin with the descriptors `heads`,
    /// at most [`BURST`] of them, of which nothing was written.
    #[inline(always)]
    pub(crate) fn give_back(&self, next: u16, heads: &[u16]) -> Result<(), Fault> {
        let mut bytes = [0_u8; USED * BURST];
        let count = heads.len().min(BURST);
        for (entry, head) in bytes.as_chunks_mut().0.iter_mut().zip(heads) {
            *entry = u64::from(*head).to_le_bytes();
        }
        let slot = usize::from(next & self.descriptors.mask());
        let first = count.min(usize::from(self.size()) - slot);
        let (to_end, from_start) = bytes[..USED * count].split_at(USED * first);
        let Part { memory, at } = &self.used;
        let entry = |slot: usize| at + ENTRIES_AT + USED * slot;
        memory.copy_out(entry(slot), to_end).map_err(gone)?;
        if !from_start.is_empty() {
            memory.copy_out(entry(0), from_start).map_err(gone)?;
        }
        Ok(())
    }

    /// Writes the used entry of index `next`: `len` bytes were written to the buffer that begins with
    /// descriptor `head`.
    #[inline(always)]
    pub(crate) fn give_back_filled(&self, next: u16, head: u16, len: u32) -> Result<(), Fault> {
        let slot = usize::from(next & self.descriptors.mask());
        let entry = u64::from(head) | u64::from(len) << 32;
        let Part { memory, at } = &self.used;
        memory
            .copy_out(at + ENTRIES_AT + USED * slot, &entry.to_le_bytes())
            .map_err(gone)
    }

    /// Hints that the used entry of index `next` will be written soon.
    #[inline(always)]
    pub(crate) fn prefetch_used(&self, next: u16) {
        let slot = usize::from(next & self.descriptors.mask());
        let Part { memory, at } = &self.used;
        memory.prefetch_to_write(at + ENTRIES_AT + USED * slot);
    }

    /// Moves the used index; the release makes the entries and buffers before it visible first.
    #[inline(always)]
    pub(crate) fn publish(&self, used: u16) -> Result<(), Fault> {
        self.used
            .memory
            .store_u16(self.used.at + INDEX_AT, used, Ordering::Release)
            .map_err(gone)
    }

    /// Whether the front end wants an interrupt; right after [`Ring::publish`].
    ///
    /// The fence puts the publication before the look at the flag. The front end has one between its
    /// flag and its last look at the index, so at least one of the two sees the other's store.
    #[inline(always)]
    pub(crate) fn wants_interrupt(&self) -> Result<bool, Fault> {
        fence(Ordering::SeqCst);
        let flags = self
            .available
            .memory
            .load_u16(self.available.at, Ordering::Relaxed)
            .map_err(gone)?;
        Ok(flags & NO_INTERRUPT == 0)
    }

    /// Sets whether we want kicks. After switching them on, look at the available index once more: the
    /// fence that makes that sufficient is in here.
    pub(crate) fn set_kicks(&self, on: bool) -> Result<(), Fault> {
        let flags = if on { 0 } else { NO_NOTIFY };
        self.used
            .memory
            .store_u16(self.used.at, flags, Ordering::Relaxed)
            .map_err(gone)?;
        if on {
            fence(Ordering::SeqCst);
        }
        Ok(())
    }
}
