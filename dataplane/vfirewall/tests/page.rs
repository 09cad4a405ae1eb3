// SPDX-License-Identifier: Apache-2.0
//! The page docs/virtual-firewall.md: its commands, its files, and the packet that it ends with.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(missing_docs, reason = "tests")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use sluice_memif::{Address, EndpointConfig, FrameList, Memif, Role};
use sluice_packet::build::{FrameBuilder, TcpFields};
use sluice_packet::tcp::flag;
use sluice_packet::{FlowKey, InnerTag, Mac, parse};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);
const PROGRAM: &str = env!("CARGO_BIN_EXE_vfirewall");
const HOST: Mac = Mac([2, 0, 0, 0, 0, 0xa]);

/// Program that is killed when the test is through with it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn checkout() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.join("../..").canonicalize().unwrap()
}

fn blocks(page: &str, language: &str) -> Vec<String> {
    let fence = format!("\n```{language}\n");
    let parts = page.split(&fence).skip(1);
    parts
        .map(|part| part.split("\n```").next().unwrap().to_owned() + "\n")
        .collect()
}

fn page() -> String {
    fs::read_to_string(checkout().join("docs/virtual-firewall.md")).unwrap()
}

fn syn(to: Mac, port: u16) -> Vec<u8> {
    let syn = TcpFields {
        src_port: 40_000,
        dst_port: port,
        seq: 1,
        ack: 0,
        flags: flag::SYN,
        window: 1024,
    };
    FrameBuilder::new(to, HOST)
        .ipv4([10, 21, 0, 5].into(), [10, 22, 0, 5].into())
        .tcp(syn)
        .padded()
        .build()
}

/// Engine's end of a leg.
fn engine_end(socket: &Path) -> Memif {
    let address: Address = socket.to_str().unwrap().parse().unwrap();
    Memif::open(EndpointConfig::new(Role::Server, "engine"), address).unwrap()
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn commands_of_the_virtual_firewall_page_work() {
    let programs = Path::new(PROGRAM).parent().unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let script = format!("set -ex\n{}", blocks(&page(), "sh").concat());
    assert!(script.contains("vfirewall --check"), "{script}");
    let output = Command::new("sh")
        .args(["-c", &script])
        .env("PATH", path)
        .current_dir(checkout())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(
        said, "good: 2 legs, 2 interfaces, 5 routes, 2 policies\n",
        "{told}"
    );
}

#[test]
fn the_packet_that_the_page_ends_with_is_denied_with_its_line() {
    let work = TempDir::with_prefix("sluice-vfirewall-").unwrap();
    let [mut net1, mut net2] = ["net1", "net2"].map(|name| engine_end(&work.path().join(name)));
    let sample = checkout().join("deploy/vfirewall");
    // In a pod the sockets are abstract; here they would be the whole machine's.
    let text = fs::read_to_string(sample.join("vfirewall.yaml")).unwrap();
    let text = text
        .replace("@sluicegate", work.path().to_str().unwrap())
        .replace(
            "policies: policies",
            &format!("policies: {}", sample.join("policies").display()),
        );
    let config = work.path().join("vfirewall.yaml");
    fs::write(&config, text).unwrap();
    let child = Command::new(PROGRAM)
        .arg("--config")
        .arg(&config)
        .arg("--json")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut running = Running(child);
    let out = running.0.stdout.take().unwrap();
    wait_until("the links come up", || {
        for memif in [&mut net1, &mut net2] {
            while memif.change().is_some() {}
        }
        net1.is_up() && net2.is_up()
    });
    // What is allowed comes out of the other side as a question for its next hop.
    let own = Mac([2, 0, 0x5e, 0x10, 0, 1]);
    for port in [23, 443] {
        assert!(net1.send(0, &[&syn(own, port)]));
    }
    net1.flush();
    let mut frames = FrameList::default();
    let mut asked = false;
    wait_until("a request for 10.22.0.5", || {
        net2.recv(0, 64, &mut frames);
        while let Some(frame) = frames.pop() {
            let key = parse(&frame, InnerTag::Refuse).unwrap().key;
            asked |= key.has(FlowKey::ARP) && key.dst_ip() == Some([10, 22, 0, 5].into());
        }
        asked
    });
    let lines = BufReader::new(out).lines().map_while(Result::ok);
    let mut lines = lines.map(|line| serde_json::from_str::<Value>(&line).unwrap());
    let mut line = lines.find(|line| line["event"] == "denied").unwrap();
    let written = &blocks(&page(), "json")[0];
    let mut written: Value = serde_json::from_str(written).unwrap();
    for line in [&mut line, &mut written] {
        let time = line.as_object_mut().unwrap().remove("time").unwrap();
        let time = time.as_str().unwrap();
        assert!(
            time.len() == "2026-11-30T15:04:05.123Z".len() && time.ends_with('Z'),
            "{time}"
        );
    }
    assert_eq!(line, written);
}

#[test]
fn the_configuration_on_the_page_is_good() {
    let work = TempDir::with_prefix("sluice-vfirewall-").unwrap();
    let config = work.path().join("vfirewall.yaml");
    fs::write(&config, &blocks(&page(), "yaml")[0]).unwrap();
    fs::create_dir(work.path().join("policies")).unwrap();
    let guests = "name: guests\ndefault: {ingress: drop, egress: drop}\n";
    fs::write(work.path().join("policies/guests.yaml"), guests).unwrap();
    let output = Command::new(PROGRAM)
        .args(["--check", "--config"])
        .arg(&config)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    // VLANs 210 and 220 have no policy in that folder, which is said.
    assert!(told.contains("no policy is for VLAN 210"), "{told}");
}
