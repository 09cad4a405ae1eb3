// SPDX-License-Identifier: Apache-2.0
//! Life of the engine: start in order, service until a signal, shutdown.
//!
//! Order of the start: capabilities, lock, memory and workers, uplinks, policies, attachments of the engine
//! before, control socket. Policies are in force before any pod is connected, so nothing ever flows
//! unjudged. The shutdown is the reverse, and gives the host everything back.

mod affinity;
mod memory;
mod privileges;
mod running;

use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sluice_api::ApiError;
use sluice_log::LogHandle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::running::Running;
use crate::config::{Config, Surroundings};
use crate::control::{Control, InService};
use crate::records::RecordError;
use crate::server::{self, SocketError};
use sluice_host::engine::EngineLockError;

/// Time that requests in progress have to finish once the engine shuts down.
const DRAIN: Duration = Duration::from_secs(5);

/// Failure of the engine's start or end.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Lock held by another engine, or folders that cannot be used.
    #[error(transparent)]
    Lock(#[from] EngineLockError),
    /// The state folder cannot be used.
    #[error(transparent)]
    Records(#[from] RecordError),
    /// Boot id of the machine that cannot be read.
    #[error(transparent)]
    Boot(#[from] sluice_host::FileError),
    /// Mempools or workers that cannot be created.
    #[error(transparent)]
    Engine(#[from] sluice_datapath::Error),
    /// Handler of SIGBUS, for shared memory that a pod truncates, that cannot be installed.
    #[error(transparent)]
    Memory(#[from] sluice_mem::Error),
    /// An uplink cannot be opened.
    #[error(transparent)]
    Uplink(ApiError),
    /// The policies on disk are wrong.
    #[error("the policies in {folder} cannot be used: {problems}")]
    Policies {
        /// Folder of the policies.
        folder: String,
        /// Problems of the files, on one line.
        problems: ApiError,
    },
    /// The control socket cannot be opened.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// Mbufs that were not returned to their pools.
    #[error("{0} mbufs are still in flight after the workers ended: this is a bug, report it")]
    Leak(u64),
    /// System call that failed.
    #[error("{what}: {source}")]
    System {
        /// Step that failed.
        what: &'static str,
        /// Error of the system.
        source: std::io::Error,
    },
}

/// Runs the engine until SIGTERM or SIGINT.
///
/// # Errors
/// A step of the start or the shutdown failed; the host has back all that could be given back.
pub fn run(config: &Config, log: LogHandle) -> Result<(), DaemonError> {
    raise_open_files();
    privileges::drop_others()?;
    // Control's threads will have other cores; a netdev that is not there is no problem.
    let around = Surroundings {
        netdevs: None,
        ..Surroundings::of_this_process()
    };
    let in_service = InService {
        config: config.clone(),
        around,
        log: Some(log),
    };
    affinity::keep_off(&config.workers);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // Requests that block have threads of their own, which go soon: most of the time there are none.
        .thread_name("request")
        .thread_keep_alive(Duration::from_secs(1))
        .build()
        .map_err(system("cannot create the runtime of the control side"))?;
    let result = runtime.block_on(live(in_service));
    // A request that hangs is not waited for any longer.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn live(in_service: InService) -> Result<(), DaemonError> {
    // Before the start, so that a signal does not cut it short halfway.
    let mut signals = Signals::listen()?;
    let config_socket = in_service.config.socket.clone();
    let (listeners, new_listeners) = unbounded_channel();
    let started = tokio::task::spawn_blocking(move || Running::start(in_service, listeners)).await;
    let running = started.map_err(|error| DaemonError::System {
        what: "internal error at start",
        source: std::io::Error::other(error),
    })??;
    let (running, control, listener) = running;
    tracing::info!("ready on {}", config_socket.display());
    let served = serve(&control, listener, new_listeners, &mut signals).await;
    drop(control);
    let ended = tokio::task::spawn_blocking(move || running.end()).await;
    let ended = ended.map_err(|error| DaemonError::System {
        what: "internal error at shutdown",
        source: std::io::Error::other(error),
    })?;
    served.and(ended)
}

/// Answers requests until a signal says stop. Sockets that were made again come by `new_listeners`.
async fn serve(
    control: &Arc<Control>,
    listener: UnixListener,
    mut new_listeners: UnboundedReceiver<UnixListener>,
    signals: &mut Signals,
) -> Result<(), DaemonError> {
    let refused = system("the control socket failed");
    let (stop, _) = watch::channel(false);
    let mut servers = JoinSet::new();
    let begin = |servers: &mut JoinSet<std::io::Result<()>>, listener| {
        let listener = tokio::net::UnixListener::from_std(listener).map_err(&refused)?;
        let mut stopped = stop.subscribe();
        let stopped = async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        servers.spawn(server::serve(listener, Arc::clone(control), stopped));
        Ok::<(), DaemonError>(())
    };
    begin(&mut servers, listener)?;
    loop {
        tokio::select! {
            Some(ended) = servers.join_next() => {
                let ended = ended.unwrap_or_else(|error| Err(std::io::Error::other(error)));
                return ended.map_err(&refused);
            }
            Some(listener) = new_listeners.recv() => begin(&mut servers, listener)?,
            _ = signals.terminate.recv() => {
                tracing::info!("SIGTERM: stopping");
                break;
            }
            _ = signals.interrupt.recv() => {
                tracing::info!("SIGINT: stopping");
                break;
            }
            _ = signals.reload.recv() => {
                let control = Arc::clone(control);
                tokio::task::spawn_blocking(move || {
                    tracing::info!("SIGHUP: reading the configuration again");
                    if let Err(error) = control.reload() {
                        tracing::error!("{error}");
                    }
                });
            }
        }
    }
    control.refuse_requests();
    let _ = stop.send(true);
    let drained = async { while servers.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        tracing::warn!("some requests did not end within {DRAIN:?}; they are cut short");
        servers.abort_all();
    }
    Ok(())
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    reload: Signal,
}

impl Signals {
    fn listen() -> Result<Signals, DaemonError> {
        let listen = |kind| signal(kind).map_err(system("cannot listen for signals"));
        Ok(Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            reload: listen(SignalKind::hangup())?,
        })
    }
}

/// Raises the limit of open files: a memif takes about eight file descriptors, and the usual soft limit of
/// 1024 would suffice for a hundred pods.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(
            "the limit of open files stays at {:?}: {error}",
            limit.current
        );
    }
}

/// Wraps the error of a failed system call.
fn system(what: &'static str) -> impl Fn(std::io::Error) -> DaemonError {
    move |source| DaemonError::System { what, source }
}
