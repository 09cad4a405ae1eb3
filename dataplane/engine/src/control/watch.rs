// SPDX-License-Identifier: Apache-2.0
//! Watcher: one thread that looks at the world that the engine stands on, whenever the kernel says that a
//! netdev has changed, and every second.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::Control;
use super::world::World;
use crate::uplinks::LinkWatch;

/// Longest time between two looks at the netdevs.
const INTERVAL: Duration = Duration::from_secs(1);
/// Time until the next look where a VF was given up: the kernel goes on to the next one of its PF.
const SOON: Duration = Duration::from_millis(50);
/// Time between two looks at what changes seldom.
const SELDOM: Duration = Duration::from_secs(5);
/// Time between two looks that need a program to be run.
const THOROUGH: Duration = Duration::from_secs(10);

/// Thread that watches the world. Stops when dropped.
#[derive(Debug)]
pub struct WatchThread {
    notify: Arc<Notify>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl WatchThread {
    /// Starts the thread, in the network namespace of the calling one.
    ///
    /// # Errors
    /// The system has no socket or no thread left.
    pub fn start(control: Arc<Control>, mut world: World) -> std::io::Result<WatchThread> {
        let (notify, stop) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
        let mut links = LinkWatch::start(Arc::clone(&notify))?;
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("watch".to_owned())
            .spawn(move || {
                let (mut seldom, mut thorough) = (Due::every(SELDOM), Due::every(THOROUGH));
                while !stopped.load(Ordering::Acquire) {
                    control.uplinks.look(thorough.is_now());
                    let gave_up = control.look_at_vfs();
                    if seldom.is_now() {
                        world.look(&control);
                    }
                    links.wait(if gave_up { SOON } else { INTERVAL });
                }
            })?;
        Ok(WatchThread {
            notify,
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for WatchThread {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.notify.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Schedule of something that is done now and then, by a clock that nobody sets.
struct Due {
    period: Duration,
    next: Instant,
}

impl Due {
    fn every(period: Duration) -> Due {
        Due {
            period,
            next: Instant::now(),
        }
    }

    fn is_now(&mut self) -> bool {
        let now = Instant::now();
        let is_now = now >= self.next;
        if is_now {
            self.next = now + self.period;
        }
        is_now
    }
}
