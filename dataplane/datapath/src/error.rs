// SPDX-License-Identifier: Apache-2.0
//! Errors of the engine.

use std::net::IpAddr;

use sluice_packet::{Mac, Vid};

/// Error of the engine: nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A worker's thread could not be made.
    #[error("cannot start worker {worker}: {source}")]
    Thread {
        /// Number of the worker.
        worker: usize,
        /// Error of the system call.
        source: std::io::Error,
    },
    /// A mempool could not be made.
    #[error("cannot make the mempools: {0}")]
    Memory(#[from] sluice_mem::Error),
    /// A specification is out of range or contradicts itself.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An uplink has that name already.
    #[error("there is an uplink {0} already: names of uplinks are unique")]
    UplinkExists(String),
    /// No uplink has that number.
    #[error("there is no such uplink")]
    NoUplink,
    /// The uplink has attachments.
    #[error("uplink {uplink} has {attachments} attachments: detach them first")]
    UplinkInUse {
        /// Name of the uplink.
        uplink: String,
        /// Number of its attachments.
        attachments: usize,
    },
    /// The MAC address belongs to another attachment.
    #[error(
        "MAC address {mac} belongs to {holder} in VLAN {vid} already: ask for another address, \
         or detach {holder}"
    )]
    DuplicateMac {
        /// The address.
        mac: Mac,
        /// Name of the attachment that has the address.
        holder: String,
        /// VLAN in which both would be.
        vid: Vid,
    },
    /// The IP address belongs to another attachment.
    #[error(
        "address {address} belongs to {holder} in VLAN {vid} already: give another address, or detach \
         {holder}"
    )]
    DuplicateAddress {
        /// The address.
        address: IpAddr,
        /// Name of the attachment that has the address.
        holder: String,
        /// VLAN in which both would be.
        vid: Vid,
    },
    /// The address is a group address, or all zeros.
    #[error("{0} cannot be an interface's address: it must be unicast and not zero")]
    BadMac(Mac),
    /// No policy has that name.
    #[error("there is no policy {name}: the policies are {known}")]
    UnknownPolicy {
        /// The name asked for.
        name: String,
        /// Names of the policies, joined by commas.
        known: String,
    },
    /// No attachment has that number.
    #[error("there is no such attachment")]
    NoAttachment,
    /// The engine has as many as it can.
    #[error("the engine has {0} {1}, which is as many as it can")]
    Full(usize, &'static str),
    /// A worker did not answer.
    #[error(
        "worker {worker} did not answer within {seconds} s: its core may be taken by something \
         else (see `sluicectl status`), or the engine hangs and must be restarted"
    )]
    WorkerSilent {
        /// Number of the worker.
        worker: usize,
        /// Seconds that control waited.
        seconds: u64,
    },
    /// A system call failed.
    #[error("{what}: {source}")]
    System {
        /// Call or resource that failed.
        what: &'static str,
        /// Error of the system call.
        source: std::io::Error,
    },
}

/// Error of a specification that is out of range or contradicts itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The number of workers is out of range.
    #[error("{asked} workers were asked for: 1 to {most} are possible")]
    WorkerCount {
        /// Number asked for.
        asked: usize,
        /// Largest possible number.
        most: usize,
    },
    /// No worker has that number.
    #[error("there is no worker {worker}: the engine has {workers}, from 0")]
    NoWorker {
        /// Number asked for.
        worker: usize,
        /// Number of workers.
        workers: usize,
    },
    /// The uplink has no TPIDs.
    #[error("uplink {0} has no TPIDs: give at least one, usually 0x8100")]
    NoTpids(String),
    /// The attachment asks for untagged frames on an uplink whose untagged frames are of a VLAN.
    #[error(
        "untagged frames of uplink {uplink} are those of VLAN {native}: ask for that VLAN instead of 0"
    )]
    UntaggedIsVlan {
        /// Name of the uplink.
        uplink: String,
        /// VLAN of its untagged frames.
        native: Vid,
    },
    /// The attachment asks for more than the port VLAN of its uplink.
    #[error(
        "uplink {uplink} is in port VLAN {vid}: an attachment on it is an access one of that VLAN, \
         without qinq; for several VLANs ask for a trunk"
    )]
    PortVlan {
        /// Name of the uplink.
        uplink: String,
        /// Port VLAN.
        vid: Vid,
    },
    /// The trunk has no VIDs.
    #[error("a trunk needs at least one VID")]
    EmptyTrunk,
    /// The trunk has VID 0 among its tagged VIDs.
    #[error("a trunk's VIDs are 1 to 4094: untagged frames are those of `native`")]
    UntaggedInTrunk,
    /// The trunk has its native VID among its tagged VIDs.
    #[error("VID {0} is both tagged and native on the trunk: leave it in one of them")]
    NativeIsTagged(Vid),
}
