// SPDX-License-Identifier: Apache-2.0
//! A blocking client for the engine's control socket, for one-shot programs.
//!
//! Each call is one connection with one request, under one deadline that covers all of it:
//! connecting, asking, waiting and reading. Calls must not be made from asynchronous code: they
//! block their thread on a small runtime of their own.

mod error;
mod exchange;
mod fd_stream;

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use error::{ClientError, DownReason};

use crate::{
    AttachReply, AttachRequest, AttachmentStatus, Balance, Counters, DetachReply, DrainReply,
    Health, PolicyFiles, PolicyReport, PolicyStatus, ReloadReport, Status,
};

/// Default of the longest time for a call; [`Client::timeout`] sets another.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// The engine, as seen through its control socket. Holds no connection.
///
/// ```no_run
/// use sluice_api::client::Client;
///
/// let status = Client::new(sluice_api::DEFAULT_SOCKET).status()?;
/// println!("{} attachments", status.attachments);
/// # Ok::<(), sluice_api::client::ClientError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
    timeout: Duration,
}

impl Client {
    /// The engine that listens on `socket`. Nothing is opened yet.
    pub fn new(socket: impl Into<PathBuf>) -> Client {
        Client {
            socket: socket.into(),
            timeout: DEFAULT_TIMEOUT,
        }
    }

    /// Sets how long each call may take in all.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Client {
        self.timeout = timeout;
        self
    }

    /// The socket it asks.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Whether the engine takes attachments.
    ///
    /// # Errors
    /// As [`ClientError`] says; so it is with every call here.
    pub fn health(&self) -> Result<Health, ClientError> {
        self.get("/v1/health")
    }

    /// The engine's state.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn status(&self) -> Result<Status, ClientError> {
        self.get("/v1/status")
    }

    /// Makes an attachment. Asking the same again gives the same reply.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn attach(&self, request: &AttachRequest) -> Result<AttachReply, ClientError> {
        self.send("POST", "/v1/attachments", request)
    }

    /// Makes an attachment as [`Client::attach`] does, and sends the pod's network namespace along: the
    /// engine then need not see the namespace's path. An older engine leaves it unread.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn attach_in(
        &self,
        request: &AttachRequest,
        netns: BorrowedFd<'_>,
    ) -> Result<AttachReply, ClientError> {
        let netns = netns.try_clone_to_owned().map_err(|error| {
            self.protocol(format!("the network namespace cannot be sent: {error}"))
        })?;
        let body = self.body_of(request)?;
        self.ask_with("POST", "/v1/attachments", Some(body), Some(netns))
    }

    /// Removes an attachment; one that is not there is a success.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn detach(&self, container_id: &str, ifname: &str) -> Result<DetachReply, ClientError> {
        self.ask("DELETE", &attachment_path(container_id, ifname), None)
    }

    /// All attachments.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn attachments(&self) -> Result<Vec<AttachmentStatus>, ClientError> {
        self.get("/v1/attachments")
    }

    /// Returns the status of one attachment.
    ///
    /// # Errors
    /// See [`ClientError`]; `not-found` if there is none.
    pub fn attachment(
        &self,
        container_id: &str,
        ifname: &str,
    ) -> Result<AttachmentStatus, ClientError> {
        self.get(&attachment_path(container_id, ifname))
    }

    /// Has the engine take no new attachments, until [`Client::undo_drain`].
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn drain(&self) -> Result<DrainReply, ClientError> {
        self.ask("POST", "/v1/drain", None)
    }

    /// Has the engine take attachments again.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn undo_drain(&self) -> Result<DrainReply, ClientError> {
        self.ask("DELETE", "/v1/drain", None)
    }

    /// Has the engine read its configuration and its policies again.
    ///
    /// # Errors
    /// See [`ClientError`]; problems of the files are in the report.
    pub fn reload(&self) -> Result<ReloadReport, ClientError> {
        self.ask("POST", "/v1/reload", None)
    }

    /// All counters.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn counters(&self) -> Result<Counters, ClientError> {
        self.get("/v1/counters")
    }

    /// The balance of the counters.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn balance(&self) -> Result<Balance, ClientError> {
        self.get("/v1/balance")
    }

    /// The policies in force.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn policies(&self) -> Result<Vec<PolicyStatus>, ClientError> {
        self.get("/v1/policies")
    }

    /// Checks policies as [`Client::apply_policies`] would, and changes nothing.
    ///
    /// # Errors
    /// See [`ClientError`]; problems of the policies are in the report.
    pub fn check_policies(&self, files: &PolicyFiles) -> Result<PolicyReport, ClientError> {
        self.send("POST", "/v1/policies/check", files)
    }

    /// Puts policies into force, all or none.
    ///
    /// # Errors
    /// See [`ClientError`]; problems of the policies are in the report.
    pub fn apply_policies(&self, files: &PolicyFiles) -> Result<PolicyReport, ClientError> {
        self.send("PUT", "/v1/policies", files)
    }

    /// Removes a policy from disk and from those in force. `force`: also if VLANs with attachments are
    /// judged by it, which then carry nothing.
    ///
    /// # Errors
    /// See [`ClientError`]; `not-found` if there is none, `conflict` while it is in use.
    pub fn remove_policy(&self, name: &str, force: bool) -> Result<PolicyReport, ClientError> {
        let query = if force { "?force=true" } else { "" };
        let path = format!("/v1/policies/{}{query}", escape(name));
        self.ask("DELETE", &path, None)
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.ask("GET", path, None)
    }

    fn send<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = self.body_of(body)?;
        self.ask(method, path, Some(body))
    }

    fn body_of(&self, body: &impl Serialize) -> Result<Vec<u8>, ClientError> {
        serde_json::to_vec(body).map_err(|error| {
            self.protocol(format!("the request cannot be written as JSON: {error}"))
        })
    }

    fn ask<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<T, ClientError> {
        self.ask_with(method, path, body, None)
    }

    fn ask_with<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Option<Vec<u8>>,
        fd: Option<OwnedFd>,
    ) -> Result<T, ClientError> {
        let (status, body) = exchange::exchange(self, method, path, body, fd)?;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| {
                self.protocol(format!(
                    "{method} {path}: its answer cannot be read: {error}"
                ))
            });
        }
        match serde_json::from_slice(&body) {
            Ok(refused) => Err(ClientError::Refused(refused)),
            Err(_) => Err(self.protocol(format!(
                "{method} {path}: HTTP status {status} without an explanation"
            ))),
        }
    }

    fn protocol(&self, message: String) -> ClientError {
        ClientError::Protocol {
            socket: self.socket.clone(),
            message,
        }
    }
}

/// The path of one attachment, with everything escaped that a path segment cannot hold.
fn attachment_path(container_id: &str, ifname: &str) -> String {
    format!(
        "/v1/attachments/{}/{}",
        escape(container_id),
        escape(ifname)
    )
}

/// Percent-encoding (RFC 3986, section 2.1) of all but unreserved characters.
fn escape(segment: &str) -> String {
    use std::fmt::Write as _;

    let mut out = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            // A segment of dots only would be taken for a step in the path.
            b'.' if segment.bytes().any(|other| other != b'.') => out.push('.'),
            _ => {
                // Writing to a String cannot fail.
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_segments_are_escaped() {
        assert_eq!(
            attachment_path("c0ffee", "net1"),
            "/v1/attachments/c0ffee/net1"
        );
        assert_eq!(attachment_path("a.b", "x/y"), "/v1/attachments/a.b/x%2Fy");
        assert_eq!(
            attachment_path("..", "é?"),
            "/v1/attachments/%2E%2E/%C3%A9%3F"
        );
    }
}
