//! What the engine refuses, and why.

use sluice_packet::{Mac, Vid};

/// A refusal of the engine. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A worker's thread could not be made.
    #[error("cannot start worker {worker}: {source}")]
    Thread {
        /// Which.
        worker: usize,
        /// Why.
        source: std::io::Error,
    },
    /// A mempool could not be made.
    #[error("cannot make the mempools: {0}")]
    Memory(#[from] sluice_mem::Error),
    /// The configuration of the workers is out of range.
    #[error("{0}")]
    Config(String),
    /// An uplink of that name is there.
    #[error("there is an uplink {0} already: names of uplinks are unique")]
    UplinkExists(String),
    /// No uplink of that number.
    #[error("there is no such uplink")]
    NoUplink,
    /// Attachments stand on the uplink.
    #[error("uplink {uplink} has {attachments} attachments: detach them first")]
    UplinkInUse {
        /// The uplink.
        uplink: String,
        /// How many.
        attachments: usize,
    },
    /// Another attachment has the MAC address.
    #[error(
        "MAC address {mac} belongs to {holder} in VLAN {vid} already: ask for another address, \
         or detach {holder}"
    )]
    DuplicateMac {
        /// The address.
        mac: Mac,
        /// Who has it.
        holder: String,
        /// Where.
        vid: Vid,
    },
    /// A group address, or all zeros.
    #[error("{0} cannot be an interface's address: it must be unicast and not zero")]
    BadMac(Mac),
    /// No policy of that name.
    #[error("there is no policy {name}: the policies are {known}")]
    UnknownPolicy {
        /// The name asked for.
        name: String,
        /// Those there are.
        known: String,
    },
    /// No attachment of that number.
    #[error("there is no such attachment")]
    NoAttachment,
    /// As many as there can be.
    #[error("the engine has {0} {1}, which is as many as it can")]
    Full(usize, &'static str),
    /// A worker did not answer.
    #[error(
        "worker {worker} did not answer within {seconds} s: its core may be taken by something \
         else (see `sluicectl status`), or the engine hangs and must be restarted"
    )]
    WorkerSilent {
        /// Which.
        worker: usize,
        /// How long was waited.
        seconds: u64,
    },
    /// A system call failed.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
}
