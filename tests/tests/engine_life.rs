// SPDX-License-Identifier: Apache-2.0
//! Life cycle of the engine: configuration, start, the lock that allows one engine only, death and shutdown.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod engine_rig;

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use engine_rig::pod::PodMemif;
use engine_rig::{Node, PATIENCE, pod, text};
use rustix::process::Signal;
use serde_json::json;
use sluice_api::LinkState;
use sluice_tests::{bin, program_or_skip, root_or_skip, skip, wait_for};

#[test]
fn engine_checks_its_configuration_and_policies() {
    if !root_or_skip("engine_checks_its_configuration_and_policies") {
        return;
    }
    let node = Node::new();
    let before = node.uplink_state();
    let output = node.sluiced(&["--check"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(
        text(&output).contains("1 uplink ok, 2 workers, 1 policy"),
        "{}",
        text(&output)
    );

    node.write_policy(
        "bad.yaml",
        "name: bad\nvlans: [210]\ndefault: {ingress: maybe}\n",
    );
    let output = node.sluiced(&["--check"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output).contains("policies/bad.yaml:3:"),
        "{}",
        text(&output)
    );
    // Not started with it either.
    let output = node.sluiced(&[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("bad.yaml:3:"), "{}", text(&output));

    let config = node.path("sluiced.yaml");
    fs::write(
        &config,
        "uplinks:\n- name: wire0\n  device: up7\nworkers: {count: none}\n",
    )
    .unwrap();
    let output = node.sluiced(&["--check"]);
    assert_eq!(output.status.code(), Some(2));
    let place = format!(
        "{}:3:11: uplinks[0].device: there is no netdev \"up7\"",
        config.display()
    );
    assert!(text(&output).contains(&place), "{}", text(&output));
    assert!(
        text(&output).contains(":4:18: workers.count: \"none\""),
        "{}",
        text(&output)
    );
    assert_eq!(node.uplink_state(), before, "nothing was touched");
    assert_eq!(node.files("run"), [""; 0]);
    assert_eq!(node.files("state"), [""; 0]);
}

#[test]
fn engine_starts_answers_and_leaves_nothing() {
    if !root_or_skip("engine_starts_answers_and_leaves_nothing") {
        return;
    }
    let node = Node::new();
    node.netns
        .ip(&["addr", "add", "fd00:5::1/64", "dev", "up0", "nodad"])
        .unwrap();
    let before = node.uplink_state();
    let mut engine = node.start();
    assert_ne!(node.uplink_state(), before, "the host's stack is kept off");
    assert_eq!(node.files("state"), ["wire0.json"]);

    let status = node.client().status().unwrap();
    assert!(status.health.ready);
    assert_eq!(status.health.pid, engine.pid());
    assert_eq!(status.workers.len(), 2);
    assert_eq!(
        (status.memory.small.all, status.memory.large.all),
        (4096, 256)
    );
    assert_eq!(status.uplinks[0].device, "up0");
    assert_eq!(status.policy_version, 1);
    for (args, expected) in [
        (&["status"][..], "ready"),
        (&["policies", "list"], "voice"),
        (&["attachments"], "no attachments"),
        (&["counters", "--all"], "calls"),
        (&["--json", "status"], "\"uptime_seconds\""),
    ] {
        let output = node.ctl(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", text(&output));
        assert!(
            text(&output).contains(expected),
            "{args:?}: {}",
            text(&output)
        );
        assert!(!text(&output).contains('\x1b'), "colours, and no terminal");
    }

    assert_eq!(
        engine.terminate(PATIENCE).unwrap(),
        Some(0),
        "{}",
        node.log()
    );
    assert!(!node.path("run").exists(), "{:?}", node.files("run"));
    assert_eq!(node.files("state"), [""; 0]);
    assert_eq!(node.uplink_state(), before);
}

#[test]
fn engine_is_one() {
    if !root_or_skip("engine_is_one") {
        return;
    }
    let node = Node::new();
    let engine = node.start();
    let second = node.sluiced(&[]);
    assert_eq!(second.status.code(), Some(1));
    let held = format!("another engine (pid {})", engine.pid());
    assert!(text(&second).contains(&held), "{}", text(&second));
    assert!(
        node.client().health().unwrap().ready,
        "the first one was disturbed"
    );
}

#[test]
fn engine_takes_over_after_a_crash() {
    if !root_or_skip("engine_takes_over_after_a_crash") {
        return;
    }
    let node = Node::new();
    let pod = pod();
    let before = node.uplink_state();
    let mut engine = node.start();
    let reply = node.attach(&pod, "net1", json!({"addresses": ["10.21.0.5/24"]}));
    let mut memif = PodMemif::client(&pod, "net1");
    memif.wait_up();
    engine.kill();
    memif.wait_down();
    let output = node.ctl(&["status"]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert!(
        text(&output).contains("nobody listens"),
        "{}",
        text(&output)
    );

    let mut engine = node.start();
    assert!(
        node.log().contains("taking over from an engine that died"),
        "{}",
        node.log()
    );
    let again = node.attachment(&pod, "net1");
    assert_eq!((again.mac, again.mtu), (reply.mac, reply.mtu));
    // The pod did nothing for it.
    memif.wait_up();
    node.wait_for_link(&pod, "net1", LinkState::Up);

    assert_eq!(
        engine.terminate(PATIENCE).unwrap(),
        Some(0),
        "{}",
        node.log()
    );
    let reason = memif.wait_down();
    assert!(reason.contains("stopped"), "the pod was told: {reason}");
    assert_eq!(node.uplink_state(), before);
    assert_eq!(node.files("state"), [format!("{}-net1.json", pod.name())]);
    assert!(!node.path("run").exists(), "{:?}", node.files("run"));
}

#[test]
fn engine_serves_again_only_pods_that_are_there() {
    if !root_or_skip("engine_serves_again_only_pods_that_are_there") {
        return;
    }
    let node = Node::new();
    let (stays, goes, replaced) = (pod(), pod(), pod());
    let mut engine = node.start();
    for pod in [&stays, &goes, &replaced] {
        node.attach(pod, "net1", json!({}));
    }
    engine.kill();
    let gone = goes.name().to_owned();
    drop(goes);
    // The same path, another namespace.
    sluice_tests::run(Command::new("ip").args(["netns", "del", replaced.name()])).unwrap();
    sluice_tests::run(Command::new("ip").args(["netns", "add", replaced.name()])).unwrap();
    // Torn, as by a full disk; and from another boot.
    let records = node.path("state/attachments");
    fs::write(records.join("torn-net1.json"), "{\"request\": {").unwrap();
    let record = fs::read_to_string(records.join(format!("{}-net1.json", stays.name()))).unwrap();
    let old: serde_json::Value = serde_json::from_str(&record).unwrap();
    assert!(old["netns_ctime_ns"].is_i64(), "{old}");
    // And of an earlier namespace, whose inode number the kernel gave to the one that is there now.
    for (ifname, field, value) in [
        ("net9", "boot_id", json!("0")),
        ("net8", "netns_ctime_ns", json!(1)),
    ] {
        let mut old = old.clone();
        old["request"]["ifname"] = json!(ifname);
        old[field] = value;
        let path = records.join(format!("{}-{ifname}.json", stays.name()));
        fs::write(path, old.to_string()).unwrap();
    }

    let _engine = node.start();
    let served: Vec<String> = node
        .client()
        .attachments()
        .unwrap()
        .into_iter()
        .map(|attachment| attachment.request.container_id)
        .collect();
    assert_eq!(served, [stays.name()], "{}", node.log());
    let mut left = [
        format!("{}-net1.json", stays.name()),
        "torn-net1.json".into(),
    ];
    left.sort();
    let records: Vec<String> = node
        .files("state")
        .into_iter()
        .filter(|name| name != "wire0.json")
        .collect();
    assert_eq!(records, left, "{gone} and {} are gone", replaced.name());
    let problems = node.client().health().unwrap().problems;
    assert!(
        problems
            .iter()
            .any(|problem| problem.contains("torn-net1.json")),
        "{problems:?}"
    );
    // A DEL for it removes it.
    assert!(node.client().detach("torn", "net1").unwrap().existed);
    assert!(!node.path("state/attachments/torn-net1.json").exists());
    let problems = node.client().health().unwrap().problems;
    assert!(problems.is_empty(), "{problems:?}");
}

#[test]
fn what_cannot_be_served_stays_recorded() {
    if !root_or_skip("what_cannot_be_served_stays_recorded") {
        return;
    }
    let node = Node::new();
    let own = "name: own\ndefault: {ingress: accept, egress: accept}\n";
    node.write_policy("own.yaml", own);
    let pod = pod();
    let mut engine = node.start();
    node.attach(&pod, "net1", json!({"firewall": "own"}));
    engine.kill();
    fs::remove_file(node.path("policies/own.yaml")).unwrap();
    let mut engine = node.start();
    assert!(
        node.client().attachments().unwrap().is_empty(),
        "nothing flows unjudged"
    );
    let problems = node.client().health().unwrap().problems;
    assert!(
        problems
            .iter()
            .any(|problem| problem.contains("no policy own")),
        "{problems:?}"
    );
    assert_eq!(
        engine.terminate(PATIENCE).unwrap(),
        Some(0),
        "{}",
        node.log()
    );
    node.write_policy("own.yaml", own);
    let _engine = node.start();
    assert_eq!(
        node.attachment(&pod, "net1").request.firewall.as_deref(),
        Some("own")
    );
}

#[test]
fn a_start_that_fails_gives_everything_back() {
    if !root_or_skip("a_start_that_fails_gives_everything_back") {
        return;
    }
    let node = Node::new();
    let before = node.uplink_state();
    // The last step: the socket's folder is open to everybody.
    let control = node.path("open");
    fs::create_dir(&control).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&control, open).unwrap();
    let config = fs::read_to_string(node.path("sluiced.yaml")).unwrap();
    let config = format!("{config}socket: {}/s\n", control.display());
    fs::write(node.path("sluiced.yaml"), config).unwrap();
    let output = node.sluiced(&[]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(
        text(&output).contains("open to others"),
        "{}",
        text(&output)
    );
    assert_eq!(node.uplink_state(), before);
    assert!(!node.path("run").exists() && node.files("state").is_empty());
}

#[test]
fn only_root_of_the_host_may_ask() {
    let name = "only_root_of_the_host_may_ask";
    if !root_or_skip(name) || !program_or_skip(name, "setpriv") || !program_or_skip(name, "unshare")
    {
        return;
    }
    let node = Node::new();
    let _engine = node.start();
    let ask = |program: &str, args: &[&str]| {
        let mut command = Command::new(program);
        command
            .args(args)
            .arg(bin("sluicectl"))
            .arg("--socket")
            .arg(node.socket())
            .arg("status");
        command.stdin(Stdio::null()).output().unwrap()
    };
    // The temporary folder is root's alone.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(node.dir.path(), open).unwrap();
    let nobody = ["--reuid", "65534", "--clear-groups"];
    let output = ask("setpriv", &nobody);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(
        text(&output).contains("only root may ask"),
        "{}",
        text(&output)
    );
    // Past the folder's mode it is the peer's credentials that count.
    let capable = ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"];
    let output = ask("setpriv", &[&nobody[..], &capable[..]].concat());
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(
        text(&output).contains("uid 65534 may not ask the engine"),
        "{}",
        text(&output)
    );
    // Root, but of a user namespace of its own.
    let output = ask("unshare", &["--user", "--map-root-user"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(
        text(&output).contains("another user namespace"),
        "{}",
        text(&output)
    );
    let output = ask("env", &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
}

#[test]
fn a_signal_during_the_start_leaves_nothing() {
    if !root_or_skip("a_signal_during_the_start_leaves_nothing") {
        return;
    }
    let node = Node::new();
    let before = node.uplink_state();
    for delay in [20, 60, 120, 250] {
        let mut command = Command::new(bin("sluiced"));
        command.arg("--config").arg(node.path("sluiced.yaml"));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let started = node
            .netns
            .enter(move || sluice_tests::Process::start(&mut command));
        let mut engine = started.unwrap();
        std::thread::sleep(Duration::from_millis(delay));
        engine.signal(Signal::TERM).unwrap();
        wait_for("the engine's end", PATIENCE, || {
            (!engine.alive()).then_some(())
        })
        .unwrap();
        assert_eq!(node.uplink_state(), before, "after {delay} ms");
        assert!(
            !node.path("run").exists(),
            "after {delay} ms: {:?}",
            node.files("run")
        );
        assert_eq!(node.files("state"), [""; 0], "after {delay} ms");
    }
}

#[test]
fn only_workers_run_on_the_workers_cores() {
    if !root_or_skip("only_workers_run_on_the_workers_cores") {
        return;
    }
    if std::thread::available_parallelism().unwrap().get() < 2 {
        skip(
            "only_workers_run_on_the_workers_cores",
            "needs two cores, one of them for control",
        );
        return;
    }
    let node = Node::new();
    let config = fs::read_to_string(node.path("sluiced.yaml")).unwrap();
    let pinned = config.replace("{count: 2, pin: false}", "{count: 1, pin: true}");
    fs::write(node.path("sluiced.yaml"), pinned).unwrap();
    let engine = node.start();
    // A tap and a memif have threads of their own.
    let pod = pod();
    node.attach(&pod, "net1", json!({"backend": {"type": "tap"}}));
    node.attach(&pod, "net2", json!({}));
    let _memif = PodMemif::client(&pod, "net2");
    node.wait_for_link(&pod, "net2", LinkState::Up);
    let (mut workers, mut others) = (Vec::new(), Vec::new());
    for task in fs::read_dir(format!("/proc/{}/task", engine.pid())).unwrap() {
        let task = task.unwrap().path();
        // It may have ended by now.
        let Ok(status) = fs::read_to_string(task.join("status")) else {
            continue;
        };
        let field = |name| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_default().trim().to_owned()
        };
        let of = if field("Name:").starts_with("worker-") {
            &mut workers
        } else {
            &mut others
        };
        let cores = sluiced::config::cores::parse_list(&field("Cpus_allowed_list:")).unwrap();
        of.push((field("Name:"), cores));
    }
    let [(_, worker)] = &workers[..] else {
        panic!("{workers:?}");
    };
    assert_eq!(worker.len(), 1, "{workers:?}");
    assert!(others.len() > 2, "{others:?}");
    for (name, cores) in &others {
        assert!(!cores.contains(&worker[0]), "{name} may run on {cores:?}");
    }
}
