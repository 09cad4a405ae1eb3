//! What the engine does when it is asked: attach and detach, policies, and how it is.
//!
//! Everything here blocks (workers answer within microseconds, disks within milliseconds, a hung
//! pod's endpoint within a second) and is called from threads that may.

mod attach;
mod events;
mod ground;
mod policy;
mod report;
mod request;
mod restore;
mod slots;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use sluice_api::{ApiError, AttachReply, AttachRequest};
use sluice_datapath::{AttachmentId, Engine, UplinkId};
use sluice_packet::Mac;

use crate::engine::SharedEngine;
use crate::links::Link;
use crate::policies::PolicyFolder;
use crate::records::Records;
use crate::refusal;
use crate::vfs::OpenVf;

use self::slots::Slots;

pub use self::events::EventThread;
pub use self::policy::no_problems;
pub use self::restore::Restored;

/// Reads and checks the body of an attach request as far as that goes without touching anything;
/// `uplink_mtu` is that of its uplink, in bytes.
///
/// # Errors
/// What is wrong with it, and what is allowed.
pub fn check_attach(body: &[u8], uplink_mtu: u32) -> Result<(), ApiError> {
    let request: AttachRequest = serde_json::from_slice(body)
        .map_err(|error| refusal::invalid(format!("the body is no attach request: {error}")))?;
    request::key(&request.container_id, &request.ifname)?;
    request::check(&request, uplink_mtu).map(|_| ())
}

/// One attachment.
#[derive(Debug)]
struct Attachment {
    request: AttachRequest,
    id: AttachmentId,
    mac: Mac,
    mtu: u32,
    worker: usize,
    /// The uplink that is its own: a VF.
    vf: Option<UplinkId>,
    reply: AttachReply,
    /// Gone once a detach has begun.
    link: Mutex<Option<Link>>,
}

/// An uplink, as attachments need it.
#[derive(Debug, Clone, Copy)]
pub struct UplinkInfo {
    /// Its number in the engine.
    pub id: UplinkId,
    /// Its MTU in bytes.
    pub mtu: u32,
}

/// The control side of a running engine.
#[derive(Debug)]
pub struct Control {
    engine: Arc<SharedEngine>,
    uplinks: BTreeMap<String, UplinkInfo>,
    vfs: Box<dyn OpenVf>,
    attachments: Slots<Attachment>,
    records: Records,
    policies: PolicyFolder,
    /// Held while policies change.
    policy_version: Mutex<u64>,
    boot_id: String,
    started: Instant,
    ready: AtomicBool,
    /// What an operator should look at since this engine started, by what it is about.
    problems: Mutex<BTreeMap<String, String>>,
}

/// What a [`Control`] is made of.
#[derive(Debug)]
pub struct Parts {
    /// The engine, its workers running.
    pub engine: Arc<SharedEngine>,
    /// Its uplinks by name.
    pub uplinks: BTreeMap<String, UplinkInfo>,
    /// What opens VFs.
    pub vfs: Box<dyn OpenVf>,
    /// The attachments' records.
    pub records: Records,
    /// The folder of policies.
    pub policies: PolicyFolder,
    /// This boot of the machine.
    pub boot_id: String,
    /// What went wrong so far without keeping the engine from starting, by what it is about.
    pub problems: BTreeMap<String, String>,
}

impl Control {
    /// The control side, which takes no attachments until [`Control::open_for_all`].
    pub fn new(parts: Parts) -> Control {
        Control {
            engine: parts.engine,
            uplinks: parts.uplinks,
            vfs: parts.vfs,
            attachments: Slots::default(),
            records: parts.records,
            policies: parts.policies,
            policy_version: Mutex::new(0),
            boot_id: parts.boot_id,
            started: Instant::now(),
            ready: AtomicBool::new(false),
            problems: Mutex::new(parts.problems),
        }
    }

    /// From now on attachments are taken.
    pub fn open_for_all(&self) {
        self.ready.store(true, Ordering::Release);
    }

    /// From now on they are not: the engine is stopping.
    pub fn close(&self) {
        self.ready.store(false, Ordering::Release);
    }

    /// Ends every link, so that each pod is told, and gives the engine out to be stopped. Records
    /// stay: the next engine serves the same attachments.
    pub fn drain(&self) -> Option<Engine> {
        self.close();
        let attachments = self.attachments.all();
        // All at once: a pod that hangs costs its own second, not one each.
        std::thread::scope(|scope| {
            for (_, attachment) in &attachments {
                scope.spawn(|| {
                    if let Some(link) = attachment.take_link() {
                        link.stop();
                    }
                });
            }
        });
        self.engine.take()
    }

    fn is_ready(&self) -> Result<(), ApiError> {
        if self.ready.load(Ordering::Acquire) {
            return Ok(());
        }
        Err(refusal::unavailable(
            "the engine is starting or stopping: ask again in a moment",
        ))
    }

    /// Keeps a problem until what it is `about` is put right.
    fn problem(&self, about: impl Into<String>, problem: String) {
        tracing::error!("{problem}");
        locked(&self.problems).insert(about.into(), problem);
    }

    fn put_right(&self, about: &str) {
        locked(&self.problems).remove(about);
    }
}

impl Attachment {
    fn take_link(&self) -> Option<Link> {
        locked(&self.link).take()
    }
}

/// Locks; what is kept under these locks is whole at every moment, whoever panicked.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
