// SPDX-License-Identifier: Apache-2.0
//! The engine, asked through its control socket, and what is done about it when it is down.

use std::os::fd::AsFd;
use std::time::Duration;

use sluice_api::client::{Client, ClientError};
use sluice_api::{AttachReply, AttachRequest, AttachmentStatus, ErrorCode};
use sluice_host::Netns;
use sluice_host::engine::{EngineLock, forget_attachment};

use super::paths::PluginPaths;
use crate::Error;
use crate::spec::budget::Budget;

/// Time limit of a health request.
const HEALTH: Duration = Duration::from_secs(5);
/// Time limit of an attach request.
const ATTACH: Duration = Duration::from_secs(30);

/// Outcome of a detach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detached {
    /// The attachment is gone.
    Gone,
    /// The engine is down, and has nothing on disk to bring it back from.
    EngineDown,
    /// The engine is there and does not answer: it must be asked again.
    Pending,
}

/// The engine as one call sees it.
#[derive(Debug)]
pub(super) struct Engine<'a> {
    paths: &'a PluginPaths,
    budget: Budget,
}

impl<'a> Engine<'a> {
    /// The engine at these paths.
    pub(super) fn new(paths: &'a PluginPaths, budget: Budget) -> Engine<'a> {
        Engine { paths, budget }
    }

    fn client(&self, limit: Duration) -> Client {
        // A timeout of nothing would fail even where the answer is at hand.
        let time = self
            .budget
            .at_most(limit)
            .left()
            .max(Duration::from_millis(50));
        Client::new(&self.paths.socket).timeout(time)
    }

    /// Whether the engine takes attachments.
    ///
    /// # Errors
    /// [`Error::TryAgain`]: it is down, hangs, or says that it does not.
    pub(super) fn check_health(&self) -> Result<(), Error> {
        let health = self.client(HEALTH).health().map_err(error)?;
        if !health.ready {
            return Err(Error::TryAgain(format!(
                "the engine takes no attachments now: {}",
                health.problems.join("; ")
            )));
        }
        Ok(())
    }

    /// Makes an attachment.
    ///
    /// # Errors
    /// See [`error`]. After [`Error::TryAgain`] it may have been made, or be made later.
    pub(super) fn attach(&self, request: &AttachRequest) -> Result<AttachReply, Error> {
        let client = self.client(ATTACH);
        // What is wrong with a namespace that cannot be opened, the engine says.
        let reply = match Netns::open(&request.netns) {
            Ok(netns) => client.attach_in(request, netns.as_fd()),
            Err(_) => client.attach(request),
        };
        reply.map_err(error)
    }

    /// Finds an attachment.
    ///
    /// # Errors
    /// See [`error`].
    pub(super) fn attachment(
        &self,
        container_id: &str,
        ifname: &str,
    ) -> Result<Option<AttachmentStatus>, Error> {
        match self.client(HEALTH).attachment(container_id, ifname) {
            Ok(found) => Ok(Some(found)),
            Err(ClientError::Refused(refused)) if refused.code == ErrorCode::NotFound => Ok(None),
            Err(failure) => Err(error(failure)),
        }
    }

    /// Removes an attachment. An engine that is down is made to forget it; one that hangs is
    /// given `limit`, and half of the call's time at most.
    ///
    /// # Errors
    /// The engine refused, or its state directory cannot be written.
    pub(super) fn detach(
        &self,
        container_id: &str,
        ifname: &str,
        limit: Duration,
    ) -> Result<Detached, Error> {
        let budget = self.budget.share(2).at_most(limit);
        loop {
            let time = budget.left().max(Duration::from_millis(50));
            let client = Client::new(&self.paths.socket).timeout(time);
            let failure = match client.detach(container_id, ifname) {
                Ok(_) => return Ok(Detached::Gone),
                Err(failure) => failure,
            };
            let passing = match &failure {
                ClientError::Refused(refused) => match refused.code {
                    // It has none of that name; where the name itself is refused it never had one.
                    ErrorCode::NotFound | ErrorCode::Invalid => return Ok(Detached::Gone),
                    ErrorCode::Unavailable | ErrorCode::Conflict => true,
                    ErrorCode::Forbidden | ErrorCode::Internal => return Err(error(failure)),
                },
                ClientError::Down { .. } => true,
                ClientError::TimedOut { .. } | ClientError::Protocol { .. } => false,
            };
            match failure {
                failure if !matches!(failure, ClientError::Refused(_)) && !self.runs() => {
                    self.forget(container_id, ifname)?;
                    return Ok(Detached::EngineDown);
                }
                // It starts or ends just now: it will answer, or be down, in a moment.
                _ if passing && !budget.left().is_zero() => {
                    std::thread::sleep(Duration::from_millis(50).min(budget.left()));
                }
                _ => {
                    self.forget(container_id, ifname)?;
                    return Ok(Detached::Pending);
                }
            }
        }
    }

    /// Whether an engine runs: it holds its lock for life.
    pub(super) fn runs(&self) -> bool {
        EngineLock::is_held(&self.paths.run_dir)
    }

    /// Removes the engine's record of an attachment, so that an engine that starts again does
    /// not bring it back.
    fn forget(&self, container_id: &str, ifname: &str) -> Result<(), Error> {
        let state_dir = &self.paths.state_dir;
        Ok(forget_attachment(state_dir, container_id, ifname)?)
    }
}

/// A failure of the engine as a CNI error: 11 where asking later helps, 7 where the request is
/// wrong.
pub(super) fn error(failure: ClientError) -> Error {
    match &failure {
        ClientError::Down { .. } | ClientError::TimedOut { .. } => {
            Error::TryAgain(failure.to_string())
        }
        ClientError::Refused(refused) => match refused.code {
            ErrorCode::Invalid | ErrorCode::NotFound => Error::Config(refused.message.clone()),
            ErrorCode::Unavailable | ErrorCode::Conflict => {
                Error::TryAgain(refused.message.clone())
            }
            ErrorCode::Forbidden | ErrorCode::Internal => {
                Error::Internal(format!("the engine refused: {}", refused.message))
            }
        },
        ClientError::Protocol { .. } => Error::Internal(failure.to_string()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::spec::conf::NetConf;
    use serde_json::json;
    use sluice_host::FileLock;
    use std::path::Path;

    fn paths(dir: &Path) -> PluginPaths {
        let conf = json!({"name": "n", "runDir": dir.join("run"), "stateDir": dir.join("state"),
            "daemonSocket": dir.join("run/control/sluiced.sock")});
        PluginPaths::read(&NetConf::parse(conf.to_string().as_bytes()).unwrap())
    }

    #[test]
    fn an_engine_that_is_down_is_made_to_forget() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(dir.path());
        let records = paths.state_dir.join("attachments");
        std::fs::create_dir_all(&records).unwrap();
        let file = records.join("c-net1.json");
        let record = json!({"request": {"container_id": "c", "ifname": "net1"}});
        std::fs::write(&file, record.to_string()).unwrap();

        let engine = Engine::new(&paths, Budget::of(Duration::from_secs(2)));
        assert_eq!(engine.check_health().unwrap_err().code(), 11);
        let limit = Duration::from_secs(1);
        assert_eq!(
            engine.detach("c", "net1", limit).unwrap(),
            Detached::EngineDown
        );
        assert!(!file.exists());
        assert_eq!(
            engine.detach("c", "net1", limit).unwrap(),
            Detached::EngineDown
        );
    }

    #[test]
    fn a_record_of_another_pair_of_the_same_file_name_stays() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(dir.path());
        let records = paths.state_dir.join("attachments");
        std::fs::create_dir_all(&records).unwrap();
        let record = json!({"request": {"container_id": "a", "ifname": "b-c"}});
        std::fs::write(records.join("a-b-c.json"), record.to_string()).unwrap();
        let engine = Engine::new(&paths, Budget::of(Duration::from_secs(2)));
        engine.detach("a-b", "c", Duration::from_secs(1)).unwrap();
        assert!(records.join("a-b-c.json").exists());
    }

    #[test]
    fn an_engine_that_holds_its_lock_and_does_not_listen_is_pending() {
        let dir = tempfile::tempdir().unwrap();
        let paths = paths(dir.path());
        std::fs::create_dir_all(&paths.run_dir).unwrap();
        let path = paths.run_dir.join("engine.lock");
        let _lock = FileLock::try_take(&path, 0o644).unwrap().unwrap();
        let engine = Engine::new(&paths, Budget::of(Duration::from_secs(1)));
        assert!(engine.runs());
        let limit = Duration::from_millis(200);
        assert_eq!(
            engine.detach("c", "net1", limit).unwrap(),
            Detached::Pending
        );
    }
}
