// SPDX-License-Identifier: Apache-2.0
//! Claims of a frame about its sender above the Ethernet and IP headers (ARP, neighbour discovery): the
//! part of anti-spoofing that is not in the [`FlowKey`].

use std::net::{Ipv4Addr, Ipv6Addr};

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

impl Claim {
    /// Whether only a router may claim this: router advertisements and redirects.
    #[must_use]
    pub fn is_router(&self) -> bool {
        matches!(
            self,
            Claim::Neighbour {
                icmp_type: nd::ROUTER_ADVERT | nd::REDIRECT,
                ..
            }
        )
    }
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
