// SPDX-License-Identifier: Apache-2.0
//! Link of a pod on virtio rings: the endpoint's thread, and the port that comes and goes as the rings
//! run and stop.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use sluice_api::{ApiError, MemifRole, MemifSocket, VhostUserRequest};
use sluice_datapath::AttachmentId;
use sluice_datapath::ports::vhost::VhostPort;
use sluice_peer::{EndpointCounts, Listener, OpenError, PeerCred, SocketKind};
use sluice_vhost::{
    Connection, ConnectionId, EndpointConfig, EndpointHandle, Event, Opener, Refusal, Role,
    endpoint,
};

use super::LinkSpec;
use super::pod_socket::PodSocket;
use super::status::LinkStatus;
use crate::engine::SharedEngine;
use crate::log_identity::{LogIdentity, attachment_event};
use crate::refusal;

/// Running vhost-user device.
#[derive(Debug)]
pub struct VhostLink {
    endpoint: EndpointHandle,
    shared: Arc<Shared>,
}

/// State shared between the endpoint's thread and control.
#[derive(Debug, Default)]
struct Shared {
    status: LinkStatus,
    /// Run of the rings whose port the engine has.
    connection: Mutex<Option<ConnectionId>>,
}

/// Opener of the device's socket.
struct VhostSocket(PodSocket);

impl Opener for VhostSocket {
    fn listen(&mut self) -> Result<Listener, OpenError> {
        self.0.listener()
    }

    fn connect(&mut self) -> Result<OwnedFd, OpenError> {
        self.0.connection()
    }

    fn admit(&mut self, peer: PeerCred) -> Result<(), Refusal> {
        self.0.check_peer(peer).map_err(Refusal::NotAdmitted)
    }
}

impl VhostLink {
    pub(super) fn start(
        spec: &LinkSpec<'_>,
        vhost_user: &VhostUserRequest,
    ) -> Result<VhostLink, ApiError> {
        let ifname = &spec.request.ifname;
        let socket = prepare(spec, vhost_user)?;
        let shared = Arc::new(Shared::default());
        let mut events = Events {
            engine: Arc::clone(spec.engine),
            id: spec.id,
            name: format!("{}/{ifname}", spec.request.container_id),
            identity: LogIdentity::new(spec.request, Some(spec.id.to_u32())),
            shared: Arc::clone(&shared),
            warned: false,
        };
        let endpoint = endpoint::spawn(config(ifname, vhost_user), socket, move |event| {
            events.take(event);
        })
        .map_err(|error| match error {
            endpoint::ConfigError::Start(_) => refusal::unavailable(error.to_string()),
            error => refusal::invalid(error.to_string()),
        })?;
        Ok(VhostLink { endpoint, shared })
    }

    pub(super) fn status(&self) -> &LinkStatus {
        &self.shared.status
    }

    pub(super) fn counts(&self) -> EndpointCounts {
        self.endpoint.counts()
    }

    pub(super) fn fault(&self, reason: &str) {
        if let Some(connection) = *self.shared.connection() {
            let reason = Refusal::ByOwner(reason.to_owned());
            self.endpoint.disconnect(connection, reason);
        }
    }

    pub(super) fn stop(self) {
        self.endpoint.stop();
    }
}

impl Shared {
    fn connection(&self) -> std::sync::MutexGuard<'_, Option<ConnectionId>> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn prepare(
    spec: &LinkSpec<'_>,
    VhostUserRequest { socket, role, .. }: &VhostUserRequest,
) -> Result<VhostSocket, ApiError> {
    let path: &Path = socket;
    let socket = MemifSocket::Path(path.to_owned());
    PodSocket::prepare(SocketKind::Stream, spec.netns, &socket, *role).map(VhostSocket)
}

/// Configuration of the endpoint that a request asks for; its ranges were checked with the request.
fn config(ifname: &str, vhost_user: &VhostUserRequest) -> EndpointConfig {
    let role = match vhost_user.role {
        MemifRole::Server => Role::Server,
        MemifRole::Client => Role::Client,
    };
    let mut config = EndpointConfig::new(role, ifname);
    if let Some(queues) = vhost_user.queues {
        config.queue_pairs = queues;
    }
    if let Some(mib) = vhost_user.max_memory_mib {
        config.max_bytes = u64::from(mib) << 20;
    }
    config
}

/// Handler of a device's events, on its endpoint's thread.
struct Events {
    engine: Arc<SharedEngine>,
    id: AttachmentId,
    name: String,
    identity: LogIdentity,
    shared: Arc<Shared>,
    /// Whether it was said that the pod's memory can be made shorter.
    warned: bool,
}

impl Events {
    fn take(&mut self, event: Event) {
        let name = &self.name;
        match event {
            Event::Started(connection) => self.started(connection),
            Event::Stopped { id, reason } => {
                *self.shared.connection() = None;
                let reason = reason.to_string();
                self.shared.status.down(&reason);
                if self.shared.status.may_log() {
                    attachment_event!(
                        info,
                        self.identity,
                        "{name}: rings of connection {id} stopped: {reason}"
                    );
                }
                // The port dies here, on this attachment's own thread, before the front end is answered.
                if let Err(error) = self.engine.try_with(|engine| engine.disconnect(self.id)) {
                    attachment_event!(debug, self.identity, "{name}: {error}");
                }
            }
            Event::Waiting(error) => self.waiting(&error.to_string()),
            Event::Accepted { peer } => self.waiting(&format!(
                "the front end, pid {}, is connected; its rings do not run yet",
                peer.pid
            )),
            Event::Left { reason } => self.waiting(&reason.to_string()),
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

    fn waiting(&self, reason: &str) {
        self.shared.status.waiting(reason);
        if self.shared.status.may_log() {
            attachment_event!(debug, self.identity, "{}: {reason}", self.name);
        }
    }

    fn started(&mut self, connection: Connection) {
        let name = &self.name;
        let number = connection.id;
        let (pid, pairs, can_shrink) = (
            connection.peer.pid,
            connection.rx.len(),
            connection.can_shrink,
        );
        // Known before the port is: a fault of it is this connection's.
        *self.shared.connection() = Some(number);
        let port = Box::new(VhostPort::new(connection));
        match self.engine.try_with(|engine| engine.connect(self.id, port)) {
            Ok(_) => {
                if self.shared.status.may_log() {
                    attachment_event!(
                        info,
                        self.identity,
                        "{name}: connection {number} with pid {pid}, {pairs} queue pairs run"
                    );
                }
                if can_shrink && !self.warned {
                    self.warned = true;
                    attachment_event!(
                        info,
                        self.identity,
                        "{name}: the pod's memory is not sealed: if the pod makes it shorter, its \
                         connection ends"
                    );
                }
                self.shared
                    .status
                    .up(Some(format!("virtio front end, pid {pid}")));
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
}
