// SPDX-License-Identifier: Apache-2.0
//! Requests to end (Ctrl-C, SIGTERM, SIGHUP), and waiting that heeds them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};

use super::failure::Failure;

/// Interval at which a condition that is waited for is polled.
const LOOK: Duration = Duration::from_millis(20);

/// Whether the demo was asked to end. Copies share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Interrupt {
    asked: Arc<AtomicBool>,
}

impl Interrupt {
    /// Takes the signals from now on, for the rest of the process's life: they then end nothing by
    /// themselves.
    pub(super) fn watch() -> Result<Interrupt, Failure> {
        let interrupt = Interrupt::default();
        let asked = Arc::clone(&interrupt.asked);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .map_err(Failure::broken("watch for Ctrl-C"))?;
        let (ready, is_ready) = std::sync::mpsc::channel();
        let watch = async move {
            let kinds = [
                SignalKind::interrupt(),
                SignalKind::terminate(),
                SignalKind::hangup(),
            ];
            let made: Result<Vec<_>, _> = kinds.into_iter().map(signal).collect();
            let (mut signals, result) = match made {
                Ok(signals) => (signals, Ok(())),
                Err(error) => (Vec::new(), Err(error)),
            };
            let _ = ready.send(result);
            if let [int, term, hup] = &mut signals[..] {
                loop {
                    tokio::select! {
                        _ = int.recv() => {}
                        _ = term.recv() => {}
                        _ = hup.recv() => {}
                    }
                    asked.store(true, Ordering::Relaxed);
                }
            }
        };
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || runtime.block_on(watch))
            .map_err(Failure::broken("watch for Ctrl-C"))?;
        match is_ready.recv() {
            Ok(Ok(())) => Ok(interrupt),
            Ok(Err(error)) => Err(Failure::broken("watch for Ctrl-C")(error)),
            Err(error) => Err(Failure::broken("watch for Ctrl-C")(error)),
        }
    }

    /// Whether it was asked to end.
    pub(super) fn asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// Takes back that it was asked.
    pub(super) fn forget(&self) {
        self.asked.store(false, Ordering::Relaxed);
    }

    /// Fails if it was asked to end.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if self.asked() {
            return Err(Failure::Interrupted);
        }
        Ok(())
    }

    /// Lets time pass.
    pub(super) fn pause(&self, time: Duration) -> Result<(), Failure> {
        let end = Instant::now() + time;
        loop {
            self.check()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(LOOK));
        }
    }

    /// Waits until `look` finds something, for `limit` at most. In vain, it fails with `what` was
    /// waited for and what `look` said last.
    pub(super) fn wait_for<T>(
        &self,
        what: &str,
        limit: Duration,
        mut look: impl FnMut() -> Result<Poll<T>, Failure>,
    ) -> Result<T, Failure> {
        let start = Instant::now();
        loop {
            self.check()?;
            let seen = match look()? {
                Poll::Found(found) => return Ok(found),
                Poll::NotYet(seen) => seen,
            };
            if start.elapsed() >= limit {
                let expected = format!("it, within {} s", limit.as_secs());
                let what = format!("waited in vain for {what}");
                return Err(Failure::unexpected(what, expected, seen));
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// Result of polling a condition once.
#[derive(Debug)]
pub(super) enum Poll<T> {
    /// Condition holds.
    Found(T),
    /// Condition does not hold; the text says what was seen instead.
    NotYet(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_ends_with_what_was_seen_last() {
        let never = |_: ()| Ok(Poll::<()>::NotYet("a closed door".to_owned()));
        let limit = Duration::from_millis(1);
        let error = Interrupt::default().wait_for("a door", limit, || never(()));
        let said = error.map_or_else(|error| error.to_string(), |()| String::new());
        assert!(
            said.contains("a door") && said.contains("a closed door"),
            "{said}"
        );
    }

    #[test]
    fn who_was_asked_to_end_waits_no_more() {
        let interrupt = Interrupt::default();
        interrupt.asked.store(true, Ordering::Relaxed);
        let error = interrupt.pause(Duration::from_secs(60));
        assert!(matches!(error, Err(Failure::Interrupted)), "{error:?}");
    }
}
