//! Attach and detach. An attach is made whole or not at all: what was done is undone in reverse. A
//! detach can be repeated until it is through.

use std::sync::{Arc, Mutex};

use sluice_api::{ApiError, AttachReply, AttachRequest, DetachReply, ErrorCode, derived_mac};
use sluice_datapath::{Attached, AttachmentId, AttachmentSpec, Error};
use sluice_packet::{Mac, Vid};

use super::ground::{Footing, Ground};
use super::request::{self, Checked};
use super::slots::{Key, Turn};
use super::{Attachment, Control, UplinkInfo, locked};
use crate::links::{self, Link, LinkSpec};
use crate::netns::Netns;
use crate::records::{AttachmentRecord, RecordError};
use crate::refusal;

/// How often a derived MAC address that is taken is replaced by another.
const MAC_ATTEMPTS: u8 = 8;

impl Control {
    /// Makes an attachment. Asked the same again, it gives the same reply.
    ///
    /// # Errors
    /// What is wrong with the request or stood in the way; nothing was changed.
    pub fn attach(&self, request: &AttachRequest) -> Result<AttachReply, ApiError> {
        self.is_ready()?;
        let key = request::key(&request.container_id, &request.ifname)?;
        let ground = self.ground(request)?;
        let checked = request::check(request, ground.mtu())?;
        let turn = self.attachments.turn(key)?;
        // Once more: what began before the drain must not add to what is drained.
        self.is_ready()?;
        if let Some(there) = turn.get() {
            return repeat(&there, request);
        }
        self.attach_new(&turn, request, &checked, &ground)
    }

    /// Makes an attachment whose slot is free.
    pub(super) fn attach_new(
        &self,
        turn: &Turn<'_, Attachment>,
        request: &AttachRequest,
        checked: &Checked,
        ground: &Ground,
    ) -> Result<AttachReply, ApiError> {
        let netns = Netns::open(&request.netns)?;
        let name = self.record_name(turn.key())?;
        // Its VF is closed again if what follows fails.
        let footing = self.stand_on(ground, request, checked)?;
        let (attached, mac) = self.enter(turn.key(), request, checked, &footing)?;
        let record = AttachmentRecord {
            request: request.clone(),
            mac: mac.to_string(),
            mtu: checked.mtu,
            boot_id: self.boot_id.clone(),
        };
        if let Err(error) = self.records.put(&name, &record) {
            self.leave(turn.key(), attached.id);
            return Err(error.into());
        }
        let link = Link::start(&LinkSpec {
            engine: &self.engine,
            id: attached.id,
            netns: &netns,
            request,
            mac,
            mtu: checked.mtu,
        });
        let link = match link {
            Ok(link) => link,
            Err(error) => {
                if let Err(error) = self.records.remove(&name) {
                    tracing::error!("{}: {error}", turn.key());
                }
                self.leave(turn.key(), attached.id);
                return Err(error);
            }
        };
        let reply = AttachReply {
            id: attached.id.to_u32(),
            mac: mac.to_string(),
            mtu: checked.mtu,
            socket: links::socket(request),
            pod_role: links::pod_role(request),
            warnings: warnings(request, &attached.segments_without_policy),
        };
        tracing::info!(
            "{}: attached to {} with MAC address {mac}, worker {}",
            turn.key(),
            request.uplink,
            attached.worker
        );
        self.put_right(&name);
        turn.put(Some(Arc::new(Attachment {
            request: request.clone(),
            id: attached.id,
            mac,
            mtu: checked.mtu,
            worker: attached.worker,
            vf: footing.keep(),
            reply: reply.clone(),
            link: Mutex::new(Some(link)),
        })));
        Ok(reply)
    }

    /// Removes an attachment. One that is not there is gone already.
    ///
    /// # Errors
    /// A name that cannot be one, or a worker or disk that does not do what it should; ask again.
    pub fn detach(&self, container_id: &str, ifname: &str) -> Result<DetachReply, ApiError> {
        let turn = self.attachments.turn(request::key(container_id, ifname)?)?;
        let key = turn.key();
        let there = turn.get();
        if let Some(attachment) = &there {
            // The link first: the engine's port is of no use to a pod that is going.
            if let Some(link) = attachment.take_link() {
                link.stop();
            }
            match self.engine.ask(|engine| engine.detach(attachment.id))? {
                Ok(()) | Err(Error::NoAttachment) => {}
                Err(error) => return Err(refusal::by_engine(&error)),
            }
            // Before the answer: whoever asked gives the VF to somebody else next.
            if let Some(vf) = attachment.vf {
                self.close_vf(vf)?;
            }
        }
        // Also when the engine never took it up again: its namespace was gone, or its uplink.
        let recorded = match self.record_name(key) {
            Ok(name) => self.records.remove(&name)?,
            // The file is another attachment's.
            Err(_) => false,
        };
        turn.put(None);
        self.put_right(&AttachmentRecord::name(&key.container_id, &key.ifname));
        if there.is_some() {
            tracing::info!("{key}: detached");
        }
        Ok(DetachReply {
            existed: there.is_some() || recorded,
        })
    }

    /// Enters an attachment into the engine, with the MAC address asked for or one derived.
    fn enter(
        &self,
        key: &Key,
        request: &AttachRequest,
        checked: &Checked,
        footing: &Footing<'_>,
    ) -> Result<(Attached, Mac), ApiError> {
        let mut attempt = 0;
        loop {
            let derived = || derived_mac(&key.container_id, &key.ifname, attempt);
            let mac = checked.mac.unwrap_or_else(derived);
            let spec = AttachmentSpec {
                name: key.to_string(),
                uplink: footing.uplink(),
                vlans: checked.vlans.clone(),
                qinq: checked.qinq,
                mac,
                addresses: links::addresses(&request.addresses),
                policy: request.firewall.clone(),
                mtu: checked.mtu,
                worker: footing.worker(),
            };
            match self.engine.ask(|engine| engine.attach(spec))? {
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
    fn leave(&self, key: &Key, id: AttachmentId) {
        if let Err(error) = self.engine.order(|engine| engine.detach(id)) {
            tracing::error!("{key}: cannot be taken back: {error}");
        }
    }

    /// The name of an attachment's record, unless a file of that name is another's: `a-b`, `c` and
    /// `a`, `b-c` have one in common.
    fn record_name(&self, key: &Key) -> Result<String, ApiError> {
        let name = AttachmentRecord::name(&key.container_id, &key.ifname);
        if let Ok(Some(AttachmentRecord { request, .. })) = self.records.get(&name)
            && (&request.container_id, &request.ifname) != (&key.container_id, &key.ifname)
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

    pub(super) fn uplink(&self, name: &str) -> Result<UplinkInfo, ApiError> {
        self.uplinks.get(name).copied().ok_or_else(|| {
            let known: Vec<&str> = self.uplinks.keys().map(String::as_str).collect();
            refusal::invalid(format!(
                "there is no uplink {name}: the uplinks are {}",
                known.join(", ")
            ))
        })
    }
}

/// The reply to a request for what is there already.
fn repeat(there: &Attachment, request: &AttachRequest) -> Result<AttachReply, ApiError> {
    if locked(&there.link).is_none() {
        return Err(ApiError::new(
            ErrorCode::Unavailable,
            "the attachment is half detached: detach it again first",
        ));
    }
    if there.request == *request {
        return Ok(there.reply.clone());
    }
    Err(refusal::conflict(format!(
        "{}/{} is attached already, and otherwise than asked for now: detach it first",
        request.container_id, request.ifname
    )))
}

/// What the caller should know of an attachment that was made.
fn warnings(request: &AttachRequest, segments: &[Vid]) -> Vec<String> {
    segments
        .iter()
        .map(|vid| {
            format!(
                "{} of {} has no policy, so it carries nothing: apply a policy for it \
                 (`sluicectl policies apply FILE`)",
                segment(*vid),
                request.uplink
            )
        })
        .collect()
}

/// A segment in words.
pub(super) fn segment(vid: Vid) -> String {
    if vid.is_untagged() {
        "the untagged segment".to_owned()
    } else {
        format!("VLAN {vid}")
    }
}
