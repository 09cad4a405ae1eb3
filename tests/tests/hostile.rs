// SPDX-License-Identifier: Apache-2.0
//! Attacks of hostile pods on a running engine. Each attack may end the attacker's own connection, with a reason
//! that names what was wrong, and nothing else: two other pods exchange numbered frames meanwhile, and none of
//! these may be lost. Afterwards the engine has no more files open, memory mapped or allocated than before.
//!
//! That an attack is refused proves little while it would fail for some other reason. So each attack that
//! aims at a certain check is also run against an engine without that check, where it must come to
//! something else.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::cast_possible_truncation,
    reason = "what does not fit is part of the attack"
)]

mod engine_rig;
mod hostile {
    pub(crate) mod fake_client;
    pub(crate) mod load;
    pub(crate) mod memory;
    pub(crate) mod messages;
    pub(crate) mod neighbour;
    pub(crate) mod rings;
    pub(crate) mod servers;
    pub(crate) mod vlan_peer;

    pub(crate) use fake_client::Target;

    /// Attack by a client.
    pub(crate) struct Attack {
        pub(crate) name: &'static str,
        /// Name of the check that refuses the attack, if the check can be disabled by itself.
        pub(crate) without: &'static str,
        /// Reason that the engine reports.
        pub(crate) reason: &'static str,
        pub(crate) run: fn(&Target) -> anyhow::Result<()>,
    }

    pub(crate) const fn attack(
        name: &'static str,
        without: &'static str,
        reason: &'static str,
        run: fn(&Target) -> anyhow::Result<()>,
    ) -> Attack {
        Attack {
            name,
            without,
            reason,
            run,
        }
    }
}

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use engine_rig::{Node, PATIENCE, pod};
use hostile::fake_client::FakeClient;
use hostile::neighbour::{self, Neighbour};
use hostile::servers::{self, Server, ServerAttack};
use hostile::vlan_peer::VlanPeer;
use hostile::{Attack, Target, load, memory, messages, rings};
use serde_json::json;
use sluice_api::LinkState;
use sluice_packet::Mac;
use sluice_tests::{Process, root_or_skip, skip, wait_for};

/// Lock that runs one test at a time: each has an engine's workers and a flood on the machine's cores.
static ALONE: Mutex<()> = Mutex::new(());

/// Limit for the engine to report an attack.
const REPORTED_WITHIN: Duration = Duration::from_secs(8);
/// Time in which an engine without the check would have reported the attack all the same.
const UNREPORTED: Duration = Duration::from_millis(400);

fn client_attacks() -> impl Iterator<Item = &'static Attack> {
    messages::ATTACKS
        .iter()
        .chain(memory::ATTACKS)
        .chain(rings::ATTACKS)
}

fn node() -> Node {
    let node = Node::new();
    node.write_policy("neighbours.yaml", neighbour::POLICY);
    node
}

/// Creates an attachment for the attacker, on VLAN 210.
fn target(node: &Node, role: &str) -> (Target, Mac) {
    let pod = pod();
    let request = json!({"backend": {"type": "memif", "role": role}});
    let mac = node.attach(&pod, "net1", request).mac.parse().unwrap();
    (
        Target {
            pod,
            ifname: "net1",
        },
        mac,
    )
}

/// Runs `work` while the peer has frames for the attacker.
fn provoked<T>(peer: &mut VlanPeer, attacker: Mac, work: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| peer.provoke_while(attacker, || !over.load(Ordering::Acquire)));
        let result = work();
        over.store(true, Ordering::Release);
        result
    })
}

/// Whether the status reports `reason`, and the log, after its first `from` bytes; or the status says that lines
/// were left out of the log.
fn is_reported(node: &Node, target: &Target, from: usize, reason: &str, limit: Duration) -> bool {
    let reported = || {
        let log = node.log();
        let logged = log.get(from..).is_some_and(|log| log.contains(reason));
        let status = node.client().attachment(target.pod.name(), target.ifname);
        let status = status.ok()?;
        let said = status.last_down?.contains(reason);
        (said && (logged || status.lines_left_out > 0)).then_some(())
    };
    wait_for(reason, limit, reported).is_ok()
}

/// Resources of a process that must not grow.
#[derive(Debug)]
struct Level {
    fds: usize,
    threads: usize,
    /// Number of mapped memory files, which are peers' memory.
    regions: usize,
    kib: u64,
}

fn level(engine: &Process) -> Level {
    let proc = PathBuf::from(format!("/proc/{}", engine.pid()));
    let count = |name: &str| fs::read_dir(proc.join(name)).unwrap().count();
    let maps = fs::read_to_string(proc.join("maps")).unwrap();
    let status = fs::read_to_string(proc.join("status")).unwrap();
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap();
    Level {
        fds: count("fd"),
        threads: count("task"),
        regions: maps.lines().filter(|line| line.contains("/memfd:")).count(),
        kib,
    }
}

#[test]
fn every_attack_ends_one_attachment_at_most_and_costs_a_neighbour_nothing() {
    let case = "every_attack_ends_one_attachment_at_most_and_costs_a_neighbour_nothing";
    if !root_or_skip(case) {
        return;
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let node = node();
    let engine = node.start();
    let (target, own) = target(&node, "server");
    let (calling, _) = self::target(&node, "client");
    // All that is made once, is made.
    drop(FakeClient::connected(&target).unwrap());
    node.wait_for_link(&target.pod, "net1", LinkState::Down);
    let gone = || (level(&engine).regions == 0).then_some(());
    wait_for("the first connection's memory to be gone", PATIENCE, gone).unwrap();
    let before = level(&engine);

    let start = Instant::now();
    let neighbour = Neighbour::start(&node);
    let mut peer = VlanPeer::start(&node);
    let mut seen = 0;
    let mut unhurt = |what: &str| {
        println!("{:>7.1} s  {what}", start.elapsed().as_secs_f64());
        let stream = neighbour.so_far();
        assert_eq!(
            (stream.lost, stream.refused),
            (0, 0),
            "{what}: {stream:?}\n{:#?}",
            node.client().counters()
        );
        assert!(stream.sent > seen, "{what}: the neighbour has stopped");
        seen = stream.sent;
    };
    let mut done = 0;
    for attack in client_attacks() {
        let from = node.log().len();
        let result = provoked(&mut peer, own, || (attack.run)(&target));
        assert!(
            is_reported(&node, &target, from, attack.reason, REPORTED_WITHIN),
            "{}: the engine did not report {:?}; the attack ended with {result:?}; log of the engine:\n{}",
            attack.name,
            attack.reason,
            &node.log()[from..]
        );
        unhurt(attack.name);
        done += 1;
    }
    for attack in servers::ATTACKS {
        let from = node.log().len();
        let server = Server::listen(&calling.pod, "net1").unwrap();
        let result = (attack.run)(&server);
        assert!(
            is_reported(&node, &calling, from, attack.reason, REPORTED_WITHIN),
            "{}: the engine did not report {:?}; the attack ended with {result:?}; log of the engine:\n{}",
            attack.name,
            attack.reason,
            &node.log()[from..]
        );
        unhurt(attack.name);
        done += 1;
    }

    let flooded = load::flood(&target, own, peer.mac(), Duration::from_secs(3)).unwrap();
    unhurt("flood");
    provoked(&mut peer, own, || {
        load::stop_reading(&target, Duration::from_secs(2)).unwrap();
    });
    unhurt("stop-reading");
    let (came, denied) = load::rewrite(&target, own, &mut peer).unwrap();
    assert!(came > 0 && denied > 0, "{came} came, {denied} denied");
    unhurt("rewrite");
    let crowd = load::crowd(&target, 200).unwrap();
    unhurt("crowd");
    let times = load::reconnect(&target, 1_000).unwrap();
    assert_eq!(times, 1_000, "{}", tail(&node));
    unhurt("reconnect");

    // The attacker's attachment still serves whoever behaves.
    drop(FakeClient::connected(&target).unwrap());
    node.wait_for_link(&target.pod, "net1", LinkState::Down);
    peer.end(&node);
    let stream = neighbour.end(&node);
    assert_eq!((stream.lost, stream.refused), (0, 0));
    let packets = || {
        let memory = node.client().status().ok()?.memory;
        ((memory.small.in_flight, memory.large.in_flight) == (0, 0)).then_some(())
    };
    wait_for("every packet to be back", PATIENCE, packets).unwrap();
    // Nothing is asked of the engine here: the threads that answer go when they were idle for ten seconds.
    let level_again = || {
        let after = level(&engine);
        let same = after.fds <= before.fds
            && after.threads <= before.threads
            && after.regions <= before.regions
            && after.kib <= before.kib + 16 * 1024;
        same.then_some(after)
    };
    let after = wait_for("the engine to be as before", PATIENCE, level_again);
    let after = after.unwrap_or_else(|_| panic!("{before:?}, then {:?}", level(&engine)));
    println!(
        "{done} attacks, each reported by name; flood of {flooded} frames, {denied} frames rewritten too late, \
         {crowd} at once, {times} connections; the neighbour sent {} frames and lost {}; {before:?}, then \
         {after:?}",
        stream.sent, stream.lost
    );
}

#[test]
fn a_pod_that_breaks_the_protocol_in_a_loop_fills_no_log() {
    let case = "a_pod_that_breaks_the_protocol_in_a_loop_fills_no_log";
    if !root_or_skip(case) {
        return;
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let node = node();
    let _engine = node.start();
    let (talker, _) = target(&node, "server");
    let (breaker, _) = target(&node, "server");
    let neighbour = Neighbour::start(&node);
    let from = node.log().len();
    let time = Duration::from_secs(4);
    let (told, broken) = std::thread::scope(|scope| {
        let talkers = [(); 4].map(|()| scope.spawn(|| load::nonsense(&talker, time)));
        let broken = load::broken_rings(&breaker, time);
        let told: u64 = talkers.map(|one| one.join().unwrap()).iter().sum();
        (told, broken)
    });
    let stream = neighbour.end(&node);
    assert_eq!((stream.lost, stream.refused), (0, 0));
    assert!(told > 0 && broken > 0, "{told}, {broken}");

    let connections = |target: &Target| node.attachment(&target.pod, "net1").connections.unwrap();
    let found = connections(&talker);
    assert!(found.refused >= told && found.made == 0, "{found:?}");
    // Without pauses it is told some ten thousand times.
    assert!(found.refused < 1_000, "{found:?}");
    assert!(
        found.pauses > 0 && found.last_refused_ago.is_some(),
        "{found:?}"
    );
    let reason = found.last_refusal.unwrap();
    assert!(reason.contains("type"), "{reason}");
    let found = connections(&breaker);
    assert!(found.broken >= broken && found.broken < 100, "{found:?}");
    assert!(found.pauses > 0, "{found:?}");

    // The lines about these two, among those about everything else.
    let log = node.log();
    for target in [&talker, &breaker] {
        let about = format!("{}/net1", target.pod.name());
        let lines = log[from..].lines().filter(|line| line.contains(&about));
        assert!(lines.count() < 50, "{}", tail(&node));
    }
    let left_out = || node.log()[from..].contains("lines about its connections were left out");
    wait_for("the line that says so", PATIENCE, || {
        left_out().then_some(())
    })
    .unwrap();
    assert!(node.attachment(&talker.pod, "net1").lines_left_out > 0);
    // Whoever means it is served. A packet without a byte is no violation, and is counted.
    let _connected = load::empty_packet(&talker).unwrap();
    let counted = || {
        let drops = node.attachment(&talker.pod, "net1").counters.egress_drops;
        (drops.get("truncated") == Some(&1)).then_some(())
    };
    wait_for("the empty packet to be counted", PATIENCE, counted).unwrap();
    drop(FakeClient::connected(&breaker).unwrap());
}

/// Returns the end of the log.
fn tail(node: &Node) -> String {
    let log = node.log();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

/// Returns the engine whose checks can be disabled, which `tests/run.sh` builds.
fn mutated() -> Option<PathBuf> {
    std::env::var_os("SLUICE_MUTATED").map(PathBuf::from)
}

#[test]
fn every_attack_bites_where_its_check_is_taken_out() {
    let case = "every_attack_bites_where_its_check_is_taken_out";
    if !root_or_skip(case) {
        return;
    }
    let Some(program) = mutated() else {
        skip(
            case,
            "needs SLUICE_MUTATED: sluiced built with --features mutations",
        );
        return;
    };
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let engine = |node: &Node, check: &str| {
        let mut command = Command::new(&program);
        command.env("SLUICE_WITHOUT_CHECK", check);
        node.start_as(command)
    };
    // The same build with every check in place reports each, within the time that is waited below.
    let whole = node();
    let _engine = engine(&whole, "");
    let places = (target(&whole, "server"), target(&whole, "client"));
    let mut peer = VlanPeer::start(&whole);
    let aimed = || client_attacks().filter(|attack| !attack.without.is_empty());
    let aimed_at_clients = || {
        let attacks = servers::ATTACKS.iter();
        attacks.filter(|attack| !attack.without.is_empty())
    };
    for attack in aimed() {
        let reported = by_client(&whole, &places.0, &mut peer, attack);
        assert!(
            reported,
            "{}: not reported with all checks in place",
            attack.name
        );
    }
    for attack in aimed_at_clients() {
        let reported = by_server(&whole, &places.1.0, attack);
        assert!(
            reported,
            "{}: not reported with all checks in place",
            attack.name
        );
    }
    let mut not_needed = Vec::new();
    for attack in aimed() {
        let node = node();
        let _engine = engine(&node, attack.without);
        let place = target(&node, "server");
        let mut peer = VlanPeer::start(&node);
        if by_client(&node, &place, &mut peer, attack) {
            not_needed.push(attack.name);
        }
    }
    for attack in aimed_at_clients() {
        let node = node();
        let _engine = engine(&node, attack.without);
        if by_server(&node, &target(&node, "client").0, attack) {
            not_needed.push(attack.name);
        }
    }
    assert!(
        not_needed.is_empty(),
        "these did not need their check: {not_needed:?}"
    );
    let attacks = aimed().count() + aimed_at_clients().count();
    println!("{attacks} attacks, each of which comes to something else without its check");
}

/// Whether an attack by a client is reported soon. The result of the attack itself says nothing: there may be no
/// engine any more.
fn by_client(node: &Node, place: &(Target, Mac), peer: &mut VlanPeer, attack: &Attack) -> bool {
    let from = node.log().len();
    let _ = provoked(peer, place.1, || (attack.run)(&place.0));
    is_reported(node, &place.0, from, attack.reason, UNREPORTED)
}

/// Whether an attack by a server is reported soon.
fn by_server(node: &Node, place: &Target, attack: &ServerAttack) -> bool {
    let from = node.log().len();
    let server = Server::listen(&place.pod, "net1").unwrap();
    let _ = (attack.run)(&server);
    is_reported(node, place, from, attack.reason, UNREPORTED)
}
