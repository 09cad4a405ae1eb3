// SPDX-License-Identifier: Apache-2.0
//! The agent; see [`sluice_agent`].
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use sluice_agent::config::{AgentConfig, DEFAULT_FILE};
use sluice_agent::context::Context;
use sluice_agent::parts;
use tokio::signal::unix::{SignalKind, signal};

/// Exit code: the agent could not start.
const EXIT_FAILED: u8 = 1;
/// Exit code: the command line or the configuration is wrong (clap's own code).
const EXIT_USAGE: u8 = 2;

/// The node's agent: installs the plugins, serves devices to the kubelet, metrics and a page
#[derive(Debug, Parser)]
#[command(name = "sluice-agent", version)]
struct Args {
    /// The configuration, a YAML file
    #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE)]
    config: PathBuf,

    /// Name of the node in the cluster, unless the file has it
    #[arg(long, value_name = "NAME", env = "NODE_NAME")]
    node: Option<String>,

    /// Check the configuration, change nothing, and exit
    #[arg(long)]
    check: bool,

    /// Take the plugins, the kubeconfig, the CNI configuration and the CDI specifications off this node again, and
    /// exit; stop the agent that runs here first, it would put them back
    #[arg(long, conflicts_with = "check")]
    uninstall: bool,

    /// Uninstall even if pods have networks that only the plugins take away again
    #[arg(long, requires = "uninstall")]
    force: bool,
}

fn main() -> ExitCode {
    // The plugins of a DEL start as this program.
    if let Some(code) = sluicegate::spec::exec::become_plugin() {
        return code;
    }
    // And so does the part of the reaper that runs in the host's mount namespace.
    if let Some(code) = sluice_agent::reaper::become_child() {
        return code;
    }
    let args = Args::parse();
    let config = match AgentConfig::load(&args.config, args.node.as_deref()) {
        Ok(config) => config,
        Err(problems) => {
            eprintln!("{problems}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    if args.check {
        println!("{}: good", args.config.display());
        return ExitCode::SUCCESS;
    }
    if let Err(error) = sluice_log::init(&config.log, config.log_format) {
        eprintln!("sluice-agent: {error}");
        return ExitCode::from(EXIT_FAILED);
    }
    let done = if args.uninstall {
        uninstall(&config, args.force)
    } else {
        run(config)
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

/// Takes off what the parts `install` and `devices` put on the node.
fn uninstall(config: &AgentConfig, force: bool) -> anyhow::Result<()> {
    for (path, done) in sluice_agent::install::uninstall(config, force)? {
        println!("{} {done:?}", path.display());
    }
    Ok(())
}

/// Runs the parts until SIGTERM or SIGINT.
fn run(config: AgentConfig) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let context = Arc::new(Context::new(config));
        let stop = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!("stopping");
        };
        parts::run(&context, &parts::PARTS, stop).await;
        Ok(())
    })
}
