// SPDX-License-Identifier: Apache-2.0
//! Detaching: each step can be repeated, until all are done.

use sluice_api::{ApiError, DetachReply};
use sluice_datapath::Error;

use super::Control;
use super::key::AttachmentKey;
use crate::log_identity::attachment_event;
use crate::refusal;

impl Control {
    /// Removes an attachment. One that is not there counts as removed.
    ///
    /// # Errors
    /// A name that is not allowed, or a worker or the disk fails; retry.
    pub fn detach(&self, container_id: &str, ifname: &str) -> Result<DetachReply, ApiError> {
        let key = AttachmentKey::new(container_id, ifname)?;
        let guard = self.attachments.lock(key)?;
        let key = guard.key();
        let live = guard.get();
        if let Some(live) = &live {
            // The link first: the datapath's port is of no use to a pod that is going.
            if let Some(link) = live.take_link() {
                link.stop();
            }
            match self.engine.with(|engine| engine.detach(live.attached.id))? {
                Ok(()) | Err(Error::NoAttachment) => {}
                Err(error) => return Err(refusal::by_engine(&error)),
            }
            // Before the answer: whoever asked gives the VF to somebody else next.
            if let Some(vf) = live.vf {
                self.close_vf(vf)?;
            }
        }
        // Also when the engine never took it up again: its namespace was gone, or its uplink.
        let recorded = match self.record_name(key) {
            Ok(name) => self.records.remove(&name)?,
            // The file is another attachment's.
            Err(_) => false,
        };
        guard.set(None);
        self.clear_problem(&key.record_name());
        if let Some(live) = &live {
            attachment_event!(info, live.log_identity(), "{key}: detached");
        }
        Ok(DetachReply {
            existed: live.is_some() || recorded,
        })
    }
}
