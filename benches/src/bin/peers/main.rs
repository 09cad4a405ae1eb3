// SPDX-License-Identifier: Apache-2.0
//! Figures of this machine, one a line (`name value unit`), under the names that programs for other
//! data planes print theirs by: see `benches/README.md`.

mod acl;
mod connections;
mod engine;
mod frames;
mod hash;
mod kernel;
mod latency;
mod memif;
mod mempool;
mod pmd;
mod probe;
mod report;
mod ring;
mod side;
mod timing;
mod workers;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use clap::{Args, Parser, Subcommand, ValueEnum};

use report::Windows;

#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Measures sections, all of them unless some are named
    Run(Options),
    /// Runs this side of a memif, for any peer at the other end
    Side(side::Side),
}

/// Group of figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Section {
    Ring,
    Mempool,
    Acl,
    Hash,
    Connections,
    Pmd,
    Workers,
    Memif,
    Kernel,
    Latency,
}

/// Options of a measuring run.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    sections: Vec<Section>,
    /// Seconds for each figure of two cores; longer, up to four times, until the cores were near
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Folder of rule sets and traces for `acl`
    #[arg(long)]
    acl_data: Option<PathBuf>,
}

impl Options {
    /// Whether a figure of two cores that began at `begin` needs more windows.
    fn goes_on(&self, begin: Instant, windows: &Windows) -> bool {
        let spent = begin.elapsed().as_secs_f64();
        spent < self.seconds || (windows.near() < 3 && spent < 4.0 * self.seconds)
    }

    /// Pins this thread to `core`, if the machine has it.
    #[allow(clippy::unused_self, reason = "where a run's cores come from")]
    fn pin(&self, core: usize) {
        pin(core);
    }
}

/// Pins this thread to `core`, if the machine has it.
fn pin(core: usize) {
    core_affinity::set_for_current(core_affinity::CoreId { id: core });
}

fn main() -> Result<()> {
    match Cli::parse().what {
        What::Run(options) => run(&options),
        What::Side(side) => side.run(),
    }
}

fn run(options: &Options) -> Result<()> {
    // Before any section pins this thread to one of them.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let all = [
        Section::Ring,
        Section::Mempool,
        Section::Acl,
        Section::Hash,
        Section::Connections,
        Section::Pmd,
        Section::Workers,
        Section::Memif,
        Section::Kernel,
        Section::Latency,
    ];
    let sections = if options.sections.is_empty() {
        &all[..]
    } else {
        &options.sections
    };
    for section in sections {
        println!("# {}: load {}", name(*section), load());
        match section {
            Section::Ring => ring::run(options)?,
            Section::Mempool => mempool::run(options)?,
            Section::Acl => acl::run(options)?,
            Section::Hash => hash::run(options)?,
            Section::Connections => connections::run(options)?,
            Section::Pmd => pmd::run(options)?,
            Section::Workers => workers::run(options, cores)?,
            Section::Memif => memif::run(options)?,
            Section::Kernel => kernel::run(options)?,
            Section::Latency => latency::run(options)?,
        }
    }
    Ok(())
}

fn name(section: Section) -> String {
    section
        .to_possible_value()
        .map_or_else(String::new, |value| value.get_name().to_owned())
}

fn load() -> String {
    std::fs::read_to_string("/proc/loadavg")
        .unwrap_or_default()
        .trim_end()
        .to_owned()
}
