// SPDX-License-Identifier: Apache-2.0
//! A pod on a tap: a kernel netdev in its network namespace, with the attachment's MAC address, MTU
//! and addresses. It is gone when the engine lets go of its port.

mod ipv6;
mod netdev;

use std::sync::Arc;

use sluice_api::ApiError;
use sluice_datapath::AttachmentId;
use sluice_datapath::ports::tap::TapPort;

use super::LinkSpec;
use super::status::LinkStatus;
use crate::engine::SharedEngine;
use crate::refusal;

/// A running tap.
#[derive(Debug)]
pub struct TapLink {
    engine: Arc<SharedEngine>,
    id: AttachmentId,
    status: LinkStatus,
}

impl TapLink {
    pub(super) fn start(spec: &LinkSpec<'_>) -> Result<TapLink, ApiError> {
        let request = spec.request;
        let tap = spec
            .netns
            .run(|| netdev::make(&request.ifname, spec.mac, spec.mtu, &request.addresses))??;
        let port = TapPort::start(tap).map_err(|error| {
            refusal::unavailable(format!(
                "cannot start the thread of tap {}: {error}; retry",
                request.ifname
            ))
        })?;
        let port = Box::new(port);
        spec.engine
            .try_with(|engine| engine.connect(spec.id, port))?;
        let status = LinkStatus::default();
        status.up(Some(format!("kernel ({})", request.ifname)));
        Ok(TapLink {
            engine: Arc::clone(spec.engine),
            id: spec.id,
            status,
        })
    }

    pub(super) fn status(&self) -> &LinkStatus {
        &self.status
    }

    pub(super) fn stop(self) {
        // With the port goes the file, and with the file the netdev.
        if let Err(error) = self.engine.try_with(|engine| engine.disconnect(self.id)) {
            tracing::debug!("tap of attachment {}: {error}", self.id);
        }
    }
}
