// SPDX-License-Identifier: Apache-2.0
//! The engine; see [`sluiced::daemon`].
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use sluice_policies as policies;
use sluiced::config::{Config, DEFAULT_FILE, Surroundings};
use sluiced::daemon;

/// Exit code of a run that ended by a signal, in order.
const EXIT_OK: u8 = 0;
/// Exit code of a start that failed, or of an end that left something behind.
const EXIT_FAILED: u8 = 1;
/// The command line or the configuration is wrong (clap's own code).
const EXIT_USAGE: u8 = 2;

const EXAMPLE: &str = concat!(
    "SIGHUP reads the configuration and the policies again; SIGTERM and SIGINT end the engine, which then gives the host \
     everything back. Attachments stay recorded: the next engine serves them again.\n\n\
     Exit codes: 0 ended as told, 1 failed, 2 bad command line or configuration.\n\n\
     The configuration file, all of it:\n\n",
    include_str!("../../../../deploy/sluiced.yaml")
);

/// The engine: polls uplinks and pods, and judges every frame by the policy of its VLAN.
#[derive(Debug, Parser)]
#[command(
    name = "sluiced",
    version,
    about = "The engine: polls uplinks and pods, and judges every frame by the policy of its VLAN.",
    after_help = "`--help` shows the form of the configuration file.",
    after_long_help = EXAMPLE
)]
struct Args {
    /// The configuration, a YAML file
    #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE)]
    config: PathBuf,

    /// Check the configuration and the policies, change nothing, and exit
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let loaded = if args.check {
        Config::load_in(&args.config, &Surroundings::of_this_process())
    } else {
        Config::load(&args.config)
    };
    let config = match loaded {
        Ok(config) => config,
        Err(problems) => {
            eprintln!("{problems}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    ExitCode::from(if args.check {
        check(&config)
    } else {
        run(&config)
    })
}

fn check(config: &Config) -> u8 {
    let folder = policies::PolicyFolder::new(config.policies.clone());
    match folder
        .read()
        .and_then(|files| policies::compile(0, &files, None))
    {
        Ok(compiled) => {
            println!(
                "{} ok, {}, {}",
                count(config.uplinks.len(), "uplink", "uplinks"),
                count(config.workers.len(), "worker", "workers"),
                count(compiled.set.iter().count(), "policy", "policies")
            );
            EXIT_OK
        }
        Err(problems) => {
            for problem in problems {
                let file = folder.path().join(&problem.file);
                match problem.line {
                    0 => eprintln!("{}: {}", file.display(), problem.message),
                    line => eprintln!(
                        "{}:{line}:{}: {}",
                        file.display(),
                        problem.column,
                        problem.message
                    ),
                }
            }
            EXIT_USAGE
        }
    }
}

/// Number with its noun.
fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

fn run(config: &Config) -> u8 {
    let log = match sluice_log::init(&config.log, config.log_format) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("sluiced: {error}");
            return EXIT_FAILED;
        }
    };
    if cfg!(feature = "mutations") {
        tracing::warn!("this build can be told to leave out checks: it is for tests alone");
    }
    match daemon::run(config, log) {
        Ok(()) => {
            tracing::info!("ended");
            EXIT_OK
        }
        Err(error) => {
            tracing::error!("{error}");
            EXIT_FAILED
        }
    }
}
