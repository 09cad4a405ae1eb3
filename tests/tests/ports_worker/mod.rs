// SPDX-License-Identifier: Apache-2.0
//! Parts that the tests of ports share: a worker's side of a port, and kernel sockets that talk through it.
#![allow(dead_code, reason = "each test of ports uses a part")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sluice_datapath::ports::af_packet::AfPacketConfig;
use sluice_datapath::{DropCounts, DropReason, FrameInfo, PortContext, Uplink};
use sluice_mem::{BufSize, Burst, HugePages, Mempool, PoolConfig, Pools};
use sluice_packet::{InnerTag, l4, parse};
use sluice_tests::{Netns, wait_for};

/// Worker as a port sees it: mempools and drop counts.
pub(crate) struct Worker {
    pub(crate) pools: Pools,
    pub(crate) drops: DropCounts,
    small: Mempool,
    large: Mempool,
}

impl Worker {
    pub(crate) fn new() -> Worker {
        let pool = |size, buffers| {
            let huge_pages = HugePages::Off;
            Mempool::new(PoolConfig {
                buffers,
                size,
                numa_node: None,
                huge_pages,
            })
            .unwrap()
        };
        let (small, large) = (pool(BufSize::Small, 4096), pool(BufSize::Large, 256));
        let pools = Pools::new(small, large, 256);
        Worker {
            pools,
            drops: DropCounts::new(),
            small,
            large,
        }
    }

    /// Mempool of small mbufs.
    pub(crate) fn small(&self) -> Mempool {
        self.small
    }

    pub(crate) fn context(&mut self) -> PortContext<'_> {
        PortContext {
            pools: &mut self.pools,
            drops: &self.drops,
        }
    }

    /// Makes a burst of copies of `frames`.
    pub(crate) fn burst(&mut self, frames: &[Vec<u8>]) -> Burst {
        let mut burst = Burst::new();
        for frame in frames {
            let mut mbuf = self.pools.alloc_for(frame.len()).unwrap();
            assert!(mbuf.copy_from(frame));
            FrameInfo::begin(&mut mbuf, None);
            burst.push(mbuf).unwrap();
        }
        burst
    }

    /// Receives until `wanted` frames that `keep` likes have come.
    pub(crate) fn receive(
        &mut self,
        uplink: &mut dyn Uplink,
        wanted: usize,
        keep: impl Fn(&[u8]) -> bool,
    ) -> Result<Vec<Received>> {
        let mut kept = Vec::new();
        wait_for(&format!("{wanted} frames"), Duration::from_secs(5), || {
            let mut burst = Burst::new();
            uplink.rx_burst(&mut self.context(), &mut burst);
            for mbuf in burst.iter().filter(|mbuf| keep(mbuf.data())) {
                let tag = FrameInfo::of(mbuf).tag().map(|tag| (tag.tpid, tag.tci));
                kept.push(Received {
                    data: mbuf.data().to_vec(),
                    tag,
                });
            }
            self.pools.free_burst(&mut burst);
            (kept.len() >= wanted).then_some(())
        })?;
        Ok(kept)
    }

    /// Asserts that all mbufs are back and that nothing was dropped but for `allowed` reasons.
    pub(crate) fn check(&self, allowed: &[DropReason]) {
        for pool in [self.small, self.large] {
            let state = pool.conservation();
            assert_eq!(state.all, state.free, "{state:?}");
        }
        for (reason, count) in self.drops.nonzero() {
            assert!(
                allowed.contains(&reason),
                "{count} frames dropped: {}",
                reason.name()
            );
        }
    }
}

/// A frame and its tag: TPID and TCI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) data: Vec<u8>,
    pub(crate) tag: Option<(u16, u16)>,
}

/// Whether a frame has a correct transport checksum.
pub(crate) fn checksum_is_right(frame: &[u8]) -> bool {
    parse(frame, InnerTag::Refuse)
        .is_ok_and(|parsed| l4::verify_checksum(frame, &parsed) == Some(true))
}

/// Whether a frame is IPv4 with this protocol.
pub(crate) fn is_ipv4(frame: &[u8], proto: u8) -> bool {
    frame.get(12..14) == Some(&[0x08, 0x00]) && frame.get(23) == Some(&proto)
}

/// Reads the MAC of a netdev.
pub(crate) fn mac(netns: &Netns, device: &str) -> Result<String> {
    let line = netns.ip(&["-o", "link", "show", device])?;
    let mac = line
        .split_whitespace()
        .skip_while(|word| *word != "link/ether")
        .nth(1);
    mac.map(str::to_owned)
        .with_context(|| format!("no MAC in {line}"))
}

/// Index of a netdev.
pub(crate) fn ifindex(netns: &Netns, device: &str) -> Result<u32> {
    let line = netns.ip(&["-o", "link", "show", device])?;
    let index = line.split(':').next().unwrap_or_default();
    index.parse().with_context(|| format!("no index in {line}"))
}

/// Makes the default configuration of an uplink on a netdev.
pub(crate) fn af_packet_config(netns: &Netns, device: &str) -> Result<AfPacketConfig> {
    let line = netns.ip(&["-o", "link", "show", device])?;
    let mut words = line.split_whitespace();
    let mtu = words.find(|word| *word == "mtu").and(words.next());
    let mtu = mtu.with_context(|| format!("no MTU in {line}"))?.parse()?;
    Ok(AfPacketConfig::new(device, ifindex(netns, device)?, mtu))
}

/// Returns the number of frames that a netdev has sent; a super-frame counts as one.
pub(crate) fn tx_packets(netns: &Netns, device: &str) -> Result<u64> {
    let text = netns.ip(&["-s", "-o", "link", "show", device])?;
    let (_, counts) = text.split_once("TX:").context("no TX counts")?;
    let packets = counts
        .split('\\')
        .nth(1)
        .and_then(|line| line.split_whitespace().nth(1));
    packets
        .context("no TX packets")?
        .parse()
        .context("TX packets is no number")
}

/// Transfers `bytes` bytes over kernel TCP between two network namespaces, and compares every byte.
pub(crate) fn tcp_transfer(
    from: &Netns,
    to: &Netns,
    address: SocketAddr,
    bytes: usize,
) -> JoinHandle<Result<()>> {
    const LIMIT: Duration = Duration::from_secs(20);
    let (from, to) = (Inside::of(from), Inside::of(to));
    std::thread::spawn(move || {
        let (ready, bound) = std::sync::mpsc::channel();
        let server = std::thread::spawn(move || {
            to.enter()?;
            let listener = TcpListener::bind(address)?;
            ready.send(())?;
            let (mut stream, _) = listener.accept()?;
            stream.set_read_timeout(Some(LIMIT))?;
            let mut at = 0;
            let mut buffer = vec![0; 1 << 16];
            while at < bytes {
                let len = stream.read(&mut buffer)?;
                ensure!(len > 0, "the stream ended after {at} bytes");
                for (index, byte) in buffer[..len].iter().enumerate() {
                    ensure!(*byte == pattern(at + index), "byte {} is wrong", at + index);
                }
                at += len;
            }
            stream.write_all(b"done")?;
            Ok(())
        });
        let client = std::thread::spawn(move || {
            from.enter()?;
            bound.recv()?;
            let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
            stream.set_read_timeout(Some(LIMIT))?;
            let data: Vec<u8> = (0..bytes).map(pattern).collect();
            stream.write_all(&data)?;
            let mut answer = [0; 4];
            stream.read_exact(&mut answer)?;
            Ok(())
        });
        let client: Result<()> = client.join().unwrap();
        client.context("the client")?;
        server.join().unwrap().context("the server")
    })
}

fn pattern(at: usize) -> u8 {
    let [a, b, ..] = at.to_le_bytes();
    a ^ b
}

/// A network namespace that a thread can enter for good.
struct Inside {
    path: PathBuf,
}

impl Inside {
    fn of(netns: &Netns) -> Inside {
        Inside { path: netns.path() }
    }

    fn enter(&self) -> Result<()> {
        use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
        use std::os::fd::AsFd;
        let file = std::fs::File::open(&self.path)?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
        Ok(())
    }
}
