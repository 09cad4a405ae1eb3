// SPDX-License-Identifier: Apache-2.0
//! Control messages between the CNI plugins, the operator's tool and the engine: JSON bodies of
//! HTTP requests over the engine's unix socket, and (feature `client`) a blocking client for them.
//!
//! | method and path | body | answer |
//! |---|---|---|
//! | `GET /v1/health` | | [`Health`] |
//! | `GET /v1/status` | | [`Status`] |
//! | `POST /v1/attachments` | [`AttachRequest`] | [`AttachReply`] |
//! | `GET /v1/attachments` | | `[`[`AttachmentStatus`]`]` |
//! | `GET /v1/attachments/{container_id}/{ifname}` | | [`AttachmentStatus`] |
//! | `DELETE /v1/attachments/{container_id}/{ifname}` | | [`DetachReply`] |
//! | `POST /v1/drain`, `DELETE /v1/drain` | | [`DrainReply`] |
//! | `POST /v1/reload` | | [`ReloadReport`] |
//! | `GET /v1/counters` | | [`Counters`] |
//! | `GET /v1/balance` | | [`Balance`] |
//! | `GET /v1/policies` | | `[`[`PolicyStatus`]`]` |
//! | `POST /v1/policies/check` | [`PolicyFiles`] | [`PolicyReport`] |
//! | `PUT /v1/policies` | [`PolicyFiles`] | [`PolicyReport`] |
//! | `DELETE /v1/policies/{name}`, `?force=true` | | [`PolicyReport`] |
//!
//! A connection carries one request.
//!
//! Every failure answers with [`ApiError`] and an HTTP status that fits its code
//! ([`ErrorCode::http_status`]). A [`PolicyReport`] with problems is an answer, not a failure: it
//! says that nothing was applied, and why.
#![forbid(unsafe_code)]

mod attach;
mod balance;
#[cfg(feature = "client")]
pub mod client;
mod connections;
mod error;
mod host_errors;
mod mac;
mod policies;
mod pose;
mod reload;
mod status;

pub use attach::{
    AttachReply, AttachRequest, Backend, DetachReply, MemifRequest, MemifRole, MemifSocket,
    NetnsRef, PodRef, PriorityRequest, VfRequest, VhostUserRequest, VlanRequest,
};
pub use balance::{Balance, BalanceSums};
pub use connections::Connections;
pub use error::{ApiError, ErrorCode};
pub use mac::derived_mac;
pub use policies::{
    ChangeKind, PolicyChange, PolicyFile, PolicyFiles, PolicyProblem, PolicyReport, PolicyStatus,
};
pub use pose::{
    MAX_ADDRESS_PAIRS, MAX_MULTICAST_GROUPS, check_address_pairs, check_multicast_groups,
};
pub use reload::{ChangedSetting, DrainReply, KeptSetting, ReloadReport};
pub use sluice_packet::pose::{AddressPair, AntiSpoof, Pose, parse_prefix};
pub use sluice_packet::role::Role;
pub use sluice_packet::{Mac, MacError, Vid, VidError, VidRange};
pub use sluice_stats::{LinkState, NicCounters, Traffic};
pub use status::{
    AttachmentCounters, AttachmentStatus, Counters, Group, GroupStatus, Health, MbufCounts,
    MemoryStatus, RequestStatus, RuleCounter, SegmentStatus, SpoofedFrame, Status, UplinkStatus,
    WorkerConnections, WorkerStatus,
};

/// Default path of the engine's control socket.
pub const DEFAULT_SOCKET: &str = "/run/sluicegate/control/sluiced.sock";
/// Default folder of the engine's state.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/sluicegate";
