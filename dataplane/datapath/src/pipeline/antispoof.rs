// SPDX-License-Identifier: Apache-2.0
//! Anti-spoofing: a pod's frame must come from the pod's own addresses, in the Ethernet header, in
//! the IP header, and in what ARP and neighbour discovery would have others believe. And it must not
//! play a role that the attachment was not given.

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
/// The source MAC must be the attachment's, always. When the attachment has addresses, IP sources
/// must be among them; so must what ARP and ND claim. `::` is for those who have no address yet
/// ([`may_be_from_nobody`]). Link-local addresses of IPv6 are the one made of the MAC, those
/// configured, and a few that the pod takes by using them ([`claims`]). What a router, a DHCP server
/// or a querier sends needs that role, whatever addresses there are.
#[inline(always)]
pub(crate) fn check(
    attachment: &Attachment,
    frame: &[u8],
    key: &FlowKey,
    l3: u16,
    context: Context<'_>,
) -> Result<(), DropReason> {
    let own = &*attachment.identity;
    if key.src_mac != own.mac.0 {
        return Err(DropReason::SpoofedMac);
    }
    let from_nobody = key.has(FlowKey::IPV6) && key.src == [0; 16];
    if key.is_ip() {
        let honest = if from_nobody {
            may_be_from_nobody(frame, key, l3)
        } else {
            own.may_have(&key.src) && !is_impossible_source(key)
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
    let discovered = check_claim(own, frame, key, l3)?;
    if key.has(FlowKey::IPV6) {
        // Last, so that a frame that goes no further takes no address.
        let source = (!from_nobody).then_some(key.src);
        for address in source.into_iter().chain(discovered) {
            take(attachment, &address, context)?;
        }
    }
    Ok(())
}

/// Reason for which a frame is dropped whose sender was not given `role`.
fn without(role: Role) -> DropReason {
    match role {
        Role::Router => DropReason::NotRouter,
        Role::DhcpServer => DropReason::NotDhcpServer,
        Role::Querier => DropReason::NotQuerier,
    }
}

/// Checks what ARP or neighbour discovery claims. Returns the IPv6 address that it claims, if any.
#[inline]
fn check_claim(
    own: &Identity,
    frame: &[u8],
    key: &FlowKey,
    l3: u16,
) -> Result<Option<[u8; 16]>, DropReason> {
    let reason = if key.has(FlowKey::ARP) {
        DropReason::SpoofedArp
    } else {
        DropReason::SpoofedNd
    };
    let (honest, address) = match claim_of(frame, key, l3).map_err(|_| reason)? {
        Claim::None => return Ok(None),
        Claim::Arp { mac, ip, target } => {
            // A probe claims the address it asks for.
            let address = key_address(&ip.unwrap_or(target).into());
            let probes_nobody = ip.is_none() && target.is_unspecified();
            let honest = mac == own.mac && (probes_nobody || own.may_have(&address));
            (honest, None)
        }
        Claim::Neighbour { mac, address, .. } => {
            let address = address.map(|address| address.octets());
            let mac_honest = mac.is_none_or(|mac: Mac| mac == own.mac);
            let honest = mac_honest && address.is_none_or(|address| own.may_have(&address));
            (honest, address)
        }
    };
    if honest { Ok(address) } else { Err(reason) }
}

/// Takes a link-local address for the attachment, unless it was given it. Other addresses are fine
/// as they are.
#[inline]
fn take(
    attachment: &Attachment,
    address: &[u8; 16],
    context: Context<'_>,
) -> Result<(), DropReason> {
    match interface_id(address) {
        Some(id) if !attachment.identity.was_given(address) => claims::claim(
            context.tables,
            context.segment,
            attachment,
            id,
            context.now_ms,
        ),
        _ => Ok(()),
    }
}
