// SPDX-License-Identifier: Apache-2.0
//! Forwarding path without memifs: frames go in, and what was sent on each leg comes out.
#![allow(dead_code, reason = "not every test uses all of it")]

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use sluice_memif::{BURST, Sink};
use sluice_packet::arp::{self, ArpFields};
use sluice_packet::build::FrameBuilder;
use sluice_packet::{InnerTag, Mac, Parsed, parse};
use sluice_vfirewall::burst::Burst;
use sluice_vfirewall::config::{Config, load_tables};
use sluice_vfirewall::context::{Context, Links, Sent, State};
use sluice_vfirewall::drops::Drop;
use sluice_vfirewall::forward::forward;
use sluice_vfirewall::log::{Event, Log};
use sluice_vfirewall::neighbours::{NeighbourLimits, Neighbours};
use sluice_vfirewall::stages::resolve;
use sluice_vfirewall::tables::Tables;
use tempfile::TempDir;

/// MACs of the firewall's legs.
pub(crate) const OWN: [Mac; 2] = [Mac([2, 0, 0x5e, 0x10, 0, 1]), Mac([2, 0, 0x5e, 0x10, 0, 2])];
/// MACs of the hosts behind them.
pub(crate) const HOST: [Mac; 2] = [Mac([2, 0, 0, 0, 0, 0xa]), Mac([2, 0, 0, 0, 0, 0xb])];

/// net1 is an access leg in VLAN 210, net2 a trunk with VLANs 220 and 230.
pub(crate) const CONFIG: &str = "\
legs:
  - socket: '@x/net1'
    mac: 02:00:5e:10:00:01
    vlan: 210
    mtu: 2000
    addresses: [10.21.0.1/16, 'fd21::1/64']
  - socket: '@x/net2'
    mac: 02:00:5e:10:00:02
    mtu: 2000
    vlans:
      - {vlan: 220, mtu: 1500, addresses: [10.22.0.1/16, 'fd22::1/64']}
      - {vlan: 230, addresses: [10.23.0.1/24]}
routes:
  - {to: 192.0.2.0/24, via: 10.22.0.254}
policies: policies
log: {rate: 5}
";

pub(crate) const OPEN: &str = "\
name: open
vlans: [210, 220]
default: {ingress: drop, egress: drop}
rules:
  - {name: resolve, direction: both, ethertype: arp, verdict: accept}
  - {name: telnet, direction: ingress, protocol: tcp, ports: [23], verdict: reject}
  - {name: syslog, direction: egress, protocol: udp, ports: [514], verdict: drop}
  - {name: ip, direction: both, ethertype: [ipv4, ipv6], verdict: accept}
";

/// Record of what was sent.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) sent: Vec<(usize, Vec<u8>)>,
    /// Answer to each frame, where it is not that it was taken.
    pub(crate) refuse: Option<Sent>,
}

impl Links for Record {
    fn send(&mut self, leg: usize, frame: &[u8]) -> Sent {
        if let Some(refused) = self.refuse {
            return refused;
        }
        self.sent.push((leg, frame.to_vec()));
        Sent::Taken
    }
}

pub(crate) struct Rig {
    pub(crate) tables: Arc<Tables>,
    pub(crate) state: State,
    pub(crate) neighbours: Neighbours,
    pub(crate) links: Record,
    pub(crate) now: Instant,
    pub(crate) events: Receiver<Event>,
    burst: Burst,
    _dir: TempDir,
}

impl Rig {
    pub(crate) fn new() -> Rig {
        Rig::with(CONFIG, OPEN)
    }

    pub(crate) fn with(config: &str, policy: &str) -> Rig {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("policies")).unwrap();
        std::fs::write(dir.path().join("policies/open.yaml"), policy).unwrap();
        let config = Config::parse(&dir.path().join("vfirewall.yaml"), config).unwrap();
        let (tables, _) = load_tables(&config, 1, None).unwrap();
        let (mut log, events) = Log::new(config.log_rate);
        log.set_legs(config.legs.len(), config.log_rate);
        let limits = NeighbourLimits::default();
        Rig {
            state: State::new(&tables, log),
            neighbours: Neighbours::new(tables.interfaces.len(), tables.frame_capacity, limits),
            burst: Burst::new(tables.frame_capacity),
            tables: Arc::new(tables),
            links: Record::default(),
            now: Instant::now(),
            events,
            _dir: dir,
        }
    }

    /// Gives frames to a leg, in bursts; returns what was sent.
    pub(crate) fn give(&mut self, leg: usize, frames: &[Vec<u8>]) -> Vec<(usize, Vec<u8>)> {
        for frames in frames.chunks(BURST) {
            self.burst.clear();
            for frame in frames {
                if let Some(room) = self.burst.reserve(frame.len()) {
                    room.copy_from_slice(frame);
                }
            }
            let mut context = Context {
                tables: &self.tables,
                state: &mut self.state,
                links: &mut self.links,
                now: self.now,
            };
            forward(&mut context, &mut self.neighbours, &mut self.burst, leg);
        }
        std::mem::take(&mut self.links.sent)
    }

    /// Lets time pass; returns what was sent.
    pub(crate) fn pass(&mut self, time: Duration) -> Vec<(usize, Vec<u8>)> {
        let end = self.now + time;
        while self.now < end {
            self.now += Duration::from_millis(100);
            let mut context = Context {
                tables: &self.tables,
                state: &mut self.state,
                links: &mut self.links,
                now: self.now,
            };
            resolve::tick(&mut context, &mut self.neighbours);
        }
        std::mem::take(&mut self.links.sent)
    }

    /// Makes the firewall know that the host of an address is at the leg's `HOST`.
    pub(crate) fn know(&mut self, interface: u16, address: &str, mac: Mac) {
        let address: IpAddr = address.parse().unwrap();
        let now = self.now;
        self.neighbours
            .learn((interface, address), mac, true, now, |_| {
                panic!("somebody waited")
            });
    }

    pub(crate) fn dropped(&self, interface: usize, reason: Drop) -> u64 {
        self.state.counters.interfaces[interface].drops[reason.index()]
    }

    /// Lines that were handed to the log's thread.
    pub(crate) fn log_lines(&self) -> Vec<serde_json::Value> {
        let events = self.events.try_iter();
        events
            .map(|event| sluice_vfirewall::log::line(&event))
            .collect()
    }

    /// Checks that each frame that came in is counted once: forwarded, used, dropped or waiting.
    pub(crate) fn check_conservation(&self) {
        let counters = &self.state.counters;
        let mut ends = self.neighbours.counts().waiting as u64;
        for leg in &counters.legs {
            ends += leg.drops.iter().sum::<u64>();
        }
        for one in &counters.interfaces {
            ends += one.forwarded + one.local + one.drops.iter().sum::<u64>();
        }
        let came: u64 = counters.legs.iter().map(|leg| leg.received).sum();
        assert_eq!(came, ends, "{counters:?}");
        let forwarded: u64 = counters.interfaces.iter().map(|one| one.forwarded).sum();
        let output: u64 = counters.interfaces.iter().map(|one| one.output).sum();
        assert_eq!(forwarded, output);
    }
}

/// Frame of a host behind leg 0 to the firewall.
pub(crate) fn from_host(src: &str, dst: &str) -> FrameBuilder<'static> {
    let frame = FrameBuilder::new(OWN[0], HOST[0]);
    match (src.parse().unwrap(), dst.parse().unwrap()) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => frame.ipv4(src, dst),
        (IpAddr::V6(src), IpAddr::V6(dst)) => frame.ipv6(src, dst),
        other => panic!("{other:?}"),
    }
}

/// Reply of a host behind leg 1, untagged.
pub(crate) fn arp_reply(sender: &str, mac: Mac, target: &str) -> FrameBuilder<'static> {
    let fields = ArpFields {
        operation: arp::REPLY,
        sender_mac: mac,
        sender_ip: sender.parse().unwrap(),
        target_mac: OWN[1],
        target_ip: target.parse().unwrap(),
    };
    FrameBuilder::new(OWN[1], mac).arp(fields).padded()
}

/// Parses a frame that must be right, without its tag.
pub(crate) fn parsed(frame: &[u8]) -> Parsed {
    parse(frame, InnerTag::Allow).unwrap()
}
