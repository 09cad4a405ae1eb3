// SPDX-License-Identifier: Apache-2.0
//! Engine on a failing host: killed under traffic, without file descriptors, without memory, without disk, and
//! after a jump of the clock. Existing attachments are not affected.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod engine_rig;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine_rig::pod::{Place, PodMemif};
use engine_rig::{Node, PATIENCE, pod, text};
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use serde_json::json;
use sluice_memif::Role;
use sluice_packet::Mac;
use sluice_packet::build::FrameBuilder;
use sluice_tests::{Netns, bin, program_or_skip, root_or_skip, run, wait_for};

/// Offset of a frame's sequence number: behind Ethernet, IPv4 and UDP.
const NUMBER_AT: usize = 42;

/// Pair of pods that listen for the engine, with numbered frames from one to the other.
struct Pair {
    from: Arc<Netns>,
    to: Arc<Netns>,
    sender: PodMemif,
    receiver: PodMemif,
    macs: [Mac; 2],
    sent: u64,
    last: u64,
}

impl Pair {
    /// Attaches both pods to a running engine, which is the client of both.
    fn new(node: &Node) -> Pair {
        let (from, to) = (pod(), pod());
        let client = json!({"backend": {"type": "memif", "role": "client"}});
        let macs = [&from, &to].map(|pod| mac(&node.attach(pod, "net1", client.clone()).mac));
        let listen = |pod: &Arc<Netns>| {
            let place = Place::Abstract("sluicegate/net1".to_owned());
            PodMemif::open(pod, Role::Server, place)
        };
        let mut pair = Pair {
            sender: listen(&from),
            receiver: listen(&to),
            from,
            to,
            macs,
            sent: 0,
            last: 0,
        };
        pair.wait_for_frames();
        pair
    }

    /// Sends a few frames and checks that those that come are in order and none comes twice. Returns their number.
    fn exchange(&mut self) -> usize {
        let [from, to] = self.macs;
        for _ in 0..8 {
            self.sent += 1;
            let frame = FrameBuilder::new(to, from)
                .ipv4([10, 0, 0, 1].into(), [10, 0, 0, 2].into())
                .udp(1000, 1500)
                .payload(&self.sent.to_le_bytes())
                .build();
            self.sender.try_send(&frame);
        }
        self.receiver.look();
        let got = self.receiver.receive(8, Duration::from_millis(5));
        for frame in &got {
            let number = frame[NUMBER_AT..NUMBER_AT + 8].try_into().unwrap();
            let number = u64::from_le_bytes(number);
            assert!(
                number > self.last && number <= self.sent,
                "frame {number} after {}",
                self.last
            );
            self.last = number;
        }
        got.len()
    }

    fn wait_for_frames(&mut self) {
        wait_for("frames between the pods", PATIENCE, || {
            (self.exchange() > 0).then_some(())
        })
        .unwrap();
    }

    /// Checks that every frame of some thousand comes.
    fn lose_none(&mut self) {
        self.settle();
        let start = self.last;
        for _ in 0..200 {
            self.exchange();
        }
        self.settle();
        assert_eq!(self.last, self.sent, "since {start}");
    }

    /// Receives the frames that are still under way.
    fn settle(&mut self) {
        let limit = Instant::now() + PATIENCE;
        while self.last < self.sent && Instant::now() < limit {
            let sent = self.sent;
            for frame in self.receiver.receive(1, Duration::from_millis(20)) {
                let number = frame[NUMBER_AT..NUMBER_AT + 8].try_into().unwrap();
                self.last = u64::from_le_bytes(number);
            }
            if self.last < sent {
                // What a dead engine had taken is lost: one more tells.
                self.exchange();
            }
        }
    }
}

fn mac(text: &str) -> Mac {
    text.parse().unwrap()
}

/// Lists the attachments recorded on disk.
fn recorded(node: &Node) -> BTreeSet<String> {
    node.files("state/attachments").into_iter().collect()
}

/// Lists the attachments that the engine serves, by the names of their records.
fn served(node: &Node) -> BTreeSet<String> {
    let attachments = node.client().attachments().unwrap();
    let name = |one: sluice_api::AttachmentStatus| {
        format!("{}-{}.json", one.request.container_id, one.request.ifname)
    };
    attachments.into_iter().map(name).collect()
}

#[test]
fn a_killed_engine_serves_its_pods_again_within_a_second() {
    if !root_or_skip("a_killed_engine_serves_its_pods_again_within_a_second") {
        return;
    }
    let node = Node::new();
    let mut engine = node.start();
    let mut pair = Pair::new(&node);
    let bystander = pod();
    node.attach(&bystander, "net7", json!({}));
    let before = recorded(&node);
    assert_eq!(before.len(), 3);
    let mut took = Vec::new();
    for _ in 0..3 {
        pair.exchange();
        engine.kill();
        for _ in 0..3 {
            pair.exchange();
        }
        let start = Instant::now();
        engine = node.start();
        pair.wait_for_frames();
        took.push(start.elapsed());
        assert_eq!(recorded(&node), before);
        assert_eq!(served(&node), before);
        let macs = [&pair.from, &pair.to].map(|pod| mac(&node.attachment(pod, "net1").mac));
        assert_eq!(macs, pair.macs);
        pair.lose_none();
    }
    // The best of three: one may have met a busy machine.
    let best = took.iter().min().unwrap();
    assert!(*best < Duration::from_secs(1), "{took:?}");
}

#[test]
fn after_a_restart_nothing_flows_before_there_are_policies() {
    if !root_or_skip("after_a_restart_nothing_flows_before_there_are_policies") {
        return;
    }
    let node = Node::new();
    let mut engine = node.start();
    let mut pair = Pair::new(&node);
    engine.kill();
    let policy = node.path("policies/voice.yaml");
    let text_of_it = fs::read_to_string(&policy).unwrap();

    // Policies that cannot be read: there is no engine, and so no frame.
    fs::write(
        &policy,
        "name: voice\nvlans: [210]\ndefault: {ingress: maybe}\n",
    )
    .unwrap();
    let output = node.sluiced(&[]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert_eq!(pair.exchange(), 0);

    // No policy for the VLAN: the pods are served, and nothing passes.
    fs::remove_file(&policy).unwrap();
    let engine = node.start();
    let refused = wait_for("frames that are refused", PATIENCE, || {
        assert_eq!(pair.exchange(), 0);
        let drops = node.attachment(&pair.from, "net1").counters.egress_drops;
        drops.get("no_policy").copied().filter(|&count| count > 0)
    });
    assert!(refused.is_ok(), "{}", node.log());

    fs::write(&policy, text_of_it).unwrap();
    engine.signal(Signal::HUP).unwrap();
    pair.wait_for_frames();
    pair.lose_none();
}

#[test]
fn without_file_descriptors_attaching_fails_and_nothing_else() {
    let name = "without_file_descriptors_attaching_fails_and_nothing_else";
    if !root_or_skip(name) {
        return;
    }
    let node = Node::new();
    let engine = node.start();
    let mut pair = Pair::new(&node);
    let pid = Pid::from_raw(engine.pid().try_into().unwrap());
    let open = fs::read_dir(format!("/proc/{}/fd", engine.pid()))
        .unwrap()
        .count();
    let limit = prlimit(pid, Resource::Nofile, limited(open as u64 + 12)).unwrap();

    // One after the other, until there are none left.
    let mut pods = Vec::new();
    let refused = loop {
        let late = pod();
        let before = recorded(&node);
        let request = node.request(&late, "net1", json!({}));
        if let Err(refused) = node.client().attach(&request) {
            assert_eq!(recorded(&node), before, "nothing is recorded of it");
            assert_eq!(served(&node), before);
            pods.push((late, request));
            break refused.to_string();
        }
        pods.push((late, request));
        assert!(pods.len() < 12, "there are enough for all");
    };
    assert!(refused.contains("open files"), "{refused}");
    pair.lose_none();

    prlimit(pid, Resource::Nofile, limit).unwrap();
    let (late, request) = pods.last().unwrap();
    node.client().attach(request).unwrap();
    let mut memif = PodMemif::client(late, "net1");
    memif.wait_up();
    pair.lose_none();
}

fn limited(most: u64) -> Rlimit {
    Rlimit {
        current: Some(most),
        maximum: rustix::process::getrlimit(Resource::Nofile).maximum,
    }
}

/// Small file system mounted over a folder.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(at: &Path) -> SmallDisk {
        fs::create_dir_all(at).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=256k,mode=700", "sluice-test"]);
        run(mount.arg(at)).unwrap();
        SmallDisk(at.to_owned())
    }

    /// Fills the file system up, and returns the file that does.
    fn fill(&self) -> PathBuf {
        let file = self.0.join("filler");
        let mut size = 1 << 20;
        // The last pages are only had in small pieces.
        let mut all = Vec::new();
        while size > 0 {
            all.resize(all.len() + size, 7);
            if fs::write(&file, &all).is_err() {
                all.truncate(all.len() - size);
                size /= 2;
            }
        }
        let _ = fs::write(&file, vec![7; all.len() + 4096]);
        file
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = run(Command::new("umount").arg("-l").arg(&self.0));
    }
}

#[test]
fn on_a_full_disk_attaching_fails_and_nothing_else() {
    let name = "on_a_full_disk_attaching_fails_and_nothing_else";
    if !root_or_skip(name) || !program_or_skip(name, "mount") {
        return;
    }
    let node = Node::new();
    let disk = SmallDisk::new(&node.path("state"));
    let mut engine = node.start();
    let mut pair = Pair::new(&node);
    let before = recorded(&node);
    let filler = disk.fill();

    let late = pod();
    let request = node.request(&late, "net1", json!({}));
    let refused = node.client().attach(&request).unwrap_err().to_string();
    assert!(refused.contains("No space left"), "{refused}");
    assert_eq!(recorded(&node), before, "nothing is left of it");
    assert_eq!(served(&node), before);
    pair.lose_none();
    // A pod can go, and its record with it; and the engine can end and begin again.
    let gone = pair.from.name().to_owned();
    assert!(node.client().detach(&gone, "net1").unwrap().existed);
    assert_eq!(recorded(&node).len(), 1);
    assert_eq!(
        engine.terminate(PATIENCE).unwrap(),
        Some(0),
        "{}",
        node.log()
    );

    fs::remove_file(filler).unwrap();
    let _engine = node.start();
    assert_eq!(served(&node), recorded(&node));
    node.client().attach(&request).unwrap();
    let mut memif = PodMemif::client(&late, "net1");
    memif.wait_up();
}

#[test]
fn without_memory_the_engine_does_not_start_and_leaves_nothing() {
    let name = "without_memory_the_engine_does_not_start_and_leaves_nothing";
    if !root_or_skip(name) || !program_or_skip(name, "prlimit") {
        return;
    }
    let node = Node::new();
    let before = node.uplink_state();
    // Its mempools alone are larger than what it may map.
    let config = fs::read_to_string(node.path("sluiced.yaml")).unwrap();
    let config = config.replace("small_mbufs: 4096", "small_mbufs: 1000000");
    fs::write(node.path("sluiced.yaml"), config).unwrap();
    let mut command = Command::new("prlimit");
    command.args(["--as=1073741824", "--"]).arg(bin("sluiced"));
    command.arg("--config").arg(node.path("sluiced.yaml"));
    let output = node.netns.enter(move || Ok(command.output()?)).unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("memory"), "{}", text(&output));
    assert_eq!(node.uplink_state(), before);
    assert!(!node.path("run").exists() && node.files("state").is_empty());
}

#[test]
fn without_huge_pages_ordinary_ones_do_and_the_engine_says_so() {
    if !root_or_skip("without_huge_pages_ordinary_ones_do_and_the_engine_says_so") {
        return;
    }
    let node = Node::new();
    let config = fs::read_to_string(node.path("sluiced.yaml")).unwrap();
    // More than any test machine has set aside.
    let config = config
        .replace("huge_pages: off", "huge_pages: auto")
        .replace("small_mbufs: 4096", "small_mbufs: 16384");
    fs::write(node.path("sluiced.yaml"), config).unwrap();
    let free = fs::read_to_string("/proc/meminfo").unwrap();
    let free = free
        .lines()
        .find_map(|line| line.strip_prefix("HugePages_Free:"));
    let free: u64 = free.map_or(0, |count| count.trim().parse().unwrap());
    let _engine = node.start();
    let mut pair = Pair::new(&node);
    pair.lose_none();
    let backing = node.client().status().unwrap().memory.backing;
    if free < 16 {
        assert_eq!(backing, "ordinary pages");
        assert!(node.log().contains("uses ordinary pages"), "{}", node.log());
    }
}

#[test]
fn time_that_jumps_costs_nobody_anything() {
    if !root_or_skip("time_that_jumps_costs_nobody_anything") {
        return;
    }
    let node = Node::new();
    let engine = node.start();
    let mut pair = Pair::new(&node);
    // As a machine that was suspended: its clocks are far on, and nothing has happened.
    engine.signal(Signal::STOP).unwrap();
    std::thread::sleep(Duration::from_secs(6));
    engine.signal(Signal::CONT).unwrap();
    pair.wait_for_frames();
    pair.lose_none();
    assert!(node.client().health().unwrap().ready);
    assert_eq!(served(&node), recorded(&node));
}

#[test]
fn the_engine_keeps_only_the_capabilities_that_it_names() {
    if !root_or_skip("the_engine_keeps_only_the_capabilities_that_it_names") {
        return;
    }
    let node = Node::new();
    let engine = node.start();
    let log = node.log();
    let kept = log.lines().find(|line| line.contains("capabilities kept:"));
    let kept = kept.unwrap_or_else(|| panic!("{log}"));
    // As capabilities(7) numbers them.
    let named: u64 = [
        ("NET_ADMIN", 12),
        ("NET_RAW", 13),
        ("IPC_LOCK", 14),
        ("SYS_PTRACE", 19),
        ("SYS_ADMIN", 21),
    ]
    .iter()
    .filter(|(name, _)| kept.contains(name))
    .map(|(_, bit)| 1 << bit)
    .sum();
    let tasks = fs::read_dir(format!("/proc/{}/task", engine.pid())).unwrap();
    let mut threads = 0;
    for task in tasks {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let of = |set: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(set));
            u64::from_str_radix(line.unwrap().trim_start_matches(':').trim(), 16).unwrap()
        };
        assert_eq!(of("CapEff"), named, "{kept}\n{status}");
        assert_eq!(of("CapPrm"), named);
        assert_eq!(of("CapBnd") & !named, 0, "{status}");
        assert_eq!((of("CapInh"), of("CapAmb"), of("NoNewPrivs")), (0, 0, 1));
        threads += 1;
    }
    assert!(threads > 3, "{threads} threads");
}
