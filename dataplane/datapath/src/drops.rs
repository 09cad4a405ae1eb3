// SPDX-License-Identifier: Apache-2.0
//! Drop reasons, and a counter for each.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])* $variant:ident => $name:literal,)*) => {
        /// Every way in which a frame can end other than by being sent.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum DropReason {
            $($(#[doc = $doc])* $variant,)*
        }

        impl DropReason {
            /// All of them, in the order of their numbers.
            pub const ALL: &'static [DropReason] = &[$(DropReason::$variant,)*];

            /// The name it is counted under.
            pub fn name(self) -> &'static str {
                match self {
                    $(DropReason::$variant => $name,)*
                }
            }

            /// Meaning of the reason, in a sentence.
            pub fn meaning(self) -> &'static str {
                match self {
                    $(DropReason::$variant => concat!($($doc,)*).trim_ascii_start(),)*
                }
            }
        }
    };
}

drop_reasons! {
    /// Headers are cut short.
    Truncated => "truncated",
    /// A header contradicts itself or the frame.
    BadHeader => "bad_header",
    /// A source route or a home address option hides where the packet goes or who sent it.
    HiddenAddress => "hidden_address",
    /// A later fragment that reaches back over the first one.
    FragmentOverlap => "fragment_overlap",
    /// From a pod that sends for itself, a later fragment whose first one was not seen.
    FragmentWithoutFirst => "fragment_without_first",
    /// Longer than the MTU of where it goes or where it came from.
    TooLong => "too_long",
    /// VID 4095.
    BadVid => "bad_vid",
    /// No attachment of this engine is in the frame's VLAN.
    NoSegment => "no_segment",
    /// The frame's VLAN is not among those of the pod that sent it.
    VlanNotAllowed => "vlan_not_allowed",
    /// An access pod sent a tag.
    TagOnAccess => "tag_on_access",
    /// A trunk pod without a native segment sent an untagged frame.
    UntaggedOnTrunk => "untagged_on_trunk",
    /// A second tag, and the attachment is not `qinq`.
    InnerTag => "inner_tag",
    /// A third tag.
    ThirdTag => "third_tag",
    /// To a group address whose frames end at the next bridge.
    ReservedGroup => "reserved_group",
    /// PAUSE, LACP, LLDP, spanning tree or other control of a link, whatever its address.
    LinkControl => "link_control",
    /// From the wire, with a group address or zeros as source MAC address.
    BadSource => "bad_source",
    /// From the wire, with the MAC address of an attachment of the VLAN as source: a loop, or a lie.
    LocalSource => "local_source",
    /// From the wire, to a unicast address that is no attachment's.
    NotOurs => "not_ours",
    /// To the address it came from.
    Hairpin => "hairpin",
    /// The source MAC address is not one that the attachment may use, or is another attachment's.
    SpoofedMac => "spoofed_mac",
    /// The source IP address is not one that the attachment may use, or one that no host can have.
    SpoofedIp => "spoofed_ip",
    /// An ARP sender address is not one that the attachment may use.
    SpoofedArp => "spoofed_arp",
    /// A neighbour discovery sender address is not one that the attachment may use.
    SpoofedNd => "spoofed_nd",
    /// ARP or neighbour discovery announces an address that another attachment of the VLAN was given.
    AddressTaken => "address_taken",
    /// From a MAC address beyond those that the attachment may have (`limits.macs`), or from too many new ones lately.
    MacLimited => "mac_limited",
    /// From a MAC address that moved between attachments and the wire too often: it stays where it is for a minute.
    MacFlapping => "mac_flapping",
    /// A link-local address that another attachment of the VLAN has, on any uplink of the network.
    LinkLocalTaken => "link_local_taken",
    /// A link-local address beyond the four that an attachment may take in a VLAN, or too many tries.
    LinkLocalLimited => "link_local_limited",
    /// Message that only a router sends, from an attachment without that role.
    NotRouter => "not_router",
    /// Message that only a DHCP server sends, or a piece that may hide one, from an attachment without that role.
    NotDhcpServer => "not_dhcp_server",
    /// A query of IGMP or MLD, from an attachment without that role.
    NotQuerier => "not_querier",
    /// The segment has no VLAN policy, or the attachment's own policy is gone.
    NoPolicy => "no_policy",
    /// By a stateful policy: of no connection, and it cannot begin one, or not possible in its connection.
    InvalidState => "invalid_state",
    /// By a stateful policy: the attachment has as many connections as it may, and none of them can go.
    ConnectionLimited => "connection_limited",
    /// A rule or a default said drop, or said reject of what is never answered.
    Denied => "denied",
    /// A rule accepted it, beyond the rule's `limit`.
    RuleLimited => "rule_limited",
    /// A rule said reject, and the sender was told.
    Rejected => "rejected",
    /// A rule said reject, and telling the sender was over the limit.
    RejectLimited => "reject_limited",
    /// Broadcast over its sender's limit (`limits` in the configuration).
    BroadcastLimited => "broadcast_limited",
    /// Flooded multicast over its sender's limit (`limits`).
    MulticastLimited => "multicast_limited",
    /// ARP, neighbour discovery, IGMP or MLD over its sender's limit (`limits`).
    ArpNdLimited => "arp_nd_limited",
    /// Frame of the wire to a known group: its VLAN has had as many copies as it may (`limits.wire.groups`).
    GroupLimited => "group_limited",
    /// Frame of the wire for `promiscuous` attachments: its VLAN has had as many copies as it may (`limits.wire.groups`).
    UnknownLimited => "unknown_limited",
    /// A frame to a group, and no attachment is to get it.
    NoReceiver => "no_receiver",
    /// The attachment went while the frame was on its way.
    Gone => "gone",
    /// No peer is connected to the attachment, or its tap went with the frame in it; the uplink has
    /// no link, or its device is gone.
    LinkDown => "link_down",
    /// The pod does not empty its ring.
    RingFull => "ring_full",
    /// The uplink takes no more.
    UplinkFull => "uplink_full",
    /// The ring to the worker that owns the destination is full.
    HandoffFull => "handover_full",
    /// No free mbuf.
    NoMbuf => "no_mbuf",
    /// The kernel had no room in its ring, or cut the frame short.
    KernelDropped => "kernel_dropped",
    /// A coalesced frame that cannot be segmented: `ethtool -K DEVICE gro off lro off` on the
    /// uplink keeps the kernel from making them.
    Oversize => "oversize",
    /// The device failed at sending it.
    TxError => "tx_error",
    /// The device received it damaged.
    RxError => "rx_error",
    /// The peer's descriptor was wrong.
    BadDescriptor => "bad_descriptor",
}

/// A count per drop reason, written by one worker and read by anyone.
#[derive(Debug)]
pub struct DropCounts {
    counts: [AtomicU64; DropReason::ALL.len()],
}

impl DropCounts {
    /// All zero.
    pub fn new() -> DropCounts {
        DropCounts {
            counts: [const { AtomicU64::new(0) }; DropReason::ALL.len()],
        }
    }

    /// Counts `frames`. Only the worker that owns these counts calls this: a load and a store cost
    /// less than an atomic add, and lose nothing with one writer.
    pub fn add(&self, reason: DropReason, frames: u64) {
        let count = &self.counts[reason as usize];
        count.store(
            count.load(Ordering::Relaxed).wrapping_add(frames),
            Ordering::Relaxed,
        );
    }

    /// Adds all of another's counts; as with [`DropCounts::add`], the owner alone calls this.
    pub(crate) fn add_all(&self, other: &DropCounts) {
        for (reason, count) in other.nonzero() {
            self.add(reason, count);
        }
    }

    /// Counts `frames` where several threads do: not for a worker, as an atomic add costs it more.
    pub(crate) fn add_beside_others(&self, reason: DropReason, frames: u64) {
        self.counts[reason as usize].fetch_add(frames, Ordering::Relaxed);
    }

    /// The count of one reason.
    pub fn get(&self, reason: DropReason) -> u64 {
        self.counts[reason as usize].load(Ordering::Relaxed)
    }

    /// Reasons that occurred, with their counts.
    pub fn nonzero(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL
            .iter()
            .map(|&reason| (reason, self.get(reason)))
            .filter(|&(_, count)| count != 0)
    }

    /// The sum over all reasons.
    pub fn total(&self) -> u64 {
        DropReason::ALL.iter().map(|&reason| self.get(reason)).sum()
    }
}

impl Default for DropCounts {
    fn default() -> DropCounts {
        DropCounts::new()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects")]
    use std::fmt::Write;

    use super::*;

    /// The page has a row for each reason, in their order. `SLUICE_WRITE_DROP_REASONS=1` writes the
    /// table anew.
    #[test]
    fn the_page_has_every_reason() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/drop-reasons.md");
        let page = std::fs::read_to_string(path).unwrap();
        let head = "| reason | what happened |\n|---|---|\n";
        let (before, rest) = page.split_once(head).unwrap();
        let mut table = String::new();
        for reason in DropReason::ALL {
            let meaning = reason.meaning().trim_end_matches('.');
            assert!(
                !meaning.is_empty() && !meaning.contains('|'),
                "{}",
                reason.name()
            );
            writeln!(table, "| `{}` | {meaning} |", reason.name()).unwrap();
        }
        let end = rest.find("\n\n").map_or(rest.len(), |at| at + 1);
        let (found, after) = rest.split_at(end);
        if std::env::var_os("SLUICE_WRITE_DROP_REASONS").is_some() {
            std::fs::write(path, [before, head, &table, after].concat()).unwrap();
        } else {
            assert_eq!(
                found, table,
                "write it anew with SLUICE_WRITE_DROP_REASONS=1"
            );
        }
    }
}
