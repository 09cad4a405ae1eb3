// SPDX-License-Identifier: Apache-2.0
//! Far end of an uplink: frames as they are on the wire, with their tags, made and read by the test itself,
//! since the kernel may have no support for VLANs.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sluice_mem::packet_mmap::{Next, PacketConfig, PacketSocket};
use sluice_packet::VlanTag;

use crate::Netns;

/// Raw socket on one netdev of a network namespace.
#[derive(Debug)]
pub struct Wire {
    socket: PacketSocket,
}

impl Wire {
    /// Opens a socket on `device` of `netns`.
    ///
    /// # Errors
    /// There is no such netdev, or no packet socket is to be had.
    pub fn open(netns: &Netns, device: &str) -> Result<Wire> {
        let line = netns.ip(&["-o", "link", "show", "dev", device])?;
        let index = line.split(':').next().context("no index")?.trim().parse()?;
        let config = PacketConfig::for_mtu(1600);
        let socket = netns.enter(move || Ok(PacketSocket::open(index, config)?))?;
        Ok(Wire { socket })
    }

    /// Opens a socket on `device` of the namespace that this process is in.
    ///
    /// # Errors
    /// There is no such netdev, or no packet socket is to be had.
    pub fn here(device: &str) -> Result<Wire> {
        let path = format!("/sys/class/net/{device}/ifindex");
        let index = std::fs::read_to_string(&path)
            .with_context(|| format!("no netdev {device}: cannot read {path}"))?
            .trim()
            .parse()?;
        let socket = PacketSocket::open(index, PacketConfig::for_mtu(1600))?;
        Ok(Wire { socket })
    }

    /// Sends frames with one tag for VLAN `vid`; 0 sends them as they are.
    ///
    /// # Errors
    /// The socket takes no frames for ten seconds.
    pub fn send(&mut self, vid: u16, frames: &[Vec<u8>]) -> Result<()> {
        let start = Instant::now();
        for frame in frames {
            let mut bytes = frame.clone();
            if vid != 0 {
                bytes.splice(
                    12..12,
                    VlanTag {
                        tpid: 0x8100,
                        tci: vid,
                    }
                    .to_bytes(),
                );
            }
            loop {
                let taken = self.socket.send(|room| {
                    room[..bytes.len()].copy_from_slice(&bytes);
                    bytes.len()
                });
                self.socket.flush()?;
                if taken {
                    break;
                }
                ensure!(
                    start.elapsed() < Duration::from_secs(10),
                    "the wire takes no frames"
                );
                std::thread::yield_now();
            }
        }
        Ok(())
    }

    /// Receives until `enough` frames were accepted by `keep` or `limit` is over. Returns the VID of each (0: no
    /// tag) and the frame without its tag.
    pub fn receive(
        &mut self,
        enough: usize,
        limit: Duration,
        keep: impl Fn(u16, &[u8]) -> bool,
    ) -> Vec<(u16, Vec<u8>)> {
        let start = Instant::now();
        let mut kept = Vec::new();
        while kept.len() < enough && start.elapsed() < limit {
            let mut found = Vec::new();
            self.socket.recv(64, |frame| {
                found.push(untag(frame.vlan, frame.data));
                Next::Take
            });
            if found.is_empty() {
                std::thread::sleep(Duration::from_micros(200));
            }
            kept.extend(found.into_iter().filter(|(vid, frame)| keep(*vid, frame)));
        }
        kept
    }
}

/// Removes the tag, which is beside the frame, where the kernel puts it, or still in it.
fn untag(beside: Option<(u16, u16)>, data: &[u8]) -> (u16, Vec<u8>) {
    let mut frame = data.to_vec();
    if let Some((_, tci)) = beside {
        return (tci & 0x0fff, frame);
    }
    if frame.get(12..14) == Some(&[0x81, 0x00]) && frame.len() >= 16 {
        let tag: Vec<u8> = frame.drain(12..16).collect();
        return (u16::from_be_bytes([tag[2], tag[3]]) & 0x0fff, frame);
    }
    (0, frame)
}
