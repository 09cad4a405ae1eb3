// SPDX-License-Identifier: Apache-2.0
//! `sluicectl demo`: the whole path on one machine, from the programs as they are installed.
//!
//! In network namespaces of its own it sets up a wire host on a trunk, a node with the engine, and
//! pods made by executing the CNI plugins as a container runtime does. Then it shows, from frames
//! read at the far end, that what is allowed is answered, what is denied is not and is counted
//! against the rule that denied it, that a policy changes under traffic, how fast frames go from pod
//! to pod, and that nothing is left of it all at the end.
//!
//! ```text
//!   wire              node                                    pods
//!  trunk0 ═══════ uplink0 ── sluiced ─┬─ @sluicegate/net0 ── vnf   VLAN 210, policy voice
//!  raw socket,                        ├─ @sluicegate/net1 ── vnf   VLAN 220, policy data
//!  own tagger                         ├─ @sluicegate/net1 ── vfirewall   VLAN 210, its own policies
//!                                     ├─ @sluicegate/net2 ── vfirewall   VLAN 220
//!                                     ├─ @sluicegate/net1 ── a     VLAN 230, policy hundred
//!                                     └─ @sluicegate/net1 ── b
//!                 bridge ── veth ─────────────────────────── eth0 of vnf's pod
//! ```
//!
//! `steps` holds one file per step, in the order in which `perform` takes them. Every other file
//! here is one thing that they use. What is made goes in reverse when its value is dropped, so a
//! failure or Ctrl-C at any point cleans up too.
#![forbid(unsafe_code)]

mod columns;
mod counters;
mod engine;
mod failure;
mod frames;
mod home;
mod interface;
mod interrupt;
mod namespace;
mod plan;
mod process;
mod programs;
mod rate;
mod report;
mod runtime;
mod steps;
mod stream;
mod traces;
mod unix_sockets;
mod wire;

use std::path::PathBuf;

use failure::Failure;
use home::Home;
use interrupt::Interrupt;
use programs::Programs;
use report::{Findings, Report};

/// Lines of each program's log that a failure shows.
const LOG_LINES: usize = 25;

/// Options of `sluicectl demo`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Folder of sluiced, sluicegate, sluicegate-vf and vfirewall (and vnf, there or in `examples`); otherwise
    /// they are looked for beside this program and in PATH
    #[arg(long, value_name = "DIR")]
    bin_dir: Option<PathBuf>,

    /// Before taking everything down, or after a failure, wait for Ctrl-C so that one can look around
    #[arg(long)]
    keep: bool,
}

/// Context of every step.
#[derive(Debug)]
struct Scene {
    home: Home,
    programs: Programs,
    interrupt: Interrupt,
}

/// The steps' stage: how each is shown, and what is kept of the one that fails.
struct Stage<'a> {
    scene: &'a Scene,
    report: &'a mut Report,
    keep: bool,
    /// Whether something stands that one can look at: from the end of the first step to the beginning
    /// of the last, which takes it down.
    standing: bool,
    /// Programs that must run, with their pids.
    running: Vec<(&'static str, u32)>,
    log_tail: Vec<String>,
}

impl Stage<'_> {
    /// Takes a step. If it fails, keeps the ends of the logs as they are at that moment.
    fn step<T>(
        &mut self,
        title: &str,
        work: impl FnOnce(&mut Findings) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.scene.interrupt.check()?;
        let result = self.report.step(title, work);
        if let Err(failure) = &result {
            self.log_tail = self.scene.home.log_tails(LOG_LINES);
            for (name, pid) in self
                .running
                .iter()
                .filter(|(_, pid)| process::has_ended(*pid))
            {
                let line = format!("{name}: pid {pid} has ended, and nobody asked it to");
                self.log_tail.push(line);
            }
            if !matches!(failure, Failure::Interrupted) {
                self.look_around("What the steps before this one made stands.");
            }
        }
        result
    }

    /// With `--keep`, waits for Ctrl-C while there is something to look at; `what` says what that is.
    fn look_around(&mut self, what: &str) {
        if !self.keep || !self.standing {
            return;
        }
        let mark = self.scene.home.mark();
        self.report.note(&format!(
            "\n{what} Look around, for example:\n  \
             sluicectl --socket {socket} counters\n  \
             ip netns exec {mark}-pod cat /proc/net/unix\n  \
             ls -R {dir}\nCtrl-C takes it all down.\n",
            socket = self.scene.home.path("run/control/sluiced.sock").display(),
            dir = self.scene.home.dir().display(),
        ));
        while !self.scene.interrupt.asked() {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        self.scene.interrupt.forget();
    }
}

/// Runs the demo, telling on standard output (`json`: an object a line). Whether everything was
/// proven.
#[must_use]
pub fn run(options: &Options, json: bool) -> bool {
    let mut report = Report::new(json);
    let prepared = report.step("what the demo needs", |findings| {
        steps::needs::check(options, findings)
    });
    let scene = match prepared {
        Ok(prepared) => prepared,
        Err(failure) => {
            report.end(Some(&failure), &[]);
            return false;
        }
    };
    let mut stage = Stage {
        scene: &scene,
        report: &mut report,
        keep: options.keep,
        standing: false,
        running: Vec::new(),
        log_tail: Vec::new(),
    };
    // Everything that it made and did not take down itself is taken down when it returns.
    let result = perform(&mut stage);
    let log_tail = stage.log_tail;
    if let Err(failure) = &result {
        for thing in steps::end::settle(&scene) {
            report.note(&format!("left behind: {thing}"));
        }
        report.end(Some(failure), &log_tail);
        return false;
    }
    report.end(None, &[]);
    true
}

/// The steps, in order.
fn perform(stage: &mut Stage<'_>) -> Result<(), Failure> {
    let scene = stage.scene;
    let mut testbed = stage.step(
        "a wire, a node, a trunk between them; the engine",
        |findings| steps::testbed::prepare(scene, findings),
    )?;
    stage.standing = true;
    stage.running.push(("sluiced", testbed.engine.pid()));
    let pod = stage.step(
        "CNI ADD of a pod: eth0 and two data-plane interfaces",
        |findings| steps::pod::add(scene, &testbed, findings),
    )?;
    let mut vnf = stage.step("the VNF in the pod attaches to its memifs", |findings| {
        steps::vnf::start(scene, &testbed, &pod, findings)
    })?;
    stage.running.push(("vnf", vnf.pid()));
    stage.step(
        "allowed traffic is answered, in its VLAN and in no other",
        |findings| steps::allowed::show(scene, &mut testbed, &pod, findings),
    )?;
    stage.step(
        "denied traffic is not, and its rule counts it",
        |findings| steps::denied::show(scene, &mut testbed, &pod, findings),
    )?;
    stage.step("a policy changes under traffic", |findings| {
        steps::change::show(scene, &mut testbed, &pod, findings)
    })?;
    stage.step("eth0 works as it would without the engine", |findings| {
        steps::primary::show(scene, &testbed, &pod, findings)
    })?;
    stage.step(
        "a virtual firewall in a pod, between two VLANs",
        |findings| steps::vfirewall::show(scene, &mut testbed, findings),
    )?;
    let mut pair = stage.step("two more pods; one of them lies about itself", |findings| {
        steps::pair::show(scene, &testbed, findings)
    })?;
    stage.step(
        "64-byte frames from memif to memif through the firewall",
        |findings| steps::rate::show(scene, &testbed, &mut pair, findings),
    )?;
    vnf.check_alive()?;
    testbed.engine.check_alive()?;
    stage.look_around("Everything stands.");
    // From here on they are asked to end.
    stage.standing = false;
    stage.running.clear();
    let cast = steps::end::Cast {
        pair,
        vnf,
        pod,
        testbed,
    };
    stage.step("CNI DEL of everything; nothing is left", |findings| {
        steps::end::take_down(scene, cast, findings)
    })
}
