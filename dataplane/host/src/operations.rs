// SPDX-License-Identifier: Apache-2.0
//! Reports of the CNI plugins about their calls: one datagram for each, to a socket of the agent.
//!
//! A report is for figures alone. Sending one takes three system calls and never waits; where nobody listens, it is
//! lost.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Version of the form of [`Operation`]. A listener takes those it knows.
pub const VERSION: u32 = 1;

/// Largest report in bytes.
pub const MAX_BYTES: usize = 1024;

/// Longest type of a delegate that is reported, in bytes.
const MAX_DELEGATE: usize = 128;

/// Call of a CNI plugin that has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    /// [`VERSION`].
    pub version: u32,
    /// Name of the plugin: `sluicegate`, `sluicegate-vf`.
    pub plugin: String,
    /// `CNI_COMMAND`.
    pub command: String,
    /// Code of the CNI error; 0: the call succeeded.
    pub code: u32,
    /// Time of the call, from the start of the program on.
    pub seconds: f64,
    /// Type of the plugin that ours ran and that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegate: Option<String>,
}

/// Returns the path of the agent's socket in the engine's run folder. The folder of the socket has mode 0700.
pub fn socket(run_dir: &Path) -> PathBuf {
    run_dir.join("agent").join("operations.sock")
}

impl Operation {
    /// Sends the report to the agent that listens below `run_dir`. Never waits.
    ///
    /// # Errors
    /// Nobody listens, or the agent has too many reports to read: the report is lost.
    pub fn send(&self, run_dir: &Path) -> io::Result<()> {
        let mut report = serde_json::to_vec(self)?;
        if report.len() > MAX_BYTES
            || self
                .delegate
                .as_ref()
                .is_some_and(|d| d.len() > MAX_DELEGATE)
        {
            let without = Operation {
                delegate: None,
                ..self.clone()
            };
            report = serde_json::to_vec(&without)?;
        }
        let sender = UnixDatagram::unbound()?;
        sender.set_nonblocking(true)?;
        sender.send_to(&report, socket(run_dir)).map(drop)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn operation(delegate: Option<String>) -> Operation {
        Operation {
            version: VERSION,
            plugin: "sluicegate".to_owned(),
            command: "ADD".to_owned(),
            code: 7,
            seconds: 0.25,
            delegate,
        }
    }

    #[test]
    fn a_report_arrives_and_nobody_waits_for_a_reader() {
        let dir = tempfile::tempdir().unwrap();
        assert!(operation(None).send(dir.path()).is_err());
        let path = socket(dir.path());
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        let agent = UnixDatagram::bind(&path).unwrap();
        let sent = operation(Some("bridge".to_owned()));
        sent.send(dir.path()).unwrap();
        let mut buffer = [0; MAX_BYTES];
        let length = agent.recv(&mut buffer).unwrap();
        let received: Operation = serde_json::from_slice(&buffer[..length]).unwrap();
        assert_eq!(received, sent);

        // A reader that never reads: the queue is full at some time, and nothing waits.
        let full = (0..100_000).find_map(|_| sent.send(dir.path()).err());
        assert_eq!(full.unwrap().kind(), io::ErrorKind::WouldBlock);
        drop(agent);
        assert!(sent.send(dir.path()).is_err());
    }

    #[test]
    fn a_delegate_with_a_name_of_any_length_fits() {
        let dir = tempfile::tempdir().unwrap();
        let path = socket(dir.path());
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        let agent = UnixDatagram::bind(&path).unwrap();
        operation(Some("x".repeat(4000))).send(dir.path()).unwrap();
        let mut buffer = [0; MAX_BYTES];
        let length = agent.recv(&mut buffer).unwrap();
        let received: Operation = serde_json::from_slice(&buffer[..length]).unwrap();
        assert_eq!(received, operation(None));
    }
}
