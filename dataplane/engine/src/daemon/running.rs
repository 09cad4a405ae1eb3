// SPDX-License-Identifier: Apache-2.0
//! Resources of a running engine, taken in order and given back in reverse.

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use sluice_datapath::Engine;
use tokio::sync::mpsc::UnboundedSender;

use super::memory::start_engine;
use super::{DaemonError, system};
use crate::config::Config;
use crate::control::{
    Control, ControlParts, EventThread, InService, Posing, WatchThread, World, no_problems,
};
use crate::engine::SharedEngine;
use crate::records;
use crate::server;
use crate::uplinks::{self, UplinkHost, Uplinks};
use crate::vfs::{self, VfDevices};
use sluice_host::engine::{self, EngineLock};
use sluice_policies::PolicyFolder;

/// Resources of a running engine. Those that a failed start did not come to are absent.
pub(super) struct Running {
    /// Shared with the watcher, which makes its file again if somebody removes it.
    lock: Arc<Mutex<Option<EngineLock>>>,
    engine: Option<Arc<SharedEngine>>,
    uplinks: Option<Arc<Uplinks>>,
    control: Option<Arc<Control>>,
    events: Option<EventThread>,
    watch: Option<WatchThread>,
    socket: Option<PathBuf>,
    run_dir: PathBuf,
}

impl Running {
    /// Starts everything, or leaves nothing.
    pub(super) fn start(
        in_service: InService,
        listeners: UnboundedSender<UnixListener>,
    ) -> Result<(Running, Arc<Control>, UnixListener), DaemonError> {
        let config = in_service.config.clone();
        sluice_mem::sigbus::install()?;
        let lock = EngineLock::take(&config.run_dir, &config.state_dir)?;
        if let Some(pid) = lock.took_over() {
            tracing::warn!("taking over from an engine that died (pid {pid})");
        }
        let mut running = Running {
            lock: Arc::new(Mutex::new(Some(lock))),
            engine: None,
            uplinks: None,
            control: None,
            events: None,
            watch: None,
            socket: None,
            run_dir: config.run_dir.clone(),
        };
        match running.go(&config, listeners) {
            Ok((control, listener)) => {
                control.serve_reloads(in_service);
                Ok((running, control, listener))
            }
            Err(error) => {
                if let Err(error) = running.end() {
                    tracing::error!("{error}");
                }
                Err(error)
            }
        }
    }

    fn go(
        &mut self,
        config: &Config,
        listeners: UnboundedSender<UnixListener>,
    ) -> Result<(Arc<Control>, UnixListener), DaemonError> {
        let boot_id = sluice_host::boot_id()?;
        let attachment_records = records::open(engine::attachments_dir(&config.state_dir))?;
        let uplink_records = records::open(engine::uplinks_dir(&config.state_dir))?;
        let mut problems = uplinks::recover(&uplink_records, &boot_id);
        problems.extend(vfs::recover(&config.state_dir));

        uplinks::dpdk::start(config).map_err(DaemonError::Uplink)?;
        let engine = start_engine(config)?;
        let engine = self.engine.insert(Arc::new(SharedEngine::new(engine)));
        let host = UplinkHost {
            engine: Arc::clone(engine),
            records: uplink_records,
            boot_id: boot_id.clone(),
        };
        let uplinks = self.uplinks.insert(Arc::new(Uplinks::new(host)));
        for uplink in &config.uplinks {
            uplinks.open(uplink).map_err(DaemonError::Uplink)?;
        }
        let control = Arc::new(Control::new(ControlParts {
            engine: Arc::clone(engine),
            uplinks: Arc::clone(uplinks),
            vfs: Box::new(VfDevices::new(&config.state_dir)),
            records: attachment_records,
            policies: PolicyFolder::new(config.policies.clone()),
            posing: Posing::new(config),
            run_dir: config.run_dir.clone(),
            boot_id,
            problems,
        }));
        self.control = Some(Arc::clone(&control));
        load_policies(&control, &config.policies)?;
        let restored = control.restore()?;
        tracing::info!(
            "attachments served again: {}; removed, as their pods are gone: {}; failed: {}",
            restored.served,
            restored.removed,
            restored.failed
        );
        let events = EventThread::start(Arc::clone(&control));
        self.events = Some(events.map_err(system("cannot start the thread for events"))?);
        let listener = server::bind(&config.socket)?;
        self.socket = Some(config.socket.clone());
        let world = World::new(
            config.state_dir.clone(),
            config.socket.clone(),
            config.vfs.clone(),
            Arc::clone(&self.lock),
            listeners,
        );
        let watch = WatchThread::start(Arc::clone(&control), world);
        self.watch = Some(watch.map_err(system("cannot start the thread that watches netdevs"))?);
        control.accept_requests();
        Ok((control, listener))
    }

    /// Gives everything back.
    pub(super) fn end(self) -> Result<(), DaemonError> {
        // First of all: it would make again what is removed here.
        drop(self.watch);
        if let Some(socket) = &self.socket {
            remove_socket(socket, &self.run_dir);
        }
        drop(self.events);
        let engine = match (&self.control, &self.engine) {
            (Some(control), _) => control.shut_down(),
            (None, Some(engine)) => engine.take(),
            (None, None) => None,
        };
        let stopped = engine.map(Engine::stop).transpose();
        // Whatever became of the workers: the host gets its netdevs back.
        if let Some(uplinks) = &self.uplinks {
            uplinks.close();
        }
        let lock = self
            .lock
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(Err(error)) = lock.map(EngineLock::remove) {
            tracing::warn!("{error}");
        }
        let in_flight = stopped?.map_or(0, |memory| {
            u64::from(memory.small.in_flight) + u64::from(memory.large.in_flight)
        });
        if in_flight > 0 {
            Err(DaemonError::Leak(in_flight))
        } else {
            Ok(())
        }
    }
}

/// Puts the policies on disk into force. With a wrong one the engine does not start: half of them
/// would be a policy that nobody wrote.
fn load_policies(control: &Control, folder: &Path) -> Result<(), DaemonError> {
    let failed = |problems| DaemonError::Policies {
        folder: folder.display().to_string(),
        problems,
    };
    let report = control.load_policies().map_err(failed)?;
    no_problems(&report).map_err(failed)?;
    for warning in &report.warnings {
        tracing::warn!("{}:{}: {}", warning.file, warning.line, warning.message);
    }
    match report.policies.len() {
        0 => tracing::warn!(
            "there are no policies in {}: nothing passes until some are applied",
            folder.display()
        ),
        count => tracing::info!("{count} policies in force"),
    }
    Ok(())
}

/// Removes the control socket, and its folder if that lies in the run folder and is empty.
fn remove_socket(socket: &Path, run_dir: &Path) {
    if let Err(error) = std::fs::remove_file(socket) {
        tracing::warn!("cannot remove {}: {error}", socket.display());
    }
    if let Some(folder) = socket.parent()
        && folder.starts_with(run_dir)
        && folder != run_dir
    {
        // Not empty is somebody else's business.
        let _ = std::fs::remove_dir(folder);
    }
}
