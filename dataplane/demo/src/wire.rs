// SPDX-License-Identifier: Apache-2.0
//! The wire host: a raw socket on the far end of the trunk, which sees exactly what leaves the node,
//! tags included.

use std::net::Ipv4Addr;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use sluice_mem::packet_mmap::{Next, PacketConfig, PacketSocket};
use sluice_packet::{Mac, Vid, VlanTag};

use super::failure::Failure;
use super::frames::{Content, Path, ReceivedFrame};
use super::interrupt::Interrupt;
use super::namespace::Namespace;
use super::plan::{DATA, LOCAL, VOICE};

/// MAC address of the wire host: locally administered.
pub(super) const MAC: Mac = Mac([0x02, 0x00, 0x5e, 0x77, 0x00, 0x01]);
/// Sleep after a look that found no frame.
const NAP: Duration = Duration::from_micros(200);

/// The host at the far end of the trunk. It answers ARP for its addresses, as a host would.
#[derive(Debug)]
pub(super) struct WireHost {
    socket: PacketSocket,
    broken: u64,
}

impl WireHost {
    /// Opens it on `device` in the wire's namespace.
    pub(super) fn open(wire: &Namespace, device: &str) -> Result<WireHost, Failure> {
        let open = || -> Result<PacketSocket, Failure> {
            let index =
                ifindex(device).map_err(Failure::broken(format!("find the netdev {device}")))?;
            let opened = PacketSocket::open(index, PacketConfig::for_mtu(1500));
            opened.map_err(Failure::broken("open the wire host's socket"))
        };
        let socket = wire.enter(open)??;
        Ok(WireHost { socket, broken: 0 })
    }

    /// The way from it to a pod.
    pub(super) fn path_to(&self, vid: Vid, from: Ipv4Addr, to: (Mac, Ipv4Addr)) -> Path {
        Path {
            vid,
            from: (MAC, from),
            to,
        }
    }

    /// Sends a frame.
    pub(super) fn send(&mut self, frame: &[u8]) -> Result<(), Failure> {
        self.queue(frame)?;
        self.flush()
    }

    /// Has a frame sent by the next [`WireHost::flush`].
    pub(super) fn queue(&mut self, frame: &[u8]) -> Result<(), Failure> {
        let write = |room: &mut [u8]| match room.get_mut(..frame.len()) {
            Some(room) => {
                room.copy_from_slice(frame);
                frame.len()
            }
            None => 0,
        };
        let end = Instant::now() + Duration::from_secs(5);
        while !self.socket.send(write) {
            if Instant::now() > end {
                let failed = Failure::broken("send on the wire");
                return Err(failed("the socket's ring stays full"));
            }
            self.flush()?;
        }
        Ok(())
    }

    /// Sends what is queued.
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        let flushed = self.socket.flush();
        flushed
            .map(drop)
            .map_err(Failure::broken("send on the wire"))
    }

    /// Takes what has arrived; ARP requests for its addresses are answered besides.
    pub(super) fn receive(
        &mut self,
        take: &mut impl FnMut(ReceivedFrame),
    ) -> Result<usize, Failure> {
        let mut questions = Vec::new();
        let broken = &mut self.broken;
        let count = self.socket.recv(64, |frame| {
            let tag = frame.vlan.map(|(tpid, tci)| VlanTag { tpid, tci });
            let vid = tag.map_or(Some(Vid::UNTAGGED), |tag| tag.vid());
            match vid.map(|vid| ReceivedFrame::read(vid, frame.data)) {
                Some(Ok(Some(heard))) => {
                    if heard.what == Content::ArpRequest && owns(heard.vid, heard.to.1) {
                        questions.push(heard.clone());
                    }
                    take(heard);
                }
                Some(Ok(None)) => {}
                Some(Err(_)) | None => *broken += 1,
            }
            Next::Take
        });
        for asked in questions {
            let path = Path {
                vid: asked.vid,
                from: (MAC, asked.to.1),
                to: asked.from,
            };
            self.send(&path.arp_reply())?;
        }
        Ok(count)
    }

    /// Takes frames until `take` says that it has enough, or `limit` is over. Whether it had enough.
    pub(super) fn listen(
        &mut self,
        interrupt: &Interrupt,
        limit: Duration,
        mut take: impl FnMut(ReceivedFrame) -> ControlFlow<()>,
    ) -> Result<bool, Failure> {
        let end = Instant::now() + limit;
        let mut enough = false;
        loop {
            let count = self.receive(&mut |heard| {
                if !enough {
                    enough = take(heard).is_break();
                }
            })?;
            if enough {
                return Ok(true);
            }
            if count == 0 {
                if Instant::now() >= end {
                    return Ok(false);
                }
                interrupt.check()?;
                std::thread::sleep(NAP);
            }
        }
    }

    /// Frames that came with a wrong checksum, or were otherwise broken. There must be none.
    pub(super) fn broken(&self) -> u64 {
        self.broken
    }

    /// Frames that its own ring had no room for.
    pub(super) fn missed(&mut self) -> u64 {
        self.socket.stats().drops
    }
}

/// Whether an address in a VLAN is the wire host's.
fn owns(vid: Vid, address: Ipv4Addr) -> bool {
    let segments = [VOICE, DATA, LOCAL];
    segments
        .iter()
        .any(|segment| segment.vid() == vid && segment.wire_host() == address)
}

/// The index of a link in the calling thread's namespace.
fn ifindex(device: &str) -> rustix::io::Result<u32> {
    use rustix::net::{AddressFamily, SocketType, netdevice, socket};

    netdevice::name_to_index(
        socket(AddressFamily::UNIX, SocketType::DGRAM, None)?,
        device,
    )
}
