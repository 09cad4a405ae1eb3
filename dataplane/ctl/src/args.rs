// SPDX-License-Identifier: Apache-2.0
//! The command line.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use super::install::{InstallArgs, UninstallArgs};
use super::records::RecordCommand;
use super::vfs_create::CreateArgs;

/// Asks the engine sluiced, and tells it which policies to judge by.
#[derive(Debug, Parser)]
#[command(
    name = "sluicectl",
    version,
    about = "Asks the engine sluiced, and tells it which policies to judge by.",
    after_help = "Exit codes: 0 done, 1 refused or something is wrong, 2 bad command line, \
                  3 the engine does not answer.\n\
                  Run it as root on the host: nobody else may ask the engine."
)]
pub struct Args {
    /// The engine's control socket
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "SLUICED_SOCKET",
        default_value = sluice_api::DEFAULT_SOCKET
    )]
    pub socket: PathBuf,

    /// Answer in JSON instead of tables
    #[arg(long, global = true)]
    pub json: bool,

    /// Give up when the engine has not answered after so many seconds
    #[arg(
        long,
        global = true,
        value_name = "SECONDS",
        default_value_t = 10,
        value_parser = clap::value_parser!(u64).range(1..=3600)
    )]
    timeout: u64,

    /// Command to run.
    #[command(subcommand)]
    pub command: Command,
}

/// Commands of the tool.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The engine's health, workers, uplinks and segments
    Status,
    /// The pods' interfaces
    Attachments {
        /// Also container ids, addresses, namespaces and sockets
        #[arg(short, long)]
        verbose: bool,
    },
    /// Policies: check them, apply them, remove them, list those in force
    Policies {
        /// Command to run.
        #[command(subcommand)]
        command: PolicyCommand,
    },
    /// Frames and bytes of ports and rules, and why frames were dropped
    Counters {
        /// Show them again and again, with rates per second, until interrupted
        #[arg(short, long)]
        watch: bool,
        /// Seconds from one showing to the next
        #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = interval, requires = "watch")]
        interval: f64,
        /// Also rules that decided on nothing yet
        #[arg(short, long)]
        all: bool,
        /// Whether every frame that came in went out, was dropped or is on its way; if not, by how much
        #[arg(long, conflicts_with_all = ["watch", "all"])]
        check: bool,
    },
    /// The node's SR-IOV PFs and VFs: driver, IOMMU group, whose they are, MAC, VLAN, link, counts of
    /// those that the engine drives
    #[command(args_conflicts_with_subcommands = true)]
    Vfs {
        /// The engine's state directory, in which the VF journal is
        #[arg(long, global = true, value_name = "DIR", default_value = sluice_api::DEFAULT_STATE_DIR)]
        state_dir: std::path::PathBuf,
        /// Only those of the PF with this netdev
        #[arg(value_name = "PF")]
        pf: Option<String>,
        /// Command to run in place of showing them.
        #[command(subcommand)]
        command: Option<VfCommand>,
    },
    /// Records that the CNI plugins have of pods: list them, drop one, end what crashes left behind
    Records {
        /// Command to run.
        #[command(subcommand)]
        command: RecordCommand,
    },
    /// Have the engine take no new attachments; those that are there go on. It holds over a restart of the
    /// engine, until it is undone or the machine is started again
    Drain {
        /// Take attachments again
        #[arg(long)]
        undo: bool,
        /// Return when nothing is attached any more
        #[arg(long, conflicts_with = "undo")]
        wait: bool,
    },
    /// Have the engine read its configuration and its policies again, and say what changed and what stays
    Reload,
    /// Send the engine SIGTERM and wait for its end, `--timeout` at most: for a preStop hook whose container's
    /// first process forwards no signal
    Stop,
    /// Put the CNI plugins and their configuration on this node (root)
    Install(InstallArgs),
    /// Take off what `install`, or the agent, put on this node (root)
    Uninstall(UninstallArgs),
    /// Whether this node has what VFs and memifs need, and the command that mends what is missing
    Doctor,
    /// Show the whole path on this machine, in network namespaces of its own, and clean up (root)
    Demo(sluice_demo::Options),
    /// Print a completion script: `source <(sluicectl completions bash)`
    Completions {
        /// Shell that the script is for
        shell: Shell,
    },
}

/// Subcommands of `vfs`.
#[derive(Debug, Subcommand)]
pub enum VfCommand {
    /// Make VFs: those that /etc/sluicegate/vfs.yaml asks for, or N of one PF; refused while VFs that would
    /// go are in use
    Create(CreateArgs),
}

/// Subcommands of `policies`.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Check policy files together, without asking an engine
    Check {
        /// Policy files; a folder stands for its *.yaml
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Have the engine judge by these policies: all of them, or none if one is wrong
    Apply {
        /// Policy files; a folder stands for its *.yaml
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Also remove the policies in force that are not among them
        #[arg(long)]
        replace_all: bool,
    },
    /// Remove a policy from the engine and its disk; refused while attachments are judged by it
    Remove {
        /// Name of the policy, as `policies list` shows it
        name: String,
        /// Also if VLANs with attachments are judged by it: these carry nothing from then on
        #[arg(long)]
        force: bool,
    },
    /// The policies in force
    List,
}

impl Args {
    /// Longest time that the engine may take to answer.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

/// Writes the completion script of a shell.
pub(super) fn completions(shell: Shell) -> io::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "sluicectl", &mut script);
    io::stdout().lock().write_all(&script)
}

/// Interval that is not a number in range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("use a number of seconds from 0.1 to 3600")]
struct IntervalError;

fn interval(text: &str) -> Result<f64, IntervalError> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err(IntervalError),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_holds_together() {
        Args::command().debug_assert();
    }
}
