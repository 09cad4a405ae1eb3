// SPDX-License-Identifier: Apache-2.0
//! Runs cases, each in a process and a process group of its own, with a limit.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};
use sluice_tests::wait_for;

use crate::cases::Case;
use crate::kubernetes::Keeper;
use crate::results::Results;
use crate::rig::Rig;
use crate::stuck;

/// Environment variable with the path for the verdict of a case's process.
const VERDICT: &str = "SLUICE_CASE_VERDICT";

/// Outcome of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    Passed,
    Failed,
    Skipped,
    /// Machine lost during the case. It is in the results from the case's start on, until it ends.
    Lost,
}

/// Result of a case.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ran {
    pub(crate) case: String,
    pub(crate) outcome: Outcome,
    /// Number of times the case was begun: more than once if a machine was lost during it.
    pub(crate) begun: u32,
    pub(crate) seconds: f64,
    /// Reason for a failure or skip, in one line.
    pub(crate) why: String,
    /// Further findings, for people.
    pub(crate) notes: Vec<String>,
}

/// Verdict of a case's process.
#[derive(Debug, Serialize, Deserialize)]
struct Verdict {
    outcome: Outcome,
    why: String,
    notes: Vec<String>,
}

/// Reason for which a case cannot run here: an error that is not a failure.
#[derive(Debug)]
pub(crate) struct Skip(pub(crate) String);

impl std::fmt::Display for Skip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skip {}

/// Runs `case` in this process.
pub(crate) fn this(rig: &Rig, case: &Case) -> ExitCode {
    let result = rig.prepare().and_then(|()| (case.run)(rig));
    let cleaned = rig.clean();
    let (outcome, why) = match result.and(cleaned) {
        Ok(()) => (Outcome::Passed, String::new()),
        Err(error) if error.is::<Skip>() => (Outcome::Skipped, format!("{error:#}")),
        Err(error) => {
            rig.show_logs();
            (Outcome::Failed, format!("{error:#}"))
        }
    };
    let verdict = Verdict {
        outcome,
        why: why.replace('\n', " "),
        notes: rig.notes(),
    };
    let text = serde_json::to_string(&verdict).unwrap_or_default();
    match std::env::var_os(VERDICT) {
        Some(path) => {
            if let Err(error) = std::fs::write(&path, text) {
                eprintln!("cannot write {}: {error}", Path::new(&path).display());
            }
        }
        None => println!("{text}"),
    }
    ExitCode::from(u8::from(outcome == Outcome::Failed))
}

/// Runs the cases one after the other, except those that are done in `results`. Returns whether this machine
/// can run another case: false if a case's process cannot be ended.
pub(crate) fn all(rig: &Rig, cases: &[&Case], results: &mut Results) -> Result<bool> {
    let folder = tempfile::tempdir()?;
    let mut cluster = None;
    for case in cases {
        let Some(begun) = results.begin(case.name)? else {
            continue;
        };
        if case.cluster && cluster.is_none() {
            cluster = Keeper::start(rig, folder.path())?;
        } else if !case.cluster {
            cluster = None;
        }
        println!("== {}: {}", case.name, case.what);
        let (mut ran, good) = one(rig, case, &folder.path().join(case.name), cluster.as_ref())?;
        ran.begun = begun;
        match ran.outcome {
            Outcome::Passed => println!("   passed in {:.1} s", ran.seconds),
            Outcome::Failed | Outcome::Lost => {
                println!("   FAILED after {:.1} s: {}", ran.seconds, ran.why);
            }
            Outcome::Skipped => {
                println!("SKIP {}: {}", ran.case, ran.why);
                sluice_tests::skip(&ran.case, &ran.why);
            }
        }
        results.end(ran)?;
        if !good {
            return Ok(false);
        }
    }
    Ok(true)
}

fn one(rig: &Rig, case: &Case, verdict: &Path, cluster: Option<&Keeper>) -> Result<(Ran, bool)> {
    let program = std::env::current_exe().context("where this program is")?;
    let mut command = Command::new(program);
    command.args(["--one", case.name, "--pf", &rig.pf]);
    if let Some(wire) = &rig.wire {
        command.args(["--wire", wire]);
    }
    if rig.vm {
        command.arg("--vm");
    }
    command.env(VERDICT, verdict).process_group(0);
    if let Some(cluster) = cluster {
        cluster.tell(&mut command);
    }
    let start = Instant::now();
    let mut child = command.spawn().context("cannot start the case")?;
    let group = Pid::from_child(&child);
    let limit = Duration::from_secs(case.limit);
    let ended = wait_for("the case", limit, || child.try_wait().ok().flatten());
    if ended.is_err() {
        println!("{}", stuck::where_they_are(group));
    }
    // Whatever it started and left running is in its group.
    let _ = kill_process_group(group, Signal::KILL);
    let gone = || child.try_wait().ok().flatten();
    let good = wait_for("the case's end", Duration::from_secs(30), gone).is_ok();
    let seconds = start.elapsed().as_secs_f64();
    let said = std::fs::read_to_string(verdict)
        .ok()
        .and_then(|text| serde_json::from_str::<Verdict>(&text).ok());
    let verdict = match (ended, said) {
        (Ok(_), Some(verdict)) => verdict,
        (Ok(status), None) => failed(format!("its process ended with {status}")),
        (Err(_), _) if good => failed(format!("not done after {} s", case.limit)),
        (Err(_), _) => failed(format!(
            "not done after {} s, and its process cannot be ended",
            case.limit
        )),
    };
    let ran = Ran {
        case: case.name.to_owned(),
        outcome: verdict.outcome,
        begun: 1,
        seconds,
        why: verdict.why,
        notes: verdict.notes,
    };
    Ok((ran, good))
}

fn failed(why: String) -> Verdict {
    Verdict {
        outcome: Outcome::Failed,
        why,
        notes: Vec::new(),
    }
}
