// SPDX-License-Identifier: Apache-2.0
//! Serving again what a dead or stopped engine served: from the records, as far as their pods are
//! still there.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use sluice_api::ApiError;

use super::Control;
use super::key::AttachmentKey;
use super::keyed_lock::KeyGuard;
use super::live::LiveAttachment;
use super::request::CheckedRequest;
use super::uplink_choice::UplinkChoice;
use super::world::has_namespace;
use crate::log_identity::{LogIdentity, attachment_event};
use crate::records::{AttachmentRecord, RecordError};
use crate::refusal;
use sluice_host::engine::Unreadable;
use sluice_host::{Netns, NetnsError};

/// Addition to the error of an attachment that was made by a file descriptor alone.
const UNSEEN: &str = "it was attached by a file descriptor, as the engine before did not see that path \
                      either: mount it and restart the engine, or delete the pod";

/// Records taken up at once: most of the time of one is spent in the kernel, in its pod's namespace.
const AT_ONCE: usize = 8;

/// Counts of records by outcome.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restored {
    /// Attachments that are served again.
    pub served: usize,
    /// Records whose pods are gone.
    pub removed: usize,
    /// Records that stay for another try.
    pub failed: usize,
}

impl Control {
    /// Takes up every recorded attachment whose pod is still there. Records of other boots and of
    /// namespaces that are gone are removed; what else fails stays recorded and is a problem for
    /// the operator.
    ///
    /// # Errors
    /// The folder of records cannot be read.
    pub fn restore(&self) -> Result<Restored, RecordError> {
        let records: Vec<_> = self
            .records
            .all::<AttachmentRecord>()?
            .into_iter()
            .collect();
        let next = AtomicUsize::new(0);
        let take_up = || {
            let mut restored = Restored::default();
            while let Some(record) = records.get(next.fetch_add(1, Ordering::Relaxed)) {
                self.take_up(record, &mut restored)?;
            }
            Ok::<_, RecordError>(restored)
        };
        thread::scope(|scope| {
            let helpers = records.len().min(AT_ONCE).saturating_sub(1);
            let helpers: Vec<_> = (0..helpers).map(|_| scope.spawn(take_up)).collect();
            let mut all = take_up()?;
            for helper in helpers {
                let theirs = helper.join().unwrap_or_else(|panic| resume_unwind(panic))?;
                all.served += theirs.served;
                all.removed += theirs.removed;
                all.failed += theirs.failed;
            }
            Ok(all)
        })
    }

    /// Takes up one record, or removes it.
    fn take_up(
        &self,
        record: &Result<(String, AttachmentRecord), Unreadable>,
        restored: &mut Restored,
    ) -> Result<(), RecordError> {
        let (name, record) = match record {
            Ok(record) => record,
            Err(unreadable) => {
                restored.failed += 1;
                self.report_problem(unreadable.name(), unreadable.to_string());
                return Ok(());
            }
        };
        if let Some(reason) = self.outdated(record) {
            attachment_event!(
                warn,
                LogIdentity::new(&record.request, None),
                "the record of {name} is removed: {reason}"
            );
            self.records.remove(name)?;
            restored.removed += 1;
        } else if let Err(error) = self.restore_one(name, record) {
            restored.failed += 1;
            self.report_problem(name, format!("attachment {name} is not served: {error}"));
        } else {
            restored.served += 1;
        }
        Ok(())
    }

    /// Reason why the record's pod cannot be there any more; `None` if it may be.
    fn outdated(&self, record: &AttachmentRecord) -> Option<String> {
        if record.boot_id != self.boot_id {
            return Some("it is from before the machine was started".to_owned());
        }
        match Netns::open(&record.request.netns) {
            // It was made by an engine that did not see the path either: nothing follows from that.
            Err(NetnsError::Gone { .. } | NetnsError::NotOne { .. }) if record.netns_unseen => None,
            Err(
                error @ (NetnsError::Gone { .. }
                | NetnsError::Other { .. }
                | NetnsError::NotOne { .. }),
            ) => Some(error.to_string()),
            // The kernel gives the inode number of a dead namespace to the next one.
            Ok(netns) if !has_namespace(record) => Some(format!(
                "{} is a later network namespace with the number of the one at the attach: its pod is gone",
                netns.path().display()
            )),
            _ => None,
        }
    }

    fn restore_one(&self, name: &str, record: &AttachmentRecord) -> Result<(), ApiError> {
        let request = &record.request;
        let key = AttachmentKey::new(&request.container_id, &request.ifname)?;
        if key.record_name() != name {
            return Err(refusal::invalid(
                "the file's name is not that of the attachment in it",
            ));
        }
        let uplink = self.choose_uplink(request)?.though_away();
        let mut checked = CheckedRequest::new(request, uplink.max_mtu().max(record.mtu))?;
        // What was allowed when it was made may not be any more.
        self.posing.check(request)?;
        // What the pod was told holds, whatever would be derived today.
        checked.mtu = record.mtu;
        let mac = record.mac.parse();
        checked.mac = Some(
            mac.map_err(|error: sluice_packet::MacError| refusal::invalid(error.to_string()))?,
        );
        let guard = self.attachments.lock(key)?;
        if guard.get().is_some() {
            return Err(refusal::conflict("it is attached already"));
        }
        self.restore_new(&guard, record, &checked, &uplink)
    }

    /// Attaches; unlike a pod's own attach, a failure leaves the record as it was.
    fn restore_new(
        &self,
        guard: &KeyGuard<'_, LiveAttachment>,
        record: &AttachmentRecord,
        checked: &CheckedRequest<'_>,
        uplink: &UplinkChoice,
    ) -> Result<(), ApiError> {
        let netns = Netns::open(&record.request.netns).map_err(|error| {
            if record.netns_unseen {
                refusal::unavailable(format!("{error}; {UNSEEN}"))
            } else {
                error.into()
            }
        })?;
        self.attach_new(guard, checked, uplink, &netns)
            .map(drop)
            .inspect_err(|_| {
                let key = guard.key();
                if let Err(error) = self.records.put(&key.record_name(), record) {
                    tracing::error!("{key}: {error}");
                }
            })
    }
}
