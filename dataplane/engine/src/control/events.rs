// SPDX-License-Identifier: Apache-2.0
//! Events of workers: pods that broke the protocol, and decisions of rules with `log`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sluice_datapath::{AttachmentId, Engine, Event, LogRecord};
use sluice_packet::Vid;

use super::{Control, locked};

/// Interval at which events are collected from the workers.
const INTERVAL: Duration = Duration::from_millis(50);
/// Rate of the token bucket: log records per second.
const RECORDS_PER_SECOND: u32 = 100;
/// Depth of the token bucket: log records at once.
const RECORDS_AT_ONCE: u32 = 200;

/// Thread that collects events from the workers. Stops when dropped.
#[derive(Debug)]
pub struct EventThread {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl EventThread {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start(control: Arc<Control>) -> std::io::Result<EventThread> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("events".to_owned())
            .spawn(move || {
                let mut limit = Limit::new(Instant::now());
                while !stopped.load(Ordering::Acquire) {
                    let Ok(events) = control.engine.with(Engine::take_events) else {
                        break;
                    };
                    for event in events {
                        control.take_event(event, &mut limit);
                    }
                    std::thread::park_timeout(INTERVAL);
                }
            })?;
        Ok(EventThread {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for EventThread {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

impl Control {
    fn take_event(&self, event: Event, limit: &mut Limit) {
        match event {
            Event::PortFault { attachment, fault } => self.port_fault(attachment, &fault.reason),
            Event::LocalSource { attachment, vid } => self.local_source(attachment, vid),
            Event::Log(record) => {
                let (allowed, suppressed) = limit.take(Instant::now());
                if suppressed > 0 {
                    tracing::warn!("{suppressed} records of rules with `log` were not written");
                }
                if allowed {
                    self.log(&record);
                }
            }
        }
    }

    fn port_fault(&self, id: AttachmentId, reason: &str) {
        let all = self.attachments.all();
        let Some((key, attachment)) = all.iter().find(|(_, found)| found.attached.id == id) else {
            return;
        };
        tracing::warn!("{key}: out of service: {reason}");
        if let Some(link) = locked(&attachment.link).as_ref() {
            link.fault(reason);
        }
    }

    fn local_source(&self, id: AttachmentId, vid: Vid) {
        let all = self.attachments.all();
        let Some((key, attachment)) = all.iter().find(|(_, found)| found.attached.id == id) else {
            return;
        };
        tracing::warn!(
            "{key}: frames with its MAC address {} come in from the wire in VLAN {vid}: the network \
             has a loop, or another host has the address; they are dropped, and counted as \
             local_source at uplink {}",
            attachment.record.mac,
            attachment.request().uplink
        );
    }

    fn log(&self, record: &LogRecord) {
        let all = self.attachments.all();
        let attachment = all
            .iter()
            .find(|(_, found)| found.attached.id == record.attachment)
            .map_or_else(|| record.attachment.to_string(), |(key, _)| key.to_string());
        tracing::info!(
            target: "firewall",
            attachment,
            direction = %record.direction,
            policy = record.policy,
            rule = record.rule,
            verdict = %record.verdict,
            frame = %record.key,
        );
    }
}

/// Token bucket for log records: a flood of frames must not become one of lines.
struct Limit {
    tokens: u32,
    filled: Instant,
    suppressed: u64,
}

impl Limit {
    fn new(now: Instant) -> Limit {
        Limit {
            tokens: RECORDS_AT_ONCE,
            filled: now,
            suppressed: 0,
        }
    }

    /// Takes a token. Returns whether a record may be written, and how many were suppressed before it.
    fn take(&mut self, now: Instant) -> (bool, u64) {
        let millis = now.duration_since(self.filled).as_millis();
        let earned = u32::try_from(millis * u128::from(RECORDS_PER_SECOND) / 1000);
        let earned = earned.unwrap_or(u32::MAX);
        if earned > 0 {
            self.tokens = self.tokens.saturating_add(earned).min(RECORDS_AT_ONCE);
            self.filled = now;
        }
        if self.tokens == 0 {
            self.suppressed += 1;
            return (false, 0);
        }
        self.tokens -= 1;
        (true, std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floods_are_thinned_and_counted() {
        let start = Instant::now();
        let mut limit = Limit::new(start);
        let written = (0..10_000).filter(|_| limit.take(start).0).count();
        assert_eq!(written, 200);
        let later = start + Duration::from_millis(100);
        assert_eq!(limit.take(later), (true, 9_800));
        assert_eq!((0..100).filter(|_| limit.take(later).0).count(), 9);
        let much_later = start + Duration::from_secs(3600);
        assert_eq!((0..1000).filter(|_| limit.take(much_later).0).count(), 200);
    }
}
