// SPDX-License-Identifier: Apache-2.0
//! Counters of legs, interfaces and rules.

use crate::drops::Drop;
use crate::interfaces::InterfaceId;

/// Drops by reason.
pub type DropCounts = [u64; Drop::COUNT];

/// Counters of a leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LegCounters {
    /// Frames and bytes received.
    pub received: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Frames sent, the firewall's own included.
    pub sent: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Drops before the interface was known.
    pub drops: DropCounts,
}

impl Default for LegCounters {
    fn default() -> LegCounters {
        LegCounters {
            received: 0,
            received_bytes: 0,
            sent: 0,
            sent_bytes: 0,
            drops: [0; Drop::COUNT],
        }
    }
}

/// Counters of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InterfaceCounters {
    /// Frames that came in.
    pub input: u64,
    /// Packets that came in here and left elsewhere; each once, also in fragments.
    pub forwarded: u64,
    /// Packets from elsewhere that left here; each once, also in fragments.
    pub output: u64,
    /// Packets from elsewhere that left here in fragments.
    pub fragmented: u64,
    /// Frames for the firewall itself that were used: ARP, neighbour discovery, pings.
    pub local: u64,
    /// Frames that the firewall made and sent here.
    pub made: u64,
    /// Errors of ICMP and resets of TCP among them.
    pub errors: u64,
    /// Errors and resets that were not made: over the limit, or against the rules of ICMP.
    pub errors_withheld: u64,
    /// Answers in which another claimed an address of the firewall's.
    pub conflicts: u64,
    /// Drops of frames that came in here.
    pub drops: DropCounts,
}

impl Default for InterfaceCounters {
    fn default() -> InterfaceCounters {
        InterfaceCounters {
            input: 0,
            forwarded: 0,
            output: 0,
            fragmented: 0,
            local: 0,
            made: 0,
            errors: 0,
            errors_withheld: 0,
            conflicts: 0,
            drops: [0; Drop::COUNT],
        }
    }
}

/// All counters. Vectors have the order of the tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// Counters of legs.
    pub legs: Vec<LegCounters>,
    /// Counters of interfaces.
    pub interfaces: Vec<InterfaceCounters>,
    /// Frames decided by each rule, by slot of the policy set.
    pub rules: Vec<u64>,
    /// Log lines that were left out.
    pub log_lost: u64,
}

impl Counters {
    /// Makes counters of zero.
    #[must_use]
    pub fn new(legs: usize, interfaces: usize, rules: usize) -> Counters {
        Counters {
            legs: vec![LegCounters::default(); legs],
            interfaces: vec![InterfaceCounters::default(); interfaces],
            rules: vec![0; rules],
            log_lost: 0,
        }
    }

    /// Counters of a leg.
    ///
    /// # Panics
    /// If there is no such leg.
    pub fn leg(&mut self, leg: usize) -> &mut LegCounters {
        &mut self.legs[leg]
    }

    /// Counters of an interface.
    ///
    /// # Panics
    /// If there is no such interface.
    pub fn interface(&mut self, id: InterfaceId) -> &mut InterfaceCounters {
        &mut self.interfaces[usize::from(id)]
    }

    /// Counts a frame that came in on an interface and went no further.
    pub fn drop(&mut self, input: InterfaceId, reason: Drop) {
        self.interface(input).drops[reason.index()] += 1;
    }

    /// Counts a frame that a rule decided on.
    pub fn rule(&mut self, slot: usize) {
        if let Some(count) = self.rules.get_mut(slot) {
            *count += 1;
        }
    }
}
