// SPDX-License-Identifier: Apache-2.0
//! The operator's tool: asks the engine over its control socket and shows what it says.
//!
//! Answers go to standard output, as tables or (`--json`) as JSON; complaints go to standard error.
//! Exit codes: [`EXIT_OK`], [`EXIT_REFUSED`], [`EXIT_USAGE`], [`EXIT_DOWN`].
#![forbid(unsafe_code)]

mod args;
mod attachments;
mod check;
mod counters;
mod doctor;
mod drain;
mod install;
mod output;
mod policies;
mod records;
mod reload;
mod tables;
mod vfs;
mod vfs_create;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use sluice_api::PolicyProblem;
use sluice_api::client::{Client, ClientError};

pub use args::Args;
use args::{Command, PolicyCommand, VfCommand};
use output::Output;

/// Exit code: done.
pub const EXIT_OK: u8 = 0;
/// Exit code: the engine refused, or something is wrong with what was given to it.
pub const EXIT_REFUSED: u8 = 1;
/// Exit code: the command line is wrong (clap's own code).
pub const EXIT_USAGE: u8 = 2;
/// Exit code: the engine does not answer.
pub const EXIT_DOWN: u8 = 3;

/// Failure of a command.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The engine said no, or did not answer.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Answer that was shown already says what is wrong; nothing is to be added.
    #[error("")]
    Shown,
    /// Policy file that cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    File {
        /// Path of the file.
        path: PathBuf,
        /// Error of the file system.
        source: std::io::Error,
    },
    /// Folder with policy files that cannot be read.
    #[error("{}: {}", path.display(), lines(problems))]
    Folder {
        /// Path of the folder.
        path: PathBuf,
        /// Problems of its files.
        problems: Vec<PolicyProblem>,
    },
    /// PFs and VFs that sysfs does not show.
    #[error(transparent)]
    Vfs(#[from] sluice_sriov::Error),
    /// Records of the plugins that cannot be used.
    #[error(transparent)]
    Plugin(#[from] sluicegate::Error),
    /// Record that is not there, or was not dropped.
    #[error("{0}")]
    Records(String),
    /// Installation that failed at a file.
    #[error(transparent)]
    Install(#[from] sluice_install::InstallError),
    /// Value of `install` that makes no sense.
    #[error("{0}")]
    InstallValue(String),
    /// Folder without policy files.
    #[error("{} has no *.yaml: name files", path.display())]
    NoFiles {
        /// Path of the folder.
        path: PathBuf,
    },
    /// Engine that was not stopped.
    #[error("{0}")]
    Stop(String),
    /// Standard output is gone.
    #[error("cannot write the answer: {0}")]
    Output(#[from] std::io::Error),
}

/// Joins problems of files on one line.
fn lines(problems: &[PolicyProblem]) -> String {
    let lines = problems
        .iter()
        .map(|problem| format!("{}: {}", problem.file, problem.message));
    lines.collect::<Vec<_>>().join("; ")
}

impl Failure {
    /// Exit code that reports the failure.
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Client(ClientError::Down { .. } | ClientError::TimedOut { .. }) => EXIT_DOWN,
            // The reader had enough (`sluicectl ... | head`).
            Failure::Output(error) if error.kind() == std::io::ErrorKind::BrokenPipe => EXIT_OK,
            _ => EXIT_REFUSED,
        }
    }
}

/// Runs the program and returns its exit code.
pub fn main() -> ExitCode {
    // The plugins of a DEL start as this program (`records reap`).
    if let Some(code) = sluicegate::spec::exec::become_plugin() {
        return code;
    }
    let args = Args::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let code = failure.exit_code();
            let message = failure.to_string();
            if code != EXIT_OK && !message.is_empty() {
                eprintln!("sluicectl: {message}");
            }
            ExitCode::from(code)
        }
    }
}

fn run(args: &Args) -> Result<(), Failure> {
    let client = Client::new(&args.socket).timeout(args.timeout());
    let mut output = Output::new(args.json);
    match &args.command {
        Command::Status => {
            let status = client.status()?;
            output.show(&status, tables::status)?;
        }
        Command::Attachments { verbose } => {
            let attachments = client.attachments()?;
            output.show(&attachments, |list, style| {
                attachments::table(list, *verbose, style)
            })?;
        }
        Command::Policies { command } => match command {
            PolicyCommand::Check { files } => policies::check(files, &mut output)?,
            PolicyCommand::Apply { files, replace_all } => {
                policies::apply(&client, files, *replace_all, &mut output)?;
            }
            PolicyCommand::Remove { name, force } => {
                policies::remove(&client, name, *force, &mut output)?;
            }
            PolicyCommand::List => {
                let list = client.policies()?;
                output.show(&list, |list, style| tables::policies(list, style))?;
            }
        },
        Command::Counters {
            watch,
            interval,
            all,
            check,
        } => {
            if *check {
                return check::run(&client, &mut output);
            }
            let every = watch.then(|| std::time::Duration::from_secs_f64(*interval));
            counters::run(&client, every, *all, &mut output)?;
        }
        Command::Vfs {
            state_dir,
            command: Some(VfCommand::Create(create)),
            ..
        } => vfs_create::run(create, state_dir, &mut output)?,
        Command::Vfs { state_dir, pf, .. } => {
            vfs::run(&client, state_dir, pf.as_deref(), &mut output)?;
        }
        Command::Records { command } => records::run(command, &mut output)?,
        Command::Drain { undo, wait } => drain::run(&client, *undo, *wait, &mut output)?,
        Command::Reload => reload::run(&client, &mut output)?,
        Command::Stop => drain::stop(&client, args.timeout(), &mut output)?,
        Command::Install(install) => install::install(install, &mut output)?,
        Command::Uninstall(uninstall) => install::uninstall(uninstall, &mut output)?,
        Command::Doctor => doctor::run(&client, &mut output)?,
        Command::Demo(options) => {
            if !sluice_demo::run(options, args.json) {
                return Err(Failure::Shown);
            }
        }
        Command::Completions { shell } => args::completions(*shell)?,
    }
    Ok(())
}
