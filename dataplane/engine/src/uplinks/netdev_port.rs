// SPDX-License-Identifier: Apache-2.0
//! Driver of a netdev: AF_XDP where it is asked for and safe, else AF_PACKET.
//!
//! AF_XDP loses a tag that a netdev takes out of a frame's bytes, and nothing in the frame shows it: a frame
//! of one VLAN would be one of the native segment. So it is refused on every netdev of which it is not
//! known that tags stay in the bytes, unless the configuration says that they do.

use std::fmt::Display;
use std::sync::Arc;

use sluice_datapath::Uplink;
use sluice_datapath::ports::af_packet::{AfPacket, AfPacketConfig, WatchedLink};
use sluice_datapath::ports::af_xdp::{self, AfXdp, AfXdpConfig};
use sluice_mem::Mempool;
use sluice_mem::offloads::{Offloads, RX_VLAN, TX_VLAN};
use sluice_mem::xsk::XskConfig;

use super::netdev::{self, Netdev};
use crate::config::{NetdevConfig, NetdevDriver};

/// Most receive queues: each has mbufs of its own, and one worker polls them all.
const MAX_QUEUES: u32 = 64;

/// Port of a netdev, as its driver was opened.
pub(super) struct NetdevPort {
    pub(super) port: Box<dyn Uplink>,
    /// Link, for control to note what it sees of it.
    pub(super) link: Arc<WatchedLink>,
    /// Largest MTU that the port takes without being opened anew, in bytes.
    pub(super) room: u32,
    /// Mode of the driver and why it was chosen; `None` where there is nothing to say.
    pub(super) detail: Option<String>,
}

/// Opens the netdev with the driver that the configuration names; `auto` takes AF_PACKET where AF_XDP is not
/// possible, and says why.
///
/// # Errors
/// The reason why the driver cannot have the netdev.
pub(super) fn open(
    netdev: &Netdev,
    config: &NetdevConfig,
    pool: Mempool,
) -> Result<NetdevPort, String> {
    match config.driver {
        NetdevDriver::AfPacket => af_packet(netdev, config, None),
        NetdevDriver::AfXdp => af_xdp(netdev, config, pool)
            .map_err(|reason| format!("AF_XDP is not possible on {}: {reason}", netdev.name)),
        NetdevDriver::Auto => af_xdp(netdev, config, pool).or_else(|reason| {
            tracing::info!(
                "netdev {}: AF_PACKET is used, as AF_XDP is not possible: {reason}",
                netdev.name
            );
            af_packet(
                netdev,
                config,
                Some(format!("AF_XDP is not possible: {reason}")),
            )
        }),
    }
}

fn af_packet(
    netdev: &Netdev,
    config: &NetdevConfig,
    detail: Option<String>,
) -> Result<NetdevPort, String> {
    let port = AfPacket::open(AfPacketConfig {
        rx_frames: config.ring_frames,
        tx_frames: config.ring_frames,
        ..AfPacketConfig::new(&netdev.name, netdev.index, netdev.mtu)
    });
    let port = port.map_err(text)?;
    Ok(NetdevPort {
        link: port.link(),
        port: Box::new(port),
        room: netdev.mtu,
        detail,
    })
}

fn af_xdp(netdev: &Netdev, config: &NetdevConfig, pool: Mempool) -> Result<NetdevPort, String> {
    let name = &netdev.name;
    let offloads =
        Offloads::open(name).map_err(|error| format!("its offloads cannot be read: {error}"))?;
    keep_tags(netdev, config, &offloads)?;
    let queues = offloads.rx_queues();
    let queues = queues.map_err(|error| format!("its queues cannot be counted: {error}"))?;
    let queues = queues.unwrap_or(netdev.rx_queues).max(1);
    if queues > MAX_QUEUES {
        return Err(format!(
            "it has {queues} receive queues, and {MAX_QUEUES} is the most: \
             `ethtool -L {name} combined 4` leaves it 4"
        ));
    }
    let port = AfXdp::open(AfXdpConfig {
        device: name.clone(),
        index: netdev.index,
        mtu: netdev.mtu,
        queues,
        ring_frames: config.ring_frames,
        pool,
        modes: XskConfig::ANY_MODE,
    });
    let port = port.map_err(text)?;
    tracing::info!("netdev {name}: AF_XDP, {}", port.mode());
    Ok(NetdevPort {
        link: port.link(),
        room: af_xdp::MAX_MTU,
        detail: Some(format!("{}, {queues} receive queue(s)", port.mode())),
        port: Box::new(port),
    })
}

/// Sees to it that the tags of received frames stay in their bytes.
///
/// # Errors
/// The reason why nobody can know that, and what to do.
fn keep_tags(netdev: &Netdev, config: &NetdevConfig, offloads: &Offloads) -> Result<(), String> {
    let name = &netdev.name;
    for offload in RX_VLAN {
        match offloads.set(offload, false) {
            Ok(true) => {}
            Ok(false) => {
                return Err(format!(
                    "its offload {offload} cannot be switched off, and AF_XDP would lose the VLAN tags \
                     that it takes out of frames"
                ));
            }
            Err(error) => {
                return Err(format!(
                    "its offload {offload} cannot be switched off: {error}"
                ));
            }
        }
    }
    let said = config.tags_in_frames;
    match netdev.kind.as_deref() {
        // A NIC: what it does not take out stays in.
        None => Ok(()),
        Some(_) if said => Ok(()),
        Some("veth") => {
            let Some(peer) = netdev.tied_to else {
                return Err(format!(
                    "the other end of veth {name} is in another network namespace, where it may keep \
                     VLAN tags beside the frames, which AF_XDP would lose: switch tx-vlan-hw-insert and \
                     tx-vlan-stag-hw-insert off there (`ethtool -K PEER txvlan off tx-vlan-stag-hw-insert \
                     off`) and say `tags_in_frames: true` here"
                ));
            };
            peer_keeps_tags(name, peer)
        }
        Some(kind) => Err(format!(
            "it is a {kind}, and what is below it may keep VLAN tags beside the frames, which AF_XDP would \
             lose: name the NIC itself, or say `tags_in_frames: true` if that cannot be"
        )),
    }
}

/// Checks the other end of a veth in this network namespace.
fn peer_keeps_tags(name: &str, peer: u32) -> Result<(), String> {
    let unknown =
        |error: &dyn Display| format!("the other end of veth {name} cannot be read: {error}");
    let peer = netdev::find_index(peer).map_err(|error| unknown(&error))?;
    let peer = peer.ok_or_else(|| unknown(&"it is gone"))?.name;
    let offloads = Offloads::open(&peer).map_err(|error| unknown(&error))?;
    for offload in TX_VLAN {
        let state = offloads.get(offload).map_err(|error| unknown(&error))?;
        if state.is_some_and(|state| state.active) {
            return Err(format!(
                "the other end of the veth, {peer}, has {offload} on and keeps VLAN tags beside the \
                 frames, which AF_XDP would lose: `ethtool -K {peer} {offload} off` mends that"
            ));
        }
    }
    Ok(())
}

fn text(error: impl Display) -> String {
    error.to_string()
}
