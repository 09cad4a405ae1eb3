// SPDX-License-Identifier: Apache-2.0
//! Requests on the control socket by share: whoever opens many connections, sends slowly, sends too much
//! or never reads keeps nobody from attaching.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod engine_rig;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use engine_rig::{Node, PATIENCE, pod};
use serde_json::json;
use sluice_tests::{Process, root_or_skip, wait_for};

/// Variable that makes this program one of a crowd, on the socket that it names.
const CROWD: &str = "SLUICE_TEST_CROWD";
/// Connections that each of a crowd opens.
const CONNECTIONS: usize = 200;

/// Head of a request whose body is `length` bytes long.
fn head(method: &str, path: &str, length: usize) -> String {
    format!("{method} {path} HTTP/1.1\r\nhost: sluiced\r\ncontent-length: {length}\r\n\r\n")
}

/// Opens connections to the socket, leaves most of them idle, sends slowly on others, and asks without
/// reading on the rest, until it is killed.
fn crowd(socket: &str) {
    let mut streams = Vec::new();
    for number in 0..CONNECTIONS {
        let Ok(mut stream) = UnixStream::connect(socket) else {
            continue;
        };
        let begin = match number % 8 {
            0 => head("POST", "/v1/attachments", 1000),
            1 => head("PUT", "/v1/policies", 30 << 20),
            2 => "GET /v1/sta".to_owned(),
            3 => head("GET", "/v1/status", 0),
            _ => String::new(),
        };
        let _ = stream.write_all(begin.as_bytes());
        streams.push(stream);
    }
    loop {
        std::thread::sleep(Duration::from_millis(500));
        for stream in &mut streams {
            let _ = stream.write_all(b" ");
        }
    }
}

/// Starts one of a crowd: this program again, with this test alone.
fn start_crowd(node: &Node, test: &str) -> Process {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", test, "--test-threads=1"])
        .env(CROWD, node.socket())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Process::start(&mut command).unwrap()
}

#[test]
fn a_crowd_on_the_control_socket_keeps_nobody_from_attaching() {
    let test = "a_crowd_on_the_control_socket_keeps_nobody_from_attaching";
    if let Some(socket) = std::env::var_os(CROWD) {
        return crowd(&socket.to_string_lossy());
    }
    if !root_or_skip(test) {
        return;
    }
    let node = Node::new();
    let engine = node.start();
    let files = || {
        std::fs::read_dir(format!("/proc/{}/fd", engine.pid()))
            .unwrap()
            .count()
    };
    let before = files();
    // More than may be open at once, even if each has its full share.
    let crowd: Vec<Process> = (0..10).map(|_| start_crowd(&node, test)).collect();
    let requests = || node.client().status().unwrap().requests;
    wait_for("the crowd", PATIENCE, || {
        (requests().turned_away > 500).then_some(())
    })
    .unwrap();
    for number in 0..20 {
        let pod = pod();
        node.attach(&pod, "net1", json!({}));
        assert!(node.client().detach(pod.name(), "net1").unwrap().existed);
        let open = files();
        assert!(
            open < before + 400,
            "{number}: {open} files, {before} before"
        );
    }
    let slow = || (requests().timed_out > 0).then_some(());
    wait_for("slow peers to be given up", PATIENCE, slow).unwrap();
    let found = requests();
    assert!(found.answered >= 40, "{found:?}");
    let lines = node.log();
    let lines = lines
        .lines()
        .filter(|line| line.contains("a control connection was closed"));
    assert!(lines.count() < 60, "{}", node.log());
    drop(crowd);
    let back = || (files() <= before).then_some(());
    wait_for("all connections to be gone", PATIENCE, back).unwrap();
}

#[test]
fn requests_that_are_too_long_are_refused_unread() {
    if !root_or_skip("requests_that_are_too_long_are_refused_unread") {
        return;
    }
    let node = Node::new();
    let _engine = node.start();
    for (method, path, length, limit) in [
        ("POST", "/v1/attachments", 300 << 10, "262144 bytes"),
        ("PUT", "/v1/policies", 33 << 20, "33554432 bytes"),
        ("POST", "/v1/policies/check", 1 << 40, "33554432 bytes"),
    ] {
        let mut stream = UnixStream::connect(node.socket()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = head(method, path, length);
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 422"), "{answer}");
        assert!(answer.contains(limit), "{answer}");
    }
    // Sent in chunks, so that its length is not known before.
    let mut stream = UnixStream::connect(node.socket()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = "POST /v1/attachments HTTP/1.1\r\nhost: s\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    // The engine may close before all is sent.
    while stream.write_all(chunk.as_bytes()).is_ok() {}
    let mut answer = String::new();
    // What it said comes before the end of the connection, or is lost with it.
    if stream.read_to_string(&mut answer).is_ok() && !answer.is_empty() {
        assert!(answer.contains("262144 bytes"), "{answer}");
    }
    assert!(node.client().health().unwrap().ready);
}
