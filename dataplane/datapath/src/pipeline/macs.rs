// SPDX-License-Identifier: Apache-2.0
//! MAC address to attachment: an immutable table, built by control, read by workers.

use sluice_packet::Mac;

use crate::ids::AttachmentId;

/// Open addressing at no more than half full, so that a miss ends soon.
#[derive(Debug, Clone, Default)]
pub(crate) struct MacTable {
    /// A power of two of slots; empty for an empty table.
    slots: Box<[Option<(u64, AttachmentId)>]>,
}

fn number(mac: [u8; 6]) -> u64 {
    u64::from_le_bytes([mac[0], mac[1], mac[2], mac[3], mac[4], mac[5], 0, 0])
}

/// Fibonacci hashing: pods' addresses differ in a few bytes, often the last.
fn place(mac: u64, mask: usize) -> usize {
    let hash = mac.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    usize::try_from(hash >> 32).unwrap_or(0) & mask
}

impl MacTable {
    /// A table of `entries`. Of two entries with one address the first is found.
    pub(crate) fn new(entries: &[(Mac, AttachmentId)]) -> MacTable {
        if entries.is_empty() {
            return MacTable::default();
        }
        let size = (entries.len() * 2).next_power_of_two();
        let mut slots = vec![None; size].into_boxed_slice();
        for &(mac, id) in entries {
            let mac = number(mac.0);
            let mut at = place(mac, size - 1);
            while slots[at].is_some() {
                at = (at + 1) & (size - 1);
            }
            slots[at] = Some((mac, id));
        }
        MacTable { slots }
    }

    /// Returns the attachment that has the address.
    pub(crate) fn get(&self, mac: [u8; 6]) -> Option<AttachmentId> {
        if self.slots.is_empty() {
            return None;
        }
        let mask = self.slots.len() - 1;
        let mac = number(mac);
        let mut at = place(mac, mask);
        loop {
            match self.slots[at] {
                None => return None,
                Some((found, id)) if found == mac => return Some(id),
                Some(_) => at = (at + 1) & mask,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_put_in_and_nothing_else() {
        let mac = |n: u16| {
            let [high, low] = n.to_be_bytes();
            Mac([2, 0, 0x5e, 0, high, low])
        };
        let entries: Vec<_> = (0..1000)
            .map(|n| (mac(n), AttachmentId::new(n, 7)))
            .collect();
        let table = MacTable::new(&entries);
        for n in 0..1000 {
            assert_eq!(table.get(mac(n).0), Some(AttachmentId::new(n, 7)));
        }
        for n in 1000..3000 {
            assert_eq!(table.get(mac(n).0), None);
        }
        assert_eq!(MacTable::new(&[]).get(mac(1).0), None);
    }
}
