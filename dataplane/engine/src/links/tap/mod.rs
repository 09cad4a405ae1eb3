// SPDX-License-Identifier: Apache-2.0
//! A pod on a tap: a kernel netdev in its network namespace, with the attachment's MAC address, MTU
//! and addresses. It is gone when the engine lets go of its port.

use std::io;
use std::sync::Arc;

use ipnet::IpNet;
use netlink_packet_route::address::AddressHeaderFlags;
use rtnetlink::LinkUnspec;
use rustix::net::{AddressFamily, SocketType, netdevice};
use sluice_api::ApiError;
use sluice_datapath::AttachmentId;
use sluice_datapath::ports::tap::TapPort;
use sluice_mem::tap::{Tap, TapConfig};
use sluice_packet::Mac;

use super::LinkSpec;
use super::status::LinkStatus;
use crate::engine::SharedEngine;
use crate::refusal;

/// A running tap.
#[derive(Debug)]
pub struct TapLink {
    engine: Arc<SharedEngine>,
    id: AttachmentId,
    status: LinkStatus,
}

impl TapLink {
    pub(super) fn start(spec: &LinkSpec<'_>) -> Result<TapLink, ApiError> {
        let request = spec.request;
        let tap = spec
            .netns
            .run(|| make(&request.ifname, spec.mac, spec.mtu, &request.addresses))??;
        let port = Box::new(TapPort::from(tap));
        spec.engine
            .try_with(|engine| engine.connect(spec.id, port))?;
        let status = LinkStatus::default();
        status.up(Some(format!("kernel ({})", request.ifname)));
        Ok(TapLink {
            engine: Arc::clone(spec.engine),
            id: spec.id,
            status,
        })
    }

    pub(super) fn status(&self) -> &LinkStatus {
        &self.status
    }

    pub(super) fn stop(self) {
        // With the port goes the file, and with the file the netdev.
        if let Err(error) = self.engine.try_with(|engine| engine.disconnect(self.id)) {
            tracing::debug!("tap of attachment {}: {error}", self.id);
        }
    }
}

/// Makes the netdev, in the namespace of the calling thread.
fn make(ifname: &str, mac: Mac, mtu: u32, addresses: &[IpNet]) -> Result<Tap, ApiError> {
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
    if !addresses.is_empty() && !addresses.iter().any(|net| net.addr().is_ipv6()) {
        disable_ipv6(ifname).map_err(|error| failed(&error))?;
    }
    runtime
        .block_on(set_up(index, mac, mtu, addresses))
        .map_err(|error| failed(&error))?;
    Ok(tap)
}

fn index_of(ifname: &str) -> io::Result<u32> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    Ok(netdevice::name_to_index(socket, ifname)?)
}

/// Disables IPv6 on a netdev of the calling thread's namespace: a pod that may only send from IPv4
/// addresses would have every router solicitation dropped as spoofed.
fn disable_ipv6(ifname: &str) -> io::Result<()> {
    let path = format!("/proc/sys/net/ipv6/conf/{ifname}/disable_ipv6");
    match std::fs::write(path, "1") {
        // A kernel without IPv6.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
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
