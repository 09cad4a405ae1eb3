// SPDX-License-Identifier: Apache-2.0
//! Two pods in one VLAN, played by this program with the pods' own library; and what becomes of
//! frames that claim to be somebody else's.

use std::sync::Arc;
use std::time::Duration;

use sluice_memif::{FrameList, Memif};
use sluice_packet::arp::{self, ArpFields};
use sluice_packet::build::FrameBuilder;
use sluice_packet::{EtherType, Mac, VlanTag};

use super::allowed::SILENCE;
use super::testbed::Testbed;
use crate::Scene;
use crate::counters::Reading;
use crate::failure::{Failure, expect_eq};
use crate::interface::{Interface, open_memif};
use crate::interrupt::Poll;
use crate::namespace::Namespace;
use crate::plan::{self, LOCAL, RATE_PORT, VOICE};
use crate::report::Findings;
use crate::runtime::{Plugin, Sandbox};

/// Frames of each lie.
const LIES: usize = 10;
/// Longest time for what must be true to show.
const LIMIT: Duration = Duration::from_secs(10);

/// A pod that this program plays.
#[derive(Debug)]
pub(crate) struct Played<'a> {
    // Closed before the DEL.
    pub(crate) memif: Memif,
    pub(crate) interface: Interface,
    pub(crate) sandbox: Sandbox<'a>,
}

/// Two of them.
#[derive(Debug)]
pub(crate) struct Pair<'a> {
    pub(crate) a: Played<'a>,
    pub(crate) b: Played<'a>,
}

pub(crate) fn show<'a>(
    scene: &'a Scene,
    testbed: &Testbed<'_>,
    findings: &mut Findings,
) -> Result<Pair<'a>, Failure> {
    let a = play(scene, testbed, "a")?;
    let b = play(scene, testbed, "b")?;
    let mut pair = Pair { a, b };
    findings.line(format!(
        "a is {} at {}, b is {} at {}, both in VLAN {}, by sluicegate-vf alone",
        pair.a.interface.address,
        pair.a.interface.mac,
        pair.b.interface.address,
        pair.b.interface.mac,
        LOCAL.vid
    ));
    let reasons = lie(scene, testbed, &mut pair)?;
    findings.line(format!(
        "a sent {LIES} frames each as another MAC, another address, another ARP sender, in another \
         VLAN: b got none"
    ));
    let listed: Vec<String> = reasons
        .iter()
        .map(|reason| format!("{reason} {LIES}"))
        .collect();
    findings.line(format!("the engine counted: {}", listed.join(", ")));
    findings.fact("lies", LIES * reasons.len());
    findings.proven(
        "a pod cannot pose as another, nor leave its VLAN",
        format!(
            "{} lies sent, 0 arrived, each counted with its reason",
            LIES * reasons.len()
        ),
    );
    Ok(pair)
}

fn play<'a>(scene: &'a Scene, testbed: &Testbed<'_>, name: &str) -> Result<Played<'a>, Failure> {
    let namespace = format!("{}-{name}", scene.home.mark());
    let namespace = Arc::new(Namespace::add(&scene.programs.ip, &namespace)?);
    let network = (
        Plugin::SluicegateVf,
        "net1",
        plan::attachment(&scene.home, LOCAL),
    );
    let mut sandbox = Sandbox::new(scene, &testbed.node, &namespace, name, network);
    sandbox.add()?;
    let interface = Interface::of(&testbed.engine, &sandbox.container, "net1", LOCAL)?;
    let memif = open_memif(scene, &namespace, &interface)?;
    Ok(Played {
        memif,
        interface,
        sandbox,
    })
}

/// Sends what must not arrive, then one frame that must. The reasons that the lies were dropped for.
fn lie(
    scene: &Scene,
    testbed: &Testbed<'_>,
    pair: &mut Pair<'_>,
) -> Result<Vec<&'static str>, Failure> {
    let (a, b) = (pair.a.interface.clone(), pair.b.interface.clone());
    let stranger = Mac([0x02, 0, 0, 0, 0, 0x66]);
    let truth = || {
        let frame = FrameBuilder::new(b.mac, a.mac)
            .ipv4(a.address, b.address)
            .padded();
        frame.udp(1024, RATE_PORT)
    };
    let arp = ArpFields {
        operation: arp::REPLY,
        sender_mac: a.mac,
        // b would send its traffic for the wire host to a.
        sender_ip: LOCAL.wire_host(),
        target_mac: b.mac,
        target_ip: b.address,
    };
    let other_vlan = VlanTag::new(EtherType::VLAN, VOICE.vid());
    let as_wire_host = FrameBuilder::new(b.mac, a.mac)
        .ipv4(LOCAL.wire_host(), b.address)
        .padded();
    let lies = [
        (
            "spoofed_mac",
            FrameBuilder::new(b.mac, stranger)
                .ipv4(a.address, b.address)
                .udp(1024, RATE_PORT)
                .padded()
                .build(),
        ),
        ("spoofed_ip", as_wire_host.udp(1024, RATE_PORT).build()),
        (
            "spoofed_arp",
            FrameBuilder::new(b.mac, a.mac).arp(arp).padded().build(),
        ),
        ("tag_on_access", truth().tag(other_vlan).build()),
    ];
    let before = Reading::take(&testbed.engine)?;
    for (_, frame) in &lies {
        for _ in 0..LIES {
            send(&mut pair.a.memif, frame)?;
        }
    }
    send(&mut pair.a.memif, &truth().payload(b"the truth").build())?;

    let mut got = FrameList::default();
    let b = &mut pair.b.memif;
    scene
        .interrupt
        .wait_for("the one true frame to arrive", LIMIT, || {
            b.recv(0, 64, &mut got);
            let seen = "nothing arrived".to_owned();
            Ok(if got.is_empty() {
                Poll::NotYet(seen)
            } else {
                Poll::Found(())
            })
        })?;
    scene.interrupt.pause(SILENCE)?;
    b.recv(0, 64, &mut got);
    let mut frames = Vec::new();
    while let Some(frame) = got.pop() {
        frames.push(frame);
    }
    expect_eq(
        "what arrived",
        &vec![truth().payload(b"the truth").build()],
        &frames,
    )?;
    let mut reasons = Vec::new();
    let lied = u64::try_from(LIES).unwrap_or(u64::MAX);
    for (reason, _) in lies {
        scene
            .interrupt
            .wait_for(&format!("{LIES} drops as {reason}"), LIMIT, || {
                let now = Reading::take(&testbed.engine)?.egress_drops(&a.key, reason);
                let more = now - before.egress_drops(&a.key, reason);
                Ok(if more == lied {
                    Poll::Found(())
                } else {
                    Poll::NotYet(format!("{more}"))
                })
            })?;
        reasons.push(reason);
    }
    Ok(reasons)
}

fn send(memif: &mut Memif, frame: &[u8]) -> Result<(), Failure> {
    if memif.send(0, &[frame]) {
        memif.flush();
        return Ok(());
    }
    Err(Failure::unexpected(
        "a pod's memif",
        "room for a frame",
        "none, or the link is down",
    ))
}
