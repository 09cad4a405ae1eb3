//! Who is attached, by container and interface; one request at a time works on each.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sluice_api::ApiError;

use crate::refusal;

/// How long a request waits for another one on the same attachment.
const PATIENCE: Duration = Duration::from_secs(30);

/// An attachment's identity.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    /// The runtime's container id.
    pub(super) container_id: String,
    /// The interface's name in the pod.
    pub(super) ifname: String,
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.container_id, self.ifname)
    }
}

/// A table of attachments.
#[derive(Debug)]
pub(super) struct Slots<T> {
    slots: Mutex<BTreeMap<Key, Slot<T>>>,
    freed: Condvar,
}

#[derive(Debug)]
struct Slot<T> {
    /// A request works on it.
    busy: bool,
    /// What is there; stays visible while a request works on it.
    live: Option<Arc<T>>,
}

/// The right to change one slot. What was there stays unless [`Turn::put`] says otherwise.
#[derive(Debug)]
pub(super) struct Turn<'a, T> {
    slots: &'a Slots<T>,
    key: Key,
}

impl<T> Default for Slots<T> {
    fn default() -> Slots<T> {
        Slots {
            slots: Mutex::new(BTreeMap::new()),
            freed: Condvar::new(),
        }
    }
}

impl<T> Slots<T> {
    /// Waits until no other request works on `key`, and keeps others off.
    ///
    /// # Errors
    /// The other request takes too long.
    pub(super) fn turn(&self, key: Key) -> Result<Turn<'_, T>, ApiError> {
        self.turn_within(key, PATIENCE)
    }

    fn turn_within(&self, key: Key, patience: Duration) -> Result<Turn<'_, T>, ApiError> {
        let start = Instant::now();
        let mut slots = self.lock();
        loop {
            let slot = slots.entry(key.clone()).or_insert(Slot {
                busy: false,
                live: None,
            });
            if !slot.busy {
                slot.busy = true;
                return Ok(Turn { slots: self, key });
            }
            let Some(left) = patience.checked_sub(start.elapsed()) else {
                return Err(refusal::unavailable(format!(
                    "another request works on {key}: ask again when it is done"
                )));
            };
            slots = self
                .freed
                .wait_timeout(slots, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// What is at `key`.
    pub(super) fn get(&self, key: &Key) -> Option<Arc<T>> {
        self.lock().get(key).and_then(|slot| slot.live.clone())
    }

    /// Everything that is attached, in order of identity.
    pub(super) fn all(&self) -> Vec<(Key, Arc<T>)> {
        let slots = self.lock();
        let live = |(key, slot): (&Key, &Slot<T>)| Some((key.clone(), slot.live.clone()?));
        slots.iter().filter_map(live).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Slot<T>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Turn<'_, T> {
    /// What is there.
    pub(super) fn get(&self) -> Option<Arc<T>> {
        self.slots.get(&self.key)
    }

    /// Puts something else there.
    pub(super) fn put(&self, live: Option<Arc<T>>) {
        if let Some(slot) = self.slots.lock().get_mut(&self.key) {
            slot.live = live;
        }
    }

    /// Whose slot it is.
    pub(super) fn key(&self) -> &Key {
        &self.key
    }
}

impl<T> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        let mut slots = self.slots.lock();
        if let Some(slot) = slots.get_mut(&self.key) {
            slot.busy = false;
            if slot.live.is_none() {
                slots.remove(&self.key);
            }
        }
        drop(slots);
        self.slots.freed.notify_all();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn key(ifname: &str) -> Key {
        Key {
            container_id: "c".into(),
            ifname: ifname.into(),
        }
    }

    #[test]
    fn one_at_a_time_and_each_for_itself() {
        let slots = Slots::<u32>::default();
        let first = slots.turn(key("net1")).unwrap();
        let refused = slots
            .turn_within(key("net1"), Duration::from_millis(20))
            .unwrap_err();
        assert!(refused.message.contains("c/net1"), "{refused}");
        let other = slots.turn(key("net2")).unwrap();
        first.put(Some(Arc::new(7)));
        assert_eq!(slots.all().len(), 1);
        drop((first, other));
        assert_eq!(slots.turn(key("net1")).unwrap().get().as_deref(), Some(&7));
        assert_eq!(slots.lock().len(), 1, "a slot without content goes");
    }

    #[test]
    fn a_waiting_request_gets_its_turn() {
        let slots = Slots::<u32>::default();
        let first = slots.turn(key("net1")).unwrap();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| slots.turn(key("net1")).unwrap().get());
            std::thread::sleep(Duration::from_millis(20));
            first.put(Some(Arc::new(1)));
            drop(first);
            assert_eq!(second.join().unwrap().as_deref(), Some(&1));
        });
    }
}
