// SPDX-License-Identifier: Apache-2.0
//! Whole path with a DPDK pod: the CNI plugin attaches it, DPDK's testpmd opens its memif from inside the pod,
//! and the frames it gets and those read at the wire are the ones that the VLAN's policy allows.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use sluice_api::LinkState;
use sluice_api::client::Client;
use sluice_packet::build::FrameBuilder;
use sluice_packet::{InnerTag, Mac, parse};
use sluice_tests::{Netns, Process, Wire, bin, program_or_skip, root_or_skip, wait_for};
use tempfile::TempDir;

const HOST: Mac = Mac([2, 0, 0, 0, 0xff, 1]);
/// Limit for anything on a busy machine: only what is broken takes longer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Time in which a frame that must not come would have come.
const QUIET: Duration = Duration::from_millis(500);

const POLICY: &str = "
name: testpmd
vlans: [210]
default: {ingress: drop, egress: drop}
rules:
  - {name: in, direction: ingress, protocol: udp, ports: [1000-1999], verdict: accept}
  - {name: out-not, direction: egress, protocol: udp, ports: [1500-1599], verdict: drop}
  - {name: out, direction: egress, protocol: udp, verdict: accept}
";

/// Node with an engine, a wire and a pod.
struct Rig {
    node: Netns,
    pod: Netns,
    wire: Wire,
    _wire_netns: Netns,
    dir: TempDir,
    _engine: Process,
}

impl Rig {
    fn new() -> Rig {
        let [node, pod, wire_netns] = ["node", "pod", "wire"].map(|role| Netns::new(role).unwrap());
        wire_netns.veth("wire0", &node, "up0").unwrap();
        let dir = TempDir::with_prefix("sluice-path-").unwrap();
        let policies = dir.path().join("policies");
        fs::create_dir(&policies).unwrap();
        fs::write(policies.join("testpmd.yaml"), POLICY).unwrap();
        let config = format!(
            "uplinks: [{{name: wire0, device: up0}}]\n\
             workers: {{count: 1, pin: false}}\n\
             memory: {{small_mbufs: 8192, large_mbufs: 256, huge_pages: off}}\n\
             policies: {0}/policies\nstate_dir: {0}/state\nrun_dir: {0}/run\n",
            dir.path().display()
        );
        fs::write(dir.path().join("sluiced.yaml"), config).unwrap();
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let mut command = node.command(bin("sluiced"));
        command.arg("--config").arg(dir.path().join("sluiced.yaml"));
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let engine = Process::start(&mut command).unwrap();
        let wire = Wire::open(&wire_netns, "wire0").unwrap();
        let rig = Rig {
            node,
            pod,
            wire,
            _wire_netns: wire_netns,
            dir,
            _engine: engine,
        };
        let ready = wait_for("the engine", PATIENCE, || {
            rig.client().health().ok().filter(|health| health.ready)
        });
        assert!(ready.is_ok(), "{}", rig.log());
        rig
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    fn client(&self) -> Client {
        Client::new(self.dir.path().join("run/control/sluiced.sock"))
    }

    /// Executes the interface plugin as a runtime does.
    fn cni(&self, command: &str, memif: &Value) -> Value {
        let path = self.dir.path();
        let conf = json!({
            "cniVersion": "1.0.0", "name": "vlan210", "type": "sluicegate-vf", "mode": "engine",
            "uplink": "wire0", "vlan": 210, "memif": memif, "cniDir": path.join("cni"),
            "stateDir": path.join("state"), "daemonSocket": path.join("run/control/sluiced.sock"),
        });
        let plugin = bin("sluicegate-vf");
        let netns = self.pod.path();
        let mut child = {
            let mut process = self.node.command(plugin);
            process
                .env_clear()
                .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
            process
                .env("CNI_COMMAND", command)
                .env("CNI_CONTAINERID", "testpmd-pod");
            process
                .env("CNI_NETNS", netns)
                .env("CNI_IFNAME", "net1")
                .env("CNI_PATH", path);
            process.stdin(Stdio::piped()).stdout(Stdio::piped());
            process.spawn().unwrap()
        };
        child
            .stdin
            .take()
            .unwrap()
            .write_all(conf.to_string().as_bytes())
            .unwrap();
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{command}: {text}\n{}", self.log());
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    /// Starts testpmd in the pod, which sends every frame back with its MAC addresses swapped.
    fn testpmd(&self, role: &str) -> Process {
        let mut command: Command = self.pod.command("dpdk-testpmd");
        let vdev =
            format!("--vdev=net_memif0,role={role},socket=sluicegate/net1,socket-abstract=yes");
        command
            .args([
                "--no-pci",
                "--no-huge",
                "--no-shconf",
                "--no-telemetry",
                "-m",
                "192",
            ])
            .args([
                "--lcores",
                "0@(0-1),1@(0-1)",
                "--file-prefix",
                self.pod.name(),
            ])
            .arg(vdev)
            .args([
                "--",
                "--forward-mode=macswap",
                "--total-num-mbufs=8192",
                "--auto-start",
            ])
            .args(["--no-lsc-interrupt", "--no-flush-rx", "--stats-period=3600"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = Process::start(&mut command).unwrap();
        let up = wait_for("testpmd to open its memif", PATIENCE, || {
            let attachment = self.client().attachment("testpmd-pod", "net1").ok()?;
            (attachment.link == LinkState::Up).then_some(())
        });
        assert!(up.is_ok(), "{}", self.log());
        process
    }

    /// Waits until a frame comes back: testpmd's link is up before it forwards, and as a client it
    /// posts its first buffers only when it polls.
    fn wait_for_echo(&mut self, pod: Mac) {
        let probe = FrameBuilder::new(pod, HOST)
            .ipv4([10, 0, 0, 1].into(), [10, 0, 0, 2].into())
            .udp(7, 1999)
            .build();
        let back = |vid: u16, frame: &[u8]| vid == 210 && frame.get(..6) == Some(&HOST.0);
        wait_for("testpmd to forward", PATIENCE, || {
            self.wire.send(210, std::slice::from_ref(&probe)).ok()?;
            (!self
                .wire
                .receive(1, Duration::from_millis(100), back)
                .is_empty())
            .then_some(())
        })
        .unwrap();
        // Probes that were on their way.
        self.wire.receive(usize::MAX, QUIET, back);
    }

    fn rule(&self, direction: &str, name: &str) -> u64 {
        let rules = self.client().counters().unwrap().rules;
        let of = |rule: &&sluice_api::RuleCounter| rule.rule == name && rule.direction == direction;
        rules.iter().find(of).unwrap().frames
    }

    /// Sends numbered frames to a port and reads which come back.
    fn echoes(&mut self, vid: u16, pod: Mac, port: u16, numbers: std::ops::Range<u32>) -> Vec<u32> {
        let wanted = numbers.len();
        let frames: Vec<_> = numbers
            .map(|number| {
                FrameBuilder::new(pod, HOST)
                    .ipv4([10, 0, 0, 1].into(), [10, 0, 0, 2].into())
                    .udp(7, port)
                    .payload(&[&number.to_be_bytes()[..], &[0x5a; 100]].concat())
                    .build()
            })
            .collect();
        let mut back = Vec::new();
        for some in frames.chunks(32) {
            self.wire.send(vid, some).unwrap();
            let limit = if vid == 210 && (1000..1500).contains(&port) {
                PATIENCE
            } else {
                QUIET
            };
            let got = self.wire.receive(some.len(), limit, |vid, frame| {
                vid == 210 && frame.get(..6) == Some(&HOST.0)
            });
            back.extend(got);
        }
        assert!(back.len() <= wanted, "more came back than was sent");
        back.iter()
            .map(|(_, frame)| {
                let parsed = parse(frame, InnerTag::Refuse).unwrap();
                assert_eq!((parsed.key.src_mac(), parsed.key.dst_port), (pod, port));
                let payload = &frame[usize::from(parsed.l4) + 8..];
                assert_eq!(&payload[4..], &[0x5a; 100], "a frame is not intact");
                u32::from_be_bytes(payload[..4].try_into().unwrap())
            })
            .collect()
    }
}

fn a_pod_with_testpmd(name: &str, engine_role: &str, pod_role: &str) {
    if !root_or_skip(name) || !program_or_skip(name, "dpdk-testpmd") {
        return;
    }
    let mut rig = Rig::new();
    let memif = json!({"role": engine_role});
    let result = rig.cni("ADD", &memif);
    let pod: Mac = result["interfaces"][0]["mac"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    for round in 1..=2 {
        let mut testpmd = rig.testpmd(pod_role);
        rig.wait_for_echo(pod);
        let before = (
            rig.rule("ingress", "default"),
            rig.rule("egress", "out-not"),
        );
        let allowed: Vec<u32> = (0..500).collect();
        assert_eq!(
            rig.echoes(210, pod, 1001, 0..500),
            allowed,
            "round {round}: allowed both ways"
        );
        assert!(
            rig.echoes(210, pod, 2000, 0..32).is_empty(),
            "denied towards the pod"
        );
        assert!(
            rig.echoes(210, pod, 1500, 0..32).is_empty(),
            "denied from the pod"
        );
        assert!(rig.echoes(220, pod, 1001, 0..32).is_empty(), "another VLAN");
        let after = (
            rig.rule("ingress", "default"),
            rig.rule("egress", "out-not"),
        );
        assert_eq!(
            (after.0 - before.0, after.1 - before.1),
            (32, 32),
            "counted where denied"
        );
        // As a crash would; the next round's testpmd finds the attachment as it was.
        testpmd.kill();
        wait_for("the link to go down", PATIENCE, || {
            let attachment = rig.client().attachment("testpmd-pod", "net1").ok()?;
            (attachment.link == LinkState::Down).then_some(())
        })
        .unwrap();
    }
    rig.cni("DEL", &memif);
    assert!(rig.client().attachments().unwrap().is_empty());
}

#[test]
fn testpmd_as_memif_client_behind_the_firewall_of_its_vlan() {
    let name = "testpmd_as_memif_client_behind_the_firewall_of_its_vlan";
    a_pod_with_testpmd(name, "server", "client");
}

#[test]
fn testpmd_as_memif_server_behind_the_firewall_of_its_vlan() {
    let name = "testpmd_as_memif_server_behind_the_firewall_of_its_vlan";
    a_pod_with_testpmd(name, "client", "server");
}
