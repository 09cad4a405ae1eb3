// SPDX-License-Identifier: Apache-2.0
//! Firewall policies, compiled tables and verdicts.
//!
//! * [`Policy`]: one policy as written in YAML. [`Policy::parse`] refuses unknown keys and values, with
//!   the line and column of every problem.
//! * [`Table`]: the rules of one policy in one direction, compiled and immutable. [`Table::judge`] and
//!   [`Table::judge_burst`] give the verdict on a frame, by its [`FlowKey`](sluice_packet::FlowKey).
//! * [`PolicySet`]: all policies at one moment. Control builds one, workers swap it between bursts;
//!   [`carry_over`] says which counters keep their counts.
//! * [`connections`]: connection tracking, for policies that know the state of a flow.
//! * [`naive`]: the meaning of policies in forty lines; the tests' oracle.
//!
//! # A policy in YAML
//!
//! ```yaml
//! name: voice
//! uplink: wire0             # only on this uplink; without it, on every uplink
//! vlans: [210, 220-229]     # its segments; 0 or `untagged` is the untagged one; without it, the
//!                           # policy is used by attachments that name it
//! default:                  # for frames that no rule matches; a direction left out drops
//!   ingress: drop           # towards the pod
//!   egress: accept          # from the pod
//! rules:                    # the first that matches decides
//!   - name: allow-sip       # optional; unique in the policy
//!     direction: ingress    # ingress, egress or both
//!     from: [10.0.0.0/8, fd00::/8]    # source; a value alone or a list, here and below
//!     to: 10.21.0.5                   # destination
//!     protocol: udp                   # tcp, udp, icmp, icmpv6, sctp or a number
//!     source-ports: [1024-65535]      # need a protocol that has ports
//!     ports: [5060, 5061]             # destination ports
//!     verdict: accept                 # accept, drop or reject
//!     log: true                       # optional
//!   - direction: both
//!     protocol: icmp
//!     icmp-type: [0, 8]               # needs icmp or icmpv6
//!     verdict: accept
//!   - direction: both
//!     ethertype: [arp, 0x88cc]        # arp, ipv4, ipv6, lldp, 802.3 or a number
//!     source-mac: 02:00:5e:10:00:01   # and destination-mac
//!     verdict: accept
//! ```
//!
//! [`Match`] has the meaning of the conditions, together and alone; three things are easily missed:
//!
//! * A rule with `from`, `to` or `protocol` is about IP and does not match ARP. Under a default of
//!   drop, ARP (and in IPv6 neighbour discovery, which is ICMPv6) needs a rule of its own.
//! * A later fragment has ports or an ICMP type only if its key was completed with those of its
//!   datagram's first fragment; else rules with those do not match it.
//! * `from` is the frame's source in either direction: the peer's address in ingress, the pod's in
//!   egress.
//!
//! Unknown keys, keys written twice, values out of range, prefixes with host bits, empty lists, and
//! conditions that no frame can meet together are refused. [`Policy::warnings`] lists rules that can
//! never decide, [`Policy::one_way_warnings`] what passes in vain.

#![deny(unsafe_code)]

mod carry;
mod compile;
pub mod connections;
pub mod grammar;
mod header_match;
mod info;
mod limit;
mod masked_mac;
mod matches;
pub mod naive;
mod named_set;
mod one_way;
mod own_ports;
mod policy;
mod problem;
mod read;
mod set;
mod simd;
mod states;
mod table;
mod tuples;
mod verdict;
mod warnings;

pub use carry::{CarryOver, carry_over};
pub use header_match::{HeaderKind, HeaderMatch, TcpFlags};
pub use info::RuleInfo;
pub use limit::{Limit, LimitScope};
pub use masked_mac::MaskedMac;
pub use matches::{Fragments, IcmpTypes, Match};
pub use named_set::{NamedSet, NamedSets, SetValues, UsedSet};
pub use policy::{Defaults, Directions, Policy, Rule, SegmentRange};
pub use problem::{Position, Problem};
pub use set::{CompiledPolicy, PolicyIndex, PolicySet};
pub use simd::Simd;
pub use states::{State, States};
pub use table::{Hit, Table};
pub use verdict::{Direction, Verdict};
