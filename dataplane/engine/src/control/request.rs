// SPDX-License-Identifier: Apache-2.0
//! Checks of an attach request, before anything is touched.

use std::net::IpAddr;
use std::path::Path;

use sluice_api::{
    ApiError, AttachRequest, Backend, MemifRequest, MemifRole, MemifSocket, VfRequest,
    VhostUserRequest, VlanRequest, check_address_pairs, check_multicast_groups,
};
use sluice_datapath::VlanSet;
use sluice_packet::Mac;

use super::key::AttachmentKey;
use crate::refusal::invalid;

/// The least MTU that IPv4 works with (RFC 791).
const MIN_MTU: u32 = 68;
/// The least MTU that IPv6 works with (RFC 8200, section 5).
const MIN_MTU_IPV6: u32 = 1280;
/// Attach request that passed all checks that need no look at the machine.
#[derive(Debug, Clone)]
pub(super) struct CheckedRequest<'a> {
    /// The request itself.
    pub(super) request: &'a AttachRequest,
    /// Segments of the attachment.
    pub(super) vlans: VlanSet,
    /// Whether one inner tag is allowed.
    pub(super) qinq: bool,
    /// MAC address asked for; `None`: one is derived.
    pub(super) mac: Option<Mac>,
    /// MTU in bytes: the one asked for, else the largest that the uplink allows.
    pub(super) mtu: u32,
}

/// Parses and checks the body of an attach request; `max_mtu` is that of its uplink, in bytes.
///
/// # Errors
/// The first value that is wrong, and what is allowed.
pub fn check_attach(body: &[u8], max_mtu: u32) -> Result<(), ApiError> {
    let request: AttachRequest = serde_json::from_slice(body)
        .map_err(|error| invalid(format!("the body is not an attach request: {error}")))?;
    AttachmentKey::new(&request.container_id, &request.ifname)?;
    CheckedRequest::new(&request, max_mtu).map(|_| ())
}

impl<'a> CheckedRequest<'a> {
    /// Checks a request; `max_mtu` is that of its uplink, in bytes.
    ///
    /// # Errors
    /// The first value that is wrong, and what is allowed.
    pub(super) fn new(
        request: &'a AttachRequest,
        max_mtu: u32,
    ) -> Result<CheckedRequest<'a>, ApiError> {
        if !request.netns.path.is_absolute() {
            return Err(invalid(format!(
                "the network namespace's path {} must be absolute",
                request.netns.path.display()
            )));
        }
        let (vlans, qinq) = vlans(&request.vlan)?;
        let mac = request.mac.map(mac).transpose()?;
        if let Some(vf) = &request.vf {
            check_vf(request, vf)?;
        }
        addresses(request)?;
        check_multicast_groups(&request.multicast_groups).map_err(invalid)?;
        check_address_pairs(&request.allowed_address_pairs).map_err(invalid)?;
        check_backend(request)?;
        Ok(CheckedRequest {
            request,
            vlans,
            qinq,
            mac,
            mtu: mtu(request, max_mtu)?,
        })
    }
}

/// MTU of the attachment in bytes.
fn mtu(request: &AttachRequest, max_mtu: u32) -> Result<u32, ApiError> {
    let has_ipv6 = request.addresses.iter().any(|net| net.addr().is_ipv6());
    let least = if has_ipv6 { MIN_MTU_IPV6 } else { MIN_MTU };
    let mtu = request.mtu.unwrap_or(max_mtu);
    if !(least..=max_mtu).contains(&mtu) {
        return Err(invalid(format!(
            "mtu {mtu} is not allowed: use {least} to {max_mtu}, which is what uplink {} has",
            request.uplink
        )));
    }
    Ok(mtu)
}

fn check_backend(request: &AttachRequest) -> Result<(), ApiError> {
    match &request.backend {
        Backend::Memif(memif) => check_memif(memif),
        Backend::VhostUser(vhost_user) => check_vhost_user(vhost_user),
        // `%` would be a number to the kernel (TUNSETIFF).
        Backend::Tap {} if request.ifname.contains('%') => {
            Err(invalid("a tap's name cannot hold `%`: ask for another one"))
        }
        // Of these names /proc/sys/net/ipv6/conf has the settings of all interfaces.
        Backend::Tap {} if ["all", "default"].contains(&request.ifname.as_str()) => {
            Err(invalid(format!(
                "a tap cannot be named {:?}: the settings of IPv6 by that name are those of every \
                 interface; ask for another one",
                request.ifname
            )))
        }
        Backend::Tap {} => Ok(()),
    }
}

/// Checks what a VF of the attachment's own asks for besides.
fn check_vf(request: &AttachRequest, vf: &VfRequest) -> Result<(), ApiError> {
    let address = &vf.address;
    if request.mac.is_none() {
        return Err(invalid(format!(
            "VF {address}: name its administrative MAC address in `mac`, as it gets frames for no \
             other"
        )));
    }
    let Some(port_vlan) = vf.port_vlan else {
        return Ok(());
    };
    let access = VlanRequest::Access {
        vid: port_vlan,
        qinq: false,
    };
    if request.vlan != access || port_vlan.is_untagged() {
        return Err(invalid(format!(
            "VF {address} has port VLAN {port_vlan}, so its attachment is an access one of that VLAN \
             without qinq: ask for it so, or take the port VLAN off (ip link set {} vf N vlan 0)",
            request.uplink
        )));
    }
    Ok(())
}

/// MAC address of an interface.
fn mac(mac: Mac) -> Result<Mac, ApiError> {
    mac.check_unicast()
        .map_err(|error| invalid(format!("mac: {error}")))
}

/// Segments of the attachment, and whether one inner tag is allowed.
fn vlans(vlan: &VlanRequest) -> Result<(VlanSet, bool), ApiError> {
    match vlan {
        VlanRequest::Access { vid, qinq } => Ok((VlanSet::Access(*vid), *qinq)),
        VlanRequest::Trunk {
            vids: asked,
            native,
            qinq,
        } => {
            if asked.is_empty() {
                return Err(invalid(
                    "a trunk needs at least one VLAN: name those allowed",
                ));
            }
            let mut vids = Vec::new();
            for &vid in asked {
                if vid.is_untagged() {
                    let message = "0 is no VLAN of a trunk: `native: 0` is for untagged frames";
                    return Err(invalid(message));
                }
                if vids.contains(&vid) {
                    return Err(invalid(format!("VLAN {vid} is there twice: name it once")));
                }
                vids.push(vid);
            }
            let native = *native;
            Ok((VlanSet::Trunk { vids, native }, *qinq))
        }
    }
}

fn addresses(request: &AttachRequest) -> Result<(), ApiError> {
    let mut seen: Vec<IpAddr> = Vec::new();
    for net in &request.addresses {
        let address = net.addr();
        let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
        if address.is_unspecified() || address.is_multicast() || address.is_loopback() || broadcast
        {
            return Err(invalid(format!(
                "{address} cannot be an interface's address"
            )));
        }
        if seen.contains(&address) {
            return Err(invalid(format!(
                "address {address} is there twice: name it once"
            )));
        }
        seen.push(address);
    }
    Ok(())
}

fn check_memif(memif: &MemifRequest) -> Result<(), ApiError> {
    if let Some(rings) = memif.rings
        && !(1..=16).contains(&rings)
    {
        return Err(invalid(format!(
            "{rings} queue pairs are not possible: use 1 to 16"
        )));
    }
    if let Some(size) = memif.ring_size
        && !(size.is_power_of_two() && (2..=16_384).contains(&size))
    {
        return Err(invalid(format!(
            "a ring of {size} descriptors is not possible: use a power of two from 2 to 16384"
        )));
    }
    if let Some(size) = memif.buffer_size {
        if memif.role == MemifRole::Server {
            return Err(invalid(
                "buffer_size is for the engine as client: as server it takes the pod's buffers",
            ));
        }
        if !(256..=16_384).contains(&size) {
            return Err(invalid(format!(
                "buffers of {size} bytes are not possible: use 256 to 16384"
            )));
        }
    }
    if memif.allow_unsealed && memif.role == MemifRole::Client {
        return Err(invalid(
            "allow_unsealed is for the engine as server: as client it makes the memory itself",
        ));
    }
    if let Some(secret) = &memif.secret
        && (secret.is_empty() || secret.len() > 24 || secret.contains('\0'))
    {
        return Err(invalid(
            "a memif's secret has 1 to 24 bytes, none of them 0",
        ));
    }
    match &memif.socket {
        Some(MemifSocket::Abstract(name))
            if name.is_empty() || name.len() > 107 || name.contains('\0') =>
        {
            Err(invalid(
                "an abstract socket name has 1 to 107 bytes, none of them 0",
            ))
        }
        Some(MemifSocket::Path(path)) => check_path(path),
        _ => Ok(()),
    }
}

fn check_vhost_user(vhost_user: &VhostUserRequest) -> Result<(), ApiError> {
    if let Some(queues) = vhost_user.queues
        && !(1..=16).contains(&queues)
    {
        return Err(invalid(format!(
            "{queues} queue pairs are not possible: use 1 to 16"
        )));
    }
    if let Some(mib) = vhost_user.max_memory_mib
        && !(1..=1 << 20).contains(&mib)
    {
        return Err(invalid(format!(
            "max_memory_mib {mib} is not possible: use 1 to 1048576"
        )));
    }
    check_path(&vhost_user.socket)
}

fn check_path(path: &Path) -> Result<(), ApiError> {
    let plain = !path.components().any(|part| part.as_os_str() == "..");
    if path.is_absolute() && plain && path.file_name().is_some() {
        return Ok(());
    }
    Err(invalid(format!(
        "socket path {} is not allowed: write it from / on, without `..`, with a file name",
        path.display()
    )))
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
