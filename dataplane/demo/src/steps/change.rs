// SPDX-License-Identifier: Apache-2.0
//! A policy changes while traffic flows: echoes stop, echoes resume, and apart from one gap none is
//! lost or out of order. The other VLAN does not notice.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::allowed::path;
use super::pod::Pod;
use super::testbed::Testbed;
use crate::Scene;
use crate::counters::Reading;
use crate::engine::Engine;
use crate::failure::Failure;
use crate::interrupt::{Interrupt, Poll};
use crate::plan::{self, ECHO_PORT, UPLINK};
use crate::report::Findings;
use crate::stream::{self, Account, Lane};

/// Datagrams a second in the VLAN whose policy changes.
const RATE: u32 = 2000;
/// Datagrams a second in the other one.
const OTHER_RATE: u32 = 500;
/// Echoes that must have come before the first change, and after the second.
const FLOWING: u32 = RATE;
/// For so long no echo comes: they have stopped.
const STOPPED: Duration = Duration::from_millis(400);
/// Longest time for each of these.
const LIMIT: Duration = Duration::from_secs(20);
/// On a machine so busy that the kernel drops frames before the engine gets them, it is shown again.
const ATTEMPTS: usize = 3;

pub(crate) fn show(
    scene: &Scene,
    testbed: &mut Testbed<'_>,
    pod: &Pod<'_>,
    findings: &mut Findings,
) -> Result<(), Failure> {
    for folder in ["changed/drop", "changed/accept"] {
        let made = std::fs::create_dir_all(scene.home.path(folder));
        made.map_err(Failure::broken(format!("make the folder {folder}")))?;
    }
    let mut attempt = 1;
    loop {
        let lanes = [
            Lane::new(path(testbed, &pod.voice), (43_000, ECHO_PORT), RATE),
            Lane::new(path(testbed, &pod.data), (43_001, ECHO_PORT), OTHER_RATE),
        ];
        let before = Reading::take(&testbed.engine)?.kernel_dropped(UPLINK) + testbed.host.missed();
        let (orders, changes) = stream_and_change(scene, testbed, &lanes)?;
        let after = Reading::take(&testbed.engine)?.kernel_dropped(UPLINK) + testbed.host.missed();
        let [changed, other] = &lanes;
        let [changed_order, other_order] = &orders;
        let accounts = Accounts {
            changed: Account::of(changed.sent.load(Ordering::Relaxed), changed_order),
            other: Account::of(other.sent.load(Ordering::Relaxed), other_order),
        };
        match judge(&accounts) {
            Ok(gap) => {
                tell(findings, &accounts, gap, &changes, attempt);
                return Ok(());
            }
            Err(_) if after > before && attempt < ATTEMPTS => {
                findings.line(format!(
                    "(the kernel had no room for {} frames: this machine is busy; once more)",
                    after - before
                ));
                attempt += 1;
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// Results of the datagrams in both VLANs.
#[derive(Debug)]
struct Accounts {
    /// In the one whose policy changed.
    changed: Account,
    /// In the other one.
    other: Account,
}

/// Durations of the changes.
#[derive(Debug)]
struct Changes {
    /// From the start of `sluicectl policies apply` to the last echo.
    stopped: Duration,
    /// From its start to the first echo again.
    resumed: Duration,
}

/// Streams on one thread, changes the policy on this one.
fn stream_and_change(
    scene: &Scene,
    testbed: &mut Testbed<'_>,
    lanes: &[Lane; 2],
) -> Result<([Vec<u32>; 2], Changes), Failure> {
    let stop = AtomicBool::new(false);
    let (host, engine) = (&mut testbed.host, &testbed.engine);
    std::thread::scope(|scope| {
        let streaming = std::thread::Builder::new()
            .name("stream".to_owned())
            .spawn_scoped(scope, || stream::run(host, &scene.interrupt, lanes, &stop))
            .map_err(Failure::broken("start a thread"))?;
        let changed = change(scene, engine, &lanes[0]);
        stop.store(true, Ordering::Relaxed);
        let streamed = streaming
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // Why there were no echoes to wait for is the stream's to say.
        streamed.and_then(|orders| Ok((orders, changed?)))
    })
}

fn change(scene: &Scene, engine: &Engine<'_>, lane: &Lane) -> Result<Changes, Failure> {
    let (home, interrupt) = (&scene.home, &scene.interrupt);
    let drop = home.write("changed/drop/voice.yaml", &plan::voice("drop"))?;
    let accept = home.write("changed/accept/voice.yaml", &plan::voice("accept"))?;
    let echoed = || lane.echoed.load(Ordering::Relaxed);

    more_echoes(interrupt, lane, echoed(), FLOWING)?;
    let asked = Instant::now();
    engine.apply(&drop)?;
    let (mut last, mut last_at) = (echoed(), Instant::now());
    interrupt.wait_for(
        "echoes to stop after the policy was changed to drop",
        LIMIT,
        || {
            if echoed() != last {
                (last, last_at) = (echoed(), Instant::now());
            }
            Ok(if last_at.elapsed() >= STOPPED {
                Poll::Found(())
            } else {
                Poll::NotYet(format!("{last} echoes so far, and more to come"))
            })
        },
    )?;
    let stopped = last_at.duration_since(asked);
    let asked = Instant::now();
    engine.apply(&accept)?;
    more_echoes(interrupt, lane, last, 1)?;
    let resumed = asked.elapsed();
    more_echoes(interrupt, lane, last, FLOWING)?;
    Ok(Changes { stopped, resumed })
}

fn more_echoes(interrupt: &Interrupt, lane: &Lane, start: u32, more: u32) -> Result<(), Failure> {
    interrupt.wait_for(&format!("{more} more echoes"), LIMIT, || {
        let came = lane.echoed.load(Ordering::Relaxed) - start;
        let sent = lane.sent.load(Ordering::Relaxed);
        Ok(if came >= more {
            Poll::Found(())
        } else {
            Poll::NotYet(format!("{came} came; {sent} datagrams were sent so far"))
        })
    })
}

/// The gap, if it is the only one and nothing came out of order.
fn judge(accounts: &Accounts) -> Result<u32, Failure> {
    let Accounts { changed, other } = accounts;
    if changed.missing.len() != 1 || changed.disordered != 0 {
        return Err(Failure::unexpected(
            "echoes in the VLAN whose policy was changed and changed back",
            "all in order, with one gap",
            changed.describe(),
        ));
    }
    if !other.missing.is_empty() || other.disordered != 0 {
        return Err(Failure::unexpected(
            "echoes in the other VLAN",
            "all, in order",
            other.describe(),
        ));
    }
    Ok(changed.lost())
}

fn tell(
    findings: &mut Findings,
    accounts: &Accounts,
    gap: u32,
    changes: &Changes,
    attempts: usize,
) {
    let (changed, other) = (accounts.changed.echoed, accounts.other.echoed);
    let ms = |time: Duration| time.as_millis();
    findings.line(format!(
        "{RATE} datagrams/s: echoes stopped {} ms after `sluicectl policies apply` was begun, and \
         were back {} ms after the second",
        ms(changes.stopped),
        ms(changes.resumed)
    ));
    findings.line(format!(
        "VLAN 210: {changed} echoes in order, one gap of {gap}; VLAN 220 meanwhile: {other} of \
         {other}"
    ));
    findings.fact("echoed", changed);
    findings.fact("gap", gap);
    findings.fact("other_vlan_echoed", other);
    findings.fact("attempts", attempts);
    findings.fact(
        "stopped_after_ms",
        u64::try_from(ms(changes.stopped)).unwrap_or(u64::MAX),
    );
    findings.fact(
        "resumed_after_ms",
        u64::try_from(ms(changes.resumed)).unwrap_or(u64::MAX),
    );
    findings.proven(
        "a policy changes under traffic, in one moment",
        format!("{changed} echoes in order, one gap of {gap}; VLAN 220: none lost"),
    );
}
