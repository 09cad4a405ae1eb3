// SPDX-License-Identifier: Apache-2.0
//! The netdev of a tap: made in the pod's namespace, configured, and set up.

use std::io;

use ipnet::IpNet;
use netlink_packet_route::address::AddressHeaderFlags;
use rtnetlink::LinkUnspec;
use rustix::net::{AddressFamily, SocketType, netdevice};
use sluice_api::ApiError;
use sluice_mem::tap::{Tap, TapConfig};
use sluice_packet::Mac;

use super::ipv6;
use crate::refusal;

/// Makes the netdev, in the namespace of the calling thread.
pub(super) fn make(ifname: &str, mac: Mac, mtu: u32, addresses: &[IpNet]) -> Result<Tap, ApiError> {
    // One that is there would be taken over if nobody used it.
    if index_of(ifname).is_ok() {
        return Err(refusal::conflict(format!(
            "the pod has an interface {ifname} already: ask for another name"
        )));
    }
    let failed = |error: &dyn std::fmt::Display| {
        refusal::internal(format!("cannot set up tap {ifname} in the pod: {error}"))
    };
    let tap = Tap::open(ifname, TapConfig { offload: true }).map_err(|error| failed(&error))?;
    let index = index_of(ifname).map_err(|error| failed(&error))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed(&error))?;
    // Before the link is up: what it does then is by these.
    ipv6::configure(ifname, addresses).map_err(|error| failed(&error))?;
    runtime
        .block_on(set_up(index, mac, mtu, addresses))
        .map_err(|error| failed(&error))?;
    Ok(tap)
}

fn index_of(ifname: &str) -> io::Result<u32> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    Ok(netdevice::name_to_index(socket, ifname)?)
}

async fn set_up(
    index: u32,
    mac: Mac,
    mtu: u32,
    addresses: &[IpNet],
) -> Result<(), rtnetlink::Error> {
    let (connection, handle, _) = rtnetlink::new_connection()
        .map_err(|error| rtnetlink::Error::NamespaceError(format!("no netlink socket: {error}")))?;
    tokio::spawn(connection);
    let link = LinkUnspec::new_with_index(index)
        .address(mac.octets().to_vec())
        .mtu(mtu)
        .build();
    handle.link().set(link).execute().await?;
    for net in addresses {
        let mut add = handle.address().add(index, net.addr(), net.prefix_len());
        if net.addr().is_ipv6() {
            // The engine keeps addresses unique; the pod need not wait a second to find out.
            add.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        }
        add.execute().await?;
    }
    let link = LinkUnspec::new_with_index(index).up().build();
    handle.link().set(link).execute().await
}
