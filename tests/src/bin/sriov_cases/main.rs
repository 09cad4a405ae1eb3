// SPDX-License-Identifier: Apache-2.0
//! The cases of `make test-sriov`: our own release binaries over real VFs of an SR-IOV PF, emulated in
//! a virtual machine (`tests/sriov/vm.sh`) or in the hardware that `SLUICEGATE_PF` names.
//!
//! Each case runs as a process of its own: what goes wrong in it, or hangs, ends with it, and the
//! next one finds the PF without VFs.

mod cases;
mod engine;
mod far;
mod kubernetes;
mod report;
mod results;
mod rig;
mod run;
mod stuck;
mod testpmd;
mod vf;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use results::Results;
use rig::Rig;

/// Exit code for a lost machine: a case's process cannot be ended, so no other case can run on it.
const LOST: u8 = 125;

/// Proves the SR-IOV cases on the PFs of this machine.
#[derive(Debug, Parser)]
struct Args {
    /// Runs only the cases whose name begins so; may be given several times.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Lists the cases and ends.
    #[arg(long)]
    list: bool,
    /// File for the results, as JSON.
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
    /// Continues an earlier run: cases in the results are not run again.
    #[arg(long, requires = "results")]
    resume: bool,
    /// PF that the cases use.
    #[arg(long, env = "SLUICEGATE_PF", default_value = "enp12s0f0")]
    pf: String,
    /// Netdev at the other end of the PF's cable; without it, cases that need it are skipped.
    #[arg(long, env = "SLUICEGATE_WIRE")]
    wire: Option<String>,
    /// Says that this is the virtual machine, a node with the PFs of the documents' examples.
    #[arg(long)]
    vm: bool,
    /// Runs this case in this process; the runner calls itself with it.
    #[arg(long, hide = true)]
    one: Option<String>,
    /// Runs the node's part of Kubernetes and tells of it in this file; the runner calls itself with it.
    #[arg(long, hide = true, value_name = "FILE")]
    node: Option<PathBuf>,
    /// Runs etcd and kube-apiserver on the host, with their state in this folder, until standard input ends.
    #[arg(long, hide = true, value_name = "FOLDER")]
    api_server: Option<PathBuf>,
    /// Leaves out the cases that need Kubernetes on the machine.
    #[arg(long)]
    without_cluster: bool,
}

fn main() -> ExitCode {
    match real_main() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("sriov-cases: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn real_main() -> Result<ExitCode> {
    let mut args = Args::parse();
    args.wire = args.wire.filter(|name| !name.is_empty());
    let all = cases::all();
    if args.list {
        for case in &all {
            println!("{:<28} {}", case.name, case.what);
        }
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(folder) = &args.api_server {
        kubernetes::serve(folder)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(running) = &args.node {
        kubernetes::node(running)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rig = Rig::new(&args.pf, args.wire.as_deref(), args.vm)?;
    if let Some(name) = &args.one {
        let case = all.iter().find(|case| case.name == name);
        let case = case.with_context(|| format!("there is no case {name}"))?;
        return Ok(run::this(&rig, case));
    }
    rig.check_idle()?;
    let named = |case: &&cases::Case| {
        let mut names = args.only.iter();
        names.any(|only| case.name.starts_with(only.as_str()))
    };
    let mut chosen: Vec<_> = if args.only.is_empty() {
        all
    } else {
        all.into_iter().filter(named).collect()
    };
    chosen.retain(|case| !(args.without_cluster && case.cluster));
    anyhow::ensure!(!chosen.is_empty(), "no case has such a name: see --list");
    let mut results = Results::new(args.results.as_deref(), args.resume)?;
    if !run::all(&rig, &chosen, &mut results)? {
        return Ok(ExitCode::from(LOST));
    }
    let results = results.ran();
    report::print(results, rig.vm);
    let failed = results
        .iter()
        .any(|one| matches!(one.outcome, run::Outcome::Failed | run::Outcome::Lost));
    Ok(ExitCode::from(u8::from(failed)))
}
