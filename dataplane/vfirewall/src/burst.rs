// SPDX-License-Identifier: Apache-2.0
//! Burst of packets on their way through the stages.

use std::net::{IpAddr, Ipv4Addr};

use sluice_memif::{BURST, Sink};
use sluice_packet::{FlowKey, Parsed};

use crate::frame::Frame;
use crate::interfaces::InterfaceId;

/// Frame with what the stages know of it.
#[derive(Debug)]
pub struct Packet {
    /// Frame without its tag.
    pub frame: Frame,
    /// Result of the parser.
    pub parsed: Parsed,
    /// Interface it came in on.
    pub input: InterfaceId,
    /// Interface it leaves on, once it was routed.
    pub output: InterfaceId,
    /// Next hop, once it was routed.
    pub next_hop: IpAddr,
}

impl Packet {
    /// Makes a packet without a frame, which has room for `capacity` bytes.
    #[must_use]
    pub fn new(capacity: usize) -> Packet {
        Packet {
            frame: Frame::new(capacity),
            parsed: Parsed {
                inner: None,
                l3: 0,
                l4: 0,
                key: FlowKey::default(),
            },
            input: 0,
            output: 0,
            next_hop: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        }
    }

    /// Flow key of the frame.
    #[must_use]
    pub fn key(&self) -> &FlowKey {
        &self.parsed.key
    }

    /// Source address of an IP or ARP packet.
    #[must_use]
    pub fn src(&self) -> IpAddr {
        let unspecified = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        self.key().src_ip().unwrap_or(unspecified)
    }

    /// Destination address of an IP or ARP packet.
    #[must_use]
    pub fn dst(&self) -> IpAddr {
        let unspecified = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        self.key().dst_ip().unwrap_or(unspecified)
    }
}

/// Stage's decision on one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Next stage.
    On,
    /// Out of the burst: dropped and counted, answered or handed on.
    Gone,
}

/// At most 64 packets. Stages remove packets; the frames' buffers stay for the next burst.
#[derive(Debug)]
pub struct Burst {
    packets: Vec<Packet>,
    received: usize,
    /// Indices of the packets that are still in it, in order.
    alive: Vec<u8>,
    /// Frames that were longer than the buffers.
    oversize: usize,
}

impl Burst {
    /// Makes an empty burst of frames of at most `capacity` bytes.
    #[must_use]
    pub fn new(capacity: usize) -> Burst {
        Burst {
            packets: (0..BURST).map(|_| Packet::new(capacity)).collect(),
            received: 0,
            alive: Vec::with_capacity(BURST),
            oversize: 0,
        }
    }

    /// Empties the burst.
    pub fn clear(&mut self) {
        self.received = 0;
        self.oversize = 0;
        self.alive.clear();
    }

    /// Number of packets that are still in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.alive.len()
    }

    /// Whether no packet is in it any more.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.alive.is_empty()
    }

    /// Number of frames that were too long for it.
    #[must_use]
    pub fn oversize(&self) -> usize {
        self.oversize
    }

    /// Packets that are still in it.
    pub fn iter(&self) -> impl Iterator<Item = &Packet> + Clone {
        self.alive.iter().map(|&at| &self.packets[usize::from(at)])
    }

    /// Takes every packet through a stage, in order.
    pub fn each(&mut self, mut stage: impl FnMut(&mut Packet) -> Step) {
        let packets = &mut self.packets;
        self.alive
            .retain(|&at| stage(&mut packets[usize::from(at)]) == Step::On);
    }
}

impl Sink for Burst {
    fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        let at = self.received;
        let packet = self.packets.get_mut(at)?;
        let Some(room) = packet.frame.reset(len) else {
            self.oversize += 1;
            return None;
        };
        self.received += 1;
        self.alive.push(u8::try_from(at).unwrap_or(u8::MAX));
        Some(room)
    }
}
