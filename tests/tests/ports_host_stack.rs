// SPDX-License-Identifier: Apache-2.0
//! The host's stack is off an uplink while the engine has it, and back afterwards.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod ports_worker;

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::Duration;

use anyhow::Result;
use ports_worker::{Worker, af_packet_config, is_ipv4};
use sluice_datapath::Uplink;
use sluice_datapath::ports::af_packet::AfPacket;
use sluice_tests::{Netns, program_or_skip, root_or_skip, wait_for};
use sluiced::uplinks::host_stack::{HostStackGuard, HostStackRecord};

const HOST_V4: &str = "10.78.0.2";
const HOST_V6: &str = "fd78::2";

/// A wire host, and a host with addresses of its own on what is to be an uplink.
struct Rig {
    wire: Netns,
    host: Netns,
}

impl Rig {
    fn new(test: &str) -> Option<Rig> {
        if !root_or_skip(test) || !program_or_skip(test, "nft") {
            return None;
        }
        let (wire, host) = (Netns::new("wire").unwrap(), Netns::new("host").unwrap());
        wire.veth("wire0", &host, "up-0.1").unwrap();
        for (netns, device, v4, v6) in [
            (&wire, "wire0", "10.78.0.1/24", "fd78::1/64"),
            (&host, "up-0.1", "10.78.0.2/24", "fd78::2/64"),
        ] {
            netns.ip(&["addr", "add", v4, "dev", device]).unwrap();
            netns
                .ip(&["addr", "add", v6, "dev", device, "nodad"])
                .unwrap();
        }
        Some(Rig { wire, host })
    }

    fn record(&self) -> HostStackRecord {
        self.host
            .enter(|| Ok(HostStackRecord::take("up-0.1")?))
            .unwrap()
    }

    fn engage(&self, record: &HostStackRecord) -> HostStackGuard {
        let record = record.clone();
        self.host
            .enter(|| Ok(HostStackGuard::engage(record)?))
            .unwrap()
    }

    fn restore(&self, record: &HostStackRecord) {
        let record = record.clone();
        self.host.enter(move || Ok(record.restore()?)).unwrap();
    }

    /// Whether the host answers the wire: a closed UDP port of a host that is there is refused.
    /// Neighbours are forgotten before, so that ARP and neighbour discovery must be answered too.
    fn answers(&self, address: &str) -> bool {
        let _ = self.wire.ip(&["neigh", "flush", "dev", "wire0"]);
        let v6 = address.contains(':');
        let from = if v6 { "[fd78::1]:0" } else { "10.78.0.1:0" };
        let to = if v6 {
            format!("[{address}]:9")
        } else {
            format!("{address}:9")
        };
        let asked = self.wire.enter(move || {
            let socket = UdpSocket::bind(from)?;
            socket.set_read_timeout(Some(Duration::from_millis(300)))?;
            socket.connect(to)?;
            socket.send(b"?")?;
            Ok(socket.recv(&mut [0; 16]).map_err(|error| error.kind()))
        });
        matches!(asked, Ok(Err(ErrorKind::ConnectionRefused)))
    }

    fn wait_for_answers(&self) {
        for address in [HOST_V4, HOST_V6] {
            let what = format!("an answer from {address}");
            wait_for(&what, Duration::from_secs(5), || {
                self.answers(address).then_some(())
            })
            .unwrap();
        }
    }

    fn tables(&self) -> String {
        let listing = self
            .host
            .command("nft")
            .args(["list", "ruleset"])
            .output()
            .unwrap();
        String::from_utf8(listing.stdout).unwrap()
    }

    fn ipv6_disabled(&self) -> String {
        let path = "/proc/sys/net/ipv6/conf/up-0.1/disable_ipv6";
        self.host
            .enter(move || Ok(std::fs::read_to_string(path)?))
            .unwrap()
    }

    fn is_up(&self) -> bool {
        self.host
            .ip(&["-o", "link", "show", "up-0.1"])
            .unwrap()
            .contains(",UP")
    }
}

#[test]
fn the_host_is_silent_while_guarded_and_answers_again() {
    let Some(rig) =
        Rig::new("ports_host_stack::the_host_is_silent_while_guarded_and_answers_again")
    else {
        return;
    };
    rig.wait_for_answers();
    let record = rig.record();
    assert_eq!((record.was_up, record.ipv6_disabled), (true, Some(false)));
    assert!(
        record
            .ipv6_addresses
            .contains(&(HOST_V6.parse().unwrap(), 64))
    );
    assert_eq!(rig.tables(), "", "taking the record changes nothing");

    let config = af_packet_config(&rig.host, "up-0.1").unwrap();
    let mut uplink = rig.host.enter(move || Ok(AfPacket::open(config)?)).unwrap();
    let guard = rig.engage(&record);
    assert!(guard.sending_blocked());
    assert_eq!(rig.ipv6_disabled().trim(), "1");
    assert!(!rig.answers(HOST_V4) && !rig.answers(HOST_V6));

    // The engine sees every frame all the same: the question for the host's MAC among them.
    let mut worker = Worker::new();
    let arp_request = |frame: &[u8]| frame.get(12..14) == Some(&[0x08, 0x06]);
    worker.receive(&mut uplink, 1, arp_request).unwrap();

    // The host cannot send; the engine can.
    let before = rx_packets(&rig.wire);
    rig.host
        .enter(|| {
            let socket = UdpSocket::bind("10.78.0.2:0")?;
            socket.send_to(b"from the host's stack", "10.78.0.1:9")?;
            Ok(())
        })
        .unwrap();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(
        rx_packets(&rig.wire),
        before,
        "something of the host's came out"
    );
    let mut frame = vec![0; 60];
    frame[..14].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5]);
    let mut burst = worker.burst(&[frame]);
    uplink.tx_burst(&mut worker.context(), &mut burst);
    wait_for("the engine's frame", Duration::from_secs(5), || {
        (rx_packets(&rig.wire) == before + 1).then_some(())
    })
    .unwrap();

    // As often as anybody likes.
    let again = rig.engage(&record);
    assert!(!rig.answers(HOST_V4));
    drop(again);
    rig.host.enter(move || Ok(guard.release()?)).unwrap();
    assert_eq!(
        (rig.tables().as_str(), rig.ipv6_disabled().trim()),
        ("", "0")
    );
    rig.wait_for_answers();
    rig.restore(&record);
    rig.wait_for_answers();

    let mut burst = sluice_mem::Burst::new();
    uplink.rx_burst(&mut worker.context(), &mut burst);
    assert!(
        burst.iter().any(|mbuf| is_ipv4(mbuf.data(), 17)),
        "the uplink goes on seeing"
    );
    worker.pools.free_burst(&mut burst);
    worker.check(&[]);
}

fn rx_packets(netns: &Netns) -> u64 {
    let read = || -> Result<u64> {
        let text = netns.ip(&["-s", "-o", "link", "show", "wire0"])?;
        let (_, counts) = text.split_once("RX:").unwrap();
        Ok(counts
            .split('\\')
            .nth(1)
            .unwrap()
            .split_whitespace()
            .nth(1)
            .unwrap()
            .parse()?)
    };
    read().unwrap()
}

#[test]
fn a_later_engine_undoes_what_a_dead_one_left() {
    let Some(rig) = Rig::new("ports_host_stack::a_later_engine_undoes_what_a_dead_one_left") else {
        return;
    };
    rig.host.ip(&["link", "set", "up-0.1", "down"]).unwrap();
    rig.host
        .ip(&["addr", "add", "fd78::2/64", "dev", "up-0.1", "nodad"])
        .unwrap();
    let record = rig.record();
    assert!(!record.was_up);
    // Guarded, and the guard forgotten: a crash.
    drop(rig.engage(&record));
    assert!(rig.is_up());
    assert!(rig.tables().contains("sluicegate_up-0.1"));
    rig.restore(&record);
    assert!(!rig.is_up());
    assert_eq!(
        (rig.tables().as_str(), rig.ipv6_disabled().trim()),
        ("", "0")
    );
    let addresses = rig
        .host
        .ip(&["-6", "addr", "show", "dev", "up-0.1"])
        .unwrap();
    assert!(addresses.contains("fd78::2/64"), "{addresses}");

    // The device can be gone by then, and the table alone be left.
    drop(rig.engage(&record));
    rig.host.ip(&["link", "del", "up-0.1"]).unwrap();
    rig.restore(&record);
    assert_eq!(rig.tables(), "");
}
