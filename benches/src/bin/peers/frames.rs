// SPDX-License-Identifier: Apache-2.0
//! Frames that the generator sends and checks when they come back: flows in pseudo-random order, each frame
//! with a sequence number that shows loss, duplication and reordering.

use anyhow::{Result, ensure};
use sluice_benches::Flows;
use sluice_benches::scene::PODS;
use sluice_memif::Sink;
use sluice_packet::build::FrameBuilder;

/// Maximum number of frames that one call sends or takes.
pub(crate) const BURST: usize = 32;
/// Offset of the sequence number: behind Ethernet, IPv4 and UDP.
const NUMBER_AT: usize = 42;
const NUMBER_LEN: usize = 8;
const IP_DESTINATION_AT: usize = 30;
const UDP_SOURCE_AT: usize = 34;
/// Length of the pseudo-random order, after which it repeats; a power of two.
const ORDER: usize = 1 << 16;

/// Generator of the frames of one direction.
#[derive(Debug)]
pub(crate) struct Source {
    frames: Vec<Vec<u8>>,
    order: Vec<u32>,
    next: usize,
    /// Frames sent so far.
    pub(crate) number: u64,
    /// Whether every frame begins a flow of its own.
    new_flows: bool,
}

impl Source {
    /// Creates a source of frames of `size` bytes from pod `from` to the other, of `flows` flows whose
    /// destination ports match the rules of a policy of `rules` rules. 0 flows: each frame begins a new one.
    pub(crate) fn new(from: usize, size: usize, flows: u32, rules: u16) -> Result<Source> {
        let head = NUMBER_AT + NUMBER_LEN;
        ensure!(size >= head, "frames have {head} bytes at least");
        let ((mac, ip), (to_mac, to_ip)) = (PODS[from], PODS[1 - from]);
        let mut ports = Flows::new(rules);
        let kinds = if flows == 0 { 1024 } else { flows };
        let frame = |n: u32| {
            let source = u16::try_from(n & 0xffff).unwrap_or(0);
            FrameBuilder::new(to_mac, mac)
                .ipv4(ip, to_ip)
                .udp(source, ports.next_port())
                .payload(&vec![0x5a; size - NUMBER_AT])
                .build()
        };
        let frames: Vec<_> = (0..kinds).map(frame).collect();
        let mut state = 7_u64;
        let order = (0..ORDER)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                u32::try_from(state >> 33).unwrap_or(0) % kinds
            })
            .collect();
        Ok(Source {
            frames,
            order,
            next: 0,
            number: 0,
            new_flows: flows == 0,
        })
    }

    /// Returns the next frame, with its sequence number in place.
    #[inline]
    pub(crate) fn next_frame(&mut self) -> &[u8] {
        let kind = self.order[self.next & (ORDER - 1)];
        self.next += 1;
        let frame = &mut self.frames[kind as usize];
        self.number += 1;
        frame[NUMBER_AT..NUMBER_AT + NUMBER_LEN].copy_from_slice(&self.number.to_le_bytes());
        if self.new_flows {
            // The source port and half of the destination address: four billion flows.
            let [a, b, c, d, ..] = self.number.to_le_bytes();
            frame[IP_DESTINATION_AT..UDP_SOURCE_AT + 2].copy_from_slice(&[10, c, d, 9, b, a]);
        }
        frame
    }
}

/// Sink that checks the sequence numbers of the frames it takes.
#[derive(Debug)]
pub(crate) struct Checked {
    bytes: Vec<u8>,
    /// End of each frame of this call, as an offset in `bytes`.
    ends: [usize; BURST],
    count: usize,
    last: u64,
    /// Number of frames taken so far.
    pub(crate) taken: u64,
    /// Number of frames that came twice, or after a later one.
    pub(crate) out_of_order: u64,
}

impl Default for Checked {
    fn default() -> Checked {
        Checked {
            bytes: vec![0; BURST * 16_384],
            ends: [0; BURST],
            count: 0,
            last: 0,
            taken: 0,
            out_of_order: 0,
        }
    }
}

impl Sink for Checked {
    #[inline]
    fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        let start = self.count.checked_sub(1).map_or(0, |n| self.ends[n]);
        *self.ends.get_mut(self.count)? = start + len;
        self.count += 1;
        self.bytes.get_mut(start..start + len)
    }
}

impl Checked {
    /// Checks the frames of the last call.
    #[inline]
    pub(crate) fn check(&mut self) {
        let mut start = 0;
        for &end in &self.ends[..self.count] {
            let number = self.bytes[start..end]
                .get(NUMBER_AT..NUMBER_AT + NUMBER_LEN)
                .and_then(|bytes| bytes.try_into().ok())
                .map_or(0, u64::from_le_bytes);
            self.out_of_order += u64::from(number <= self.last);
            self.last = number;
            start = end;
        }
        self.taken += self.count as u64;
        self.count = 0;
    }

    /// Number of sequence numbers that never arrived.
    pub(crate) fn lost(&self) -> u64 {
        self.last.saturating_sub(self.taken)
    }
}
