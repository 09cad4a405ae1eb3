// SPDX-License-Identifier: Apache-2.0
//! Checked views over packet bytes, and the flow keys that the datapath makes of them.
//!
//! * [`parse()`] turns a frame into a [`FlowKey`] in one pass; it is what runs per packet.
//! * The views ([`eth`], [`vlan`], [`arp`], [`ipv4`], [`ipv6`], [`tcp`], [`udp`], [`icmp`], [`icmpv6`])
//!   have one checked constructor each and then accessors that cannot panic: what the constructor
//!   checked is held as arrays and sub-slices, so there is nothing left to index wrongly.
//! * [`Headers`] are the fields that rules can match beside a key.
//! * [`Mac`] and [`Vid`] (with [`VidRange`]) are the types that check addresses and VLANs for all crates.
//! * [`membership`] reads IGMP and MLD, for multicast snooping.
//! * [`sender`] reads the claims of ARP and neighbour discovery about their sender, for anti-spoofing;
//!   [`role`] says what only a router, a DHCP server or a querier sends, [`link_control`] what
//!   ends at the next bridge, [`fragment`] which datagram a piece is of.
//! * [`checksum`], [`open_checksum`], [`l4`], [`reject`], [`gso`] and [`build`] make frames or complete them.
//!
//! Everything here works on plain bytes that nobody else writes: a frame is copied out of memory
//! shared with a pod before it is looked at. Nothing allocates except [`build`]'s `Vec` form.

#![forbid(unsafe_code)]

mod bytes;
mod error;
mod ethertype;
mod key;
mod mac;
mod parse;
mod proto;
mod vid;

pub mod arp;
pub mod build;
pub mod checksum;
pub mod eth;
pub mod fragment;
pub mod gso;
pub mod headers;
pub mod icmp;
pub mod icmpv6;
pub mod ipv4;
pub mod ipv6;
pub mod l4;
pub mod link_control;
pub mod membership;
pub mod nd;
pub mod open_checksum;
pub mod pose;
pub mod reject;
pub mod role;
pub mod sender;
pub mod tcp;
pub mod udp;
pub mod vlan;

pub use error::ParseError;
pub use ethertype::EtherType;
pub use headers::Headers;
pub use key::FlowKey;
pub use mac::{Mac, MacError};
pub use parse::{InnerTag, Layout, Parsed, parse, parse_into, parse_plain};
pub use proto::IpProto;
pub use vid::{Vid, VidError, VidRange};
pub use vlan::{VlanTag, outer_tag};
