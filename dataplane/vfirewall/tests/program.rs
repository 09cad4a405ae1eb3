// SPDX-License-Identifier: Apache-2.0
//! The program between two memif peers of this process, over real sockets and shared memory.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(missing_docs, reason = "tests")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use sluice_memif::{Address, EndpointConfig, FrameList, Memif, Role};
use sluice_packet::arp::{self, Arp, ArpFields};
use sluice_packet::build::FrameBuilder;
use sluice_packet::{EtherType, FlowKey, InnerTag, Mac, Parsed, Vid, VlanTag, l4, parse};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);
const OWN: [Mac; 2] = [Mac([2, 0, 0x5e, 0x10, 0, 1]), Mac([2, 0, 0x5e, 0x10, 0, 2])];
const HOST: [Mac; 2] = [Mac([2, 0, 0, 0, 0, 0xa]), Mac([2, 0, 0, 0, 0, 0xb])];
const IPS: [[u8; 4]; 2] = [[10, 21, 0, 5], [10, 22, 0, 5]];

const POLICY: &str = "\
name: open
vlans: [210, 220]
default: {ingress: drop, egress: drop}
rules:
  - {name: resolve, direction: both, ethertype: arp, verdict: accept}
  - {name: no-telnet, direction: ingress, protocol: tcp, ports: [23], verdict: drop}
  - {name: ip, direction: both, ethertype: [ipv4, ipv6], verdict: accept}
";

/// Folder of a program: configuration, policies, sockets.
struct Home(TempDir);

impl Home {
    fn new() -> Home {
        let home = Home(tempfile::tempdir().unwrap());
        fs::create_dir(home.0.path().join("policies")).unwrap();
        home.write("policies/open.yaml", POLICY);
        let dir = home.0.path().display().to_string();
        home.write(
            "vfirewall.yaml",
            &format!(
                "legs:\n\
                 - {{name: inside, socket: {dir}/a.sock, mac: '02:00:5e:10:00:01', vlan: 210,\n\
                 \x20  addresses: [10.21.0.1/24, 'fd21::1/64']}}\n\
                 - name: outside\n  socket: {dir}/b.sock\n  mac: 02:00:5e:10:00:02\n\
                 \x20 vlans: [{{vlan: 220, addresses: [10.22.0.1/24, 'fd22::1/64']}}]\n\
                 policies: policies\n"
            ),
        );
        home
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.path().join(name), text).unwrap();
    }

    fn peer(&self, socket: &str, host: usize) -> Peer {
        let path = self.0.path().join(socket);
        let address: Address = path.to_str().unwrap().parse().unwrap();
        let memif = Memif::open(EndpointConfig::new(Role::Server, socket), address).unwrap();
        Peer {
            memif,
            frames: FrameList::default(),
            host,
        }
    }
}

/// The program; killed when the test is through with it.
struct Firewall {
    child: Child,
    out: Receiver<String>,
    err: Receiver<String>,
}

impl Firewall {
    fn start(home: &Home) -> Firewall {
        let mut child = Command::new(env!("CARGO_BIN_EXE_vfirewall"))
            .arg("--config")
            .arg(home.0.path().join("vfirewall.yaml"))
            .arg("--json")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let out = lines(child.stdout.take().unwrap());
        let err = lines(child.stderr.take().unwrap());
        Firewall { child, out, err }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Waits for a line of the log or a report that fits.
    fn wait_for(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let line = self.out.recv_timeout(left);
            let line = line.unwrap_or_else(|_| panic!("no {what} among {seen:#?}"));
            let value: Value = serde_json::from_str(&line).unwrap();
            if fits(&value) {
                return value;
            }
            seen.push(line);
        }
    }

    /// Waits for a line of standard error that has this in it.
    fn told(&self, word: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let line = self.err.recv_timeout(left);
            let line = line.unwrap_or_else(|_| panic!("nothing was said of {word}"));
            if line.contains(word) {
                return line;
            }
        }
    }

    fn counters(&self) -> Value {
        self.signal(Signal::SIGUSR1);
        self.wait_for("counters", |line| line["event"] == "counters")
    }

    fn end(mut self) -> Value {
        self.signal(Signal::SIGTERM);
        let report = self.wait_for("last report", |line| line["event"] == "counters");
        assert!(self.child.wait().unwrap().success());
        report
    }
}

impl Drop for Firewall {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(from: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (to, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if to.send(line).is_err() {
                break;
            }
        }
    });
    lines
}

/// Host at the other end of a leg, which answers ARP for itself.
struct Peer {
    memif: Memif,
    frames: FrameList,
    host: usize,
}

impl Peer {
    fn up(&mut self) {
        let end = Instant::now() + PATIENCE;
        while !self.memif.is_up() {
            while self.memif.change().is_some() {}
            assert!(Instant::now() < end, "the link does not come up");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn tag(&self) -> Option<VlanTag> {
        (self.host == 1).then(|| VlanTag::new(EtherType::VLAN, Vid::new(220).unwrap()))
    }

    fn send(&mut self, frame: FrameBuilder<'_>) {
        let frame = match self.tag() {
            Some(tag) => frame.tag(tag),
            None => frame,
        };
        let end = Instant::now() + PATIENCE;
        while !self.memif.send(0, &[&frame.build()]) {
            assert!(Instant::now() < end, "the ring stays full");
            std::thread::yield_now();
        }
        self.memif.flush();
    }

    /// Waits for a frame of which `found` makes something; answers requests meanwhile.
    fn wait_for<T>(&mut self, what: &str, mut found: impl FnMut(&[u8], &Parsed) -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            while self.memif.change().is_some() {}
            self.memif.recv(0, 64, &mut self.frames);
            while let Some(frame) = self.frames.pop() {
                let parsed = parse(&frame, InnerTag::Allow).unwrap();
                assert_eq!(
                    parsed.inner.map(|tag| tag.tci),
                    self.tag().map(|tag| tag.tci)
                );
                self.answer(&frame, &parsed);
                if let Some(found) = found(&frame, &parsed) {
                    return found;
                }
            }
            assert!(Instant::now() < end, "no {what}");
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    fn answer(&mut self, frame: &[u8], parsed: &Parsed) {
        let mac = HOST[self.host];
        if parsed.key.has(FlowKey::ARP) {
            let asked = Arp::new(&frame[usize::from(parsed.l3)..]).unwrap();
            if asked.operation() == arp::REQUEST && asked.target_ip().octets() == IPS[self.host] {
                let reply = ArpFields {
                    operation: arp::REPLY,
                    sender_mac: mac,
                    sender_ip: asked.target_ip(),
                    target_mac: asked.sender_mac(),
                    target_ip: asked.sender_ip(),
                };
                self.send(FrameBuilder::new(asked.sender_mac(), mac).arp(reply));
            }
        } else if parsed.key.icmp_type == 135 && parsed.key.has(FlowKey::IPV6) {
            let at = usize::from(parsed.l4) + 8;
            let target: [u8; 16] = frame[at..at + 16].try_into().unwrap();
            let mut body = [0; 24];
            body[..16].copy_from_slice(&target);
            body[16..18].copy_from_slice(&[2, 1]);
            body[18..].copy_from_slice(&mac.0);
            let advert = FrameBuilder::new(parsed.key.src_mac(), mac)
                .ipv6(target.into(), parsed.key.src.into())
                .ttl(255)
                .icmp(136, 0, [0x60, 0, 0, 0])
                .payload(&body);
            self.send(advert);
        }
    }
}

fn started(home: &Home) -> (Firewall, Peer, Peer) {
    let (mut a, mut b) = (home.peer("a.sock", 0), home.peer("b.sock", 1));
    let firewall = Firewall::start(home);
    a.up();
    b.up();
    (firewall, a, b)
}

fn v4(from: usize, to: [u8; 4]) -> FrameBuilder<'static> {
    FrameBuilder::new(OWN[from], HOST[from]).ipv4(IPS[from].into(), to.into())
}

#[test]
fn ping_goes_through_both_ways_with_ipv4_and_ipv6() {
    let home = Home::new();
    let (firewall, mut a, mut b) = started(&home);
    a.send(v4(0, IPS[1]).icmp(8, 0, [0, 1, 0, 1]).payload(b"there"));
    b.wait_for("ping", |frame, parsed| {
        let is_ping = parsed.key.icmp_type == 8 && frame.ends_with(b"there");
        is_ping.then(|| {
            assert_eq!(frame[usize::from(parsed.l3) + 8], 63, "time to live");
            assert_eq!(l4::verify_checksum(frame, parsed), Some(true));
            assert_eq!(parsed.key.dst_mac(), HOST[1]);
        })
    });
    b.send(v4(1, IPS[0]).icmp(0, 0, [0, 1, 0, 1]).payload(b"back"));
    a.wait_for("reply", |frame, parsed| {
        (parsed.key.has(FlowKey::ICMP) && frame.ends_with(b"back")).then_some(())
    });
    let six = FrameBuilder::new(OWN[0], HOST[0])
        .ipv6("fd21::5".parse().unwrap(), "fd22::5".parse().unwrap())
        .icmp(128, 0, [0, 1, 0, 1])
        .payload(b"six");
    a.send(six);
    b.wait_for("ping of IPv6", |frame, parsed| {
        let is_ping = parsed.key.icmp_type == 128;
        is_ping.then(|| assert_eq!(l4::verify_checksum(frame, parsed), Some(true)))
    });
    // The firewall itself answers too, and says when a packet's time is over or it is too big.
    a.send(v4(0, [10, 22, 0, 1]).icmp(8, 0, [7; 4]));
    a.wait_for("own reply", |_, parsed| {
        let src = parsed.key.src_ip();
        (src == Some("10.22.0.1".parse().unwrap()) && parsed.key.icmp_type == 0).then_some(())
    });
    a.send(v4(0, IPS[1]).ttl(1).udp(33000, 33434));
    a.wait_for("time exceeded", |_, parsed| {
        (parsed.key.icmp_type == 11).then_some(())
    });
    let report = firewall.end();
    assert_eq!(report["interfaces"][0]["forwarded"], 2, "{report}");
    assert_eq!(report["interfaces"][1]["name"], "outside.220");
}

#[test]
fn denied_frames_are_logged_and_sighup_takes_good_policies_alone() {
    let home = Home::new();
    let (firewall, mut a, mut b) = started(&home);
    let udp = |port| v4(0, IPS[1]).udp(4000, port).payload(b"data");
    let arrives = |b: &mut Peer, port| {
        b.wait_for("datagram", |_, parsed| {
            (parsed.key.dst_port == port).then_some(())
        });
    };
    a.send(udp(53));
    arrives(&mut b, 53);

    // A policy with a mistake changes nothing, and its line is told.
    let denied = POLICY.replace(
        "  - {name: ip",
        "  - {name: no-dns, direction: ingress, protocol: udp, ports: [53], verdict: drop}\n  - {name: ip",
    );
    home.write(
        "policies/open.yaml",
        &denied.replace("verdict: drop}", "verdict: forget}"),
    );
    firewall.signal(Signal::SIGHUP);
    let line = firewall.told("open.yaml");
    assert!(line.contains("open.yaml:6:"), "{line}");
    firewall.told("not reloaded");
    a.send(udp(53));
    arrives(&mut b, 53);

    // So does a configuration with one.
    home.write("policies/open.yaml", &denied);
    let good = fs::read_to_string(home.0.path().join("vfirewall.yaml")).unwrap();
    home.write(
        "vfirewall.yaml",
        &good.replace("10.21.0.1/24", "10.21.0.256/24"),
    );
    firewall.signal(Signal::SIGHUP);
    let line = firewall.told("vfirewall.yaml");
    assert!(
        line.contains("vfirewall.yaml:3:") && line.contains("10.21.0.256"),
        "{line}"
    );
    firewall.told("not reloaded");

    home.write("vfirewall.yaml", &good);
    firewall.signal(Signal::SIGHUP);
    firewall.told("reloaded: 2 legs");
    a.send(udp(53));
    a.send(udp(54));
    // The first was judged before the second.
    arrives(&mut b, 54);
    let line = firewall.wait_for("log line", |line| line["event"] == "denied");
    assert_eq!(line["rule"], "no-dns");
    assert_eq!(
        (&line["file"], &line["line"]),
        (&"open.yaml".into(), &7.into())
    );
    assert_eq!(
        (&line["leg"], &line["vlan"]),
        (&"inside".into(), &210.into())
    );
    assert_eq!(
        (&line["source"], &line["destination"]),
        (&"10.21.0.5".into(), &"10.22.0.5".into())
    );
    assert_eq!(
        (&line["destination_port"], &line["protocol"]),
        (&53.into(), &"udp".into())
    );
    assert_eq!(line["reason"], "denied_ingress");
    assert!(line["time"].as_str().unwrap().ends_with('Z'), "{line}");

    // Counters went on over the reload, and neighbours are still known.
    let report = firewall.counters();
    assert_eq!(report["interfaces"][0]["forwarded"], 3, "{report}");
    assert_eq!(report["interfaces"][0]["drops"]["denied_ingress"], 1);
    assert_eq!(report["legs"][1]["up"], true);
    let rules = report["rules"].as_array().unwrap();
    let dns = rules
        .iter()
        .find(|rule| rule["rule"] == "no-dns" && rule["frames"] == 1);
    assert!(dns.is_some(), "{report}");
    firewall.end();
}

#[test]
fn a_peer_that_went_away_is_met_again() {
    let home = Home::new();
    let (firewall, mut a, b) = started(&home);
    drop(b);
    firewall.wait_for("link down", |line| line["event"] == "link_down");
    a.send(v4(0, IPS[1]).udp(1, 2));
    let mut b = home.peer("b.sock", 1);
    b.up();
    // What was sent meanwhile is gone; what is sent now arrives.
    a.send(v4(0, IPS[1]).udp(1, 3));
    b.wait_for("datagram", |_, parsed| {
        (parsed.key.dst_port == 3).then_some(())
    });
    firewall.end();
}

#[test]
fn a_wrong_start_says_what_is_wrong() {
    let home = Home::new();
    home.write("policies/open.yaml", &POLICY.replace("vlans", "vlnas"));
    let run = |home: &Home| {
        Command::new(env!("CARGO_BIN_EXE_vfirewall"))
            .args(["--check", "--config"])
            .arg(home.0.path().join("vfirewall.yaml"))
            .output()
            .unwrap()
    };
    let output = run(&home);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(told.contains("policies/open.yaml:2:"), "{told}");
    home.write("policies/open.yaml", POLICY);
    let output = run(&home);
    assert!(output.status.success());
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said, "good: 2 legs, 2 interfaces, 4 routes, 1 policies\n");
}
