// SPDX-License-Identifier: Apache-2.0
//! Verbs of the control API, one file each.
//!
//! | request | verb | file |
//! |---|---|---|
//! | `POST /v1/attachments` | [`Control::attach`] | `attach` |
//! | `DELETE /v1/attachments/{container_id}/{ifname}` | [`Control::detach`] | `detach` |
//! | `GET /v1/attachments...` | [`Control::attachments`], [`Control::attachment`] | `attachments` |
//! | `GET /v1/health` | [`Control::health`] | `health` |
//! | `GET /v1/status` | [`Control::status`] | `status` |
//! | `GET /v1/counters` | [`Control::counters`] | `counters` |
//! | `GET /v1/balance` | [`Control::balance`] | `counters` |
//! | `GET /v1/policies` | [`Control::policies`] | `policies` |
//! | `POST /v1/policies/check` | [`Control::check_policies`] | `policies::check` |
//! | `PUT /v1/policies` | [`Control::apply_policies`] | `policies::apply` |
//! | `DELETE /v1/policies/{name}` | [`Control::remove_policy`] | `policies::remove` |
//! | `POST /v1/drain`, `DELETE /v1/drain` | [`Control::drain`], [`Control::undo_drain`] | `drain` |
//! | `POST /v1/reload`, SIGHUP | [`Control::reload`] | `reload` |
//! | these, and the start | [`Control::reload_policies`], [`Control::load_policies`] | `policies::reload` |
//! | the start | [`Control::restore`] | `restore` |
//! | SIGTERM | [`Control::refuse_requests`], [`Control::shut_down`] | `shutdown` |
//! | what workers report | [`EventThread`] | `events` |
//! | what becomes of netdevs, VFs, disks, namespaces | [`WatchThread`], [`World`] | `watch`, `world`, `state_folder`, `uplink_links`, `own_vfs` |
//!
//! Types of one attachment, in the order of its life:
//!
//! | type | lives | holds |
//! |---|---|---|
//! | [`AttachRequest`](sluice_api::AttachRequest) | on the wire | what the plugin asks for |
//! | `AttachmentKey` | here | its identity: container and interface |
//! | `CheckedRequest` | here, during one request | the request in the engine's types |
//! | [`AttachmentRecord`](crate::records::AttachmentRecord) | on disk | the request, and the MAC and MTU it was given |
//! | [`AttachmentSpec`](sluice_datapath::AttachmentSpec), [`Attached`] | the call into the datapath | what it shall have; its number and worker |
//! | `LiveAttachment` | here, until the detach | its record, number, worker, own VF and link |
//! | [`AttachmentSnapshot`](sluice_datapath::AttachmentSnapshot) | one reading of the datapath | its counters |
//! | [`AttachReply`](sluice_api::AttachReply), [`AttachmentStatus`](sluice_api::AttachmentStatus) | on the wire | answers made of the record, the live attachment and a snapshot |
//!
//! Everything here blocks (workers answer within microseconds, disks within milliseconds, a hung
//! pod's endpoint within a second) and is called from threads that may.

mod attach;
mod attachments;
mod counters;
mod detach;
mod drain;
mod events;
mod health;
mod key;
mod keyed_lock;
mod live;
mod log_shares;
mod own_vfs;
mod policies;
mod posing;
mod reload;
mod request;
mod restore;
mod shutdown;
mod spoofed;
mod state_folder;
mod status;
mod uplink_choice;
mod uplink_links;
#[cfg(test)]
mod vf_lab;
mod watch;
mod world;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use sluice_api::ApiError;
#[cfg(doc)]
use sluice_datapath::Attached;
use sluice_datapath::UplinkId;

use self::drain::Drain;
use self::keyed_lock::KeyedLock;
use self::live::LiveAttachment;
use self::own_vfs::OwnVf;
use self::policies::InForce;
use self::posing::PosingInForce;
use crate::engine::SharedEngine;
use crate::records::Records;
use crate::refusal;
use crate::server::RequestCounts;
use crate::uplinks::{UplinkState, Uplinks};
use crate::vfs::OpenVf;
use sluice_policies::PolicyFolder;

pub use self::events::EventThread;
pub use self::policies::no_problems;
pub use self::posing::Posing;
pub use self::reload::InService;
pub use self::request::check_attach;
pub use self::restore::Restored;
pub use self::watch::WatchThread;
pub use self::world::World;

/// Control side of a running engine.
#[derive(Debug)]
pub struct Control {
    engine: Arc<SharedEngine>,
    uplinks: Arc<Uplinks>,
    vfs: Box<dyn OpenVf>,
    /// VFs of attachments' own, by uplink. Locked while one is given up or taken up.
    own_vfs: Mutex<BTreeMap<UplinkId, OwnVf>>,
    /// Links of attachments' own VFs, by PCI address, as they were last seen. Locked for moments only.
    vf_links: Mutex<BTreeMap<String, UplinkState>>,
    attachments: KeyedLock<LiveAttachment>,
    records: Records,
    policies: PolicyFolder,
    posing: PosingInForce,
    drain: Drain,
    /// Configuration in force; `None` during the start. Locked while it is read again.
    in_service: Mutex<Option<InService>>,
    /// Locked while policies change.
    in_force: Mutex<InForce>,
    boot_id: String,
    started: Instant,
    ready: AtomicBool,
    requests: RequestCounts,
    /// Problems for the operator since this engine started, by the object they are about.
    problems: Mutex<BTreeMap<String, String>>,
}

/// Parts that a [`Control`] is made of.
#[derive(Debug)]
pub struct ControlParts {
    /// The datapath, its workers running.
    pub engine: Arc<SharedEngine>,
    /// Uplinks of the configuration.
    pub uplinks: Arc<Uplinks>,
    /// Opener of VFs.
    pub vfs: Box<dyn OpenVf>,
    /// Records of attachments.
    pub records: Records,
    /// Folder of policies.
    pub policies: PolicyFolder,
    /// Limits of what attachments may pose as.
    pub posing: Posing,
    /// Folder of the engine's lock, for the file that says that it drains.
    pub run_dir: PathBuf,
    /// Boot id of the machine, as it is now.
    pub boot_id: String,
    /// Problems so far that did not keep the engine from starting, by the object they are about.
    pub problems: BTreeMap<String, String>,
}

impl Control {
    /// Creates the control side. It refuses attachments until [`Control::accept_requests`].
    pub fn new(parts: ControlParts) -> Control {
        Control {
            engine: parts.engine,
            uplinks: parts.uplinks,
            vfs: parts.vfs,
            own_vfs: Mutex::default(),
            vf_links: Mutex::default(),
            attachments: KeyedLock::default(),
            records: parts.records,
            policies: parts.policies,
            posing: PosingInForce::new(parts.posing),
            drain: Drain::new(parts.run_dir.join(drain::DRAINED_FILE)),
            in_service: Mutex::default(),
            in_force: Mutex::default(),
            boot_id: parts.boot_id,
            started: Instant::now(),
            ready: AtomicBool::new(false),
            requests: RequestCounts::default(),
            problems: Mutex::new(parts.problems),
        }
    }

    /// Has the configuration read again from now on when that is asked for.
    pub fn serve_reloads(&self, in_service: InService) {
        *locked(&self.in_service) = Some(in_service);
    }

    /// Accepts attachments from now on.
    pub fn accept_requests(&self) {
        self.ready.store(true, Ordering::Release);
    }

    /// Returns the counts of the control socket.
    pub(crate) fn requests(&self) -> &RequestCounts {
        &self.requests
    }

    fn is_ready(&self) -> Result<(), ApiError> {
        if self.ready.load(Ordering::Acquire) {
            return Ok(());
        }
        Err(refusal::unavailable(
            "the engine is starting or shutting down: retry in a moment",
        ))
    }

    /// Logs a problem and keeps it, for health, until [`Control::clear_problem`].
    fn report_problem(&self, about: impl Into<String>, problem: String) {
        tracing::error!("{problem}");
        locked(&self.problems).insert(about.into(), problem);
    }

    fn clear_problem(&self, about: &str) {
        locked(&self.problems).remove(about);
    }
}

/// Locks a mutex, poisoned or not: what lies under control's mutexes is whole at every moment.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
