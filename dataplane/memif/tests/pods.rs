// SPDX-License-Identifier: Apache-2.0
//! The example programs, run as a pod runs them, with the other end in this process.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::cast_possible_truncation, reason = "patterns wrap on purpose")]
#![allow(missing_docs, reason = "tests")]

#[path = "../examples/vnf/device.rs"]
mod device;
mod link;

use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use device::MemifDevice;
use link::{PATIENCE, address, carry, open, up};
use rustix::process::{Pid, Signal, kill_process};
use sluice_memif::{Address, FrameList, Memif, Role};
use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::socket::{tcp, udp};
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr};

const POD: &str = "ip=10.21.0.5/24,ip=fd21::5/64,mac=02:00:00:00:00:05";

/// A running example; killed when the test is through with it.
struct Pod(Child);

impl Pod {
    fn start(name: &str, args: &[String]) -> Pod {
        // target/<profile>/deps/<test> and target/<profile>/examples/<name>
        let test = std::env::current_exe().unwrap();
        let program: PathBuf = test.ancestors().nth(2).unwrap().join("examples").join(name);
        let child = Command::new(program)
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Pod(child)
    }

    /// Ends the process and returns its output.
    fn end(mut self) -> String {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
        let mut printed = String::new();
        self.0
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut printed)
            .unwrap();
        let status = self.0.wait().unwrap();
        assert!(status.success(), "{status}: {printed}");
        printed
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A host at the other end of a memif.
struct Host {
    device: MemifDevice,
    interface: Interface,
    start: Instant,
}

impl Host {
    fn new(memif: Memif) -> Host {
        let mut device = MemifDevice::new(memif, 1500);
        let mac = EthernetAddress([2, 0, 0, 0, 0, 1]);
        let config = Config::new(mac.into());
        let mut interface =
            Interface::new(config, &mut device, smoltcp::time::Instant::from_micros(0));
        interface.update_ip_addrs(|list| {
            list.push(IpCidr::new(IpAddress::v4(10, 21, 0, 1), 24))
                .unwrap();
            list.push(IpCidr::new("fd21::1".parse().unwrap(), 64))
                .unwrap();
        });
        Host {
            device,
            interface,
            start: Instant::now(),
        }
    }

    fn until(
        &mut self,
        sockets: &mut SocketSet<'_>,
        mut done: impl FnMut(&mut SocketSet<'_>, &mut Interface) -> bool,
    ) {
        let begin = Instant::now();
        while !done(sockets, &mut self.interface) {
            assert!(begin.elapsed() < PATIENCE, "the pod does not answer");
            let now = self.start.elapsed().as_micros() as i64;
            let now = smoltcp::time::Instant::from_micros(now);
            if !self.device.fill() {
                std::thread::yield_now();
            }
            self.interface.poll(now, &mut self.device, sockets);
            self.device.memif.flush();
        }
    }
}

fn udp_echo(host: &mut Host, to: IpAddress) {
    let mut sockets = SocketSet::new(vec![]);
    let buffer = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 64], vec![0; 65_536]);
    let mut socket = udp::Socket::new(buffer(), buffer());
    socket.bind(4000).unwrap();
    let handle = sockets.add(socket);
    let mut sent = 0_u32;
    let mut back = 0_u32;
    host.until(&mut sockets, |sockets, _| {
        let socket = sockets.get_mut::<udp::Socket<'_>>(handle);
        while let Ok((data, from)) = socket.recv() {
            assert_eq!(from.endpoint, (to, 7).into());
            assert_eq!(data[..4], back.to_be_bytes());
            assert_eq!(data.len(), 100);
            back += 1;
        }
        if sent == back && sent < 200 {
            let mut data = [0; 100];
            data[..4].copy_from_slice(&sent.to_be_bytes());
            socket.send_slice(&data, (to, 7)).unwrap();
            sent += 1;
        }
        back == 200
    });
}

fn tcp_echo(host: &mut Host, to: IpAddress, port: u16) {
    const BYTES: usize = 300_000;
    let pattern = |at: usize| (at * 7 + at / 251) as u8;
    let mut sockets = SocketSet::new(vec![]);
    let buffer = || tcp::SocketBuffer::new(vec![0; 16_384]);
    let handle = sockets.add(tcp::Socket::new(buffer(), buffer()));
    let (mut sent, mut back) = (0, 0);
    host.until(&mut sockets, |sockets, interface| {
        let socket = sockets.get_mut::<tcp::Socket<'_>>(handle);
        if sent == 0 && !socket.is_open() {
            socket.connect(interface.context(), (to, 7), port).unwrap();
        }
        while socket.can_send() && sent < BYTES {
            let part: Vec<u8> = (sent..BYTES.min(sent + 1000)).map(pattern).collect();
            sent += socket.send_slice(&part).unwrap();
        }
        while socket.can_recv() {
            let got = socket.recv(|data| (data.len(), data.to_vec())).unwrap();
            assert!(
                got.iter()
                    .enumerate()
                    .all(|(at, byte)| *byte == pattern(back + at))
            );
            back += got.len();
        }
        if back == BYTES && socket.may_send() {
            socket.close();
        }
        // Both sides closed: the pod does after us.
        back == BYTES && matches!(socket.state(), tcp::State::TimeWait | tcp::State::Closed)
    });
}

#[test]
fn the_vnf_answers_ping_udp_and_tcp() {
    let address = address();
    let server = open(Role::Server, &address, |_| {});
    let vnf = Pod::start(
        "vnf",
        &["--memif".into(), format!("socket={address},{POD}")],
    );
    let mut host = Host::new(server);
    up(&mut host.device.memif);
    // ARP and neighbour discovery come first by themselves.
    let v4 = IpAddress::v4(10, 21, 0, 5);
    let v6: IpAddress = "fd21::5".parse().unwrap();
    udp_echo(&mut host, v4);
    udp_echo(&mut host, v6);
    // More connections one after the other than it has places.
    for port in 5000..5020 {
        tcp_echo(&mut host, v4, port);
    }
    ping(&mut host);
    let printed = vnf.end();
    assert!(printed.contains("link up"), "{printed}");
    assert!(
        printed.contains("400 datagrams and 6000000 TCP bytes echoed"),
        "{printed}"
    );
}

/// Sends one ICMP echo request by hand; both sides know the other's MAC address by now.
fn ping(host: &mut Host) {
    let mut icmp = vec![8, 0, 0, 0, 0x12, 0x34, 0, 1];
    icmp.extend_from_slice(b"are you there?");
    let sum = checksum(&icmp);
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut ip = vec![0x45, 0, 0, (20 + icmp.len()) as u8, 0, 0, 0, 0, 64, 1, 0, 0];
    ip.extend_from_slice(&[10, 21, 0, 1, 10, 21, 0, 5]);
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let eth = [2, 0, 0, 0, 0, 5, 2, 0, 0, 0, 0, 1, 8, 0];
    assert!(host.device.memif.send(0, &[&eth, &ip, &icmp]));
    host.device.memif.flush();
    let mut frames = FrameList::default();
    let start = Instant::now();
    loop {
        assert!(start.elapsed() < PATIENCE, "no answer to ping");
        host.device.memif.recv(0, 64, &mut frames);
        let Some(frame) = frames.pop() else {
            continue;
        };
        // An echo reply, with what was asked.
        if frame.get(23) == Some(&1) && frame.get(34) == Some(&0) {
            assert_eq!(frame[38..56], icmp[4..]);
            return;
        }
    }
}

fn checksum(bytes: &[u8]) -> u16 {
    let sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
        .sum();
    !((sum & 0xffff) + (sum >> 16)) as u16
}

#[test]
fn the_vnf_comes_back_when_its_server_does() {
    let address = address();
    let vnf = Pod::start(
        "vnf",
        &[
            "--memif".into(),
            format!("socket={address},{POD},name=net9"),
            "--wait=poll".into(),
        ],
    );
    for _ in 0..3 {
        let server = open(Role::Server, &address, |_| {});
        let mut host = Host::new(server);
        up(&mut host.device.memif);
        udp_echo(&mut host, IpAddress::v4(10, 21, 0, 5));
    }
    let printed = vnf.end();
    assert_eq!(printed.matches("net9: link up").count(), 3, "{printed}");
    // The last may have come together with the signal.
    assert!(printed.matches("net9: link down").count() >= 2, "{printed}");
}

fn forwarder(a: &Address, b: &Address, more: &str) -> Pod {
    let leg = |address| format!("socket={address},queues=2");
    let mut args: Vec<String> = ["--memif", &leg(a), "--memif", &leg(b), "--json"]
        .map(str::to_owned)
        .to_vec();
    args.extend(more.split_whitespace().map(str::to_owned));
    Pod::start("forward", &args)
}

#[test]
fn the_forwarder_passes_all_and_counts_them() {
    for more in ["", "--wait poll"] {
        let (a, b) = (address(), address());
        let mut first = open(Role::Server, &a, |c| c.queue_pairs = 2);
        let mut second = open(Role::Server, &b, |c| {
            c.queue_pairs = 2;
            c.log2_ring_size = 4;
        });
        let pod = forwarder(&a, &b, more);
        up(&mut first);
        up(&mut second);
        for queue in 0..2 {
            // The second ring is much smaller than the first: it holds back, nothing is lost.
            carry(&mut first, &mut second, queue, 5000, 64);
            carry(&mut second, &mut first, queue, 1000, 4000);
        }
        let printed = pod.end();
        let json = printed.lines().last().unwrap();
        let counted: serde_json::Value = serde_json::from_str(json).unwrap();
        let of = |leg: usize, what: &str| counted["legs"][leg][what].as_u64().unwrap();
        assert_eq!((of(0, "rx_packets"), of(1, "tx_packets")), (10_000, 10_000));
        assert_eq!((of(1, "rx_packets"), of(0, "tx_packets")), (2_000, 2_000));
        assert_eq!((of(0, "rx_bytes"), of(1, "rx_bytes")), (640_000, 8_000_000));
        assert_eq!((of(0, "dropped"), of(1, "dropped")), (0, 0));
    }
}

#[test]
fn wrong_arguments_are_explained() {
    let explain = |args: &[&str]| {
        let test = std::env::current_exe().unwrap();
        let program = test.ancestors().nth(2).unwrap().join("examples/vnf");
        let output = Command::new(program).args(args).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let one = |memif: &str| explain(&["--memif", memif]);
    assert!(one("role=client").contains("socket= is missing"));
    assert!(one("socket=@x,role=slave").contains("client or server"));
    assert!(one("socket=@x").contains("mac= is missing"));
    assert!(one("socket=@x,mac=02:00:00:00:00:01").contains("ip= is missing"));
    assert!(one("socket=@x,mac=03:00:00:00:00:01,ip=10.0.0.1/24").contains("multicast"));
    assert!(one("socket=@x,colour=red").contains("colour=red: no such key"));
    assert!(one("socket=@x,ring-size=1000").contains("power of two"));
    assert!(explain(&[]).contains("--memif"));
}
