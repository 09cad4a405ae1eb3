// SPDX-License-Identifier: Apache-2.0
//! Workers of the engine: the loop, the two flows of the pipeline, and the ports.
//!
//! Start with `worker`, which holds the loop; `pipeline::ingress` and `pipeline::egress` are the two
//! flows, each one function over one burst. Control reaches the workers through [`Engine`] alone.
//!
//! | folder | holds |
//! |---|---|
//! | `control` | [`Engine`] and what control's threads use: topology, figures, events |
//! | `testing` | a worker and a flow cache that the caller's thread steps; fakes |
//! | `worker` | the loop, the idle ladder, control's commands |
//! | `pipeline` | ingress, egress, their stages, and the tables and state that these work on |
//! | `flows` | the flow cache |
//! | [`ports`] | the drivers, a file or a folder each, and the traits they implement |
//! | `frame` | the facts of one frame |
//! | `spec`, `limits` | specifications and limits that control hands in |
//!
//! Nothing here depends on an asynchronous runtime or on a serialiser: the manifest says so. System
//! calls go through rustix and nix rather than libc, since this crate forbids unsafe code;
//! core_affinity pins the workers. DPDK's devices are behind the feature `dpdk`, and all that is unsafe of them
//! in `sluice-dpdk`. Netdevs are control's business,
//! by rtnetlink.
#![forbid(unsafe_code)]

mod control;
mod counters;
mod drops;
mod error;
mod flows;
mod frame;
mod ids;
mod limits;
mod pipeline;
pub mod ports;
mod spec;
mod testing;
mod worker;

pub use control::balance::Balance;
pub use control::engine::{Attached, Engine};
pub use control::figures::{
    AttachmentSnapshot, ConnectionFigures, Drops, Event, GroupMembership, LogRecord, LostRecords,
    MemorySnapshot, RuleSnapshot, SegmentSnapshot, Snapshot, UplinkSnapshot, WorkerSnapshot,
};
pub use control::memory::LeastMbufs;
pub use counters::{BURST_CLASSES, LateCounts};
pub use drops::{DropCounts, DropReason};
pub use error::{ConfigError, Error};
pub use frame::FrameInfo;
pub use frame::destination::Destination;
pub use frame::origin_tag::Origin;
pub use frame::tagging::Tagging;
pub use ids::{AttachmentId, SegmentId, UplinkId, WorkerId};
pub use limits::{ConnectionLimits, FloodLimits, Limits, Rate};
pub use pipeline::event::Spoofed;
pub use ports::seam::{PodPort, PortContext, PortFault, Sent, Uplink, UplinkReport, Wake};
pub use sluice_stats::{LinkState, NicCounters, Traffic};
pub use spec::{AttachmentSpec, EngineConfig, IdleConfig, UplinkSpec, VlanSet, WorkerConfig};
pub use testing::stepped_engine::SteppedEngine;
pub use testing::stepped_flows::SteppedFlows;
pub use testing::stepped_worker::SteppedWorker;
