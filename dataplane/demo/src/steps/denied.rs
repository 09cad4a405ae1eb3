// SPDX-License-Identifier: Apache-2.0
//! Denied traffic: nothing of it is answered, and the counter of the rule that denied it rises by
//! exactly the frames that were sent.

use std::ops::ControlFlow;

use sluice_packet::build::TcpFields;
use sluice_packet::tcp::flag;

use super::allowed::{LIMIT, SILENCE, path, ping};
use super::pod::Pod;
use super::testbed::Testbed;
use crate::Scene;
use crate::counters::{Reading, Rule, expect_refused};
use crate::failure::{Failure, expect_eq};
use crate::frames::{Content, Path};
use crate::plan::{DENIED_PORT, REJECTED_PORT, UNKNOWN_PORT};
use crate::report::Findings;

/// Datagrams to a port that a rule drops.
const DENIED: u16 = 25;
/// Datagrams to a port that no rule speaks of.
const UNKNOWN: u16 = 10;
/// Connections to a port that a rule rejects.
const REJECTED: u16 = 3;
/// First of their source ports, one each.
const FROM: u16 = 42_000;

pub(crate) fn show(
    scene: &Scene,
    testbed: &mut Testbed<'_>,
    pod: &Pod<'_>,
    findings: &mut Findings,
) -> Result<(), Failure> {
    let path = path(testbed, &pod.voice);
    let drops = |testbed: &Testbed<'_>| -> Result<u64, Failure> {
        Ok(Reading::take(&testbed.engine)?.ingress_drops(&pod.voice.key, "denied"))
    };
    let start = drops(testbed)?;
    let rule = ("voice", "ingress", "no-syslog");
    dropped(scene, testbed, &path, (DENIED_PORT, DENIED), rule)?;
    let default = ("voice", "ingress", "default");
    dropped(scene, testbed, &path, (UNKNOWN_PORT, UNKNOWN), default)?;
    let denied = drops(testbed)? - start;
    expect_eq(
        "frames to the pod dropped as denied",
        &u64::from(DENIED + UNKNOWN),
        &denied,
    )?;
    rejected(scene, testbed, &path)?;

    findings.line(format!(
        "{DENIED} datagrams to port {DENIED_PORT}: no answer; rule no-syslog counted {DENIED}, no \
         other rule any"
    ));
    findings.line(format!(
        "{UNKNOWN} datagrams to port {UNKNOWN_PORT}: no answer; the default counted {UNKNOWN}"
    ));
    findings.line(format!(
        "{REJECTED} TCP SYNs to port {REJECTED_PORT}: reset by the engine; rule no-telnet counted \
         {REJECTED}"
    ));
    findings.fact("denied", DENIED);
    findings.fact("default", UNKNOWN);
    findings.fact("rejected", REJECTED);
    findings.proven(
        "denied traffic is not, and the very rule counts it",
        format!("{DENIED} sent, 0 answers on the wire, {DENIED} counted by no-syslog"),
    );
    Ok(())
}

/// Sends datagrams that must not be answered, then pings that must: what is dropped is dropped by
/// then, and the way was open all along.
fn dropped(
    scene: &Scene,
    testbed: &mut Testbed<'_>,
    path: &Path,
    (port, count): (u16, u16),
    rule: Rule<'_>,
) -> Result<(), Failure> {
    let before = Reading::take(&testbed.engine)?;
    for number in 0..count {
        testbed
            .host
            .queue(&path.udp(FROM + number, port, b"not for you"))?;
    }
    testbed.host.flush()?;
    ping(scene, testbed, path, 1)?;
    let mut answers = Vec::new();
    testbed.host.listen(&scene.interrupt, SILENCE, |heard| {
        // Any answer would be to one of these ports, or an ICMP error.
        match heard.what {
            Content::Udp { to, .. } if to >= FROM => answers.push(format!("{heard:?}")),
            Content::Other(_) => answers.push(format!("{heard:?}")),
            _ => {}
        }
        ControlFlow::Continue(())
    })?;
    expect_eq(
        format!("answers to datagrams to port {port}"),
        &Vec::new(),
        &answers,
    )?;
    expect_refused(
        &testbed.engine,
        &scene.interrupt,
        &before,
        rule,
        u64::from(count),
    )
}

/// Sends SYNs that the engine must answer itself, with resets in the pod's name.
fn rejected(scene: &Scene, testbed: &mut Testbed<'_>, path: &Path) -> Result<(), Failure> {
    let before = Reading::take(&testbed.engine)?;
    for number in 0..REJECTED {
        let syn = TcpFields {
            src_port: FROM + number,
            dst_port: REJECTED_PORT,
            seq: 1000,
            ack: 0,
            flags: flag::SYN,
            window: 1024,
        };
        testbed.host.queue(&path.tcp(syn))?;
    }
    testbed.host.flush()?;
    let mut resets = 0;
    testbed.host.listen(&scene.interrupt, LIMIT, |heard| {
        let ends = (heard.from, heard.to) == (path.to, path.from) && heard.vid == path.vid;
        match heard.what {
            Content::Tcp {
                from: REJECTED_PORT,
                flags,
                ack: 1001,
                ..
            } if ends && flags & flag::RST != 0 => {
                resets += 1;
            }
            _ => {}
        }
        if resets == REJECTED {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })?;
    expect_eq("resets in answer to rejected SYNs", &REJECTED, &resets)?;
    let rule = ("voice", "ingress", "no-telnet");
    expect_refused(
        &testbed.engine,
        &scene.interrupt,
        &before,
        rule,
        u64::from(REJECTED),
    )
}
