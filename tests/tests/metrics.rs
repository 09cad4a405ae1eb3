// SPDX-License-Identifier: Apache-2.0
//! Metrics as Prometheus gets them: a scrape of a real agent beside a real engine, the page that lists the metrics, dashboard and
//! alert rules.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod agent_rig;
mod engine_rig;
#[path = "metrics/monitoring.rs"]
mod monitoring;
#[path = "metrics/table.rs"]
mod table;

use std::collections::BTreeSet;
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use agent_rig::{Agent, METRICS, ask, body, scrape};
use engine_rig::pod::PodMemif;
use engine_rig::{Node, PATIENCE, pod};
use serde_json::{Value, json};
use sluice_api::LinkState;
use sluice_packet::Mac;
use sluice_packet::build::FrameBuilder;
use sluice_tests::{Wire, bin, program_or_skip, root_or_skip, skip, wait_for};

const HOST: Mac = Mac([2, 0, 0, 0, 0xff, 1]);

/// Module that parses OpenMetrics strictly, as the Prometheus project's Python client has it.
const PARSER: &str = "/usr/lib/python3/dist-packages/prometheus_client/openmetrics/parser.py";

fn checkout() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.join("..").canonicalize().unwrap()
}

fn udp(dst: Mac, port: u16) -> Vec<u8> {
    let (host, pod) = (Ipv4Addr::new(10, 21, 0, 1), Ipv4Addr::new(10, 21, 0, 5));
    FrameBuilder::new(dst, HOST)
        .ipv4(host, pod)
        .udp(4000, port)
        .payload(&[7; 40])
        .build()
}

/// Calls a plugin as a runtime does.
fn plugin(node: &Node, name: &str, command: &str, more: Value) {
    let mut conf = json!({
        "cniVersion": "1.1.0", "name": "voice", "type": name,
        "daemonSocket": node.socket(), "runDir": node.path("run"), "cniDir": node.path("cni"),
        "logFile": node.path("plugin.log"),
    });
    for (key, value) in more.as_object().unwrap() {
        conf[key] = value.clone();
    }
    let mut child = Command::new(bin(name))
        .env_clear()
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", "c0ffee")
        .env("CNI_NETNS", "/run/netns/there-is-none")
        .env("CNI_IFNAME", "net1")
        .env("CNI_PATH", "/nowhere")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(conf.to_string().as_bytes()).unwrap();
    drop(input);
    child.wait().unwrap();
}

/// Runs a checker with a scrape on its standard input.
fn accepts(command: &mut Command, scrape: &str) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(scrape.as_bytes()).unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {told}\n{scrape}");
}

#[test]
fn a_scrape_tells_of_the_engine_and_of_the_plugins() {
    let name = "a_scrape_tells_of_the_engine_and_of_the_plugins";
    if !root_or_skip(name) {
        return;
    }
    let node = Node::new();
    let mut engine = node.start();
    let _agent = Agent::start(&node, "metrics: {}\npage: {}\n");
    let mut wire = Wire::open(&node.wire, "wire0").unwrap();
    let pod = pod();
    let hostile = "vnf\"} 1\n# EOF";
    let named = json!({"addresses": ["10.21.0.5/24"],
        "pod": {"namespace": "default", "name": hostile}});
    let reply = node.attach(&pod, "net1", named);
    let mac: Mac = reply.mac.parse().unwrap();
    let mut memif = PodMemif::client(&pod, "net1");
    memif.wait_up();
    node.wait_for_link(&pod, "net1", LinkState::Up);
    wire.send(210, &[udp(mac, 1001), udp(mac, 1002), udp(mac, 2000)])
        .unwrap();
    assert_eq!(memif.receive(2, PATIENCE).len(), 2, "{}", node.log());
    plugin(&node, "sluicegate-vf", "STATUS", json!({}));
    plugin(&node, "sluicegate-vf", "DEL", json!({}));
    plugin(
        &node,
        "sluicegate-vf",
        "ADD",
        json!({"uplink": "wire0", "vlan": 210}),
    );
    plugin(
        &node,
        "sluicegate",
        "ADD",
        json!({"delegates": [{"type": "none"}]}),
    );
    // Hostile reports.
    let reports = sluice_host::operations::socket(&node.path("run"));
    let sender = UnixDatagram::unbound().unwrap();
    sender.send_to(b"\xff{{", &reports).unwrap();

    let labels = "namespace=\"default\",pod=\"vnf\\\"} 1\\n# EOF\",interface=\"net1\"";
    let wanted = [
        "sluicegate_up 1".to_owned(),
        "sluicegate_engine_ready 1".to_owned(),
        "sluicegate_balanced 1".to_owned(),
        format!("sluicegate_attachment_receive_packets_total{{{labels},network=\"wire0\",vlan=\"210\"}} 2"),
        format!("sluicegate_attachment_drops_total{{{labels},direction=\"ingress\",reason=\"denied\"}} 1"),
        "sluicegate_rule_hits_total{policy=\"voice\",rule=\"calls\",direction=\"ingress\",verdict=\"accept\"} 2".to_owned(),
        "sluicegate_uplink_link{uplink=\"wire0\",state=\"up\"} 1".to_owned(),
        "sluicegate_segment_attachments{uplink=\"wire0\",vlan=\"210\",policy=\"voice\"} 1".to_owned(),
        "sluicegate_cni_operation_seconds_count{plugin=\"sluicegate-vf\",command=\"DEL\",outcome=\"ok\"} 1".to_owned(),
        "sluicegate_cni_reports_refused_total 1".to_owned(),
        "sluicegate_agent_part_ready{part=\"page\"} 1".to_owned(),
    ];
    let mut text = String::new();
    let told = wait_for("the figures", PATIENCE, || {
        text = scrape(&node, true);
        wanted
            .iter()
            .all(|wanted| text.lines().any(|line| line == wanted))
            .then_some(())
    });
    let missing: Vec<_> = wanted
        .iter()
        .filter(|w| !text.lines().any(|l| l == *w))
        .collect();
    assert!(told.is_ok(), "{missing:#?} not in:\n{text}");
    for part in [
        "sluicegate_cni_operation_seconds_count{plugin=\"sluicegate-vf\",command=\"ADD\",outcome=\"",
        "sluicegate_cni_operation_seconds_count{plugin=\"sluicegate\",command=\"ADD\",outcome=\"",
        "sluicegate_worker_busy_cycles_total{worker=\"0\"} ",
        "sluicegate_worker_burst_frames_bucket{le=\"+Inf\",worker=\"0\"} ",
    ] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }

    // What is served is in the page's table, word for word.
    let page = table::page();
    for (name, family) in table::served(&text) {
        assert_eq!(page.get(&name), Some(&family), "{name}");
    }
    // Without VFs, device plugins, reaper and refused plugins, the rest of the table is here.
    let served: BTreeSet<String> = table::served(&text).into_keys().collect();
    let absent = page.keys().filter(|name| !served.contains(*name));
    let other = [
        "sluicegate_vf",
        "sriov_",
        "sluicegate_device_pool",
        "sluicegate_reaper",
        "sluicegate_cni_delegate",
        "sluicegate_uplink_nic",
        "sluicegate_connections_refused",
        "sluicegate_invalid_packets",
        "sluicegate_worker_drops",
        "sluicegate_uplink_drops",
    ];
    for name in absent {
        assert!(
            other.iter().any(|other| name.starts_with(other)),
            "{name} is not served"
        );
    }

    if program_or_skip(name, "promtool") {
        let plain = scrape(&node, false);
        accepts(Command::new("promtool").args(["check", "metrics"]), &plain);
    }
    if Path::new(PARSER).exists() {
        let code = "import sys; from prometheus_client.openmetrics.parser import text_string_to_metric_families as p; \
                    print(len(list(p(sys.stdin.read()))))";
        accepts(Command::new("/usr/bin/python3").args(["-c", code]), &text);
    } else {
        skip(name, "needs the package python3-prometheus-client");
    }

    // The engine goes: nothing of it stays.
    engine.kill();
    let text = scrape(&node, true);
    assert!(text.contains("\nsluicegate_up 0\n"), "{text}");
    assert!(
        !text.contains("sluicegate_attachment") && !text.contains("sluicegate_worker"),
        "{text}"
    );
    assert!(
        text.contains("sluicegate_cni_operation_seconds_count"),
        "{text}"
    );
}

#[test]
fn probes_tell_of_every_part() {
    if !root_or_skip("probes_tell_of_every_part") {
        return;
    }
    let node = Node::new();
    // The page's address is one that the node has not.
    let config = "metrics: {}\npage: {listen: '192.0.2.1:80'}\n";
    let file = node.path("sluice-agent.yaml");
    let text = format!("run_dir: {}\n{config}", node.path("run").display());
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(bin("sluice-agent"));
    command.arg("--config").arg(file).stderr(Stdio::null());
    let _agent = node
        .netns
        .enter(move || sluice_tests::Process::start(&mut command))
        .unwrap();
    let troubled = wait_for("a part with a problem", PATIENCE, || {
        let answer = ask(&node, METRICS, "/readyz", "")?;
        let parts: Value = serde_json::from_str(body(&answer)).ok()?;
        let problem = parts["parts"]["page"]["problem"].as_str()?.to_owned();
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert_eq!(parts["ok"], false);
        Some(problem)
    });
    let problem = troubled.unwrap();
    assert!(
        problem.contains("192.0.2.1:80") && problem.contains("`page.listen`"),
        "{problem}"
    );
    let alive = ask(&node, METRICS, "/healthz", "").unwrap();
    assert!(alive.starts_with("HTTP/1.1 200"), "{alive}");
}
