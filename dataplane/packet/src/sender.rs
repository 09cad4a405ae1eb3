// SPDX-License-Identifier: Apache-2.0
//! Claims of a frame about its sender above the Ethernet and IP headers (ARP, neighbour discovery): the
//! part of anti-spoofing that is not in the [`FlowKey`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::arp::Arp;
use crate::error::ParseError;
use crate::icmpv6::Icmpv6;
use crate::ipv6::Ipv6;
use crate::key::FlowKey;
use crate::mac::Mac;
use crate::nd::{self, Kind, Nd, OPTION_SOURCE_MAC, OPTION_TARGET_MAC};
use crate::parse::Parsed;
use crate::proto::IpProto;

/// Claim of a frame about its sender, as other hosts would write it into their neighbour tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// No claim: neither ARP nor neighbour discovery.
    None,
    /// Claim of ARP, of any operation: "`ip` is at `mac`".
    Arp {
        /// Sender hardware address.
        mac: Mac,
        /// Sender protocol address; `None` in a probe, which has 0.0.0.0 (RFC 5227, 2.1.1).
        ip: Option<Ipv4Addr>,
        /// Target protocol address; in a probe, the address that the sender is about to take.
        target: Ipv4Addr,
    },
    /// Claim of neighbour discovery.
    Neighbour {
        /// ICMPv6 type, 133 to 137.
        icmp_type: u8,
        /// MAC that the sender claims: the source link-layer option of solicitations and
        /// router advertisements, the target link-layer option of neighbour advertisements.
        mac: Option<Mac>,
        /// Address that the sender claims, beside the packet's source: an advertisement's
        /// target, or the target of duplicate address detection (a solicitation from `::`).
        address: Option<Ipv6Addr>,
    },
}

/// Returns the claim of a frame, of which [`parse()`](crate::parse()) made `parsed`. Costs two tests of
/// the key for frames without one.
///
/// # Errors
/// `BadHeader` for messages that no receiver may accept: neighbour discovery in fragments (RFC 6980) or with a
/// hop limit other than 255 (RFC 4861, 6.1 and 7.1), with contradicting or ill-formed options, or from
/// `::` with a source link-layer option (RFC 4861, 7.1.1). `Truncated` if a message or one of its
/// options is incomplete. Treat both as spoofed.
#[inline]
pub fn claim(frame: &[u8], parsed: &Parsed) -> Result<Claim, ParseError> {
    claim_of(frame, &parsed.key, parsed.l3)
}

/// Returns the claim, like [`claim`], for callers with key and offset of the network header apart.
///
/// # Errors
/// As for [`claim`].
#[inline]
pub fn claim_of(frame: &[u8], key: &FlowKey, l3: u16) -> Result<Claim, ParseError> {
    if key.has(FlowKey::ARP) {
        return arp(frame, l3);
    }
    let discovery = key.has(FlowKey::ICMP)
        && key.proto == IpProto::ICMPV6
        && matches!(key.icmp_type, nd::ROUTER_SOLICIT..=nd::REDIRECT);
    if discovery {
        return neighbour(frame, l3);
    }
    Ok(Claim::None)
}

/// ICMPv6 types of listeners: reports of either version, and the end of one (RFC 2710, RFC 9777).
const MLD_REPORTS: [u8; 3] = [131, 132, 143];

/// Whether a frame may come from `::`, the address of a host that has none yet. These may, and nothing else:
///
/// * the solicitation of duplicate address detection (RFC 4862, 5.4.2): to the solicited-node group of
///   its target, without a source link-layer option;
/// * a router solicitation without that option (RFC 4861, 4.1);
/// * listener reports, since the group of a tentative address is joined before it can be used (RFC
///   3590, 4; RFC 9777, 5.2.14): with hop limit 1, to a group.
///
/// `key` is what the parser made of the frame; `l3` is the offset of its IP header.
#[must_use]
pub fn may_be_from_nobody(frame: &[u8], key: &FlowKey, l3: u16) -> bool {
    let whole_icmp = key.has(FlowKey::ICMP) && !key.has(FlowKey::FRAGMENT);
    let Some(bytes) = frame.get(usize::from(l3)..) else {
        return false;
    };
    let Ok(ip) = Ipv6::new(bytes) else {
        return false;
    };
    if !whole_icmp || key.proto != IpProto::ICMPV6 || !ip.dst().is_multicast() {
        return false;
    }
    match key.icmp_type {
        nd::ROUTER_SOLICIT => neighbour(frame, l3).is_ok(),
        nd::NEIGHBOUR_SOLICIT => match neighbour(frame, l3) {
            Ok(Claim::Neighbour {
                address: Some(target),
                ..
            }) => !target.is_multicast() && ip.dst() == solicited_node(target),
            _ => false,
        },
        kind => MLD_REPORTS.contains(&kind) && ip.hop_limit() == 1,
    }
}

/// Solicited-node group of an address (RFC 4291, 2.7.1).
fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    let group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c];
    group.into()
}

/// Whether no host can have the source address of an IP packet: a group, broadcast or loopback.
#[must_use]
pub fn is_impossible_source(key: &FlowKey) -> bool {
    match key.src_ip() {
        Some(IpAddr::V4(v4)) => v4.is_multicast() || v4.is_broadcast() || v4.is_loopback(),
        Some(IpAddr::V6(v6)) => v6.is_multicast() || v6.is_loopback(),
        None => false,
    }
}

fn arp(frame: &[u8], l3: u16) -> Result<Claim, ParseError> {
    let bytes = frame.get(usize::from(l3)..).ok_or(ParseError::Truncated)?;
    let arp = Arp::new(bytes)?;
    let ip = arp.sender_ip();
    Ok(Claim::Arp {
        mac: arp.sender_mac(),
        ip: (!ip.is_unspecified()).then_some(ip),
        target: arp.target_ip(),
    })
}

fn neighbour(frame: &[u8], l3: u16) -> Result<Claim, ParseError> {
    let bytes = frame.get(usize::from(l3)..).ok_or(ParseError::Truncated)?;
    let ip = Ipv6::new(bytes)?;
    let upper = ip.upper()?;
    if upper.fragment.is_some() || ip.hop_limit() != 255 {
        return Err(ParseError::BadHeader);
    }
    let icmp = Icmpv6::new(upper.payload)?;
    let nd = Nd::new(&icmp).ok_or(ParseError::BadHeader)??;
    let source = nd.mac_option(OPTION_SOURCE_MAC)?;
    let target = nd.mac_option(OPTION_TARGET_MAC)?;
    let from_nobody = ip.src().is_unspecified();
    if from_nobody && source.is_some() {
        return Err(ParseError::BadHeader);
    }
    let (mac, address) = match nd.kind() {
        Kind::RouterSolicit | Kind::RouterAdvert | Kind::Redirect { .. } => (source, None),
        Kind::NeighbourSolicit { target } => (source, from_nobody.then_some(target)),
        Kind::NeighbourAdvert { target: address } => (target, Some(address)),
    };
    Ok(Claim::Neighbour {
        icmp_type: icmp.icmp_type(),
        mac,
        address,
    })
}

#[cfg(test)]
mod tests;
