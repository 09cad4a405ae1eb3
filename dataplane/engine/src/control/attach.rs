// SPDX-License-Identifier: Apache-2.0
//! Attaching: an attachment is made whole or not at all. A failure undoes the steps before it in
//! reverse.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use sluice_api::{ApiError, AttachReply, AttachRequest, PriorityRequest, derived_mac};
use sluice_datapath::{Attached, AttachmentId, AttachmentSpec, Error};
use sluice_packet::Mac;

use super::key::AttachmentKey;
use super::keyed_lock::KeyGuard;
use super::live::LiveAttachment;
use super::request::CheckedRequest;
use super::uplink_choice::{UplinkChoice, UplinkGuard};
use super::{Control, locked};
use crate::links::{self, Link, LinkSpec};
use crate::log_identity::attachment_event;
use crate::records::{self, AttachmentRecord, RecordError};
use crate::refusal;
use sluice_host::Netns;

/// Further MAC addresses tried after a derived one that is taken in its segment.
const MAC_ATTEMPTS: u8 = 8;

impl Control {
    /// Makes an attachment. A repetition of the same request gets the same reply.
    ///
    /// # Errors
    /// A wrong request, a conflict with another attachment, or a step that failed; nothing is left
    /// of the attempt.
    pub fn attach(&self, request: &AttachRequest) -> Result<AttachReply, ApiError> {
        self.attach_in(request, None)
    }

    /// Makes an attachment of a pod whose network namespace came with the request as a file descriptor.
    ///
    /// # Errors
    /// As [`Control::attach`].
    pub fn attach_in(
        &self,
        request: &AttachRequest,
        netns: Option<OwnedFd>,
    ) -> Result<AttachReply, ApiError> {
        self.is_ready()?;
        let key = AttachmentKey::new(&request.container_id, &request.ifname)?;
        let uplink = self.choose_uplink(request)?;
        let checked = CheckedRequest::new(request, uplink.max_mtu())?;
        self.posing.check(request)?;
        let guard = self.attachments.lock(key)?;
        // Once more: what began before the shutdown must not add to what is shut down.
        self.is_ready()?;
        if let Some(live) = guard.get() {
            let mut reply = repeat(&live, request)?;
            reply.warnings.extend(self.link_problem(request));
            reply.warnings.extend(self.warnings_of_vf(&live));
            return Ok(reply);
        }
        self.check_drain()?;
        self.check_link(request)?;
        let netns = match netns {
            Some(netns) => Netns::from_fd(netns, &request.netns)?,
            None => Netns::open(&request.netns)?,
        };
        self.attach_new(&guard, &checked, &uplink, &netns)
    }

    /// Makes an attachment whose key has none.
    pub(super) fn attach_new(
        &self,
        guard: &KeyGuard<'_, LiveAttachment>,
        checked: &CheckedRequest<'_>,
        uplink: &UplinkChoice,
        netns: &Netns,
    ) -> Result<AttachReply, ApiError> {
        let (key, request) = (guard.key(), checked.request);
        let name = self.record_name(key)?;
        // Its VF is closed again if what follows fails.
        let uplink = self.open_uplink(uplink, checked)?;
        let (attached, mac) = self.enter(key, checked, &uplink)?;
        let record = AttachmentRecord {
            request: request.clone(),
            mac: mac.to_string(),
            mtu: checked.mtu,
            boot_id: self.boot_id.clone(),
            netns_ctime_ns: records::ctime_of(netns),
            netns_unseen: !netns.is_at_its_path(),
        };
        if let Err(error) = self.records.put(&name, &record) {
            self.leave(key, attached.id);
            return Err(error.into());
        }
        let link = Link::start(&LinkSpec {
            engine: &self.engine,
            id: attached.id,
            netns,
            request,
            mac,
            mtu: checked.mtu,
        });
        let link = match link {
            Ok(link) => link,
            Err(error) => {
                if let Err(error) = self.records.remove(&name) {
                    tracing::error!("{key}: {error}");
                }
                self.leave(key, attached.id);
                return Err(error);
            }
        };
        self.clear_problem(&name);
        let live = LiveAttachment {
            record,
            attached,
            vf: uplink.keep(),
            link: Mutex::new(Some(link)),
            spoofed: Mutex::default(),
        };
        attachment_event!(
            info,
            live.log_identity(),
            "{key}: attached to {} with MAC address {mac}, worker {}",
            request.uplink,
            live.attached.worker
        );
        let mut reply = live.reply();
        reply.warnings.extend(self.warnings_of_vf(&live));
        guard.set(Some(Arc::new(live)));
        Ok(reply)
    }

    /// Warnings about an attachment's own VF.
    fn warnings_of_vf(&self, live: &LiveAttachment) -> Vec<String> {
        live.vf.map_or_else(Vec::new, |id| self.vf_warnings(id))
    }

    /// Enters an attachment into the datapath, with the MAC address asked for or a derived one.
    fn enter(
        &self,
        key: &AttachmentKey,
        checked: &CheckedRequest<'_>,
        uplink: &UplinkGuard<'_>,
    ) -> Result<(Attached, Mac), ApiError> {
        let mut attempt = 0;
        loop {
            let derived = || derived_mac(key.container_id(), key.ifname(), attempt);
            let mac = checked.mac.unwrap_or_else(derived);
            let spec = AttachmentSpec {
                name: key.to_string(),
                uplink: uplink.id(),
                vlans: checked.vlans.clone(),
                qinq: checked.qinq,
                mac,
                addresses: links::addresses(&checked.request.addresses),
                groups: checked.request.multicast_groups.clone(),
                roles: checked.request.roles.iter().copied().collect(),
                pose: checked.request.pose(),
                keeps_priority: checked.request.priority == PriorityRequest::Keep,
                policy: checked.request.firewall.clone(),
                mtu: checked.mtu,
                worker: uplink.worker(),
            };
            match self.engine.with(|engine| engine.attach(spec))? {
                Ok(attached) => return Ok((attached, mac)),
                Err(Error::DuplicateMac { .. })
                    if checked.mac.is_none() && attempt < MAC_ATTEMPTS =>
                {
                    attempt += 1;
                }
                Err(error) => return Err(refusal::by_engine(&error)),
            }
        }
    }

    /// Undoes [`Control::enter`].
    fn leave(&self, key: &AttachmentKey, id: AttachmentId) {
        if let Err(error) = self.engine.try_with(|engine| engine.detach(id)) {
            tracing::error!("{key}: the failed attach cannot be undone: {error}");
        }
    }

    /// Name of an attachment's record.
    ///
    /// # Errors
    /// The file of that name is another attachment's.
    pub(super) fn record_name(&self, key: &AttachmentKey) -> Result<String, ApiError> {
        let name = key.record_name();
        if let Ok(Some(AttachmentRecord { request, .. })) = self.records.get(&name)
            && (request.container_id.as_str(), request.ifname.as_str())
                != (key.container_id(), key.ifname())
        {
            let other = format!("{}/{}", request.container_id, request.ifname);
            return Err(RecordError::Taken {
                path: self.records.path(&name),
                other,
            }
            .into());
        }
        Ok(name)
    }
}

/// Answers a request for an attachment that is there already.
fn repeat(live: &LiveAttachment, request: &AttachRequest) -> Result<AttachReply, ApiError> {
    if locked(&live.link).is_none() {
        return Err(refusal::unavailable(
            "the attachment is half detached: detach it again first",
        ));
    }
    if live.request() == request {
        return Ok(live.reply());
    }
    Err(refusal::conflict(format!(
        "{}/{} is attached already, and otherwise than asked for now: detach it first",
        request.container_id, request.ifname
    )))
}
