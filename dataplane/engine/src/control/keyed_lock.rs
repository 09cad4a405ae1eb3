// SPDX-License-Identifier: Apache-2.0
//! Keyed lock: a table of attachments in which one request at a time works on each key.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sluice_api::ApiError;

use super::key::AttachmentKey;
use crate::refusal;

/// Longest wait for another request on the same key.
const PATIENCE: Duration = Duration::from_secs(30);

/// Table with a lock per key. Values can be read at any time; only the holder of a key's lock replaces
/// its value.
#[derive(Debug)]
pub(super) struct KeyedLock<T> {
    entries: Mutex<BTreeMap<AttachmentKey, Entry<T>>>,
    released: Condvar,
}

#[derive(Debug)]
struct Entry<T> {
    locked: bool,
    /// Stays visible while the key is locked.
    value: Option<Arc<T>>,
}

/// Guard of one locked key. The value stays as it was unless [`KeyGuard::set`] replaces it.
#[derive(Debug)]
pub(super) struct KeyGuard<'a, T> {
    lock: &'a KeyedLock<T>,
    key: AttachmentKey,
}

impl<T> Default for KeyedLock<T> {
    fn default() -> KeyedLock<T> {
        KeyedLock {
            entries: Mutex::new(BTreeMap::new()),
            released: Condvar::new(),
        }
    }
}

impl<T> KeyedLock<T> {
    /// Locks `key`, after waiting for at most half a minute.
    ///
    /// # Errors
    /// Another request still holds the key.
    pub(super) fn lock(&self, key: AttachmentKey) -> Result<KeyGuard<'_, T>, ApiError> {
        self.lock_within(key, PATIENCE)
    }

    /// Locks `key`, after waiting for at most `patience`; with none, only if it is free now.
    ///
    /// # Errors
    /// Another request still holds the key.
    pub(super) fn lock_within(
        &self,
        key: AttachmentKey,
        patience: Duration,
    ) -> Result<KeyGuard<'_, T>, ApiError> {
        let start = Instant::now();
        let mut entries = self.entries();
        loop {
            let entry = entries.entry(key.clone()).or_insert(Entry {
                locked: false,
                value: None,
            });
            if !entry.locked {
                entry.locked = true;
                return Ok(KeyGuard { lock: self, key });
            }
            let Some(left) = patience.checked_sub(start.elapsed()) else {
                return Err(refusal::unavailable(format!(
                    "another request works on {key}: retry when it is done"
                )));
            };
            entries = self
                .released
                .wait_timeout(entries, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Returns the value of `key`.
    pub(super) fn get(&self, key: &AttachmentKey) -> Option<Arc<T>> {
        self.entries()
            .get(key)
            .and_then(|entry| entry.value.clone())
    }

    /// Returns every value with its key, in order of keys.
    pub(super) fn all(&self) -> Vec<(AttachmentKey, Arc<T>)> {
        let entries = self.entries();
        let value =
            |(key, entry): (&AttachmentKey, &Entry<T>)| Some((key.clone(), entry.value.clone()?));
        entries.iter().filter_map(value).collect()
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<AttachmentKey, Entry<T>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> KeyGuard<'_, T> {
    /// Returns the key's value.
    pub(super) fn get(&self) -> Option<Arc<T>> {
        self.lock.get(&self.key)
    }

    /// Replaces the key's value.
    pub(super) fn set(&self, value: Option<Arc<T>>) {
        if let Some(entry) = self.lock.entries().get_mut(&self.key) {
            entry.value = value;
        }
    }

    /// Returns the key that is locked.
    pub(super) fn key(&self) -> &AttachmentKey {
        &self.key
    }
}

impl<T> Drop for KeyGuard<'_, T> {
    fn drop(&mut self) {
        let mut entries = self.lock.entries();
        if let Some(entry) = entries.get_mut(&self.key) {
            entry.locked = false;
            if entry.value.is_none() {
                entries.remove(&self.key);
            }
        }
        drop(entries);
        self.lock.released.notify_all();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn key(ifname: &str) -> AttachmentKey {
        AttachmentKey::new("c", ifname).unwrap()
    }

    #[test]
    fn one_at_a_time_and_each_for_itself() {
        let table = KeyedLock::<u32>::default();
        let first = table.lock(key("net1")).unwrap();
        let refused = table
            .lock_within(key("net1"), Duration::from_millis(20))
            .unwrap_err();
        assert!(refused.message.contains("c/net1"), "{refused}");
        let other = table.lock(key("net2")).unwrap();
        first.set(Some(Arc::new(7)));
        assert_eq!(table.all().len(), 1);
        drop((first, other));
        assert_eq!(table.lock(key("net1")).unwrap().get().as_deref(), Some(&7));
        assert_eq!(table.entries().len(), 1, "an entry without a value goes");
    }

    #[test]
    fn a_waiting_request_gets_the_lock() {
        let table = KeyedLock::<u32>::default();
        let first = table.lock(key("net1")).unwrap();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| table.lock(key("net1")).unwrap().get());
            std::thread::sleep(Duration::from_millis(20));
            first.set(Some(Arc::new(1)));
            drop(first);
            assert_eq!(second.join().unwrap().as_deref(), Some(&1));
        });
    }
}
