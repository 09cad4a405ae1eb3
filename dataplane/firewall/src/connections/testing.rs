// SPDX-License-Identifier: Apache-2.0
//! Traffic for tests: frames of two ends that hold to TCP mostly, over a network that loses, reorders and
//! repeats them.

use sluice_packet::{FlowKey, IpProto};

use super::event::Event;
use super::frame::{Scope, TrackedFrame};
use super::tcp::Segment;

/// Random numbers by splitmix64 (Steele, Lea and Flood, 2014).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap_or(0)
    }

    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn word(&mut self) -> u32 {
        u32::try_from(self.next() >> 32).unwrap_or(0)
    }
}

/// Segment of `flags` by its event, without options.
pub(crate) fn segment(event: Event, seq: u32, ack: u32, window: u16, data: u32) -> Segment {
    let has_ack = !matches!(event, Event::Syn | Event::Rst);
    let ends = u32::from(matches!(event, Event::Syn | Event::SynAck | Event::Fin));
    let ack = if has_ack { ack } else { 0 };
    Segment {
        seq,
        end: seq.wrapping_add(data + ends),
        ack,
        sack: ack,
        window,
        has_ack,
        ..Segment::default()
    }
}

/// Address 10.0.0.`n`, or fd00::`n`.
pub(crate) fn address(n: u8, is_v6: bool) -> [u8; 16] {
    if is_v6 {
        let mut address = [0; 16];
        (address[0], address[15]) = (0xfd, n);
        address
    } else {
        FlowKey::mapped([10, 0, 0, n])
    }
}

/// Frame without ports, of protocol `proto`, from 10.0.0.1 to 10.0.0.2.
pub(crate) fn frame(proto: u8, event: Event) -> TrackedFrame {
    TrackedFrame {
        scope: Scope::new(1, 210),
        src: address(1, false),
        dst: address(2, false),
        src_port: 40_000,
        dst_port: 80,
        proto,
        is_v6: false,
        event,
        bytes: 60,
        segment: Segment::default(),
    }
}

/// Frame of the other direction.
pub(crate) fn reply(frame: &TrackedFrame, event: Event) -> TrackedFrame {
    TrackedFrame {
        src: frame.dst,
        dst: frame.src,
        src_port: frame.dst_port,
        dst_port: frame.src_port,
        event,
        ..*frame
    }
}

/// End of a conversation, as it knows itself.
#[derive(Debug, Clone, Copy)]
struct Host {
    next: u32,
    expects: u32,
}

/// Two hosts and what is under way between them.
pub(crate) struct Conversation {
    there: TrackedFrame,
    hosts: [Host; 2],
    under_way: Vec<(usize, TrackedFrame)>,
    script: Vec<(usize, Event)>,
}

impl Conversation {
    /// Conversation number `n`: TCP, UDP, an echo, SCTP or GRE, in IPv4 or IPv6.
    pub(crate) fn new(n: usize, dice: &mut Dice) -> Conversation {
        let tcp = (IpProto::TCP, 40_000, 80);
        let kinds = [
            tcp,
            tcp,
            tcp,
            (IpProto::UDP, 40_000, 4789),
            (IpProto::UDP, 40_000, 53),
            (IpProto::ICMP, 77, 8),
            (IpProto::SCTP, 36_412, 36_412),
            (47, 0, 0),
        ];
        let (proto, src_port, dst_port) = kinds[n % kinds.len()];
        let is_v6 = n / kinds.len() % 2 == 1;
        let [low, ..] = n.to_le_bytes();
        let mut there = TrackedFrame {
            src: address(1, is_v6),
            dst: address(2, is_v6),
            src_port,
            dst_port,
            is_v6,
            scope: Scope::new(u16::from(low) / 16 % 2, 210),
            ..frame(proto, Event::Data)
        };
        if proto == IpProto::TCP {
            there.src_port += u16::from(low);
        }
        // So that either end is the lesser.
        if dice.one_in(2) {
            (there.src, there.dst) = (there.dst, there.src);
        }
        let mut conversation = Conversation {
            there,
            hosts: [Host {
                next: 0,
                expects: 0,
            }; 2],
            under_way: Vec::new(),
            script: Vec::new(),
        };
        conversation.begin(dice);
        conversation
    }

    /// Begins anew with the same ports; mostly as it should be.
    fn begin(&mut self, dice: &mut Dice) {
        self.hosts = [0, 1].map(|_| Host {
            next: dice.word(),
            expects: 0,
        });
        let (syn, syn_ack, ack) = (Event::Syn, Event::SynAck, Event::Ack);
        self.script = match dice.below(8) {
            0 => vec![],
            1 => vec![(1, ack), (1, syn_ack), (1, syn), (0, syn)],
            _ => vec![(0, ack), (1, syn_ack), (0, syn)],
        };
    }

    /// Next frame that the tracker sees, if one gets that far.
    pub(crate) fn turn(&mut self, dice: &mut Dice) -> Option<TrackedFrame> {
        if dice.one_in(60) {
            self.begin(dice);
        }
        let (from, event) = self.script.pop().unwrap_or_else(|| {
            let events = [
                Event::Ack,
                Event::Ack,
                Event::Ack,
                Event::Ack,
                Event::Ack,
                Event::Ack,
                Event::Ack,
                Event::Fin,
                Event::Rst,
                Event::Syn,
                Event::SynAck,
            ];
            (dice.below(2), dice.pick(&events))
        });
        let sent = self.send(from, event, dice);
        self.under_way.push((from, sent));
        if dice.one_in(3) && self.script.is_empty() {
            return None;
        }
        let at = if self.script.is_empty() && dice.one_in(4) {
            dice.below(self.under_way.len())
        } else {
            self.under_way.len() - 1
        };
        let (from, arrives) = if dice.one_in(8) {
            self.under_way[at]
        } else {
            self.under_way.remove(at)
        };
        if self.under_way.len() > 8 {
            self.under_way.remove(0);
        }
        if !dice.one_in(10) {
            self.arrive(1 - from, &arrives);
        }
        Some(arrives)
    }

    fn arrive(&mut self, at: usize, frame: &TrackedFrame) {
        let host = &mut self.hosts[at];
        let is_first = matches!(frame.event, Event::Syn | Event::SynAck);
        if is_first || frame.segment.seq == host.expects {
            host.expects = frame.segment.end;
        }
    }

    fn send(&mut self, from: usize, event: Event, dice: &mut Dice) -> TrackedFrame {
        let mut frame = self.there;
        if from == 1 {
            frame = reply(&frame, Event::Data);
        }
        if frame.proto != IpProto::TCP {
            let last = dice.pick(&[Event::Data, Event::Data, Event::Answer, Event::Piece]);
            let ends = frame.proto == IpProto::SCTP && dice.one_in(5);
            frame.event = if ends { Event::Fin } else { last };
            return frame;
        }
        frame.event = event;
        let host = self.hosts[from];
        let lengths = [0, 0, 1, 100, 1460, 1460, 64_000];
        let data = match event {
            Event::Syn => dice.pick(&[0, 0, 0, 20]),
            Event::SynAck | Event::Rst => 0,
            _ => dice.pick(&lengths),
        };
        let window = dice.pick(&[0, 1, 502, 502, 8192, 65_535]);
        let far = dice.word();
        let off = [
            1,
            0u32.wrapping_sub(1),
            1460,
            0u32.wrapping_sub(1460),
            70_000,
            far,
        ];
        let (mut seq, mut ack) = (host.next, host.expects);
        if dice.one_in(8) && self.script.is_empty() {
            seq = seq.wrapping_add(dice.pick(&off));
        }
        if dice.one_in(10) && self.script.is_empty() {
            ack = ack.wrapping_add(dice.pick(&off));
        }
        frame.segment = segment(event, seq, ack, window, data);
        match event {
            Event::Syn | Event::SynAck => {
                frame.segment.scale = dice.pick(&[None, Some(0), Some(2), Some(7), Some(14)]);
                frame.segment.sack_permitted = dice.one_in(2);
            }
            Event::Rst if dice.one_in(2) => {
                frame.segment.has_ack = true;
                frame.segment.ack = dice.pick(&[ack, ack, 0]);
                frame.segment.sack = frame.segment.ack;
            }
            Event::Ack if dice.one_in(5) => {
                frame.segment.sack = ack.wrapping_add(dice.pick(&[1460, 2920, 100_000]));
            }
            _ => {}
        }
        // A SYN that is sent again has the same number.
        if event != Event::Rst && seq == host.next {
            let again = dice.one_in(4) && self.script.is_empty();
            if !again {
                self.hosts[from].next = frame.segment.end;
            }
        }
        frame
    }
}

/// Ticks until the next frame: mostly none, sometimes about as long as a timeout.
pub(crate) fn pause(dice: &mut Dice) -> u32 {
    if !dice.one_in(12) {
        return 0;
    }
    let some = [1, 2, 5, 18, 19, 20, 21, 59, 60, 61, 119, 120, 121];
    let long = [
        600, 599, 1200, 1799, 1800, 30_000, 100_000, 172_799, 172_800,
    ];
    if dice.one_in(10) {
        dice.pick(&long)
    } else {
        dice.pick(&some)
    }
}
