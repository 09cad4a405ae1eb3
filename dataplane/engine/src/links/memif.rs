// SPDX-License-Identifier: Apache-2.0
//! Link of a pod on a memif: the endpoint's thread, and the port that comes and goes with connections.

use std::sync::{Arc, Mutex, PoisonError};

use sluice_api::{ApiError, MemifRequest, MemifRole, MemifSocket};
use sluice_datapath::AttachmentId;
use sluice_datapath::ports::memif::MemifPort;
use sluice_memif::{
    ConnectionId, EndpointConfig, EndpointCounts, EndpointHandle, Event, Refusal, Role, Secret,
    endpoint,
};

use sluice_peer::SocketKind;

use super::pod_socket::PodSocket;
use super::status::LinkStatus;
use super::{LinkSpec, default_name};
use crate::engine::SharedEngine;
use crate::log_identity::{LogIdentity, attachment_event};
use crate::refusal;

/// Running memif.
#[derive(Debug)]
pub struct MemifLink {
    endpoint: EndpointHandle,
    shared: Arc<Shared>,
}

/// State shared between the endpoint's thread and control.
#[derive(Debug, Default)]
struct Shared {
    status: LinkStatus,
    /// Connection whose port the engine has.
    connection: Mutex<Option<ConnectionId>>,
}

impl MemifLink {
    pub(super) fn start(spec: &LinkSpec<'_>, memif: &MemifRequest) -> Result<MemifLink, ApiError> {
        let ifname = &spec.request.ifname;
        let config = config(ifname, memif)?;
        let socket = memif
            .socket
            .clone()
            .unwrap_or_else(|| MemifSocket::Abstract(default_name(ifname)));
        let opener = PodSocket::prepare(SocketKind::SeqPacket, spec.netns, &socket, memif.role)?;
        let shared = Arc::new(Shared::default());
        let mut events = Events {
            engine: Arc::clone(spec.engine),
            id: spec.id,
            name: format!("{}/{ifname}", spec.request.container_id),
            identity: LogIdentity::new(spec.request, Some(spec.id.to_u32())),
            shared: Arc::clone(&shared),
        };
        let endpoint =
            endpoint::spawn(config, opener, move |event| events.take(event)).map_err(|error| {
                match error {
                    endpoint::ConfigError::Start(_) => refusal::unavailable(error.to_string()),
                    error => refusal::invalid(error.to_string()),
                }
            })?;
        Ok(MemifLink { endpoint, shared })
    }

    pub(super) fn status(&self) -> &LinkStatus {
        &self.shared.status
    }

    pub(super) fn counts(&self) -> EndpointCounts {
        self.endpoint.counts()
    }

    pub(super) fn fault(&self, reason: &str) {
        let connection = *self
            .shared
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = connection {
            self.endpoint
                .disconnect(connection, Refusal::ByOwner(reason.to_owned()));
        }
    }

    pub(super) fn stop(self) {
        self.endpoint.stop();
    }
}

/// Handler of a memif's events, on its endpoint's thread.
struct Events {
    engine: Arc<SharedEngine>,
    id: AttachmentId,
    name: String,
    identity: LogIdentity,
    shared: Arc<Shared>,
}

impl Events {
    fn take(&mut self, event: Event) {
        let name = &self.name;
        match event {
            Event::Connected(connection) => self.connected(connection),
            Event::Disconnected { id, reason } => {
                self.remember(None);
                let reason = reason.to_string();
                self.shared.status.down(&reason);
                if self.shared.status.may_log() {
                    attachment_event!(
                        info,
                        self.identity,
                        "{name}: connection {id} ended: {reason}"
                    );
                }
                // The port dies here, on this attachment's own thread.
                if let Err(error) = self.engine.try_with(|engine| engine.disconnect(self.id)) {
                    attachment_event!(debug, self.identity, "{name}: {error}");
                }
            }
            Event::Waiting(error) => {
                let error = error.to_string();
                self.shared.status.waiting(&error);
                if self.shared.status.may_log() {
                    attachment_event!(debug, self.identity, "{name}: {error}");
                }
            }
            Event::Refused { peer, reason } => {
                let who = peer.map_or("a peer".to_owned(), |peer| format!("pid {}", peer.pid));
                let reason = format!("{who} was refused: {reason}");
                self.shared.status.refused(&reason);
                if self.shared.status.may_log() {
                    attachment_event!(warn, self.identity, "{name}: {reason}");
                }
            }
        }
    }

    fn connected(&self, connection: sluice_memif::Connection) {
        let name = &self.name;
        let number = connection.id;
        let peer = [
            connection.peer_program.as_str(),
            connection.peer_name.as_str(),
        ];
        let peer = peer
            .iter()
            .filter(|part| !part.is_empty())
            .copied()
            .collect::<Vec<_>>();
        let peer = peer.join(" ");
        let pairs = connection.rx.len();
        // Known before the port is: a fault of it is this connection's.
        self.remember(Some(number));
        let port = Box::new(MemifPort::new(connection));
        match self.engine.try_with(|engine| engine.connect(self.id, port)) {
            Ok(_) => {
                if self.shared.status.may_log() {
                    attachment_event!(
                        info,
                        self.identity,
                        "{name}: connection {number} with {peer}, {pairs} queue pairs"
                    );
                }
                self.shared
                    .status
                    .up(Some(peer).filter(|peer| !peer.is_empty()));
            }
            Err(error) => {
                if self.shared.status.may_log() {
                    attachment_event!(
                        warn,
                        self.identity,
                        "{name}: connection {number} cannot be used: {error}"
                    );
                }
                self.shared.status.waiting(&error.to_string());
            }
        }
    }

    fn remember(&self, connection: Option<ConnectionId>) {
        *self
            .shared
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = connection;
    }
}

/// Configuration of the endpoint that a request asks for. Ranges were checked with the request; what the protocol
/// says of them is checked here.
fn config(ifname: &str, memif: &MemifRequest) -> Result<EndpointConfig, ApiError> {
    let role = match memif.role {
        MemifRole::Server => Role::Server,
        MemifRole::Client => Role::Client,
    };
    let mut config = EndpointConfig::new(role, ifname);
    config.id = memif.id;
    config.allow_unsealed = memif.allow_unsealed;
    if let Some(rings) = memif.rings {
        config.queue_pairs = rings;
    }
    if let Some(size) = memif.ring_size {
        config.log2_ring_size = u8::try_from(size.ilog2()).unwrap_or(u8::MAX);
    }
    if let Some(size) = memif.buffer_size {
        config.buffer_size = size;
    }
    if let Some(secret) = &memif.secret {
        let secret = Secret::new(secret).ok_or_else(|| {
            refusal::invalid("a memif's secret has 1 to 24 bytes, none of them 0")
        })?;
        config.secret = Some(secret);
    }
    Ok(config)
}
