// SPDX-License-Identifier: Apache-2.0
//! Endpoints against a front end in the same process: honest ones, and every way to break the protocol.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and its numbers are small"
)]

mod hostile;
mod life;

use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sluice_peer::{Address, FrameList};

use crate::testing::{FrontEnd, Setup};
use crate::{Connection, EndpointConfig, EndpointHandle, Event, Role, endpoint};

/// Endpoint, what it said, as text, and the queues that it gave.
struct Back {
    endpoint: EndpointHandle,
    connection: Arc<Mutex<Option<Connection>>>,
    said: Receiver<String>,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

fn wait<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "no {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

impl Back {
    fn new(role: Role, change: impl FnOnce(&mut EndpointConfig)) -> Back {
        sluice_mem::sigbus::install().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vhost.sock");
        let mut config = EndpointConfig::new(role, "net1");
        change(&mut config);
        let (say, said): (Sender<String>, _) = channel();
        let connection = Arc::new(Mutex::new(None));
        let theirs = Arc::clone(&connection);
        let endpoint = endpoint::spawn(config, Address::Path(path.clone()), move |event| {
            let text = match event {
                Event::Started(connection) => {
                    let text = format!("started {}", connection.rx.len());
                    *theirs.lock().unwrap() = Some(connection);
                    text
                }
                Event::Stopped { reason, .. } => {
                    *theirs.lock().unwrap() = None;
                    format!("stopped: {reason}")
                }
                Event::Refused { reason, .. } => format!("refused: {reason}"),
                Event::Left { reason } => format!("left: {reason}"),
                Event::Waiting(error) => format!("waiting: {error}"),
                Event::Accepted { .. } => "accepted".to_owned(),
            };
            let _ = say.send(text);
        })
        .unwrap();
        Back {
            endpoint,
            connection,
            said,
            path,
            _folder: folder,
        }
    }

    /// Next thing that the endpoint said which contains `text`.
    fn says(&self, text: &str) -> String {
        loop {
            let said = self.said.recv_timeout(Duration::from_secs(20));
            let said = said.unwrap_or_else(|_| panic!("{text} was not said"));
            if said.contains(text) {
                return said;
            }
        }
    }

    /// Connection to an endpoint that listens.
    fn connect(&self) -> UnixStream {
        wait("listener", || UnixStream::connect(&self.path).ok())
    }

    fn front_end(&self, setup: Setup) -> FrontEnd {
        FrontEnd::new(self.connect(), setup)
    }

    /// Front end whose rings run.
    fn running(&self, setup: Setup) -> FrontEnd {
        let mut front = self.front_end(setup);
        front.set_up().unwrap();
        self.says(&format!("started {}", setup.pairs));
        front
    }

    fn with<T>(&self, work: impl FnOnce(&mut Connection) -> T) -> T {
        work(self.connection.lock().unwrap().as_mut().unwrap())
    }

    /// Sends what the front end sent on pair `pair` back to it. Returns how many frames.
    fn echo(&self, pair: usize) -> usize {
        self.with(|connection| {
            let mut list = FrameList::default();
            let (rx, tx) = (&mut connection.rx[pair], &mut connection.tx[pair]);
            while rx.recv(64, &mut list).unwrap() > 0 {}
            let mut count = 0;
            tx.prepare().unwrap();
            while let Some(frame) = list.pop() {
                assert!(tx.push(&[&frame]).unwrap());
                count += 1;
            }
            if tx.publish().unwrap() {
                tx.kick();
            }
            count
        })
    }

    /// Sends frames of these lengths through the echo on pair `pair`, and compares what comes back.
    fn echoes(&self, front: &mut FrontEnd, pair: usize, lens: &[usize]) {
        let frames: Vec<Vec<u8>> = lens
            .iter()
            .map(|len| (0..*len).map(|at| (at % 253) as u8).collect())
            .collect();
        let slices: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
        assert_eq!(front.send(pair, &slices), frames.len());
        assert_eq!(self.echo(pair), frames.len());
        assert_eq!(front.receive(pair), frames);
    }
}

/// Listening front end.
fn listen(back: &Back) -> UnixListener {
    UnixListener::bind(&back.path).unwrap()
}
