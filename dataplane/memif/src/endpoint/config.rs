// SPDX-License-Identifier: Apache-2.0
//! Configuration of an endpoint, and its ranges.

use std::time::Duration;

use crate::layout::MAX_LOG2;
use crate::text::Secret;
use sluice_peer::MAX_QUEUES;

/// Role in the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Listens; the peer owns the memory.
    Server,
    /// Connects; we own the memory.
    Client,
}

/// Configuration of one memif. Start from [`EndpointConfig::new`].
#[derive(Debug, Clone)]
pub struct EndpointConfig {
    /// Role of this side.
    pub role: Role,
    /// The interface's id on its socket; both sides must name the same. Default 0.
    pub id: u32,
    /// Secret: as a server, required of clients; as a client, sent. Default none.
    pub secret: Option<Secret>,
    /// Name of our interface as the peer shows it, at most 31 bytes.
    pub name: String,
    /// Rings in each direction: the most that a server offers, the number that a client asks for. 1 to
    /// 64, default 1.
    pub queue_pairs: u16,
    /// Binary logarithm of the descriptors per ring: the most that a server offers, the number that a
    /// client asks for. 1 to 14, default 10.
    pub log2_ring_size: u8,
    /// Bytes per buffer where we are client, 64 to 65536, default 2048. Not less than a DPDK
    /// server's mbufs have: it does not look at the posted length.
    pub buffer_size: u32,
    /// Whether receive queues start with interrupts on. Default off: the queues are polled.
    pub interrupts: bool,
    /// Whether a server takes memory that could shrink. Only for peers that are trusted: a frame in
    /// such memory can be torn away while it is copied. Default no.
    pub allow_unsealed: bool,
    /// Most shared memory in bytes, default 256 MiB.
    pub max_bytes: u64,
    /// Longest time that a handshake may take, default 5 s.
    pub handshake_limit: Duration,
}

/// Reason why an endpoint could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Queue pairs out of range.
    #[error("{0} queue pairs: from 1 to {MAX_QUEUES} are possible")]
    QueuePairs(u16),
    /// Ring size out of range.
    #[error("rings of 2^{0} descriptors: from 2^1 to 2^{MAX_LOG2} are possible")]
    RingSize(u8),
    /// Buffer size out of range.
    #[error("buffers of {0} bytes: from 64 to 65536 are possible")]
    BufferSize(u32),
    /// Thread or fd that the operating system refused.
    #[error("the memif's thread cannot be started: {0}")]
    Start(#[source] std::io::Error),
}

impl EndpointConfig {
    /// Defaults, for an interface of this name.
    pub fn new(role: Role, name: &str) -> EndpointConfig {
        EndpointConfig {
            role,
            id: 0,
            secret: None,
            name: name.to_owned(),
            queue_pairs: 1,
            log2_ring_size: 10,
            buffer_size: 2048,
            interrupts: false,
            allow_unsealed: false,
            max_bytes: 256 << 20,
            handshake_limit: Duration::from_secs(5),
        }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.queue_pairs == 0 || usize::from(self.queue_pairs) > MAX_QUEUES {
            return Err(ConfigError::QueuePairs(self.queue_pairs));
        }
        if self.log2_ring_size == 0 || self.log2_ring_size > MAX_LOG2 {
            return Err(ConfigError::RingSize(self.log2_ring_size));
        }
        if !(64..=65_536).contains(&self.buffer_size) {
            return Err(ConfigError::BufferSize(self.buffer_size));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_checked() {
        let config = || EndpointConfig::new(Role::Client, "net1");
        assert!(config().check().is_ok());
        let bad = |change: fn(&mut EndpointConfig)| {
            let mut config = config();
            change(&mut config);
            config.check().is_err()
        };
        assert!(bad(|c| c.queue_pairs = 0));
        assert!(bad(|c| c.queue_pairs = 65));
        assert!(bad(|c| c.log2_ring_size = 0));
        assert!(bad(|c| c.log2_ring_size = 15));
        assert!(bad(|c| c.buffer_size = 63));
    }
}
