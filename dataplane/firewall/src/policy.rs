// SPDX-License-Identifier: Apache-2.0
//! Policy as written.

use std::ops::RangeInclusive;

use ipnet::IpNet;
use sluice_packet::{Mac, Vid, VidRange};

use crate::problem::Position;
use crate::verdict::{Direction, Verdict};

/// Policy as written: from one YAML file, or made by control from a Kubernetes object.
///
/// Every value has a meaning, also those that [`Policy::parse`] would refuse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Name, unique in its policy set.
    pub name: String,
    /// File it was read from, for messages.
    pub file: String,
    /// Uplink whose segments it applies to; `None`: those of every uplink.
    pub uplink: Option<String>,
    /// Segments it applies to. Empty: none, it is used by attachments that name it.
    pub vlans: Vec<SegmentRange>,
    /// Verdicts of frames that no rule matches.
    pub default: Defaults,
    /// Rules in order; the first match wins.
    pub rules: Vec<Rule>,
}

/// Verdicts of frames that no rule matches, one per direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Defaults {
    /// Towards pods.
    pub ingress: Verdict,
    /// From pods.
    pub egress: Verdict,
}

impl Defaults {
    /// Verdict of one direction.
    #[must_use]
    pub const fn of(self, direction: Direction) -> Verdict {
        match direction {
            Direction::Ingress => self.ingress,
            Direction::Egress => self.egress,
        }
    }
}

/// Range of segments that a policy applies to, one item of `vlans`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentRange {
    /// VIDs of the segments; [`Vid::UNTAGGED`] is the untagged one.
    pub vids: VidRange,
    /// Position of the item in the file.
    pub at: Position,
}

impl SegmentRange {
    /// Whether the segment of `vid` is in the range.
    #[must_use]
    pub fn contains(&self, vid: Vid) -> bool {
        self.vids.contains(vid)
    }

    /// Every VID of the range, lowest first.
    pub fn vids(&self) -> impl Iterator<Item = Vid> + use<> {
        self.vids.vids()
    }
}

/// Directions that a rule is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Directions {
    /// Frames towards pods.
    Ingress,
    /// Frames from pods.
    Egress,
    /// Both. `from` is still the frame's source in either.
    Both,
}

impl Directions {
    /// Whether `direction` is among them.
    #[must_use]
    pub const fn includes(self, direction: Direction) -> bool {
        matches!(
            (self, direction),
            (Directions::Both, _)
                | (Directions::Ingress, Direction::Ingress)
                | (Directions::Egress, Direction::Egress)
        )
    }
}

/// Rule of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Name, unique in its policy; `None` if it has none.
    pub name: Option<String>,
    /// Position where it begins.
    pub at: Position,
    /// Directions it is for.
    pub directions: Directions,
    /// Conditions that a frame must meet.
    pub matches: Match,
    /// Verdict on frames for which it is the first match.
    pub verdict: Verdict,
    /// Whether those frames are logged.
    pub log: bool,
}

/// Conditions of a rule: every condition must hold, and an empty condition always holds. A condition
/// with several values holds if one of them fits.
///
/// * `from`, `to` and `protocols` are about IP: a rule that has one of them and no `ethertypes`
///   matches IP packets only. With `ethertypes` it can also match ARP: then `from` and `to` are
///   compared with the sender's and the target's IPv4 address.
/// * An IPv4 prefix never holds for an IPv6 packet, nor the other way round, IPv4-mapped IPv6
///   addresses included.
/// * `source_ports` and `ports` hold only for frames whose ports are known, `icmp_types` only where
///   the ICMP type is. A later fragment has them if its datagram's first fragment came before it and
///   the caller remembers that; **else it has neither**, and only rules by prefix and protocol match.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Match {
    /// Source prefixes.
    pub from: Vec<IpNet>,
    /// Destination prefixes.
    pub to: Vec<IpNet>,
    /// IP protocol numbers; behind the extension headers in IPv6.
    pub protocols: Vec<u8>,
    /// Source ports.
    pub source_ports: Vec<RangeInclusive<u16>>,
    /// Destination ports.
    pub ports: Vec<RangeInclusive<u16>>,
    /// ICMP or ICMPv6 types.
    pub icmp_types: Vec<RangeInclusive<u8>>,
    /// EtherTypes behind all VLAN tags; 0 stands for 802.3 frames with a length in its place.
    pub ethertypes: Vec<u16>,
    /// Source MACs.
    pub source_macs: Vec<Mac>,
    /// Destination MACs.
    pub destination_macs: Vec<Mac>,
}

impl Match {
    /// Whether a condition that only IP can meet restricts it to IP packets.
    pub(crate) fn is_ip_only(&self) -> bool {
        self.ethertypes.is_empty()
            && !(self.from.is_empty() && self.to.is_empty() && self.protocols.is_empty())
    }
}

impl Policy {
    /// Rules of one direction with their indices in the policy.
    pub(crate) fn rules_of(&self, direction: Direction) -> impl Iterator<Item = (usize, &Rule)> {
        self.rules
            .iter()
            .enumerate()
            .filter(move |(_, rule)| rule.directions.includes(direction))
    }
}
