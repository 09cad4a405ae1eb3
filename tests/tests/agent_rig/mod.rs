// SPDX-License-Identifier: Apache-2.0
//! Agent of a node of the engine's rig, in the node's network namespace, with metrics and page at their default
//! addresses.
#![allow(dead_code, reason = "each test binary uses its part of it")]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use sluice_tests::{Process, bin, wait_for};

use crate::engine_rig::{Node, PATIENCE};

/// Default address of the metrics.
pub(crate) const METRICS: &str = "127.0.0.1:10471";
/// Default address of the page.
pub(crate) const PAGE: &str = "127.0.0.1:10472";

/// Running agent.
pub(crate) struct Agent {
    _process: Process,
}

impl Agent {
    /// Starts an agent with the parts `metrics` and `page`; `more` is added to its configuration. Waits until it is
    /// ready.
    pub(crate) fn start(node: &Node, more: &str) -> Agent {
        let config = format!(
            "node: worker-1\nengine_socket: {}\nrun_dir: {}\n{more}",
            node.socket().display(),
            node.path("run").display(),
        );
        let file = node.path("sluice-agent.yaml");
        fs::write(&file, config).unwrap();
        let log = fs::File::create(node.path("agent.log")).unwrap();
        let mut command = Command::new(bin("sluice-agent"));
        command.arg("--config").arg(file).env_remove("NODE_NAME");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let process = node
            .netns
            .enter(move || Process::start(&mut command))
            .unwrap();
        let ready = wait_for("the agent to be ready", PATIENCE, || {
            let answer = ask(node, METRICS, "/readyz", "")?;
            answer.starts_with("HTTP/1.1 200").then_some(())
        });
        let log = fs::read_to_string(node.path("agent.log")).unwrap();
        assert!(ready.is_ok(), "log of the agent:\n{log}");
        Agent { _process: process }
    }
}

/// Asks a server of the node and returns the whole answer; `None` if nobody listens.
pub(crate) fn ask(node: &Node, address: &str, path: &str, headers: &str) -> Option<String> {
    let host = if headers.contains("Host:") {
        String::new()
    } else {
        format!("Host: {address}\r\n")
    };
    let request = format!("GET {path} HTTP/1.1\r\n{host}{headers}Connection: close\r\n\r\n");
    let address = address.to_owned();
    node.netns
        .enter(move || {
            let mut stream = TcpStream::connect(address)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(request.as_bytes())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        })
        .ok()
}

/// Body of an answer.
pub(crate) fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

/// Scrapes the metrics as OpenMetrics or in the Prometheus text format.
pub(crate) fn scrape(node: &Node, open_metrics: bool) -> String {
    let accept = if open_metrics {
        "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n"
    } else {
        "Accept: text/plain;version=0.0.4\r\n"
    };
    let answer = ask(node, METRICS, "/metrics", accept).unwrap();
    let kind = if open_metrics {
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    } else {
        "text/plain; version=0.0.4; charset=utf-8"
    };
    assert!(
        answer.contains(&format!("content-type: {kind}\r\n")),
        "{answer}"
    );
    body(&answer).to_owned()
}
