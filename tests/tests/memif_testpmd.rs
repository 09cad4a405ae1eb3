// SPDX-License-Identifier: Apache-2.0
//! DPDK's testpmd as the memif peer, in both roles: frames come back intact and in order, both
//! sides count the same, and either side may be killed and started again.
//!
//! testpmd runs with one port, which forwards to itself with the MAC addresses swapped. It uses
//! ordinary pages, so nothing has to be configured.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod testpmd_rig;

use std::process::{Command, Stdio};

use sluice_memif::{Address, EndpointConfig, LinkChange, Memif, Role};
use sluice_tests::{Netns, Process, wait_for};
use testpmd_rig::{
    Counted, PATIENCE, Testpmd, alone, both, can_run, counted, down, echo, frame, name, open, up,
    wait_until_listening,
};

fn echoes(ours: Role, memif: &str, queues: u16, sizes: &[usize], count: u32, sleeping: bool) {
    let _alone = alone();
    let (testpmd, mut endpoint) = both(ours, memif, queues);
    for &len in sizes {
        echo(&mut endpoint, count, len, sleeping);
    }
    let ours = counted(&mut endpoint);
    let total = u64::from(count) * sizes.len() as u64 * u64::from(queues);
    assert_eq!(
        ours,
        Counted {
            rx: total,
            tx: total
        }
    );
    assert_eq!(testpmd.quit(), ours);
}

const SIZES: [usize; 6] = [60, 64, 65, 590, 1514, 1518];

#[test]
fn testpmd_client_echoes() {
    if can_run("testpmd_client_echoes") {
        echoes(Role::Server, "", 1, &SIZES, 5000, false);
    }
}

#[test]
fn testpmd_server_echoes() {
    if can_run("testpmd_server_echoes") {
        echoes(Role::Client, "", 1, &SIZES, 5000, false);
    }
}

#[test]
fn testpmd_client_echoes_on_four_queues() {
    if can_run("testpmd_client_echoes_on_four_queues") {
        echoes(Role::Server, ",rsize=8", 4, &[64, 1514], 2000, false);
    }
}

#[test]
fn testpmd_server_echoes_on_four_queues() {
    if can_run("testpmd_server_echoes_on_four_queues") {
        echoes(Role::Client, "", 4, &[64, 1514], 2000, false);
    }
}

#[test]
fn testpmd_client_echoes_chained_frames() {
    if can_run("testpmd_client_echoes_chained_frames") {
        echoes(Role::Server, "", 1, &[2049, 4096, 9000], 1000, false);
    }
}

#[test]
fn testpmd_server_echoes_chained_frames() {
    if can_run("testpmd_server_echoes_chained_frames") {
        echoes(Role::Client, "", 1, &[2049, 4096, 9000], 1000, false);
    }
}

#[test]
fn testpmd_client_wakes_a_sleeper() {
    if can_run("testpmd_client_wakes_a_sleeper") {
        echoes(Role::Server, "", 1, &[64], 5000, true);
    }
}

#[test]
fn testpmd_server_wakes_a_sleeper() {
    if can_run("testpmd_server_wakes_a_sleeper") {
        echoes(Role::Client, "", 1, &[64], 5000, true);
    }
}

#[test]
fn testpmd_with_the_secret_is_let_in_and_another_is_not() {
    if !can_run("testpmd_with_the_secret_is_let_in_and_another_is_not") {
        return;
    }
    let _alone = alone();
    let socket = name();
    let mut config = EndpointConfig::new(Role::Server, "sluice");
    config.secret = sluice_memif::Secret::new("open-sesame");
    let mut server = Memif::open(config, Address::Abstract(socket.clone())).unwrap();
    wait_until_listening(&mut server);
    let wrong = Testpmd::start(Testpmd::plain(), "client", &socket, ",secret=sesame", 1);
    wait_for("the wrong secret to be refused", PATIENCE, || {
        let refused = |c| matches!(c, LinkChange::Notice { what } if what == "Incorrect secret");
        server.change().is_some_and(refused).then_some(())
    })
    .unwrap();
    assert!(!server.is_up());
    wrong.quit();
    let right = Testpmd::start(
        Testpmd::plain(),
        "client",
        &socket,
        ",secret=open-sesame",
        1,
    );
    up(&mut server);
    echo(&mut server, 500, 64, false);
    right.quit();
}

#[test]
fn testpmd_in_a_network_namespace_is_reached_from_a_thread_in_there() {
    if !can_run("testpmd_in_a_network_namespace_is_reached_from_a_thread_in_there") {
        return;
    }
    let _alone = alone();
    let pod = Netns::new("pod").unwrap();
    let socket = name();
    let testpmd = Testpmd::start(pod.command("dpdk-testpmd"), "server", &socket, "", 1);
    let theirs = socket.clone();
    // The endpoint's thread is born in the namespace of the one that starts it.
    let mut inside = pod
        .enter(move || Ok(open(Role::Client, &theirs, 1)))
        .unwrap();
    up(&mut inside);
    echo(&mut inside, 500, 64, false);
    let mut outside = open(Role::Client, &socket, 1);
    let refused = wait_for("the refusal", PATIENCE, || outside.change()).unwrap();
    assert!(matches!(refused, LinkChange::Notice { what } if what.contains("nobody listens")));
    drop(inside);
    testpmd.quit();
}

#[test]
fn testpmd_meets_us_at_a_path_in_both_roles() {
    if !can_run("testpmd_meets_us_at_a_path_in_both_roles") {
        return;
    }
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memif.sock");
    let path = path.to_str().unwrap();
    let mut server = open(Role::Server, path, 1);
    wait_until_listening(&mut server);
    let by_path = ",socket-abstract=no";
    let testpmd = Testpmd::start(Testpmd::plain(), "client", path, by_path, 1);
    up(&mut server);
    echo(&mut server, 500, 64, false);
    testpmd.quit();
    drop(server);
    assert!(!folder.path().join("memif.sock").exists());

    let testpmd = Testpmd::start(Testpmd::plain(), "server", path, by_path, 1);
    let mut client = open(Role::Client, path, 1);
    up(&mut client);
    echo(&mut client, 500, 64, false);
    testpmd.quit();
}

#[test]
fn testpmd_client_may_be_killed_and_started_again() {
    if !can_run("testpmd_client_may_be_killed_and_started_again") {
        return;
    }
    let _alone = alone();
    let socket = name();
    let mut server = open(Role::Server, &socket, 1);
    wait_until_listening(&mut server);
    for _ in 0..3 {
        let testpmd = Testpmd::start(Testpmd::plain(), "client", &socket, "", 1);
        up(&mut server);
        echo(&mut server, 2000, 64, false);
        // With frames on their way.
        server.send(0, &[&frame(0, 64)]);
        server.flush();
        testpmd.kill();
        down(&mut server);
    }
}

#[test]
fn testpmd_server_may_be_killed_and_started_again() {
    if !can_run("testpmd_server_may_be_killed_and_started_again") {
        return;
    }
    let _alone = alone();
    let socket = name();
    let mut client = open(Role::Client, &socket, 1);
    for _ in 0..3 {
        let testpmd = Testpmd::start(Testpmd::plain(), "server", &socket, "", 1);
        up(&mut client);
        echo(&mut client, 2000, 64, false);
        client.send(0, &[&frame(0, 64)]);
        client.flush();
        testpmd.kill();
        down(&mut client);
    }
}

/// Starts our side as a process of its own, so that it can be killed: this test's binary once more, with its
/// task in the environment. It prints `ready` when frames came back, and goes on.
fn our_process(test: &str, role: &str, socket: &str) -> Process {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env("SLUICE_TEST_ROLE", role)
        .env("SLUICE_TEST_SOCKET", socket)
        .stdout(Stdio::piped());
    Process::start(&mut command).unwrap()
}

/// Does the task of [`our_process`] and does not return, if this is such a process.
fn be_our_process() {
    let (Ok(role), Ok(socket)) = (
        std::env::var("SLUICE_TEST_ROLE"),
        std::env::var("SLUICE_TEST_SOCKET"),
    ) else {
        return;
    };
    let mut memif = open(
        if role == "server" {
            Role::Server
        } else {
            Role::Client
        },
        &socket,
        1,
    );
    if role == "server" {
        wait_until_listening(&mut memif);
    }
    println!("opened");
    up(&mut memif);
    echo(&mut memif, 1000, 64, false);
    println!("ready");
    loop {
        echo(&mut memif, 1000, 64, false);
    }
}

fn wait_for_line(process: &mut Process, line: &str) {
    use std::io::{BufRead, BufReader};
    // Read byte by byte from the pipe itself: nothing is lost between two calls.
    let stdout = process.child().stdout.as_mut().unwrap();
    let mut lines = BufReader::with_capacity(1, stdout).lines();
    let found = lines.any(|text| text.is_ok_and(|text| text.contains(line)));
    assert!(found, "our process ended before it said {line}");
}

#[test]
fn our_client_may_be_killed_and_started_again() {
    be_our_process();
    if !can_run("our_client_may_be_killed_and_started_again") {
        return;
    }
    let _alone = alone();
    let socket = name();
    let testpmd = Testpmd::start(Testpmd::plain(), "server", &socket, "", 1);
    for _ in 0..3 {
        let mut ours = our_process(
            "our_client_may_be_killed_and_started_again",
            "client",
            &socket,
        );
        wait_for_line(&mut ours, "ready");
        ours.kill();
    }
    testpmd.quit();
}

#[test]
fn our_server_may_be_killed_and_started_again() {
    be_our_process();
    if !can_run("our_server_may_be_killed_and_started_again") {
        return;
    }
    let _alone = alone();
    let socket = name();
    let mut testpmd: Option<Testpmd> = None;
    for round in 0..3 {
        let mut ours = our_process(
            "our_server_may_be_killed_and_started_again",
            "server",
            &socket,
        );
        wait_for_line(&mut ours, "opened");
        // Now and then it crashes on the rings that it freed when its peer was killed: then the
        // next one is a new one, as it would be in a pod.
        let alive = testpmd.as_mut().is_some_and(|testpmd| testpmd.is_alive());
        match &mut testpmd {
            // A testpmd client connects when its port starts, and only then.
            Some(testpmd) if alive => {
                for line in ["stop", "port stop 0", "port start 0", "start"] {
                    testpmd.say(line);
                }
            }
            _ => {
                let started = Testpmd::start(Testpmd::plain(), "client", &socket, "", 1);
                testpmd = Some(started);
            }
        }
        wait_for_line(&mut ours, "ready");
        // The last time testpmd goes first: without a peer its counters are gone.
        if round == 2
            && let Some(testpmd) = testpmd.take()
        {
            assert!(testpmd.quit().rx >= 1000);
        }
        ours.kill();
    }
}
