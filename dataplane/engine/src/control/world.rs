// SPDX-License-Identifier: Apache-2.0
//! Surroundings of the engine besides netdevs: disk, namespaces of pods, folders and files of its own. What
//! changes there is told once, stays a problem in health while it lasts, and is mended where it can be.

use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use sluice_datapath::Engine;
use sluice_host::engine::EngineLock;
use tokio::sync::mpsc::UnboundedSender;

use super::state_folder::StateFolder;
use super::{Control, locked};
use crate::records::{self, AttachmentRecord};
use crate::server;
use crate::vfs;

/// Surroundings of the engine besides netdevs.
#[derive(Debug)]
pub struct World {
    state: StateFolder,
    socket: PathBuf,
    /// File that says which PF is to have how many VFs.
    vfs: PathBuf,
    /// Device and inode of the control socket.
    bound: Option<(u64, u64)>,
    lock: Arc<Mutex<Option<EngineLock>>>,
    listeners: UnboundedSender<UnixListener>,
}

impl World {
    /// Makes the surroundings of an engine that listens on `socket`; `vfs` says which PF is to have how many
    /// VFs. Sockets that have to be made again are
    /// sent to `listeners`.
    pub fn new(
        state_dir: PathBuf,
        socket: PathBuf,
        vfs: PathBuf,
        lock: Arc<Mutex<Option<EngineLock>>>,
        listeners: UnboundedSender<UnixListener>,
    ) -> World {
        World {
            bound: file_identity(&socket),
            state: StateFolder::new(state_dir),
            socket,
            vfs,
            lock,
            listeners,
        }
    }

    /// Looks at everything once.
    pub(super) fn look(&mut self, control: &Control) {
        let state = self.state.look(control, &self.lock);
        control.watch_problem("watch/state_dir", state);
        control.watch_problem("watch/netns", control.lost_namespaces());
        control.watch_problem("watch/policies", control.lost_policies());
        control.watch_problem("watch/vfs", vfs::missing(&self.vfs));
        let lock = self.renew_lock();
        control.watch_problem("watch/lock", lock);
        let socket = self.renew_socket();
        control.watch_problem("watch/socket", socket);
    }

    /// Makes the lock file again if somebody removed it: while it is away, a plugin would take the engine
    /// for dead and put back the VFs that it drives.
    fn renew_lock(&self) -> Option<String> {
        let mut lock = locked(&self.lock);
        match lock.as_mut()?.renew() {
            Ok(false) => None,
            Ok(true) => {
                tracing::warn!("somebody removed the engine's lock file: it is there again");
                None
            }
            Err(error) => Some(format!(
                "the engine's lock file cannot be made again: {error}"
            )),
        }
    }

    /// Listens anew if somebody removed the control socket.
    fn renew_socket(&mut self) -> Option<String> {
        if self.bound.is_some() && file_identity(&self.socket) == self.bound {
            return None;
        }
        match server::bind(&self.socket) {
            Ok(listener) => {
                tracing::warn!(
                    "somebody removed the control socket {}: it is there again",
                    self.socket.display()
                );
                self.bound = file_identity(&self.socket);
                // Nobody takes it when the engine is shutting down.
                let _ = self.listeners.send(listener);
                None
            }
            Err(error) => Some(format!(
                "the control socket was removed and cannot be made again: {error}"
            )),
        }
    }
}

/// Device and inode of a file.
pub(super) fn file_identity(path: &Path) -> Option<(u64, u64)> {
    let found = std::fs::symlink_metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

/// Whether the network namespace of an attachment is still at its path. What cannot be told counts as there,
/// as does one whose path the engine never saw.
pub(super) fn has_namespace(record: &AttachmentRecord) -> bool {
    record.netns_unseen || records::netns_of(record).is_there().unwrap_or(true)
}

impl Control {
    /// Problem of attachments whose pods' network namespaces are gone without a DEL.
    fn lost_namespaces(&self) -> Option<String> {
        let all = self.attachments.all();
        let mut lost: Vec<String> = all
            .iter()
            .filter(|(_, live)| !has_namespace(&live.record))
            .map(|(key, _)| key.to_string())
            .collect();
        lost.sort();
        (!lost.is_empty()).then(|| {
            format!(
                "the network namespace is gone of {} attachments that nobody has detached ({}): a DEL or \
                 a GC of the runtime removes them",
                lost.len(),
                lost.join(", ")
            )
        })
    }

    /// Problem of a folder of policies that is gone while policies are in force.
    fn lost_policies(&self) -> Option<String> {
        let folder = self.policies.path();
        let in_force = self.engine.with(Engine::policies).ok()?;
        (in_force.iter().count() > 0 && !folder.is_dir()).then(|| {
            format!(
                "the folder of policies {} is gone: those in force stay, and an engine that starts \
                 would have none; put it back",
                folder.display()
            )
        })
    }

    /// Notes a problem that is watched, or that there is none any more; the log has a line for each
    /// change.
    fn watch_problem(&self, about: &str, problem: Option<String>) {
        let known = locked(&self.problems).get(about).cloned();
        match problem {
            Some(problem) if known.as_ref() != Some(&problem) => {
                self.report_problem(about, problem)
            }
            None => {
                if let Some(over) = known {
                    self.clear_problem(about);
                    tracing::info!("no longer so: {over}");
                }
            }
            Some(_) => {}
        }
    }
}
