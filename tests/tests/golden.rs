// SPDX-License-Identifier: Apache-2.0
//! Golden captures: what comes from the wire and from a pod in `tests/golden/*-in.pcap` must come
//! out, frame for frame, as in `*-out.pcap`. With `SLUICE_WRITE_GOLDEN` set, all four are written
//! anew: look at the difference before you commit it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sluice_datapath::ports::pcap::{PcapConfig, PcapPort, PcapUplink};
use sluice_datapath::{
    AttachmentSpec, FrameInfo, PortContext, SteppedWorker, Uplink, UplinkSpec, VlanSet,
};
use sluice_firewall::{Policy, PolicySet};
use sluice_mem::{BufSize, Burst, HugePages, Mempool, PoolConfig, Pools};
use sluice_packet::arp::ArpFields;
use sluice_packet::build::FrameBuilder;
use sluice_packet::tcp::{TcpFields, flag};
use sluice_packet::{Mac, Vid, VlanTag};

const HOST: Mac = Mac([2, 0, 0, 0, 0xff, 1]);
const POD: Mac = Mac([2, 0, 0, 0, 0, 1]);
const ALL: Mac = Mac([0xff; 6]);
const HOST_IP: [u8; 4] = [10, 21, 0, 1];
const POD_IP: [u8; 4] = [10, 21, 0, 5];

const POLICY: &str = "
name: golden
vlans: [210]
default: {ingress: drop, egress: accept}
rules:
  - {direction: ingress, ethertype: [arp], verdict: accept}
  - {direction: ingress, protocol: icmp, icmp-type: [8], verdict: accept}
  - {direction: ingress, protocol: udp, ports: [5060], verdict: accept}
  - {direction: both, protocol: tcp, ports: [23], verdict: reject}
";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

fn pools() -> Pools {
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
    Pools::new(pool(BufSize::Small, 4096), pool(BufSize::Large, 256), 256)
}

fn tagged(vid: u16, frame: Vec<u8>) -> Vec<u8> {
    let mut bytes = frame;
    bytes.splice(
        12..12,
        VlanTag {
            tpid: 0x8100,
            tci: vid,
        }
        .to_bytes(),
    );
    bytes
}

fn udp(to: Mac, from: Mac, port: u16) -> FrameBuilder<'static> {
    let (src, dst) = if from == HOST {
        (HOST_IP, POD_IP)
    } else {
        (POD_IP, HOST_IP)
    };
    FrameBuilder::new(to, from)
        .ipv4(src.into(), dst.into())
        .udp(7, port)
        .payload(b"golden frame")
}

fn syn(to: Mac, from: Mac) -> Vec<u8> {
    let (src, dst) = if from == HOST {
        (HOST_IP, POD_IP)
    } else {
        (POD_IP, HOST_IP)
    };
    let tcp = TcpFields {
        src_port: 40_000,
        dst_port: 23,
        seq: 1,
        ack: 0,
        flags: flag::SYN,
        window: 64,
    };
    FrameBuilder::new(to, from)
        .ipv4(src.into(), dst.into())
        .tcp(tcp)
        .build()
}

fn arp(to: Mac, from: Mac, ip: [u8; 4], asks: [u8; 4]) -> Vec<u8> {
    let fields = ArpFields {
        operation: 1,
        sender_mac: from,
        sender_ip: ip.into(),
        target_mac: Mac([0; 6]),
        target_ip: asks.into(),
    };
    FrameBuilder::new(to, from).arp(fields).build()
}

/// From the wire: what is allowed, denied, rejected, not for us, tagged wrongly, cut short.
fn wire_frames() -> Vec<Vec<u8>> {
    let mut cut = udp(POD, HOST, 5060).build();
    cut.truncate(30);
    vec![
        tagged(210, arp(ALL, HOST, HOST_IP, POD_IP)),
        tagged(210, udp(POD, HOST, 5060).build()),
        tagged(210, udp(POD, HOST, 5061).build()),
        tagged(210, syn(POD, HOST)),
        tagged(220, udp(POD, HOST, 5060).build()),
        udp(POD, HOST, 5060).build(),
        tagged(210, tagged(5, udp(POD, HOST, 5060).build())),
        tagged(0x6000 | 210, udp(POD, HOST, 5060).build()),
        tagged(210, udp(Mac([2, 0, 0, 0, 0, 9]), HOST, 5060).build()),
        tagged(210, cut),
        tagged(
            210,
            udp(POD, HOST, 5060)
                .fragment(0, true)
                .payload(&[7; 64])
                .build(),
        ),
        tagged(
            210,
            udp(POD, HOST, 5060)
                .fragment(72, false)
                .payload(&[8; 64])
                .build(),
        ),
        tagged(
            210,
            FrameBuilder::new(POD, HOST)
                .ipv4(HOST_IP.into(), POD_IP.into())
                .icmp(8, 0, [0, 1, 0, 1])
                .payload(b"ping")
                .build(),
        ),
    ]
}

/// From the pod: honest frames, tags it may not send, others' addresses.
fn pod_frames() -> Vec<Vec<u8>> {
    vec![
        arp(ALL, POD, POD_IP, HOST_IP),
        udp(HOST, POD, 9).build(),
        syn(HOST, POD),
        tagged(210, udp(HOST, POD, 9).build()),
        tagged(0xa000, udp(HOST, POD, 9).build()),
        udp(HOST, Mac([2, 0, 0, 0, 0, 2]), 9).build(),
        arp(ALL, POD, HOST_IP, POD_IP),
        FrameBuilder::new(HOST, POD)
            .ipv4(HOST_IP.into(), POD_IP.into())
            .udp(1, 2)
            .build(),
        udp(POD, POD, 9).build(),
    ]
}

fn write(path: &Path, frames: &[Vec<u8>]) {
    let config = PcapConfig {
        read: None,
        write: Some(path.to_owned()),
    };
    let mut port = PcapUplink::open(config, 9000).unwrap();
    let (mut pools, drops) = (pools(), Default::default());
    for frame in frames {
        let mut burst = Burst::new();
        let mut mbuf = pools.alloc_for(frame.len()).unwrap();
        assert!(mbuf.copy_from(frame));
        FrameInfo::begin(&mut mbuf, None);
        burst.push(mbuf).unwrap();
        let mut context = PortContext {
            pools: &mut pools,
            drops: &drops,
        };
        Uplink::tx_burst(&mut port, &mut context, &mut burst);
    }
}

/// Runs both captures in through the pipelines.
fn run(into: &Path, flow_cache: usize) {
    let policy = Policy::parse("golden.yaml", POLICY).unwrap();
    let set = Arc::new(PolicySet::build(1, &[policy]).unwrap());
    let mut worker = SteppedWorker::new(pools(), set, flow_cache).unwrap();
    let config = |name: &str| PcapConfig {
        read: Some(folder().join(format!("{name}-in.pcap"))),
        write: Some(into.join(format!("{name}-out.pcap"))),
    };
    let wire = PcapUplink::open(config("wire"), 1500).unwrap();
    let pod = PcapPort::open(config("pod")).unwrap();
    let progress = [wire.progress(), pod.progress()];
    let uplink = worker
        .add_uplink(UplinkSpec {
            name: "wire0".to_owned(),
            port: Box::new(wire),
            worker: None,
            tpids: vec![0x8100],
            native: None,
            network: None,
            port_vlan: false,
        })
        .unwrap();
    let spec = AttachmentSpec {
        name: "pod/net1".to_owned(),
        uplink,
        vlans: VlanSet::Access(Vid::new(210).unwrap()),
        qinq: false,
        mac: POD,
        addresses: vec![POD_IP.into()],
        groups: Vec::new(),
        roles: Default::default(),
        pose: Default::default(),
        keeps_priority: false,
        policy: None,
        mtu: 1500,
        worker: None,
    };
    worker.attach(spec, Box::new(pod)).unwrap();
    for _ in 0..100 {
        worker.round();
    }
    assert!(
        progress.iter().all(|progress| progress.finished()),
        "frames are left"
    );
}

#[test]
fn captures_go_through_the_pipelines_as_before() {
    let anew = std::env::var_os("SLUICE_WRITE_GOLDEN").is_some();
    if anew {
        write(&folder().join("wire-in.pcap"), &wire_frames());
        write(&folder().join("pod-in.pcap"), &pod_frames());
        run(&folder(), 0);
    }
    for flow_cache in [0, 1024] {
        compare(flow_cache);
    }
}

fn compare(flow_cache: usize) {
    let seen = tempfile::tempdir().unwrap();
    run(seen.path(), flow_cache);
    for name in ["wire-out.pcap", "pod-out.pcap"] {
        let expected = fs::read(folder().join(name)).unwrap();
        let got = fs::read(seen.path().join(name)).unwrap();
        let hint = "compare the two with tcpdump -er";
        assert!(
            expected == got,
            "{name} is not as it was ({} bytes, now {}): {hint}",
            expected.len(),
            got.len()
        );
    }
}
