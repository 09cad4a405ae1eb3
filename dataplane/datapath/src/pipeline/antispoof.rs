// SPDX-License-Identifier: Apache-2.0
//! Anti-spoofing: a pod's frame must come from the pod's own addresses, in the Ethernet header, in
//! the IP header, and in what ARP and neighbour discovery would have others believe.

use sluice_packet::sender::{Claim, claim_of};
use sluice_packet::{FlowKey, IpProto, Mac};

use crate::drops::DropReason;
use crate::pipeline::attachment::{Attachment, key_address};

/// Checks one parsed frame of a pod.
///
/// The source MAC must be the attachment's, always. When the attachment has addresses, IP sources
/// must be among them; so must what ARP and ND claim. Two exceptions make IPv6 possible: `::`,
/// which duplicate address detection sends from, and the link-local address made of the MAC. Only
/// an attachment without addresses may be a router: advertise itself, or redirect others.
#[inline(always)]
pub(crate) fn check(
    attachment: &Attachment,
    frame: &[u8],
    key: &FlowKey,
    l3: u16,
) -> Result<(), DropReason> {
    if key.src_mac != attachment.mac.0 {
        return Err(DropReason::SpoofedMac);
    }
    let unspecified = key.proto == IpProto::ICMPV6 && key.src == [0; 16];
    if key.is_ip() && !unspecified && !attachment.owns(&key.src) {
        return Err(DropReason::SpoofedIp);
    }
    let nd = if key.has(FlowKey::ARP) {
        DropReason::SpoofedArp
    } else {
        DropReason::SpoofedNd
    };
    let claim = claim_of(frame, key, l3).map_err(|_| nd)?;
    if claim.is_router() && !attachment.addresses.is_empty() {
        return Err(nd);
    }
    match claim {
        Claim::None => Ok(()),
        Claim::Arp { mac, ip, target } => {
            // A probe claims the address it asks for.
            let address = key_address(&ip.unwrap_or(target).into());
            let probes_nobody = ip.is_none() && target.is_unspecified();
            let honest = mac == attachment.mac && (probes_nobody || attachment.owns(&address));
            if honest {
                Ok(())
            } else {
                Err(DropReason::SpoofedArp)
            }
        }
        Claim::Neighbour { mac, address, .. } => {
            let mac_honest = mac.is_none_or(|mac: Mac| mac == attachment.mac);
            let address_honest =
                address.is_none_or(|address| attachment.owns(&key_address(&address.into())));
            if mac_honest && address_honest {
                Ok(())
            } else {
                Err(DropReason::SpoofedNd)
            }
        }
    }
}
