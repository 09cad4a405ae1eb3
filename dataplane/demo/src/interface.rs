// SPDX-License-Identifier: Apache-2.0
//! Pods' interfaces on the engine, and how the demo's own threads use them.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use sluice_api::AttachmentStatus;
use sluice_memif::{Address, EndpointConfig, LinkChange, Memif, Role};
use sluice_packet::Mac;

use super::Scene;
use super::engine::Engine;
use super::failure::Failure;
use super::interrupt::Poll;
use super::namespace::Namespace;
use super::plan::Segment;

/// Longest time for a memif to connect.
const LIMIT: Duration = Duration::from_secs(20);

/// Interface of a pod on the engine, as the engine reports it.
#[derive(Debug, Clone)]
pub(super) struct Interface {
    pub(super) ifname: &'static str,
    pub(super) segment: Segment,
    pub(super) mac: Mac,
    pub(super) address: Ipv4Addr,
    /// The abstract name of its memif's socket in the pod's namespace, without the `@`.
    pub(super) socket: String,
    /// Name in the engine's counters: `container/ifname`.
    pub(super) key: String,
}

impl Interface {
    /// Asks the engine.
    pub(super) fn of(
        engine: &Engine<'_>,
        container: &str,
        ifname: &'static str,
        segment: Segment,
    ) -> Result<Interface, Failure> {
        let status = engine.attachment(container, ifname)?;
        let what = || format!("attachment {ifname} of {container}");
        let wrong = |expected: &str| Failure::unexpected(what(), expected, format!("{status:?}"));
        let address = status.request.addresses.first().map(ipnet::IpNet::addr);
        let Some(IpAddr::V4(address)) = address else {
            return Err(wrong("it has the address that host-local gave"));
        };
        let socket = status
            .socket
            .as_deref()
            .and_then(|name| name.strip_prefix('@'));
        Ok(Interface {
            ifname,
            segment,
            mac: status
                .mac
                .parse()
                .map_err(Failure::broken("read its MAC address"))?,
            address,
            socket: socket
                .ok_or_else(|| wrong("an abstract socket"))?
                .to_owned(),
            key: format!("{container}/{ifname}"),
        })
    }

    /// Addresses on the wire.
    pub(super) fn party(&self) -> (Mac, Ipv4Addr) {
        (self.mac, self.address)
    }
}

/// Whether an attachment's peer is there.
pub(super) fn is_up(status: &AttachmentStatus) -> bool {
    status.link == sluice_api::LinkState::Up
}

/// Opens a pod's memif as an application in the pod would, with this program's own library, and
/// waits for its link. The sockets are opened in the pod's namespace, the queues can be used
/// anywhere.
pub(super) fn open_memif(
    scene: &Scene,
    pod: &Namespace,
    interface: &Interface,
) -> Result<Memif, Failure> {
    let config = EndpointConfig::new(Role::Client, interface.ifname);
    let address = Address::Abstract(interface.socket.clone());
    // The endpoint's thread is started there, and stays there.
    let opened = pod.enter(|| Memif::open(config, address))?;
    let mut memif = opened.map_err(Failure::broken("open a memif"))?;
    let what = format!("the memif {} of {}", interface.ifname, pod.name());
    let mut seen = "nothing".to_owned();
    scene.interrupt.wait_for(&what, LIMIT, || {
        while let Some(change) = memif.change() {
            seen = match change {
                LinkChange::Up { .. } => return Ok(Poll::Found(())),
                LinkChange::Down { reason } => reason,
                LinkChange::Notice { what } => what,
            };
        }
        Ok(Poll::NotYet(seen.clone()))
    })?;
    Ok(memif)
}
