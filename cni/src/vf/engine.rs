//! The engine, asked through its control socket, and what is done about it when it is down.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{major, minor};
use sluice_api::client::{Client, ClientError};
use sluice_api::{AttachReply, AttachRequest, AttachmentStatus, ErrorCode};

use super::places::Places;
use crate::Error;
use crate::budget::Budget;

/// How long the engine may take to say that it is well.
const HEALTH: Duration = Duration::from_secs(5);
/// How long an attach may take.
const ATTACH: Duration = Duration::from_secs(30);

/// What became of a detach.
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
    places: &'a Places,
    budget: Budget,
}

impl<'a> Engine<'a> {
    /// The engine at these places.
    pub(super) fn new(places: &'a Places, budget: Budget) -> Engine<'a> {
        Engine { places, budget }
    }

    fn client(&self, limit: Duration) -> Client {
        // A timeout of nothing would fail even where the answer is at hand.
        let time = self
            .budget
            .at_most(limit)
            .left()
            .max(Duration::from_millis(50));
        Client::new(&self.places.socket).timeout(time)
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
        self.client(ATTACH).attach(request).map_err(error)
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
            let client = Client::new(&self.places.socket).timeout(time);
            let failure = match client.detach(container_id, ifname) {
                Ok(_) => return Ok(Detached::Gone),
                Err(failure) => failure,
            };
            match failure {
                ClientError::Refused(refused) if refused.code == ErrorCode::NotFound => {
                    return Ok(Detached::Gone);
                }
                ClientError::Refused(_) => return Err(error(failure)),
                ClientError::Down { .. } if !self.runs() => {
                    self.forget(container_id, ifname)?;
                    return Ok(Detached::EngineDown);
                }
                // It starts or ends just now: it will answer, or be down, in a moment.
                ClientError::Down { .. } if !budget.left().is_zero() => {
                    std::thread::sleep(Duration::from_millis(50).min(budget.left()));
                }
                _ => {
                    self.forget(container_id, ifname)?;
                    return Ok(Detached::Pending);
                }
            }
        }
    }

    /// Whether an engine lives: it holds its lock for life. The kernel's list is read, since
    /// trying the lock could keep out an engine that starts just now.
    pub(super) fn runs(&self) -> bool {
        let lock = self.places.run_dir.join("engine.lock");
        let Ok(meta) = std::fs::metadata(&lock) else {
            return false;
        };
        let Ok(held) = std::fs::read_to_string("/proc/locks") else {
            return true;
        };
        let owner = std::fs::read_to_string(&lock).unwrap_or_default();
        held.lines()
            .any(|line| is_flock_on(line, meta.dev(), meta.ino(), owner.trim()))
    }

    /// Removes the engine's record of an attachment, so that an engine that starts again does
    /// not bring it back.
    fn forget(&self, container_id: &str, ifname: &str) -> Result<(), Error> {
        let path = self
            .places
            .state_dir
            .join("attachments")
            .join(format!("{container_id}-{ifname}.json"));
        if records_another(&path, container_id, ifname) {
            return Ok(());
        }
        crate::store::remove(&path)
    }
}

/// Whether a line of `/proc/locks` (`1: FLOCK  ADVISORY  WRITE 421 00:18:523 0 EOF`) is a flock on
/// that file. Some file systems show another device there than `stat` does: the process that the
/// file names counts as well.
fn is_flock_on(line: &str, dev: u64, ino: u64, owner: &str) -> bool {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [_, "FLOCK", _, _, pid, place, ..] = words[..] else {
        return false;
    };
    let mut parts = place.split(':');
    let mut part = |radix| {
        parts
            .next()
            .and_then(|text| u64::from_str_radix(text, radix).ok())
    };
    let (major_number, minor_number, inode) = (part(16), part(16), part(10));
    let same_device =
        major_number == Some(major(dev).into()) && minor_number == Some(minor(dev).into());
    inode == Some(ino) && (same_device || pid == owner)
}

/// Whether the file is the record of another pair whose names join to the same file name.
fn records_another(path: &Path, container_id: &str, ifname: &str) -> bool {
    let Ok(text) = std::fs::read(path) else {
        return false;
    };
    let Ok(record) = serde_json::from_slice::<serde_json::Value>(&text) else {
        return false;
    };
    let request = &record["request"];
    request["container_id"]
        .as_str()
        .is_some_and(|id| id != container_id)
        || request["ifname"]
            .as_str()
            .is_some_and(|name| name != ifname)
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
    use crate::conf::NetConf;
    use rustix::fs::{FlockOperation, flock};
    use serde_json::json;
    use std::fs::File;

    fn places(dir: &Path) -> Places {
        let conf = json!({"name": "n", "runDir": dir.join("run"), "stateDir": dir.join("state"),
            "daemonSocket": dir.join("run/control/sluiced.sock")});
        Places::read(&NetConf::parse(conf.to_string().as_bytes()).unwrap())
    }

    #[test]
    fn an_engine_that_is_down_is_made_to_forget() {
        let dir = tempfile::tempdir().unwrap();
        let places = places(dir.path());
        let records = places.state_dir.join("attachments");
        std::fs::create_dir_all(&records).unwrap();
        let file = records.join("c-net1.json");
        let record = json!({"request": {"container_id": "c", "ifname": "net1"}});
        std::fs::write(&file, record.to_string()).unwrap();

        let engine = Engine::new(&places, Budget::of(Duration::from_secs(2)));
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
        let places = places(dir.path());
        let records = places.state_dir.join("attachments");
        std::fs::create_dir_all(&records).unwrap();
        let record = json!({"request": {"container_id": "a", "ifname": "b-c"}});
        std::fs::write(records.join("a-b-c.json"), record.to_string()).unwrap();
        let engine = Engine::new(&places, Budget::of(Duration::from_secs(2)));
        engine.detach("a-b", "c", Duration::from_secs(1)).unwrap();
        assert!(records.join("a-b-c.json").exists());
    }

    #[test]
    fn lines_of_the_kernels_list_are_understood() {
        let line = "12: FLOCK  ADVISORY  WRITE 421 00:18:523 0 EOF";
        let dev = rustix::fs::makedev(0, 0x18);
        assert!(is_flock_on(line, dev, 523, ""));
        assert!(is_flock_on(line, rustix::fs::makedev(8, 1), 523, "421"));
        assert!(!is_flock_on(line, rustix::fs::makedev(8, 1), 523, "42"));
        assert!(!is_flock_on(line, dev, 524, "421"));
        assert!(!is_flock_on(
            "1: POSIX ADVISORY WRITE 421 00:18:523 0 EOF",
            dev,
            523,
            "421"
        ));
        assert!(!is_flock_on("", dev, 0, ""));
    }

    #[test]
    fn an_engine_that_holds_its_lock_and_does_not_listen_is_pending() {
        let dir = tempfile::tempdir().unwrap();
        let places = places(dir.path());
        std::fs::create_dir_all(&places.run_dir).unwrap();
        let lock = File::create(places.run_dir.join("engine.lock")).unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        let engine = Engine::new(&places, Budget::of(Duration::from_secs(1)));
        assert!(engine.runs());
        let limit = Duration::from_millis(200);
        assert_eq!(
            engine.detach("c", "net1", limit).unwrap(),
            Detached::Pending
        );
    }
}
