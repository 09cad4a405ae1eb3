// SPDX-License-Identifier: Apache-2.0
//! Listing attachments.

use sluice_api::{ApiError, AttachmentStatus};
use sluice_datapath::{Engine, GroupMembership};
use sluice_packet::{Mac, Vid};

use super::Control;
use super::key::AttachmentKey;
use super::live::LiveAttachment;
use crate::refusal;

impl Control {
    /// Returns the status of every attachment, in order of container and interface.
    ///
    /// # Errors
    /// The engine is shutting down.
    pub fn attachments(&self) -> Result<Vec<AttachmentStatus>, ApiError> {
        let snapshot = self.engine.with(Engine::snapshot)?;
        let all = self.attachments.all();
        let groups = self.groups();
        let status = |live: &LiveAttachment| live.status(&snapshot, &groups, &self.learned(live));
        Ok(all.iter().map(|(_, live)| status(live)).collect())
    }

    /// Returns the status of one attachment.
    ///
    /// # Errors
    /// There is none of that name, or the engine is shutting down.
    pub fn attachment(
        &self,
        container_id: &str,
        ifname: &str,
    ) -> Result<AttachmentStatus, ApiError> {
        let live = AttachmentKey::new(container_id, ifname)
            .ok()
            .and_then(|key| self.attachments.get(&key));
        let live = live.ok_or_else(|| {
            refusal::not_found(format!("there is no attachment {container_id}/{ifname}"))
        })?;
        let snapshot = self.engine.with(Engine::snapshot)?;
        Ok(live.status(&snapshot, &self.groups(), &self.learned(&live)))
    }

    /// MAC addresses that an attachment sends from besides its own; none of one that goes just now.
    fn learned(&self, live: &LiveAttachment) -> Vec<(Vid, Mac)> {
        if !live.request().pose().is_learned() {
            return Vec::new();
        }
        let learned = self
            .engine
            .try_with(|engine| engine.learned(live.attached.id));
        learned.unwrap_or_default()
    }

    /// Memberships of all attachments; none while a worker does not answer, which keeps nobody from seeing
    /// the rest.
    fn groups(&self) -> Vec<GroupMembership> {
        self.engine.try_with(Engine::groups).unwrap_or_default()
    }
}
