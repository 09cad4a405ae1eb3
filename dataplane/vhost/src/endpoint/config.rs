// SPDX-License-Identifier: Apache-2.0
//! Configuration of an endpoint, and its ranges.

/// Most queue pairs: each has two rings, of which a kick thread has 64 at most.
pub const MAX_QUEUE_PAIRS: u16 = 16;

/// Role on the control socket. The front end owns the memory in either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Listens; the front end connects.
    Server,
    /// Connects; the front end listens, and can be found again after either side was restarted.
    Client,
}

/// Configuration of one device. Start from [`EndpointConfig::new`].
#[derive(Debug, Clone)]
pub struct EndpointConfig {
    /// Role of this side.
    pub role: Role,
    /// Name of the interface, for the threads.
    pub name: String,
    /// Queue pairs that are offered, 1 to [`MAX_QUEUE_PAIRS`], default 1.
    pub queue_pairs: u16,
    /// Most shared memory in bytes, default 1 GiB. Pages that the front end has not touched are charged
    /// to whoever touches them first.
    pub max_bytes: u64,
}

/// Reason why an endpoint could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Queue pairs out of range.
    #[error("{0} queue pairs: from 1 to {MAX_QUEUE_PAIRS} are possible")]
    QueuePairs(u16),
    /// Thread or fd that the operating system refused.
    #[error("the thread of the vhost-user socket cannot be started: {0}")]
    Start(#[source] std::io::Error),
}

impl EndpointConfig {
    /// Defaults, for an interface of this name.
    pub fn new(role: Role, name: &str) -> EndpointConfig {
        EndpointConfig {
            role,
            name: name.to_owned(),
            queue_pairs: 1,
            max_bytes: 1 << 30,
        }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.queue_pairs == 0 || self.queue_pairs > MAX_QUEUE_PAIRS {
            return Err(ConfigError::QueuePairs(self.queue_pairs));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_checked() {
        for (pairs, fits) in [(0, false), (1, true), (16, true), (17, false)] {
            let mut config = EndpointConfig::new(Role::Client, "net1");
            config.queue_pairs = pairs;
            assert_eq!(config.check().is_ok(), fits, "{pairs}");
        }
    }
}
