// SPDX-License-Identifier: Apache-2.0
//! Allowed traffic, both ways through the engine, as the wire host sees it.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::time::Duration;

use sluice_packet::build::TcpFields;
use sluice_packet::tcp::flag;
use sluice_packet::{Mac, Vid};

use super::pod::Pod;
use super::testbed::Testbed;
use crate::Scene;
use crate::counters::{Reading, expect_rise};
use crate::failure::{Failure, expect_eq};
use crate::frames::{Content, Path};
use crate::interface::Interface;
use crate::plan::{ECHO_PORT, VOICE};
use crate::report::Findings;

/// Longest time for an answer on a busy machine.
pub(super) const LIMIT: Duration = Duration::from_secs(10);
/// Time to listen for frames that must not come, after one that must has come.
pub(super) const SILENCE: Duration = Duration::from_millis(300);
/// Pings in each VLAN.
const PINGS: u16 = 5;
/// Datagrams in each VLAN.
const DATAGRAMS: u16 = 20;

pub(crate) fn show(
    scene: &Scene,
    testbed: &mut Testbed<'_>,
    pod: &Pod<'_>,
    findings: &mut Findings,
) -> Result<(), Failure> {
    let before = Reading::take(&testbed.engine)?;
    for interface in [&pod.voice, &pod.data] {
        let path = path(testbed, interface);
        let vid = interface.segment.vid;
        resolve(scene, testbed, &path, interface.mac)?;
        let pings = ping(scene, testbed, &path, PINGS)?;
        let echoes = echo(scene, testbed, &path)?;
        connect(scene, testbed, &path)?;
        findings.line(format!(
            "VLAN {vid}: {} is at {}; {pings} pings, {echoes} UDP echoes and a TCP SYN \
             answered; tags, contents, checksums right",
            interface.address, interface.mac
        ));
        findings.fact(
            &format!("vlan_{vid}"),
            serde_json::json!({"pings": pings, "udp": echoes}),
        );
    }
    let (engine, interrupt) = (&testbed.engine, &scene.interrupt);
    let each = u64::from(DATAGRAMS);
    for rule in [
        ("voice", "ingress", "echo-udp"),
        ("voice", "egress", "echo-udp-answer"),
    ] {
        expect_rise(engine, interrupt, &before, rule, each)?;
    }
    findings.line(format!(
        "rules echo-udp (ingress) and echo-udp-answer (egress) of policy voice: {each} frames each"
    ));
    wrong_vlans(scene, testbed, pod)?;
    findings.line(format!(
        "the same question for {} in VLANs 220, 999 and untagged: no answer",
        pod.voice.address
    ));
    expect_eq("broken frames on the wire", &0, &testbed.host.broken())?;
    findings.proven(
        "allowed traffic is answered, in its own VLAN only",
        format!(
            "{} tagged answers read on the wire",
            2 * (1 + PINGS + DATAGRAMS + 1)
        ),
    );
    Ok(())
}

/// From the wire host to one of the VNF's interfaces.
pub(super) fn path(testbed: &Testbed<'_>, interface: &Interface) -> Path {
    let segment = interface.segment;
    testbed
        .host
        .path_to(segment.vid(), segment.wire_host(), interface.party())
}

/// Asks for the VNF's MAC until it answers, and holds the answer against what the engine says.
pub(super) fn resolve(
    scene: &Scene,
    testbed: &mut Testbed<'_>,
    path: &Path,
    mac: Mac,
) -> Result<(), Failure> {
    for _ in 0..10 {
        testbed.host.send(&path.arp_request())?;
        let mut answer = None;
        testbed.host.listen(&scene.interrupt, LIMIT / 10, |heard| {
            if heard.what == Content::ArpReply && heard.from.1 == path.to.1 {
                answer = Some((heard.vid, heard.from.0));
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        if let Some(answer) = answer {
            let what = format!("the answer to ARP for {}", path.to.1);
            return expect_eq(what, &(path.vid, mac), &answer);
        }
    }
    let what = format!("ARP for {} in VLAN {}", path.to.1, path.vid);
    Err(Failure::unexpected(
        what,
        "an answer",
        "none to 10 requests",
    ))
}

/// Pings; how many were answered, which is all.
pub(super) fn ping(
    scene: &Scene,
    testbed: &mut Testbed<'_>,
    path: &Path,
    count: u16,
) -> Result<usize, Failure> {
    const ID: u16 = 0x5347;
    const DATA: &[u8] = b"is there anybody behind the firewall?";
    for sequence in 1..=count {
        testbed.host.queue(&path.ping(ID, sequence, DATA))?;
    }
    testbed.host.flush()?;
    answers(
        scene,
        testbed,
        path,
        &format!("{count} pings"),
        (1..=count).collect(),
        |what| match what {
            Content::EchoReply {
                id: ID,
                sequence,
                data,
            } if data == DATA => Some(*sequence),
            _ => None,
        },
    )
}

/// Datagrams to the echo port; how many came back, which is all.
fn echo(scene: &Scene, testbed: &mut Testbed<'_>, path: &Path) -> Result<usize, Failure> {
    const FROM: u16 = 40_000;
    let data = |number: u16| format!("datagram {number} in VLAN {}", path.vid).into_bytes();
    for number in 0..DATAGRAMS {
        testbed
            .host
            .queue(&path.udp(FROM + number, ECHO_PORT, &data(number)))?;
    }
    testbed.host.flush()?;
    let expected = (0..DATAGRAMS).collect();
    answers(
        scene,
        testbed,
        path,
        &format!("{DATAGRAMS} datagrams"),
        expected,
        |what| match what {
            Content::Udp {
                from: ECHO_PORT,
                to,
                data: came,
            } => {
                let number = to.checked_sub(FROM)?;
                (*came == data(number)).then_some(number)
            }
            _ => None,
        },
    )
}

/// Listens until all `expected` answers came from the path's other end, in its VLAN.
fn answers(
    scene: &Scene,
    testbed: &mut Testbed<'_>,
    path: &Path,
    what: &str,
    mut expected: BTreeSet<u16>,
    number: impl Fn(&Content) -> Option<u16>,
) -> Result<usize, Failure> {
    let count = expected.len();
    let mut stray = Vec::new();
    testbed.host.listen(&scene.interrupt, LIMIT, |heard| {
        let ends = (heard.from, heard.to) == (path.to, path.from) && heard.vid == path.vid;
        match number(&heard.what) {
            Some(number) if ends && expected.remove(&number) => {}
            // Twice, from elsewhere, or in another VLAN.
            Some(_) => stray.push(format!("{heard:?}")),
            None => {}
        }
        if expected.is_empty() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })?;
    if expected.is_empty() && stray.is_empty() {
        return Ok(count);
    }
    Err(Failure::unexpected(
        format!("answers to {what} to {} in VLAN {}", path.to.1, path.vid),
        "one to each, from there, unchanged",
        format!("none to {expected:?}; besides: {stray:?}"),
    ))
}

/// Opens a TCP connection as far as to see that the VNF takes part, and resets it.
fn connect(scene: &Scene, testbed: &mut Testbed<'_>, path: &Path) -> Result<(), Failure> {
    const PORT: u16 = 41_000;
    let syn = TcpFields {
        src_port: PORT,
        dst_port: ECHO_PORT,
        seq: 0x0102_0304,
        ack: 0,
        flags: flag::SYN,
        window: 1024,
    };
    testbed.host.send(&path.tcp(syn))?;
    let mut answer = None;
    testbed
        .host
        .listen(&scene.interrupt, LIMIT, |heard| match heard.what {
            Content::Tcp {
                from: ECHO_PORT,
                to: PORT,
                flags,
                ack,
                ..
            } => {
                answer = Some((heard.vid, flags & (flag::SYN | flag::ACK | flag::RST), ack));
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
        })?;
    let reset = TcpFields {
        seq: syn.seq + 1,
        flags: flag::RST,
        ..syn
    };
    testbed.host.send(&path.tcp(reset))?;
    let expected = (path.vid, flag::SYN | flag::ACK, syn.seq + 1);
    let what = "the answer to a TCP SYN: VLAN, flags, acknowledged number";
    expect_eq(what, &Some(expected), &answer)
}

/// Asks for the VNF's address of the first VLAN everywhere else, then where it is: only the last is
/// answered.
fn wrong_vlans(scene: &Scene, testbed: &mut Testbed<'_>, pod: &Pod<'_>) -> Result<(), Failure> {
    let right = path(testbed, &pod.voice);
    for vid in [220, 999, 0].into_iter().filter_map(Vid::new) {
        let wrong = Path { vid, ..right };
        testbed.host.queue(&wrong.arp_request())?;
        testbed.host.queue(&wrong.ping(1, 1, b"wrong VLAN"))?;
    }
    testbed.host.flush()?;
    resolve(scene, testbed, &right, pod.voice.mac)?;
    let mut stray = Vec::new();
    testbed.host.listen(&scene.interrupt, SILENCE, |heard| {
        if heard.from.1 == right.to.1 && heard.vid != VOICE.vid() {
            stray.push(format!("{heard:?}"));
        }
        ControlFlow::Continue(())
    })?;
    expect_eq("answers in another VLAN", &Vec::new(), &stray)
}
