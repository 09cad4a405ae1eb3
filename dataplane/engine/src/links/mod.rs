// SPDX-License-Identifier: Apache-2.0
//! Links of attachments: back ends between the engine and a pod.
//!
//! A link gives the engine a port when the pod is there and takes it back when the pod goes; it ends
//! with [`Link::stop`].

mod memif;
mod pod_socket;
mod status;
mod tap;
mod vhost;

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use sluice_api::{ApiError, AttachRequest, Backend, MemifRole, MemifSocket};
use sluice_datapath::AttachmentId;
use sluice_memif::EndpointCounts;
use sluice_packet::Mac;

pub use status::{LinkReport, LinkStatus, Refusals};

use self::memif::MemifLink;
use self::tap::TapLink;
use self::vhost::VhostLink;
use crate::engine::SharedEngine;
use sluice_host::Netns;

/// Arguments that every link is started with.
#[derive(Debug)]
pub struct LinkSpec<'a> {
    /// The engine that gets the port.
    pub engine: &'a Arc<SharedEngine>,
    /// The attachment, which the engine knows by now.
    pub id: AttachmentId,
    /// The pod's namespace.
    pub netns: &'a Netns,
    /// The request, checked.
    pub request: &'a AttachRequest,
    /// The attachment's MAC address.
    pub mac: Mac,
    /// MTU of the attachment in bytes.
    pub mtu: u32,
}

/// Running link.
#[derive(Debug)]
pub enum Link {
    /// Shared memory with a peer in the pod.
    Memif(MemifLink),
    /// Virtio rings of a front end in the pod.
    Vhost(VhostLink),
    /// A kernel netdev in the pod.
    Tap(TapLink),
}

impl Link {
    /// Starts the link that the request asks for. A socket that is listened on is there when this returns, a
    /// tap's netdev is up.
    ///
    /// # Errors
    /// What stood in the way; nothing is left of it.
    pub fn start(spec: &LinkSpec<'_>) -> Result<Link, ApiError> {
        match &spec.request.backend {
            Backend::Memif(memif) => MemifLink::start(spec, memif).map(Link::Memif),
            Backend::VhostUser(vhost_user) => VhostLink::start(spec, vhost_user).map(Link::Vhost),
            Backend::Tap {} => TapLink::start(spec).map(Link::Tap),
        }
    }

    /// Returns the state of the link.
    pub fn report(&self) -> LinkReport {
        self.status().report()
    }

    /// Returns the status of the link, which its thread writes.
    pub fn status(&self) -> &LinkStatus {
        match self {
            Link::Memif(link) => link.status(),
            Link::Vhost(link) => link.status(),
            Link::Tap(link) => link.status(),
        }
    }

    /// Returns the counts of the link's connections; `None` for a tap, which has none.
    pub fn connections(&self) -> Option<EndpointCounts> {
        match self {
            Link::Memif(link) => Some(link.counts()),
            Link::Vhost(link) => Some(link.counts()),
            Link::Tap(_) => None,
        }
    }

    /// The engine took the port out because of what the peer did.
    pub fn fault(&self, reason: &str) {
        match self {
            Link::Memif(link) => link.fault(reason),
            Link::Vhost(link) => link.fault(reason),
            Link::Tap(link) => link.status().down(reason),
        }
    }

    /// Takes the link down for good: the peer is notified, its socket or netdev is gone, the engine has
    /// no port.
    pub fn stop(self) {
        match self {
            Link::Memif(link) => link.stop(),
            Link::Vhost(link) => link.stop(),
            Link::Tap(link) => link.stop(),
        }
    }
}

/// Address of the pod's socket: `@name` or a path; `None` for a tap.
pub fn socket(request: &AttachRequest) -> Option<String> {
    match &request.backend {
        Backend::Memif(memif) => Some(match memif.socket.as_ref() {
            None => format!("@{}", default_name(&request.ifname)),
            Some(MemifSocket::Abstract(name)) => format!("@{name}"),
            Some(MemifSocket::Path(path)) => path.display().to_string(),
        }),
        Backend::VhostUser(vhost_user) => Some(vhost_user.socket.display().to_string()),
        Backend::Tap {} => None,
    }
}

/// The role that the pod plays on its socket; `None` for a tap.
pub fn pod_role(request: &AttachRequest) -> Option<MemifRole> {
    let ours = match &request.backend {
        Backend::Memif(memif) => memif.role,
        Backend::VhostUser(vhost_user) => vhost_user.role,
        Backend::Tap {} => return None,
    };
    Some(match ours {
        MemifRole::Server => MemifRole::Client,
        MemifRole::Client => MemifRole::Server,
    })
}

/// The abstract name of a memif's socket unless the request says otherwise.
fn default_name(ifname: &str) -> String {
    format!("sluicegate/{ifname}")
}

/// The addresses alone.
pub(crate) fn addresses(nets: &[IpNet]) -> Vec<IpAddr> {
    nets.iter().map(IpNet::addr).collect()
}
