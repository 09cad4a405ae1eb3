//! The workers: the loop, the two pipelines, and the ports they poll.
//!
//! Start with `worker`, which holds the loop; `ingress` and `egress` are the two flows, each one
//! function over one burst. Control talks to the workers through [`Engine`] alone.
//!
//! Nothing here depends on an asynchronous runtime or on a serialiser: the manifest says so.
#![forbid(unsafe_code)]

mod antispoof;
mod attachment;
mod bucket;
mod classify;
mod command;
mod counters;
mod drops;
mod egress;
mod engine;
mod error;
mod flows;
mod frame;
mod idle;
mod ids;
mod ingress;
mod judge;
mod link;
mod macs;
mod mark;
mod port;
pub mod ports;
mod recognise;
mod reject;
mod route;
mod snapshot;
mod spec;
mod state;
mod stepped;
mod stepped_flows;
mod tables;
mod topology;
mod worker;

pub use drops::{DropCounts, DropReason};
pub use engine::{Attached, Engine};
pub use error::Error;
pub use frame::{Destination, FrameInfo, Tagging};
pub use ids::{AttachmentId, SegmentId, UplinkId, WorkerId};
pub use mark::Source;
pub use port::{
    NicCounters, PodPort, PortContext, PortFault, Sent, Uplink, UplinkLink, UplinkReport, Wake,
};
pub use spec::{
    AttachmentSnapshot, AttachmentSpec, Drops, EngineConfig, Event, IdleConfig, LogRecord,
    MemorySnapshot, RuleSnapshot, SegmentSnapshot, Snapshot, Traffic, UplinkSnapshot, UplinkSpec,
    VlanSet, WorkerConfig, WorkerSnapshot,
};
pub use stepped::SteppedWorker;
pub use stepped_flows::SteppedFlows;
