// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::Path;

use proptest::prelude::*;
use sluice_datapath::{ConnectionLimits, Rate};
use sluice_firewall::connections::Timeouts;
use sluice_packet::pose::AntiSpoof;

use super::*;

fn around() -> Surroundings {
    Surroundings {
        cores: vec![0, 1, 2, 3],
        siblings: Vec::new(),
        cmk: None,
        netdevs: Some(vec!["lo".into(), "eth1".into(), "eth2".into()]),
    }
}

fn parse(text: &str) -> Result<Config, Problems> {
    Config::parse(Path::new("sluiced.yaml"), text, &around())
}

/// The problems of a text, one a line.
fn complaints(text: &str) -> Vec<String> {
    parse(text)
        .unwrap_err()
        .0
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn the_least_there_can_be() {
    let config = parse("uplinks: [{name: wire0, device: eth1}]\n").unwrap();
    assert_eq!(
        config.uplinks,
        [UplinkConfig {
            name: "wire0".into(),
            driver_reason: "the default for a netdev",
            driver: UplinkDriver::Netdev(NetdevConfig {
                device: "eth1".into(),
                driver: NetdevDriver::AfPacket,
                ring_frames: 2048,
                tags_in_frames: false,
            }),
            native: None,
            tpids: vec![0x8100, 0x88a8],
            worker: None,
            posing: PosingLimits::default(),
        }]
    );
    assert_eq!(config.workers, [Some(3)]);
    assert_eq!(
        config.socket,
        Path::new("/run/sluicegate/control/sluiced.sock")
    );
    assert_eq!(config.socket, Path::new(sluice_api::DEFAULT_SOCKET));
    assert_eq!(config.idle.sleep_after, Some(2048));
}

#[test]
fn everything_said() {
    let text = "\
uplinks:
  - name: wire0
    driver: af_packet
    device: eth1
    native: 5
    tpids: [0x88a8, 33024]
    worker: 1
    posing: {promiscuous: true}
posing: {loosest: strict, pfs: [{name: enp2s0, loosest: off}]}
workers: {count: 2, cores: [1, 2-3]}
memory: {small_mbufs: 8192, large_mbufs: 512, huge_pages: off}
idle: {pause_after: 10, sleep_after: never, sleep_cap_us: 500}
limits:
  attachment: {broadcast: {rate: 5}, arp_nd: {rate: 6, burst: 7}}
  wire: {multicast: {burst: 8}, groups: {rate: 10}}
  groups: 9
  macs: 10
  connections: {places: 4096, most: 500, one_source_percent: 50, timeouts_s: {dns: 5, established: 7440}}
policies: /etc/p
state_dir: /s
run_dir: /r
log: info,sluiced=debug
";
    let config = parse(text).unwrap();
    let uplink = &config.uplinks[0];
    assert_eq!((uplink.native, uplink.worker), (Vid::new(5), Some(1)));
    assert_eq!(uplink.tpids, [0x88a8, 0x8100]);
    assert_eq!(config.workers, [Some(1), Some(2)]);
    assert_eq!(config.memory.small_mbufs, 8192);
    assert!(!config.memory.huge_pages);
    assert_eq!(config.idle.sleep_after, None);
    assert_eq!(config.idle.sleep_cap, Duration::from_micros(500));
    let defaults = Limits::default();
    let limits = config.limits;
    assert_eq!(limits.attachment.broadcast.per_second, 5);
    assert_eq!(
        limits.attachment.broadcast.burst,
        defaults.attachment.broadcast.burst
    );
    assert_eq!(limits.attachment.arp_nd, Rate::new(6, 7));
    assert_eq!(limits.attachment.multicast, defaults.attachment.multicast);
    assert_eq!((limits.wire.multicast.burst, limits.groups), (8, 9));
    assert_eq!(limits.macs, 10);
    let timeouts = Timeouts {
        dns: 5,
        established: 7_440,
        ..Timeouts::default()
    };
    let connections = ConnectionLimits {
        places: 4_096,
        most: 500,
        one_source_percent: 50,
        timeouts,
        ..ConnectionLimits::default()
    };
    assert_eq!(limits.connections, connections);
    assert_eq!(limits.wire.broadcast, defaults.wire.broadcast);
    assert_eq!(
        limits.wire_groups,
        Rate::new(10, defaults.wire_groups.burst)
    );
    assert_eq!(config.socket, Path::new("/r/control/sluiced.sock"));
    let limits = |loosest, promiscuous| PosingLimits {
        loosest,
        promiscuous,
    };
    assert_eq!(uplink.posing, limits(AntiSpoof::Strict, true));
    assert_eq!(config.posing.all, limits(AntiSpoof::Strict, false));
    let vfs = limits(AntiSpoof::Off, false);
    assert_eq!(config.posing.pfs, [("enp2s0".to_owned(), vfs)].into());
}

#[test]
fn every_wrong_value_is_named_with_its_place() {
    let text = "\
uplinks:
  - name: -x
    device: eth9
    native: 4095
    tpids: [0x8100, 17, 0x0800]
    worker: 7
    ring_frames: 1000
  - device: eth2
    driver: kernel
memory: {huge_pages: maybe, small_mbufs: lots}
idle: {sleep_after: soon}
limits: {wire: {multicast: {rate: 0, burst: many}}, connections: {places: 9, timeouts_s: {dns: 0}}}
run_dir: run/x
log: shout=loud=
posing: {loosest: none, promiscuous: yes, pfs: [{loosest: mac}, {name: a}, {name: a}]}
";
    let expected = [
        "sluiced.yaml:2:11: uplinks[0].name: \"-x\" cannot be a name",
        "sluiced.yaml:3:13: uplinks[0].device: there is no netdev \"eth9\" here: there are lo, eth1, eth2",
        "sluiced.yaml:4:13: uplinks[0].native: \"4095\" is not a VLAN: use 1 to 4094",
        "sluiced.yaml:5:21: uplinks[0].tpids: \"17\" is not a TPID",
        "sluiced.yaml:5:25: uplinks[0].tpids: \"0x0800\" is not a TPID",
        "sluiced.yaml:6:13: uplinks[0].worker: \"7\" is not allowed: use a number from 0 to 0",
        "sluiced.yaml:7:18: uplinks[0].ring_frames: 1000 is not a power of two: use 512, or 1024",
        "sluiced.yaml:8:5: uplinks[1].name: it is missing",
        "sluiced.yaml:9:13: uplinks[1].driver: \"kernel\" is not allowed: use auto or af_packet or dpdk",
        "sluiced.yaml:10:22: memory.huge_pages: \"maybe\" is not allowed: use auto or off",
        "sluiced.yaml:10:42: memory.small_mbufs: \"lots\" is not allowed: use a number from 1024 to",
        "sluiced.yaml:11:21: idle.sleep_after: it must be a number",
        "sluiced.yaml:12:35: limits.wire.multicast.rate: \"0\" is not allowed: use a number from 1 to",
        "sluiced.yaml:12:45: limits.wire.multicast.burst: \"many\" is not allowed: use a number from",
        "sluiced.yaml:12:75: limits.connections.places: \"9\" is not allowed: use a number from 1024 to",
        "sluiced.yaml:12:96: limits.connections.timeouts_s.dns: \"0\" is not allowed: use a number from 1 to",
        "sluiced.yaml:13:10: run_dir: \"run/x\" is not an absolute path",
        "sluiced.yaml:14:6: log: \"shout=loud=\" is not allowed",
        "sluiced.yaml:15:19: posing.loosest: \"none\" is not allowed: use strict or mac or off",
        "sluiced.yaml:15:38: posing.promiscuous: \"yes\" is not allowed: use true or false",
        "sluiced.yaml:15:49: posing.pfs[0].name: it is missing",
        "sluiced.yaml:15:83: posing.pfs[2].name: PF a is there twice",
    ];
    let complaints = complaints(text);
    assert_eq!(complaints.len(), expected.len(), "{complaints:#?}");
    for (complaint, expected) in complaints.iter().zip(expected) {
        assert!(
            complaint.starts_with(expected),
            "{complaint}\nis not\n{expected}"
        );
    }
}

#[test]
fn mempools_grow_with_the_workers_and_too_small_ones_are_warned_of() {
    let with = |memory: &str| {
        let uplink = "uplinks: [{name: wire0, device: eth1}]";
        parse(&format!("{uplink}\nworkers: {{count: 2}}\n{memory}")).unwrap()
    };
    assert_eq!(with("").warnings(), [""; 0]);
    assert_eq!(with("memory: {large_mbufs: 768}").warnings(), [""; 0]);
    let warnings = with("memory: {large_mbufs: 256}").warnings();
    assert_eq!(
        warnings,
        [
            "memory.large_mbufs is 256, and 2 workers can have 768 in use at once: with fewer, frames \
          of one pod can cost another pod its own; set it to 768 or more, or leave it out"
        ]
    );
}

#[test]
fn wrong_structure_is_named_with_its_place() {
    for (text, expected) in [
        (
            "uplinks: [{name: a, device: eth1, spped: 1}]",
            "sluiced.yaml:1:35: spped: there is no such key here: use one of name, driver, device",
        ),
        (
            "polices: /x\nuplinks: [{name: a, device: eth1}]\n",
            "sluiced.yaml:1:1: polices: there is no such key here: use one of uplinks, workers",
        ),
        (
            "log: info\nlog: debug\n",
            "sluiced.yaml:2:1: log: this key is here twice",
        ),
        ("workers:\n  count: [1]\n", "sluiced.yaml:2:10: count: "),
        ("uplinks: wire0\n", "sluiced.yaml:1:10: uplinks: "),
        (
            "uplinks:\n  - name: a\n    device:\n",
            "sluiced.yaml:2:5: uplinks[0].device: it is missing",
        ),
        ("uplinks: [\n", "sluiced.yaml:"),
    ] {
        let complaints = complaints(text);
        assert!(
            complaints[0].starts_with(expected),
            "{}\nis not\n{expected}",
            complaints[0]
        );
    }
}

#[test]
fn a_node_whose_pods_have_vfs_needs_no_uplink() {
    assert_eq!(parse("log: info\n").unwrap().uplinks, []);
    let sample = include_str!("../../../../deploy/sriov/sluiced.yaml");
    assert_eq!(parse(sample).unwrap().uplinks, []);
}

#[test]
fn uplinks_do_not_share() {
    let text = "uplinks:\n- {name: a, device: eth1}\n- {name: a, device: eth1}\n";
    let complaints = complaints(text);
    assert!(
        complaints[0].starts_with("sluiced.yaml:3:10: uplinks[1].name: there are two uplinks a")
    );
    assert!(complaints[1].starts_with("sluiced.yaml:3:21: uplinks[1]: uplink a has it"));
}

#[test]
fn a_socket_path_fits_into_its_address() {
    let text = format!(
        "uplinks: [{{name: a, device: eth1}}]\nsocket: /{}/s\n",
        "x".repeat(110)
    );
    assert!(
        complaints(&text)[0].starts_with("sluiced.yaml:2:9: socket: "),
        "{text}"
    );
    let text = "uplinks: [{name: a, device: eth1}]\nsocket: /s\n";
    assert!(complaints(text)[0].contains("its folder must be one of its own"));
}

#[test]
fn a_pcap_uplink_needs_its_files() {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("in.pcap");
    std::fs::write(&input, b"").unwrap();
    let text = format!(
        "uplinks: [{{name: a, driver: pcap, read: {}}}]",
        input.display()
    );
    let pcap = UplinkDriver::Pcap {
        read: Some(input),
        write: None,
        mtu: 1500,
    };
    assert_eq!(parse(&text).unwrap().uplinks[0].driver, pcap);
    let text = "\
uplinks:
- {name: a, driver: pcap, device: eth1}
- {name: b, driver: pcap, read: /no/such}
- {name: c, device: eth1, mtu: 9000}
- {name: d, driver: pcap, write: x.pcap}
";
    let expected = [
        "sluiced.yaml:2:3: uplinks[0]: name the capture files",
        "sluiced.yaml:2:35: uplinks[0].device: only an uplink with `driver: af_packet` has it",
        "sluiced.yaml:3:33: uplinks[1].read: there is no file /no/such",
        "sluiced.yaml:4:32: uplinks[2].mtu: only an uplink with `driver: pcap` or `driver: dpdk` has it",
        "sluiced.yaml:5:34: uplinks[3].write: \"x.pcap\" is not an absolute path",
    ];
    let complaints = complaints(text);
    assert_eq!(complaints.len(), expected.len(), "{complaints:#?}");
    for (complaint, expected) in complaints.iter().zip(expected) {
        assert!(
            complaint.starts_with(expected),
            "{complaint}\nis not\n{expected}"
        );
    }
}

#[test]
fn the_driver_of_a_netdev_is_af_packet_unless_another_is_named() {
    let driver = |keys: &str| {
        let config = parse(&format!("uplinks: [{{name: a, device: eth1{keys}}}]"));
        match config.unwrap().uplinks.remove(0).driver {
            UplinkDriver::Netdev(netdev) => (netdev.driver, netdev.tags_in_frames),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(driver(""), (NetdevDriver::AfPacket, false));
    assert_eq!(driver(", driver: auto"), (NetdevDriver::Auto, false));
    let af_xdp = driver(", driver: af_xdp, tags_in_frames: true");
    assert_eq!(af_xdp, (NetdevDriver::AfXdp, true));
}

#[test]
fn devices_of_dpdks_are_told_from_netdevs() {
    let text = "\
uplinks:
- {name: a, device: \"0000:01:00.0\"}
- {name: b, vdev: \"net_tap0,iface=t0\", mtu: 1400}
dpdk: {memory_mib: 32, cores: [1, 3]}
";
    if crate::uplinks::dpdk::BUILT_IN {
        let config = parse(text).unwrap();
        let dpdk = |device: &str, mtu| UplinkDriver::Dpdk {
            device: device.parse().unwrap(),
            mtu,
        };
        assert_eq!(config.uplinks[0].driver, dpdk("0000:01:00.0", 1500));
        assert_eq!(config.uplinks[1].driver, dpdk("net_tap0,iface=t0", 1400));
        assert!(config.uplinks[1].driver_reason.starts_with("auto: "));
        let expected = DpdkConfig {
            memory_mib: 32,
            cores: Some(vec![1, 3]),
        };
        assert_eq!(config.dpdk, expected);
    } else {
        let complaints = complaints(text);
        assert_eq!(complaints.len(), 2, "{complaints:#?}");
        let expected =
            "0000:01:00.0 is a device of DPDK's: this build of the engine is without DPDK";
        assert!(complaints[0].contains(expected), "{complaints:#?}");
    }
    let text = "\
uplinks:
- {name: a, device: eth1, vdev: net_null0}
- {name: b, driver: af_packet, vdev: net_null0}
- {name: c, driver: igbvf, device: \"0000:01:10.0\"}
- {name: d, device: eth2, tags_in_frames: true}
- {name: e, vdev: \"net_null0,foo=1\"}
- {name: f, device: \"0000:01:10.9\"}
";
    let expected = [
        "sluiced.yaml:2:33: uplinks[0].vdev: the uplink has a `device` already, eth1",
        "sluiced.yaml:3:38: uplinks[1].driver: af_packet and af_xdp are for netdevs",
        "sluiced.yaml:4:21: uplinks[2].driver: a VF that the engine drives by itself belongs to one pod",
        "sluiced.yaml:5:43: uplinks[3].tags_in_frames: only an uplink with `driver: af_xdp` has it",
        "sluiced.yaml:6:19: uplinks[4].vdev: vdev \"net_null0\" has no argument \"foo=1\"",
        "sluiced.yaml:7:21: uplinks[5].device: \"0000:01:10.9\" is not a device of DPDK",
    ];
    let complaints = complaints(text);
    assert_eq!(complaints.len(), expected.len(), "{complaints:#?}");
    for (complaint, expected) in complaints.iter().zip(expected) {
        assert!(
            complaint.starts_with(expected),
            "{complaint}\nis not\n{expected}"
        );
    }
}

/// The sample that `sluiced --help` shows.
const SAMPLE: &str = include_str!("../../../../deploy/sluiced.yaml");

#[test]
fn the_sample_is_good_and_shows_the_defaults() {
    let sample = parse(SAMPLE).unwrap();
    // Its keys that are commented out, taken in.
    let taken_in: String = SAMPLE
        .lines()
        .skip(1)
        .map(|line| format!("{}\n", line.replacen("# ", "", usize::from(is_key(line)))))
        .collect();
    let around = Surroundings {
        cores: vec![2, 4, 5],
        ..around()
    };
    let said = Config::parse(Path::new("sample"), &taken_in, &around)
        .unwrap_or_else(|problems| panic!("{problems}\n{taken_in}"));
    assert_eq!(said.workers, [Some(2)]);
    let uplink = UplinkConfig {
        native: Some(Vid::UNTAGGED),
        worker: Some(0),
        driver_reason: "the configuration names it",
        ..sample.uplinks[0].clone()
    };
    assert_eq!(said.uplinks, [uplink]);
    let same = Config {
        file: sample.file.clone(),
        workers: sample.workers.clone(),
        uplinks: sample.uplinks.clone(),
        ..said
    };
    assert_eq!(same, sample);
}

/// Whether a line is a comment that holds a key: `# key: ...`.
fn is_key(line: &str) -> bool {
    let Some(rest) = line.trim_start().strip_prefix("# ") else {
        return false;
    };
    let word = rest.trim_start().split(':').next().unwrap_or_default();
    rest.contains(':') && word.chars().all(|c| c.is_ascii_lowercase() || c == '_')
}

proptest! {
    #[test]
    fn nothing_panics(text in "[a-z0-9:\\[\\]{},\\- \n&*!|>'\"#]{0,200}") {
        let _ = parse(&text);
    }

    #[test]
    fn no_value_panics(value in "\\PC{0,20}", key in prop::sample::select(vec![
        "native", "tpids", "worker", "driver", "device", "name",
    ])) {
        let _ = parse(&format!("uplinks: [{{{key}: {value}}}]"));
        let _ = parse(&format!("uplinks:\n- {key}: '{value}'\n"));
    }
}
