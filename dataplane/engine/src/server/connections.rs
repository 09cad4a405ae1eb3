// SPDX-License-Identifier: Apache-2.0
//! Connections of the control socket by share: whoever opens many, sends slowly or never reads costs
//! itself its connections, and nobody an attach.
//!
//! A connection carries one request. A process has a number of its own; when all are taken, the one
//! that has waited longest for its request gives way.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::fd_intake::{FdIntake, SentFd};
use super::intake::{PEER_LIMIT, Phase};
use super::routes;
use crate::control::Control;
use crate::peer::Peer;

/// Most connections at once. Fewer than tokio has threads for what blocks.
const MOST: usize = 256;
/// Most of one process.
const MOST_OF_ONE: usize = 32;
/// Time until the next try when no connection can be accepted.
const RETRY: Duration = Duration::from_millis(500);
/// Longest head of a request.
const MAX_HEAD_BYTES: usize = 64 << 10;

/// Owner of connections, who has a number of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    /// Process that may ask, by its pid.
    Process(i32),
    /// All those that may not.
    Strangers,
}

/// Open connections, in the order in which they came.
#[derive(Debug, Default)]
struct Table(Mutex<BTreeMap<u64, Open>>);

#[derive(Debug)]
struct Open {
    who: Who,
    phase: watch::Receiver<Phase>,
    give_way: Arc<Notify>,
}

/// Place of one connection in the table, given back when dropped: also by a task that panics.
struct Place {
    table: Arc<Table>,
    serial: u64,
}

impl Place {
    fn take(table: &Arc<Table>, serial: u64, open: Open) -> Place {
        table.lock().insert(serial, open);
        Place {
            table: Arc::clone(table),
            serial,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.table.lock().remove(&self.serial);
    }
}

impl Table {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Open>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of connections of one owner.
    fn count(&self, who: Who) -> usize {
        self.lock().values().filter(|open| open.who == who).count()
    }

    /// Whether there is room for one more; if not, the oldest that has sent no request yet is told to
    /// give way.
    fn room(&self) -> bool {
        let open = self.lock();
        if open.len() < MOST {
            return true;
        }
        let oldest = open
            .values()
            .find(|one| one.phase.borrow().is_before_work());
        if let Some(oldest) = oldest {
            oldest.give_way.notify_one();
        }
        false
    }
}

/// Answers requests until `stop` is over, then finishes those that were begun.
///
/// # Errors
/// None so far: a socket that fails is tried again.
pub async fn serve(
    listener: UnixListener,
    control: Arc<Control>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let routes = routes(Arc::clone(&control));
    let table = Arc::new(Table::default());
    let (stopping, stopped) = watch::channel(false);
    let mut tasks = JoinSet::new();
    let mut stop = pin!(stop);
    let mut serial = 0;
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            Some(_) = tasks.join_next() => continue,
            accepted = listener.accept(), if table.room() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                control.requests().turned_away(&error);
                tokio::time::sleep(RETRY).await;
                continue;
            }
        };
        let (peer, who) = identify(&stream);
        if table.count(who) >= MOST_OF_ONE {
            control.requests().turned_away(&TooMany(who));
            continue;
        }
        serial += 1;
        let (phase, watched) = watch::channel(Phase::Reading);
        let give_way = Arc::new(Notify::new());
        let open = Open {
            who,
            phase: watched,
            give_way: Arc::clone(&give_way),
        };
        let place = Place::take(&table, serial, open);
        let connection = Connection {
            stream,
            peer,
            phase,
            give_way,
            stopped: stopped.clone(),
            control: Arc::clone(&control),
        };
        let routes = routes.clone();
        tasks.spawn(async move {
            let _place = place;
            connection.serve(routes).await;
        });
    }
    let _ = stopping.send(true);
    while tasks.join_next().await.is_some() {}
    Ok(())
}

fn identify(stream: &UnixStream) -> (Peer, Who) {
    let peer = Peer::of(stream);
    let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
    match (&peer, pid) {
        (Peer::Allowed, Some(pid)) => (peer, Who::Process(pid)),
        _ => (peer, Who::Strangers),
    }
}

/// Reason why a connection was closed at once.
#[derive(Debug, thiserror::Error)]
#[error("{} has {MOST_OF_ONE} open, the most that one may have", name(self.0))]
struct TooMany(Who);

fn name(who: Who) -> String {
    match who {
        Who::Process(pid) => format!("process {pid}"),
        Who::Strangers => "peers that may not ask".to_owned(),
    }
}

/// Accepted connection.
struct Connection {
    stream: UnixStream,
    peer: Peer,
    phase: watch::Sender<Phase>,
    give_way: Arc<Notify>,
    stopped: watch::Receiver<bool>,
    control: Arc<Control>,
}

impl Connection {
    /// Serves its one request. What the engine works on is finished, whatever the peer does.
    async fn serve(self, routes: Router) {
        let Connection {
            stream,
            peer,
            phase,
            give_way,
            mut stopped,
            control,
        } = self;
        let mut watched = phase.subscribe();
        let routes = TowerToHyperService::new(routes);
        let sent = SentFd::default();
        let intake = FdIntake::new(stream, (peer == Peer::Allowed).then(|| sent.clone()));
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(peer.clone());
            request.extensions_mut().insert(phase.clone());
            request.extensions_mut().insert(sent.clone());
            routes.call(request)
        });
        let connection = http1::Builder::new()
            .keep_alive(false)
            .max_buf_size(MAX_HEAD_BYTES)
            .serve_connection(TokioIo::new(intake), service);
        let mut connection = pin!(connection);
        let mut deadline = Instant::now() + PEER_LIMIT;
        loop {
            let phase = *watched.borrow_and_update();
            let peers_turn = matches!(phase, Phase::Reading | Phase::Writing);
            tokio::select! {
                // An error is the peer's: it went away, or does not speak HTTP.
                _ = &mut connection => return,
                Ok(()) = watched.changed() => deadline = Instant::now() + PEER_LIMIT,
                () = sleep_until(deadline), if peers_turn => {
                    let what = if phase == Phase::Reading { "send a request" } else { "read its answer" };
                    let limit = PEER_LIMIT.as_secs();
                    control.requests().timed_out(&format_args!(
                        "the peer did not {what} within {limit} s"
                    ));
                    return;
                }
                () = give_way.notified(), if phase.is_before_work() => {
                    control.requests().turned_away(&format_args!(
                        "its request was not begun, and {MOST} were open"
                    ));
                    return;
                }
                Ok(_) = stopped.wait_for(|stopped| *stopped), if phase.is_before_work() => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    fn open(phase: Phase) -> (watch::Sender<Phase>, Open) {
        let (sender, watched) = watch::channel(phase);
        let open = Open {
            who: Who::Strangers,
            phase: watched,
            give_way: Arc::default(),
        };
        (sender, open)
    }

    #[test]
    fn a_task_that_panics_gives_its_place_back() {
        let table = Arc::new(Table::default());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let place = Place::take(&table, 1, open(Phase::Reading).1);
        assert_eq!(table.count(Who::Strangers), 1);
        let ended = runtime.block_on(runtime.spawn(async move {
            let _place = place;
            panic!("as a bug would");
        }));
        assert!(ended.unwrap_err().is_panic());
        assert_eq!(table.count(Who::Strangers), 0);
    }

    #[test]
    fn the_oldest_that_is_not_worked_on_gives_way() {
        let table = Arc::new(Table::default());
        let mut kept = Vec::new();
        for serial in 0..MOST as u64 {
            let phase = match serial {
                0 => Phase::Working,
                1 => Phase::Writing,
                2 => Phase::Waiting,
                _ => Phase::Reading,
            };
            assert!(table.room());
            let (sender, open) = open(phase);
            kept.push((sender, Place::take(&table, serial, open)));
        }
        assert!(!table.room());
        let gives_way = Arc::clone(&table.lock()[&2].give_way);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let told = runtime.block_on(async {
            tokio::time::timeout(Duration::from_secs(5), gives_way.notified()).await
        });
        assert!(told.is_ok());
        kept.pop();
        assert!(table.room());
    }
}
