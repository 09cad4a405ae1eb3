// SPDX-License-Identifier: Apache-2.0
//! Anti-spoofing: a pod's frame must come from addresses that the pod may use, in the Ethernet header, in
//! the IP header, and in what ARP and neighbour discovery would have others believe. And it must not
//! play a role that the attachment was not given.

use std::net::IpAddr;

use sluice_packet::nd::NEIGHBOUR_ADVERT;
use sluice_packet::pose::AntiSpoof;
use sluice_packet::role::{Role, role_of};
use sluice_packet::sender::{Claim, claim_of, is_impossible_source, may_be_from_nobody};
use sluice_packet::{FlowKey, Mac};

use crate::drops::DropReason;
use crate::pipeline::attachment::Attachment;
use crate::pipeline::claims;
use crate::pipeline::identity::{Identity, interface_id, key_address};
use crate::pipeline::tables::{SegmentTable, Tables};

/// Tables and time that a frame of a pod is checked by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) tables: &'a Tables,
    /// Segment of the frame.
    pub(crate) segment: &'a SegmentTable,
    pub(crate) now_ms: u64,
}

/// Checks one parsed frame of a pod.
///
/// The source MAC address must be one that the attachment may use and no other attachment has. How far
/// IP sources and what ARP and ND announce are checked, its [`AntiSpoof`] says; with
/// [`AntiSpoof::Strict`] its own addresses, where it has any, and its allowed pairs. In no mode may ARP
/// and ND announce an address that another attachment was given, unless a pair names it. `::` is for
/// those who have no address yet ([`may_be_from_nobody`]). Link-local addresses of IPv6 are the one made
/// of the MAC, those configured, and a few that the pod takes by using them ([`claims`]). What a router,
/// a DHCP server or a querier sends needs that role, whatever addresses there are.
#[inline(always)]
pub(crate) fn check(
    attachment: &Attachment,
    frame: &[u8],
    key: &FlowKey,
    l3: u16,
    context: Context<'_>,
) -> Result<(), DropReason> {
    let own = &*attachment.identity;
    let mac = key.src_mac();
    if mac != own.mac && !may_use_other(attachment, mac, context) {
        return Err(DropReason::SpoofedMac);
    }
    let from_nobody = key.has(FlowKey::IPV6) && key.src == [0; 16];
    if key.is_ip() {
        let honest = if from_nobody {
            may_be_from_nobody(frame, key, l3)
        } else {
            own.may_have_at(mac, &key.src) && !is_impossible_source(key)
        };
        if !honest {
            return Err(DropReason::SpoofedIp);
        }
        if let Some(role) = role_of(frame, key, l3)
            && !own.roles.has(role)
        {
            return Err(without(role));
        }
    }
    let discovered = check_claim(attachment, frame, key, l3, context)?;
    if key.has(FlowKey::IPV6) {
        // Last, so that a frame that goes no further takes no address.
        let source = (!from_nobody).then_some((mac, key.src));
        for (mac, address) in source.into_iter().chain(discovered) {
            take(attachment, mac, &address, context)?;
        }
    }
    Ok(())
}

/// Whether the attachment may use a MAC address that is not its own.
#[cold]
fn may_use_other(attachment: &Attachment, mac: Mac, context: Context<'_>) -> bool {
    attachment.identity.may_use(mac)
        && mac.is_unicast()
        && context.segment.network.macs.get(mac.0).is_none()
}

/// Reason for which a frame is dropped whose sender was not given `role`.
fn without(role: Role) -> DropReason {
    match role {
        Role::Router => DropReason::NotRouter,
        Role::DhcpServer => DropReason::NotDhcpServer,
        Role::Querier => DropReason::NotQuerier,
    }
}

/// Address that neighbour discovery announces, and the MAC address that it is to be at.
type Announced = (Mac, [u8; 16]);

/// Checks what ARP or neighbour discovery claims. Returns the IPv6 address that it claims, if any.
#[inline]
fn check_claim(
    attachment: &Attachment,
    frame: &[u8],
    key: &FlowKey,
    l3: u16,
    context: Context<'_>,
) -> Result<Option<Announced>, DropReason> {
    let own = &*attachment.identity;
    let reason = if key.has(FlowKey::ARP) {
        DropReason::SpoofedArp
    } else {
        DropReason::SpoofedNd
    };
    let may_use = |mac: Mac| mac == own.mac || may_use_other(attachment, mac, context);
    let is_taken = |mac, address: &[u8; 16]| {
        let network = &context.segment.network;
        network.is_given_to_another(address, attachment.id) && !own.names(mac, address)
    };
    match claim_of(frame, key, l3).map_err(|_| reason)? {
        Claim::None => Ok(None),
        Claim::Arp { mac, ip, target } => {
            // A probe claims the address it asks for.
            let address = key_address(&ip.unwrap_or(target).into());
            let probes_nobody = ip.is_none() && target.is_unspecified();
            if !may_use(mac) || !probes_nobody && !own.may_have_at(mac, &address) {
                return Err(reason);
            }
            if is_taken(mac, &address) {
                return Err(DropReason::AddressTaken);
            }
            Ok(None)
        }
        Claim::Neighbour {
            icmp_type,
            mac: option,
            address,
        } => {
            let address = address.map(|address| address.octets());
            let announced = option.unwrap_or(key.src_mac());
            // An advertisement's option is of its target, any other's of its source.
            let source = (icmp_type != NEIGHBOUR_ADVERT && key.src != [0; 16]).then_some(key.src);
            let may_have = |address| own.may_have_at(announced, &address);
            if !may_use(announced) || ![address, source].into_iter().flatten().all(may_have) {
                return Err(reason);
            }
            // Others are judged when they are taken.
            let judged = |address: &[u8; 16]| {
                own.anti_spoof != AntiSpoof::Strict || to_claim(own, announced, address).is_none()
            };
            let mut said = [address, source].into_iter().flatten().filter(judged);
            if said.any(|address| is_taken(announced, &address)) {
                return Err(DropReason::AddressTaken);
            }
            Ok(address.map(|address| (announced, address)))
        }
    }
}

/// Returns the interface id of an address that the attachment has only if it claims it: a link-local one
/// behind its own MAC address that it was not given and no pair has. What is behind other MAC addresses
/// moves with these.
#[inline]
fn to_claim(own: &Identity, mac: Mac, address: &[u8; 16]) -> Option<u64> {
    let id = interface_id(address)?;
    let has = mac != own.mac || own.was_given(address) || own.has_in_pair(mac, address);
    (!has).then_some(id)
}

/// Takes an address for the attachment that is to be claimed. Others are fine as they are.
///
/// A router and a bridge take as many as a host may, so that nobody else does, and use any others
/// besides.
#[inline]
fn take(
    attachment: &Attachment,
    mac: Mac,
    address: &[u8; 16],
    context: Context<'_>,
) -> Result<(), DropReason> {
    let own = &*attachment.identity;
    let Some(id) = to_claim(own, mac, address) else {
        return Ok(());
    };
    let (tables, segment) = (context.tables, context.segment);
    match claims::claim(tables, segment, attachment, id, context.now_ms) {
        Err(DropReason::LinkLocalLimited) if own.anti_spoof != AntiSpoof::Strict => Ok(()),
        claimed => claimed,
    }
}

/// Returns the addresses that a dropped frame came from, or announced: for people.
#[cold]
pub(crate) fn addresses(frame: &[u8], key: &FlowKey, l3: u16) -> (Mac, Option<IpAddr>) {
    match claim_of(frame, key, l3) {
        Ok(Claim::Arp { mac, ip, target }) => (mac, Some(ip.unwrap_or(target).into())),
        Ok(Claim::Neighbour { mac, address, .. }) => {
            let ip = address.map(IpAddr::from).or_else(|| key.src_ip());
            (mac.unwrap_or(key.src_mac()), ip)
        }
        Ok(Claim::None) | Err(_) => (key.src_mac(), key.src_ip()),
    }
}
