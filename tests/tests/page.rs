// SPDX-License-Identifier: Apache-2.0
//! The agent's page in a real browser, beside a real engine with traffic: what the browser shows after some polls.
//! With `SLUICE_SCREENSHOT=FILE` the picture of the documents is taken too.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod agent_rig;
mod engine_rig;

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use agent_rig::{Agent, PAGE, ask, body, scrape};
use engine_rig::pod::PodMemif;
use engine_rig::{Engine, Node, pod};
use serde_json::{Value, json};
use sluice_packet::Mac;
use sluice_packet::build::FrameBuilder;
use sluice_tests::{Netns, Wire, program_or_skip, root_or_skip, run};
use tempfile::TempDir;

const HOST: Mac = Mac([2, 0, 0, 0, 0xff, 1]);
/// Policy of VLAN 220.
const DATA: &str = "\
name: data
vlans: [220]
default: {ingress: accept, egress: accept}
";

/// Pods of the picture: name, namespace, VLAN (0: a trunk of both).
const PODS: [(&str, &str, u16); 9] = [
    ("vfirewall", "edge", 0),
    ("sbc-0", "voice", 210),
    ("sbc-1", "voice", 210),
    ("media-gateway", "voice", 210),
    ("sip-recorder", "voice", 210),
    ("upf-0", "core", 220),
    ("upf-1", "core", 220),
    ("packet-broker", "lab", 220),
    ("orphan", "lab", 230),
];

fn mac(reply: &str) -> Mac {
    reply.parse().unwrap()
}

fn frame(dst: Mac, port: u16, length: usize) -> Vec<u8> {
    let (host, pod) = (Ipv4Addr::new(10, 21, 0, 1), Ipv4Addr::new(10, 21, 0, 5));
    FrameBuilder::new(dst, HOST)
        .ipv4(host, pod)
        .udp(4000, port)
        .payload(&vec![7; length])
        .build()
}

/// Runs the browser in a namespace, on the page, for `ms` of its own time, which passes as fast as the page is
/// answered. Returns what it printed.
fn browse(netns: &str, ms: u32, what: &str) -> String {
    let profile = TempDir::with_prefix("sluice-browser-").unwrap();
    let mut command = Command::new("ip");
    command.args(["netns", "exec", netns, "timeout", "180", "chromium"]);
    command.args([
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
    ]);
    command.args(["--disable-background-networking", "--disable-extensions"]);
    command.args([
        "--hide-scrollbars",
        "--disable-dev-shm-usage",
        "--window-size=1360,1000",
    ]);
    command.arg(format!("--user-data-dir={}", profile.path().display()));
    command.arg(format!("--virtual-time-budget={ms}"));
    command.arg(what).arg(format!("http://{PAGE}/"));
    command.env("HOME", profile.path()).env_remove("DISPLAY");
    run(&mut command).unwrap()
}

/// Text of the document between the tags.
fn text(document: &str) -> String {
    let mut text = String::new();
    for part in document.split('<').skip(1) {
        if let Some((_, shown)) = part.split_once('>') {
            text.push_str(shown.trim());
            text.push(' ');
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Node with the pods of the picture.
struct Scene {
    node: Node,
    _engine: Engine,
    _agent: Agent,
    pods: Vec<(Arc<Netns>, Mac, PodMemif)>,
}

fn scene() -> Scene {
    let node = Node::new();
    node.write_policy("data.yaml", DATA);
    let engine = node.start();
    let agent = Agent::start(&node, "metrics: {}\npage: {}\n");
    let mut pods = Vec::new();
    for (name, namespace, vid) in PODS {
        let vlan = if vid == 0 {
            json!({"mode": "trunk", "vids": [210, 220]})
        } else {
            json!({"mode": "access", "vid": vid})
        };
        let netns = pod();
        let with = json!({"vlan": vlan, "pod": {"namespace": namespace, "name": name}});
        let reply = node.attach(&netns, "net1", with);
        let memif = PodMemif::client(&netns, "net1");
        pods.push((netns, mac(&reply.mac), memif));
    }
    for (_, _, memif) in &mut pods {
        memif.wait_up();
    }
    Scene {
        node,
        _engine: engine,
        _agent: agent,
        pods,
    }
}

/// Says that the browser is done, also if it failed.
struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Sends frames to and from the pods until `end` is set.
fn traffic(scene: &mut Scene, end: &AtomicBool) {
    let mut wire = Wire::open(&scene.node.wire, "wire0").unwrap();
    while !end.load(Ordering::Relaxed) {
        for (number, (_, mac, memif)) in scene.pods.iter_mut().enumerate() {
            let vid = match PODS[number].2 {
                0 => 210,
                230 => continue,
                vid => vid,
            };
            // One in five is to a port that the voice policy denies.
            let frames: Vec<Vec<u8>> = (0..5 + 2 * number)
                .map(|n| {
                    frame(
                        *mac,
                        if n % 5 == 4 { 5060 } else { 1000 },
                        200 + 120 * number,
                    )
                })
                .collect();
            wire.send(vid, &frames).unwrap();
            memif.receive(64, Duration::from_millis(1));
            let answer = FrameBuilder::new(HOST, *mac)
                .ipv4(Ipv4Addr::new(10, 21, 0, 5), Ipv4Addr::new(10, 21, 0, 1))
                .udp(1000, 4000)
                .payload(&vec![1; 300])
                .build();
            for _ in 0..4 {
                memif.try_send(&answer);
            }
        }
    }
}

#[test]
fn a_browser_shows_networks_vlans_and_pods_with_their_rates() {
    let name = "a_browser_shows_networks_vlans_and_pods_with_their_rates";
    if !root_or_skip(name) || !program_or_skip(name, "chromium") {
        return;
    }
    let mut scene = scene();
    // Markup in a pod's name.
    let hostile = pod();
    let evil = "<img src=x onerror=document.title='owned'><b>bold</b>";
    let with = json!({"pod": {"namespace": "\"><script>1</script>", "name": evil}});
    scene.node.attach(&hostile, "net1", with);
    let answer = ask(&scene.node, PAGE, "/api/node", "").unwrap();
    for header in [
        "content-security-policy: default-src 'none'; script-src 'self'",
        "x-content-type-options: nosniff",
        "cache-control: no-store",
    ] {
        assert!(answer.contains(header), "{header}: {answer}");
    }
    let figures: Value = serde_json::from_str(body(&answer)).unwrap();
    assert_eq!(
        figures["attachments"].as_array().unwrap().len(),
        PODS.len() + 1
    );
    // A name that is not the machine's is that of some other page.
    let foreign = ask(
        &scene.node,
        PAGE,
        "/api/node",
        "Host: evil.example:10472\r\n",
    )
    .unwrap();
    assert!(foreign.starts_with("HTTP/1.1 421"), "{foreign}");

    let end = AtomicBool::new(false);
    let netns = scene.node.netns.name().to_owned();
    let screenshot = std::env::var("SLUICE_SCREENSHOT").ok();
    let document = std::thread::scope(|scope| {
        let browser = scope.spawn(|| {
            let _end = OnDrop(&end);
            if let Some(file) = screenshot {
                browse(&netns, 60_000, &format!("--screenshot={file}"));
            }
            browse(&netns, 9000, "--dump-dom")
        });
        traffic(&mut scene, &end);
        browser.join().unwrap()
    });
    let shown = text(&document);
    for part in [
        "worker-1",
        "VLAN 210",
        "policy voice",
        "VLAN 220",
        "policy data",
        "media-gateway",
        "sbc-0",
        "no policy: carries nothing",
        "denied",
        "page: ready",
        "9 connected",
    ] {
        assert!(shown.contains(part), "{part} is not in:\n{shown}");
    }
    // Rates of two polls: something flows.
    assert!(
        shown.contains("bit/s") && shown.contains("pkt/s"),
        "{shown}"
    );
    let figure = |id: &str| {
        let at = document.split(&format!("id=\"{id}\"")).nth(1).unwrap();
        let shown = at.split_once('>').unwrap().1;
        shown.split('<').next().unwrap().to_owned()
    };
    assert!(
        figure("t-in").contains("bit/s") && !figure("t-in").starts_with('0'),
        "{}",
        figure("t-in")
    );
    assert!(
        figure("t-out").contains("bit/s") && !figure("t-out").starts_with('0'),
        "{}",
        figure("t-out")
    );
    // The names are text, and no script of theirs ran.
    assert!(document.contains("&lt;img src=x"), "{shown}");
    assert!(
        !document.contains("<img") && !document.contains("<title>owned"),
        "{document}"
    );
    let pods = document.matches("class=\"pod").count();
    assert!(
        pods >= PODS.len() + 2,
        "a trunk is in each of its VLANs: {pods}"
    );
}

#[test]
fn a_browser_shows_a_thousand_attachments() {
    let name = "a_browser_shows_a_thousand_attachments";
    if !root_or_skip(name) || !program_or_skip(name, "chromium") {
        return;
    }
    let node = Node::new();
    let _engine = node.start();
    let _agent = Agent::start(&node, "metrics: {max_attachments: 100}\npage: {}\n");
    let netns = pod();
    for number in 0..1000 {
        let with = json!({"pod": {"namespace": "many", "name": format!("pod-{number:03}")}});
        node.attach(&netns, &format!("net{number}"), with);
    }
    let document = browse(node.netns.name(), 5000, "--dump-dom");
    let shown = text(&document);
    for part in [
        "1,000",
        "1000 pods",
        "Show all 1,000",
        "pod-000",
        "0 connected",
    ] {
        assert!(shown.contains(part), "{part} is not in:\n{shown}");
    }
    assert_eq!(document.matches("<li class=\"pod").count(), 24);
    // The scrape stays within its bound.
    let scraped = scrape(&node, true);
    assert!(scraped.contains("\nsluicegate_series_left_out 900\n"));
    let series = scraped
        .lines()
        .filter(|line| line.starts_with("sluicegate_attachment_up{"));
    assert_eq!(series.count(), 101);
}
