// SPDX-License-Identifier: Apache-2.0
//! Identity of an attachment in log events: the fields of [`sluice_log::IDENTITY_FIELDS`].

use sluice_api::{AttachRequest, PodRef, VlanRequest};

/// Identity of an attachment in log events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogIdentity {
    pub(crate) container_id: String,
    pub(crate) interface: String,
    /// Number in this life of the engine, once there is one.
    pub(crate) attachment: Option<u32>,
    pub(crate) pod: Option<PodRef>,
    pub(crate) uplink: String,
    /// VLANs as in `210`, `untagged` or `210,220-229`.
    pub(crate) vlan: String,
}

impl LogIdentity {
    /// Takes the identity of a request's attachment.
    pub(crate) fn new(request: &AttachRequest, attachment: Option<u32>) -> LogIdentity {
        LogIdentity {
            container_id: request.container_id.clone(),
            interface: request.ifname.clone(),
            attachment,
            pod: request.pod.clone(),
            uplink: request.uplink.clone(),
            vlan: vlans(&request.vlan),
        }
    }

    /// Returns the pod's name, where the runtime said it.
    pub(crate) fn pod(&self) -> Option<&str> {
        self.pod.as_ref().map(|pod| pod.name.as_str())
    }

    /// Returns the pod's namespace, where the runtime said it.
    pub(crate) fn namespace(&self) -> Option<&str> {
        self.pod.as_ref().map(|pod| pod.namespace.as_str())
    }
}

fn vlans(vlan: &VlanRequest) -> String {
    match vlan {
        VlanRequest::Access { vid, .. } if vid.is_untagged() => "untagged".to_owned(),
        VlanRequest::Access { vid, .. } => vid.to_string(),
        VlanRequest::Trunk { vids, .. } => {
            let mut sorted: Vec<u16> = vids.iter().map(|vid| vid.get()).collect();
            sorted.sort_unstable();
            let runs = sorted.chunk_by(|a, b| a + 1 == *b).map(|run| match run {
                [first, .., last] => format!("{first}-{last}"),
                run => run.iter().map(u16::to_string).collect(),
            });
            runs.collect::<Vec<_>>().join(",")
        }
    }
}

/// Logs an event about an attachment: its sentence, and its identity as fields.
macro_rules! attachment_event {
    ($level:ident, $identity:expr, $($sentence:tt)+) => {{
        let identity: &$crate::log_identity::LogIdentity = &$identity;
        tracing::$level!(
            container_id = identity.container_id.as_str(),
            interface = identity.interface.as_str(),
            attachment = identity.attachment,
            pod = identity.pod(),
            namespace = identity.namespace(),
            uplink = identity.uplink.as_str(),
            vlan = identity.vlan.as_str(),
            $($sentence)+
        );
    }};
}
pub(crate) use attachment_event;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn vlans_as_text() {
        for (vlan, text) in [
            (json!({"mode": "access", "vid": 0}), "untagged"),
            (json!({"mode": "access", "vid": 210}), "210"),
            (json!({"mode": "trunk", "vids": [7, 5, 6, 9]}), "5-7,9"),
        ] {
            assert_eq!(vlans(&serde_json::from_value(vlan).unwrap()), text);
        }
    }
}
