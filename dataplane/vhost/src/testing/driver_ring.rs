// SPDX-License-Identifier: Apache-2.0
//! Driver's side of a split virtqueue: an honest one, with a hand on every field.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};

use sluice_mem::SharedRegion;

use super::guest_memory::USER;
use crate::msg::RingAddresses;

/// Ring as a driver has it.
#[derive(Debug)]
pub struct DriverRing {
    region: SharedRegion,
    at: usize,
    size: u16,
    /// Available index, as far as it is published or will be next.
    next: u16,
    /// Used entries that were seen.
    seen: u16,
}

impl DriverRing {
    /// Ring of `size` descriptors at `at` of the memory; it is zeroed.
    pub fn new(region: SharedRegion, at: usize, size: u16) -> DriverRing {
        region
            .copy_out(at, &vec![0; DriverRing::bytes(size)])
            .unwrap();
        DriverRing {
            region,
            at,
            size,
            next: 0,
            seen: 0,
        }
    }

    /// Bytes of a ring of this size, in whole pages.
    pub fn bytes(size: u16) -> usize {
        let size = usize::from(size);
        (16 * size + 2 * size + 64 + 8 * size + 64).next_multiple_of(4096)
    }

    fn available_at(&self) -> usize {
        self.at + 16 * usize::from(self.size)
    }

    fn used_at(&self) -> usize {
        (self.available_at() + 2 * usize::from(self.size) + 6).next_multiple_of(64)
    }

    /// Descriptors of the ring.
    pub fn size(&self) -> u16 {
        self.size
    }

    /// Addresses of ring number `index`, as SET_VRING_ADDR carries them.
    pub fn addresses(&self, index: u32) -> RingAddresses {
        RingAddresses {
            index,
            flags: 0,
            descriptors: USER + self.at as u64,
            used: USER + self.used_at() as u64,
            available: USER + self.available_at() as u64,
        }
    }

    /// Writes descriptor `number`.
    pub fn describe(&self, number: u16, address: u64, len: u32, flags: u16, next: u16) {
        let bytes = DriverRing::descriptor(address, len, flags, next);
        let at = self.at + 16 * usize::from(number % self.size);
        self.region.write16(at, bytes).unwrap();
    }

    /// Bytes of a descriptor.
    pub fn descriptor(address: u64, len: u32, flags: u16, next: u16) -> [u8; 16] {
        let whole = u128::from(address)
            | u128::from(len) << 64
            | u128::from(flags) << 96
            | u128::from(next) << 112;
        whole.to_le_bytes()
    }

    /// Makes the buffer that begins with descriptor `head` available, with the next publication.
    pub fn offer(&mut self, head: u16) {
        let slot = usize::from(self.next % self.size);
        let at = self.available_at() + 4 + 2 * slot;
        self.region.store_u16(at, head, Relaxed).unwrap();
        self.next = self.next.wrapping_add(1);
    }

    /// Publishes what was offered. Returns whether the device wants a kick.
    pub fn publish(&self) -> bool {
        self.publish_index(self.next);
        std::sync::atomic::fence(SeqCst);
        let flags = self.region.load_u16(self.used_at(), Acquire).unwrap();
        flags & 1 == 0
    }

    /// Publishes an available index, whatever it is.
    pub fn publish_index(&self, index: u16) {
        let at = self.available_at() + 2;
        self.region.store_u16(at, index, Release).unwrap();
    }

    /// Sets whether the device is to interrupt.
    pub fn set_interrupts(&self, on: bool) {
        let at = self.available_at();
        self.region.store_u16(at, u16::from(!on), SeqCst).unwrap();
    }

    /// Begins at `index`, as a ring does that ran before.
    pub fn begin_at(&mut self, index: u16) {
        (self.next, self.seen) = (index, index);
        self.publish_index(index);
        let at = self.used_at() + 2;
        self.region.store_u16(at, index, Release).unwrap();
    }

    /// Used index.
    pub fn used_index(&self) -> u16 {
        self.region.load_u16(self.used_at() + 2, Acquire).unwrap()
    }

    /// Available index, with what is not published yet.
    pub fn next_index(&self) -> u16 {
        self.next
    }

    /// Next used entry: the buffer's head, and the bytes that were written.
    pub fn used(&mut self) -> Option<(u16, u32)> {
        if self.used_index() == self.seen {
            return None;
        }
        let slot = usize::from(self.seen % self.size);
        let mut entry = [0; 8];
        let at = self.used_at() + 4 + 8 * slot;
        self.region.copy_in(at, &mut entry).unwrap();
        self.seen = self.seen.wrapping_add(1);
        let entry = u64::from_le_bytes(entry);
        Some((entry as u16, (entry >> 32) as u32))
    }
}
