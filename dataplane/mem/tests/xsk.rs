// SPDX-License-Identifier: Apache-2.0
//! AF_XDP sockets on real veth pairs, in both modes, with a packet socket or the kernel's stack at the other
//! end.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::cast_possible_truncation,
    reason = "the numbers of a test are small"
)]

mod netns;

use std::net::UdpSocket;
use std::process::Command;

use netns::{enter, ip, udp_frame, wait_for, without_ipv6};
use nix::net::if_::if_nametoindex;
use sluice_mem::offloads::{Offloads, RX_VLAN, TX_VLAN};
use sluice_mem::packet_mmap::{Next, PacketConfig, PacketSocket};
use sluice_mem::xsk::{XdpMode, Xsk, XskConfig, XskStats};
use sluice_mem::{BufSize, Cache, HugePages, Mempool, PoolConfig};

const HERE: [u8; 4] = [10, 9, 0, 1];
const THERE: [u8; 4] = [10, 9, 0, 2];
const GENERIC: &[XdpMode] = &[XdpMode::Generic];
const NATIVE: &[XdpMode] = &[XdpMode::Native];

/// A veth pair whose ends leave tags and checksums in the bytes; `queues` on each.
fn veth(queues: u32) {
    without_ipv6();
    let shape = format!("numrxqueues {queues} numtxqueues {queues}");
    ip(&format!(
        "link add wire address 02:00:00:00:00:02 {shape} type veth peer name host address \
         02:00:00:00:00:01 {shape}"
    ));
    for device in ["wire", "host"] {
        let offloads = Offloads::open(device).unwrap();
        for name in RX_VLAN.into_iter().chain(TX_VLAN) {
            assert!(offloads.set(name, false).unwrap(), "{device}: {name}");
            assert!(!offloads.get(name).unwrap().unwrap().active);
        }
        ip(&format!("link set {device} up"));
    }
    ip("link set lo up");
    ip("addr add 10.9.0.1/24 dev host");
    ip("neigh add 10.9.0.2 lladdr 02:00:00:00:00:02 dev host nud permanent");
}

fn pool() -> Mempool {
    Mempool::new(PoolConfig {
        buffers: 1024,
        size: BufSize::Small,
        numa_node: None,
        huge_pages: HugePages::Auto,
    })
    .unwrap()
}

fn open(pool: Mempool, queues: u32, modes: &'static [XdpMode]) -> Xsk {
    let config = XskConfig {
        ifindex: if_nametoindex("wire").unwrap(),
        queues,
        entries: 64,
        pool,
        modes,
    };
    Xsk::open(config).unwrap()
}

/// The next `count` frames, as bytes.
fn receive(xsk: &mut Xsk, cache: &mut Cache, count: usize) -> Vec<Vec<u8>> {
    let mut seen = Vec::new();
    wait_for("frames", || {
        xsk.refill(cache);
        xsk.recv(32, |mbuf| {
            let mbuf = mbuf.unwrap();
            seen.push(mbuf.data().to_vec());
            cache.free(mbuf);
        });
        (seen.len() >= count).then_some(())
    });
    seen
}

fn send(xsk: &mut Xsk, cache: &mut Cache, frame: &[u8]) {
    wait_for("room", || {
        (xsk.tx_room(|mbuf| cache.free(mbuf)) > 0).then_some(())
    });
    let mut mbuf = cache.alloc().unwrap();
    assert!(mbuf.copy_from(frame));
    xsk.send(mbuf).unwrap();
}

fn tagged(frame: &[u8], tags: &[u8]) -> Vec<u8> {
    [&frame[..12], tags, &frame[12..]].concat()
}

#[test]
fn frames_cross_both_ways_with_their_tags_in_both_modes() {
    if !enter("frames_cross_both_ways_with_their_tags_in_both_modes") {
        return;
    }
    veth(1);
    let pool = pool();
    let mut cache = pool.cache(128);
    for modes in [GENERIC, NATIVE] {
        let mut xsk = open(pool, 1, modes);
        assert_eq!((xsk.mode(), xsk.is_zero_copy()), (modes[0], false));
        xsk.refill(&mut cache);
        let index = if_nametoindex("host").unwrap();
        let mut peer = PacketSocket::open(index, PacketConfig::default()).unwrap();

        // For nobody, so that the stack answers nothing.
        let plain = udp_frame(THERE, [10, 9, 0, 9], 7000, &[7; 300]);
        let frames: Vec<_> = [
            &[][..],
            &[0x81, 0, 0x60, 210],
            &[0x88, 0xa8, 1, 44],
            &[0x88, 0xa8, 0, 10, 0x81, 0, 0, 20],
        ]
        .map(|tags| tagged(&plain, tags))
        .into();
        for frame in &frames {
            send(&mut xsk, &mut cache, frame);
        }
        assert!(xsk.flush());
        for frame in &frames {
            let (data, vlan) = wait_for("a frame at the peer", || {
                let mut seen = None;
                peer.recv(1, |frame| {
                    seen = Some((frame.data.to_vec(), frame.vlan));
                    Next::Take
                });
                seen
            });
            let tag: Vec<u8> = vlan.map_or(Vec::new(), |(tpid, tci)| {
                [tpid.to_be_bytes(), tci.to_be_bytes()].concat()
            });
            assert_eq!(&tagged(&data, &tag), frame, "{modes:?}");
        }
        for frame in &frames {
            assert!(peer.send(|slot| {
                slot[..frame.len()].copy_from_slice(frame);
                frame.len()
            }));
        }
        assert!(peer.flush().unwrap());
        assert_eq!(receive(&mut xsk, &mut cache, 4), frames, "{modes:?}");
        assert_eq!(xsk.stats(), XskStats::default());

        drop(xsk);
        let left = pool.conservation();
        assert!(left.holds(), "{left:?}");
        let shown = Command::new("ip").args(["link", "show", "wire"]).output();
        let shown = String::from_utf8(shown.unwrap().stdout).unwrap();
        assert!(!shown.contains("xdp"), "the program went: {shown}");
    }
}

#[test]
fn every_queue_is_served_and_the_stack_sees_no_frame() {
    if !enter("every_queue_is_served_and_the_stack_sees_no_frame") {
        return;
    }
    veth(4);
    let pool = pool();
    let mut cache = pool.cache(128);
    let mut xsk = open(pool, 4, NATIVE);
    assert_eq!(xsk.fds().count(), 4);
    xsk.refill(&mut cache);
    assert_eq!(xsk.held(), 4 * 64);
    let stack = if_nametoindex("wire").unwrap();
    let mut stack = PacketSocket::open(stack, PacketConfig::default()).unwrap();
    let mut seen = 0;
    for port in 0..64u16 {
        // Ports of the sender spread over queues.
        let from = UdpSocket::bind(("10.9.0.1", 20_000 + port)).unwrap();
        from.send_to(b"to the stack?", "10.9.0.2:9").unwrap();
    }
    wait_for("64 frames", || {
        seen += receive(&mut xsk, &mut cache, 0).len();
        (seen == 64).then_some(())
    });
    let of_stack = stack.recv(64, |_| Next::Take);
    assert_eq!(of_stack, 0, "the host's stack sees none of them");
}

#[test]
fn what_finds_no_room_is_counted_and_the_rest_comes_in_order() {
    if !enter("what_finds_no_room_is_counted_and_the_rest_comes_in_order") {
        return;
    }
    veth(1);
    let pool = pool();
    let mut cache = pool.cache(128);
    let mut xsk = open(pool, 1, GENERIC);
    xsk.refill(&mut cache);
    let index = if_nametoindex("host").unwrap();
    let mut peer = PacketSocket::open(index, PacketConfig::default()).unwrap();
    for number in 0..100u16 {
        let frame = udp_frame(THERE, HERE, number, &[0; 60]);
        assert!(peer.send(|slot| {
            slot[..frame.len()].copy_from_slice(&frame);
            frame.len()
        }));
    }
    assert!(peer.flush().unwrap());
    let seen = receive(&mut xsk, &mut cache, 64);
    let ports: Vec<_> = seen
        .iter()
        .map(|frame| u16::from_be_bytes([frame[36], frame[37]]))
        .collect();
    assert_eq!(ports, (0..64).collect::<Vec<_>>());
    wait_for("36 drops", || (xsk.stats().rx_dropped == 36).then_some(()));

    // As many can be taken to be sent as the ring has entries, and not one more.
    for _ in 0..64 {
        send(&mut xsk, &mut cache, &udp_frame(THERE, HERE, 1, &[1; 60]));
    }
    let one_more = cache.alloc().unwrap();
    cache.free(xsk.send(one_more).unwrap_err());
    assert!(xsk.flush());
    wait_for("all to be sent", || {
        (xsk.tx_room(|mbuf| cache.free(mbuf)) == 64).then_some(())
    });
    drop((xsk, cache));
    let left = pool.conservation();
    assert!(left.holds() && left.in_flight == 0, "{left:?}");
}

#[test]
fn a_second_program_is_refused_by_name_and_a_queue_can_be_opened_again_at_once() {
    if !enter("a_second_program_is_refused_by_name_and_a_queue_can_be_opened_again_at_once") {
        return;
    }
    veth(1);
    let pool = pool();
    for _ in 0..5 {
        drop(open(pool, 1, NATIVE));
    }
    let _first = open(pool, 1, NATIVE);
    let second = Xsk::open(XskConfig {
        ifindex: if_nametoindex("wire").unwrap(),
        queues: 1,
        entries: 64,
        pool,
        modes: XskConfig::ANY_MODE,
    });
    let error = second.unwrap_err().to_string();
    assert!(error.contains("BPF_LINK_CREATE"), "{error}");
    assert!(error.contains("xdp off"), "{error}");
}
