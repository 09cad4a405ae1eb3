// SPDX-License-Identifier: Apache-2.0
//! Packet rings on real veth pairs, with the kernel's stack at the other end.
#![allow(
    clippy::cast_possible_truncation,
    reason = "the numbers of a test are small"
)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod netns;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc;
use std::time::Duration;

use netns::{enter, ip, udp_checksum, udp_frame, wait_for, without_ipv6};
use nix::net::if_::if_nametoindex;
use sluice_mem::Error;
use sluice_mem::packet_mmap::{GsoKind, Next, PacketConfig, PacketSocket, RxFrame};

const HERE: [u8; 4] = [10, 9, 0, 1];
const THERE: [u8; 4] = [10, 9, 0, 2];

fn open(device: &str, config: PacketConfig) -> PacketSocket {
    PacketSocket::open(if_nametoindex(device).unwrap(), config).unwrap()
}

/// Rings that cost little.
fn small() -> PacketConfig {
    PacketConfig {
        rx_frames: 64,
        rx_frame_bytes: 2048,
        long_frames: false,
        tx_frames: 64,
        ..PacketConfig::default()
    }
}

/// A veth pair: `wire` is for packet sockets, `host` has the kernel's stack with address HERE and
/// knows THERE's MAC.
fn veth() {
    without_ipv6();
    ip(
        "link add wire address 02:00:00:00:00:02 type veth peer name host address 02:00:00:00:00:01",
    );
    ip("link set wire up");
    ip("link set host up");
    ip("link set lo up");
    ip("addr add 10.9.0.1/24 dev host");
    ip("neigh add 10.9.0.2 lladdr 02:00:00:00:00:02 dev host nud permanent");
}

fn send(socket: &mut PacketSocket, frame: &[u8]) -> bool {
    socket.send(|slot| {
        slot[..frame.len()].copy_from_slice(frame);
        frame.len()
    })
}

/// Received frame as a test keeps it.
#[derive(Debug, PartialEq)]
struct Seen {
    data: Vec<u8>,
    vlan: Option<(u16, u16)>,
    csum_not_ready: Option<(u16, u16)>,
    gso: bool,
    wire_len: usize,
    truncated: bool,
}

impl Seen {
    fn of(frame: RxFrame<'_>) -> Seen {
        let RxFrame {
            data,
            wire_len,
            vlan,
            csum_not_ready,
            gso,
            truncated,
            ..
        } = frame;
        Seen {
            data: data.to_vec(),
            wire_len,
            vlan,
            csum_not_ready,
            gso: gso.is_some(),
            truncated,
        }
    }

    /// A frame as it was sent.
    fn plain(frame: &[u8]) -> Seen {
        Seen {
            data: frame.to_vec(),
            vlan: None,
            csum_not_ready: None,
            gso: false,
            wire_len: frame.len(),
            truncated: false,
        }
    }
}

fn next(socket: &mut PacketSocket) -> Seen {
    wait_for("a frame", || {
        let mut seen = None;
        socket.recv(1, |frame| {
            seen = Some(Seen::of(frame));
            Next::Take
        });
        seen
    })
}

#[test]
fn frames_reach_the_kernel_and_those_of_the_kernel_say_what_is_left_to_do() {
    if !enter("frames_reach_the_kernel_and_those_of_the_kernel_say_what_is_left_to_do") {
        return;
    }
    veth();
    let mut wire = open("wire", small());
    let kernel = UdpSocket::bind("10.9.0.1:7000").unwrap();
    kernel
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();

    assert!(send(
        &mut wire,
        &udp_frame(THERE, HERE, 7000, b"to the kernel")
    ));
    assert!(wire.flush().unwrap());
    let mut buffer = [0; 100];
    let (len, from) = kernel.recv_from(&mut buffer).unwrap();
    assert_eq!(
        (&buffer[..len], from.to_string().as_str()),
        (&b"to the kernel"[..], "10.9.0.2:4000")
    );

    kernel.send_to(b"from the kernel", "10.9.0.2:9").unwrap();
    let mut seen = next(&mut wire);
    assert_eq!(
        seen.csum_not_ready,
        Some((34, 6)),
        "veth leaves the UDP checksum to us"
    );
    assert!(!seen.gso && !seen.truncated && seen.vlan.is_none());
    assert_eq!(&seen.data[42..], b"from the kernel");
    assert_eq!(&seen.data[26..34], [HERE, THERE].concat());
    // The field holds the pseudo-header's sum: summing from `start` completes it.
    let sum = netns::checksum(&[&seen.data[34..]]);
    seen.data[40..42].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(udp_checksum(HERE, THERE, &seen.data[34..]), 0, "{seen:?}");
    assert!(!wire.has_frames(), "what was sent does not come back");
}

#[test]
fn tags_are_taken_out_and_told() {
    if !enter("tags_are_taken_out_and_told") {
        return;
    }
    veth();
    let (mut a, mut b) = (open("wire", small()), open("host", small()));
    let plain = udp_frame(THERE, [10, 9, 0, 9], 1, &[7; 30]);
    let tagged = |tags: &[u8]| [&plain[..12], tags, &plain[12..]].concat();
    type Case = (&'static [u8], Option<(u16, u16)>, &'static [u8]);
    let cases: [Case; 5] = [
        (&[], None, &[]),
        (&[0x81, 0, 0x60, 210], Some((0x8100, 0x60d2)), &[]),
        (&[0x88, 0xa8, 0x01, 0x2c], Some((0x88a8, 300)), &[]),
        (&[0x81, 0, 0x40, 0], Some((0x8100, 0x4000)), &[]),
        (
            &[0x88, 0xa8, 0, 10, 0x81, 0, 0, 20],
            Some((0x88a8, 10)),
            &[0x81, 0, 0, 20],
        ),
    ];
    for (sent, _, _) in cases {
        assert!(send(&mut a, &tagged(sent)));
    }
    assert!(a.flush().unwrap());
    for (_, vlan, left) in cases {
        let data = tagged(left);
        assert_eq!(
            next(&mut b),
            Seen {
                vlan,
                ..Seen::plain(&data)
            }
        );
    }
}

#[test]
fn a_full_send_ring_hands_back_and_the_rest_arrives_in_order() {
    if !enter("a_full_send_ring_hands_back_and_the_rest_arrives_in_order") {
        return;
    }
    veth();
    let mut a = open("wire", small());
    let mut b = open(
        "host",
        PacketConfig {
            rx_frames: 4096,
            ..small()
        },
    );
    let frame = |n: u16| udp_frame(THERE, [10, 9, 0, 9], n, &[n as u8; 100]);
    let mut sent = 0;
    // Thrice round the ring, with flushes only when it is full.
    for _ in 0..3 {
        let before = sent;
        while a.tx_room() > 0 {
            assert!(send(&mut a, &frame(sent)), "there was room for {sent}");
            sent += 1;
        }
        while send(&mut a, &frame(sent)) {
            sent += 1;
        }
        assert_eq!(a.tx_room(), 0);
        assert!(sent - before >= 64, "{sent}");
        wait_for("the ring to empty", || a.flush().unwrap().then_some(()));
        // Slots come back once the other side has consumed the frames.
        wait_for("a free slot", || send(&mut a, &frame(sent)).then_some(()));
        sent += 1;
    }
    assert!(a.flush().unwrap());
    // Lengths that no frame has send nothing and take no slot.
    let max = a.max_frame();
    for len in [0, 13, max + 1, usize::MAX] {
        assert!(a.send(|slot| {
            assert_eq!(slot.len(), max);
            len
        }));
    }
    assert!(a.flush().unwrap());
    for n in 0..sent {
        assert_eq!(next(&mut b), Seen::plain(&frame(n)));
    }
    assert!(!b.has_frames());
    assert_eq!((b.stats().packets, b.stats().drops), (u64::from(sent), 0));
    wait_for("the whole ring to be free", || {
        (a.tx_room() >= 64).then_some(())
    });
    assert!(max >= 1500 + 22, "{max}");
}

#[test]
fn what_is_left_stays_and_what_finds_the_ring_full_is_counted() {
    if !enter("what_is_left_stays_and_what_finds_the_ring_full_is_counted") {
        return;
    }
    veth();
    let mut a = open("wire", small());
    let mut b = open(
        "host",
        PacketConfig {
            rx_frames: 1,
            ..small()
        },
    );
    let frame = |n: u16| udp_frame(THERE, [10, 9, 0, 9], n, &[0; 20]);
    let all = 200;
    for n in 0..all {
        wait_for("a free slot", || send(&mut a, &frame(n)).then_some(()));
        wait_for("the ring to empty", || a.flush().unwrap().then_some(()));
    }
    let mut looks = 0;
    let taken = b.recv(10, |seen| {
        looks += 1;
        assert_eq!(Seen::of(seen), Seen::plain(&frame(looks - 1)));
        if looks == 4 { Next::Leave } else { Next::Take }
    });
    assert_eq!((taken, looks), (3, 4));
    assert_eq!(
        next(&mut b),
        Seen::plain(&frame(3)),
        "the one that was left comes again"
    );
    while b.recv(usize::MAX, |_| Next::Take) > 0 {}
    let stats = b.stats();
    assert_eq!(stats.packets, u64::from(all));
    assert!(stats.drops > 0 && stats.drops < u64::from(all), "{stats:?}");
    assert_eq!(b.stats(), stats, "counts add up over readings");
}

#[test]
fn gso_frames_come_whole_or_say_that_they_do_not() {
    let name = "gso_frames_come_whole_or_say_that_they_do_not";
    let (tell, told) = mpsc::channel::<i32>();
    let (done, wait) = mpsc::channel::<()>();
    let (ready, listening) = mpsc::channel::<()>();
    // The TCP sender lives in a namespace of its own.
    let sender = std::thread::spawn(move || {
        if !enter(name) {
            return;
        }
        tell.send(nix::unistd::gettid().as_raw()).unwrap();
        listening.recv().unwrap();
        ip("link set host up");
        ip("addr add 10.9.0.1/24 dev host");
        let mut stream = TcpStream::connect("10.9.0.2:7000").unwrap();
        stream.write_all(&vec![0x5a; 4 << 20]).unwrap();
        drop(stream);
        wait.recv().unwrap();
    });
    let Ok(thread) = told.recv() else { return };
    assert!(enter(name));
    without_ipv6();
    ip("link add wire type veth peer name host");
    ip(&format!("link set host netns {thread}"));
    ip("link set wire up");
    ip("addr add 10.9.0.2/24 dev wire");
    let mut whole = open(
        "wire",
        PacketConfig {
            rx_frames: 256,
            ..PacketConfig::default()
        },
    );
    let mut cut = open(
        "wire",
        PacketConfig {
            rx_frames: 256,
            ..small()
        },
    );
    let listener = TcpListener::bind("10.9.0.2:7000").unwrap();
    ready.send(()).unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    assert_eq!(received.len(), 4 << 20);

    let mut super_frames = 0;
    whole.recv(usize::MAX, |frame| {
        assert!(!frame.truncated && frame.data.len() == frame.wire_len);
        if frame.wire_len > 1514 {
            let gso = frame.gso.unwrap();
            assert_eq!(gso.kind, GsoKind::TcpV4);
            assert!((500..=1460).contains(&gso.segment_bytes), "{gso:?}");
            assert_eq!(frame.csum_not_ready, Some((34, 16)));
            let total = usize::from(u16::from_be_bytes([frame.data[16], frame.data[17]]));
            assert_eq!(total + 14, frame.wire_len);
            assert!(frame.data[66..].iter().all(|&byte| byte == 0x5a));
            super_frames += 1;
        }
        Next::Take
    });
    assert!(super_frames > 0, "TCP over veth makes super-frames");
    let mut truncated = 0;
    cut.recv(usize::MAX, |frame| {
        assert_eq!(frame.truncated, frame.data.len() < frame.wire_len);
        assert!(frame.data.len() >= 1900 || !frame.truncated);
        truncated += u32::from(frame.truncated);
        Next::Take
    });
    assert!(truncated > 0);
    done.send(()).unwrap();
    sender.join().unwrap();
}

#[test]
fn a_netdev_that_is_down_is_an_error_and_not_a_loss() {
    if !enter("a_netdev_that_is_down_is_an_error_and_not_a_loss") {
        return;
    }
    veth();
    let (mut a, mut b) = (open("wire", small()), open("host", small()));
    let frame = udp_frame(THERE, [10, 9, 0, 9], 5, b"later");
    assert!(a.take_error().is_none());
    ip("link set wire down");
    assert!(send(&mut a, &frame));
    assert!(a.flush().is_err());
    assert!(
        a.take_error().is_some(),
        "it says that the netdev went down"
    );
    assert!(a.take_error().is_none(), "once");
    assert!(a.is_bound(), "and will receive again when it is up");
    ip("link set wire up");
    wait_for("the frame to leave", || {
        a.flush().unwrap_or(false).then_some(())
    });
    assert_eq!(next(&mut b), Seen::plain(&frame));
    ip("link del wire");
    assert!(a.take_error().is_some());
    assert!(!a.is_bound(), "gone for good");
}

#[test]
fn what_cannot_be_opened_says_why() {
    if !enter("what_cannot_be_opened_says_why") {
        return;
    }
    let error = PacketSocket::open(4711, small()).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Packet {
                ifindex: 4711,
                step: "bind",
                ..
            }
        ),
        "{error}"
    );
    for bad in [
        PacketConfig {
            rx_frames: 0,
            ..small()
        },
        PacketConfig {
            tx_frames: u32::MAX,
            ..small()
        },
        PacketConfig {
            rx_frame_bytes: 0,
            ..small()
        },
        PacketConfig {
            tx_frame_bytes: u32::MAX,
            ..small()
        },
        PacketConfig {
            rx_frames: 1 << 16,
            rx_frame_bytes: 1 << 18,
            ..small()
        },
    ] {
        let error = PacketSocket::open(1, bad).unwrap_err();
        assert!(matches!(error, Error::PacketSlots { .. }), "{error}");
    }
}
