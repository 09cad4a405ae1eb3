// SPDX-License-Identifier: Apache-2.0
//! Instruction counts of each stage, per frame or value. They do not depend on how busy the machine is, and
//! hardly on which machine it is: the cost of a change shows in them where times are too noisy.
//!
//! Each stage runs in a child process under `valgrind --tool=cachegrind`, once for a number of rounds and
//! once for three times as many: the difference is the cost of the rounds alone. Valgrind has no AVX-512, so
//! copies and compares take their AVX2 path there.
#![allow(clippy::print_stdout, reason = "it prints figures")]

mod stages;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;

/// Prints `name value instructions` for each stage.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Options {
    /// Only stages whose name has one of these in it
    names: Vec<String>,
    /// Runs one stage for that many rounds and prints nothing: used for the child under valgrind
    #[arg(long, value_names = ["STAGE", "ROUNDS"], num_args = 2)]
    run: Option<Vec<String>>,
    /// Rounds of a stage in the shorter of its two runs
    #[arg(long, default_value_t = 2000)]
    rounds: u32,
}

fn main() -> Result<()> {
    let options = Options::parse();
    if let Some(run) = &options.run {
        let [name, rounds] = &run[..] else {
            bail!("--run takes a stage and a number of rounds")
        };
        let rounds = rounds
            .parse()
            .with_context(|| format!("a number of rounds is not {rounds:?}"))?;
        return stages::find(name)?.run(rounds);
    }
    let program = std::env::current_exe().context("this program's own path")?;
    for stage in stages::ALL {
        let wanted = options.names.iter().any(|part| stage.name.contains(part));
        if !wanted && !options.names.is_empty() {
            continue;
        }
        let short = count(&program, stage.name, options.rounds)?;
        let long = count(&program, stage.name, 3 * options.rounds)?;
        let things = f64::from(2 * options.rounds) * f64::from(stage.per_round);
        println!(
            "{} {:.1} instructions/{}",
            stage.name,
            long.saturating_sub(short) as f64 / things,
            stage.of
        );
    }
    Ok(())
}

/// The instructions of one whole run.
fn count(program: &Path, stage: &str, rounds: u32) -> Result<u64> {
    let out = Command::new("valgrind")
        .args(["--tool=cachegrind", "--cache-sim=no"])
        .arg("--cachegrind-out-file=/dev/null")
        .arg(program)
        .args(["--run", stage, &rounds.to_string()])
        .output()
        .context("valgrind cannot be run (package valgrind on Debian and Ubuntu)")?;
    let said = String::from_utf8_lossy(&out.stderr);
    ensure!(out.status.success(), "{stage} under valgrind: {said}");
    said.lines()
        .find_map(|line| line.split_once("refs:"))
        .and_then(|(_, count)| count.trim().replace(',', "").parse().ok())
        .with_context(|| format!("{stage}: valgrind printed no count: {said}"))
}
