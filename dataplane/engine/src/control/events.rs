// SPDX-License-Identifier: Apache-2.0
//! Events of workers: pods that broke the protocol, and decisions of rules with `log`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sluice_datapath::{AttachmentId, Engine, Event, LogRecord, Spoofed};
use sluice_packet::{Mac, Vid};

use super::log_shares::LogShares;
use super::{Control, locked, spoofed};
use crate::log_identity::attachment_event;

/// Interval at which events are collected from the workers.
const INTERVAL: Duration = Duration::from_millis(50);
/// Interval at which it is said how many lines were left out.
const SUMMARIES: Duration = Duration::from_secs(1);

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
                let mut shares = LogShares::new(Instant::now());
                let mut summed_up = Instant::now();
                while !stopped.load(Ordering::Acquire) {
                    let Ok(events) = control.engine.with(Engine::take_events) else {
                        break;
                    };
                    control.take_events(events, &mut shares);
                    if summed_up.elapsed() >= SUMMARIES {
                        summed_up = Instant::now();
                        control.say_what_was_left_out();
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
    fn take_events(&self, events: Vec<Event>, shares: &mut LogShares) {
        let mut records = Vec::new();
        for event in events {
            match event {
                Event::PortFault { attachment, fault } => {
                    self.port_fault(attachment, &fault.reason);
                }
                Event::LocalSource { attachment, vid } => self.local_source(attachment, vid),
                Event::Spoofed(spoofed) => self.spoofed(&spoofed),
                Event::Log(record) => records.push(record),
            }
        }
        let now = Instant::now();
        for record in shares.choose(now, records) {
            self.log(&record);
        }
        if shares.is_report_due(now)
            && let Ok(lost) = self.engine.with(Engine::lost_records)
            && let Some(line) = shares.report(now, lost, |id| self.name_of(id))
        {
            tracing::warn!("{line}");
        }
    }

    /// Returns the name by which people know an attachment.
    fn name_of(&self, id: AttachmentId) -> String {
        let all = self.attachments.all();
        all.iter()
            .find(|(_, found)| found.attached.id == id)
            .map_or_else(|| id.to_string(), |(key, _)| key.to_string())
    }

    fn port_fault(&self, id: AttachmentId, reason: &str) {
        let all = self.attachments.all();
        let Some((key, attachment)) = all.iter().find(|(_, found)| found.attached.id == id) else {
            return;
        };
        if let Some(link) = locked(&attachment.link).as_ref() {
            if link.status().may_log() {
                let identity = attachment.log_identity();
                attachment_event!(warn, identity, "{key}: out of service: {reason}");
            }
            link.fault(reason);
        }
    }

    fn local_source(&self, id: AttachmentId, vid: Vid) {
        let all = self.attachments.all();
        let Some((key, attachment)) = all.iter().find(|(_, found)| found.attached.id == id) else {
            return;
        };
        let link = locked(&attachment.link);
        if !link.as_ref().is_none_or(|link| link.status().may_log()) {
            return;
        }
        attachment_event!(
            warn,
            attachment.log_identity(),
            "{key}: frames with its MAC address {} come in from the wire in VLAN {vid}: the network \
             has a loop, or another host has the address; they are dropped, and counted as \
             local_source at uplink {}",
            attachment.record.mac,
            attachment.request().uplink
        );
    }

    /// Says why the first frame of a kind that a pod sends from other addresses goes no further. A pod has
    /// a line for each drop reason at most.
    fn spoofed(&self, frame: &Spoofed) {
        let all = self.attachments.all();
        let Some((key, live)) = all
            .iter()
            .find(|(_, found)| found.attached.id == frame.attachment)
        else {
            return;
        };
        let own = live.record.mac.parse().unwrap_or(Mac::ZERO);
        let told = spoofed::describe(live.request(), own, frame);
        let pod = live.request().pod.as_ref();
        let pod = pod.map_or_else(String::new, |pod| {
            format!(" ({}/{})", pod.namespace, pod.name)
        });
        attachment_event!(
            warn,
            live.log_identity(),
            "{key}{pod}: {}: dropped, and counted as {}. {}",
            told.sent,
            told.reason,
            told.advice
        );
        locked(&live.spoofed).push(told);
    }

    /// Says how many lines each limit of control has left out of the log.
    fn say_what_was_left_out(&self) {
        self.requests.say_what_was_left_out();
        for (key, attachment) in self.attachments.all() {
            let lines = locked(&attachment.link)
                .as_ref()
                .and_then(|link| link.status().lines_left_out());
            if let Some(lines) = lines {
                attachment_event!(
                    warn,
                    attachment.log_identity(),
                    "{key}: {lines} further lines about its connections were left out; \
                     `sluicectl attachments --verbose` counts the connections"
                );
            }
        }
    }

    fn log(&self, record: &LogRecord) {
        let all = self.attachments.all();
        let found = all
            .iter()
            .find(|(_, found)| found.attached.id == record.attachment);
        let Some((key, live)) = found else { return };
        let identity = live.log_identity();
        tracing::info!(
            target: "firewall",
            container_id = identity.container_id.as_str(),
            interface = identity.interface.as_str(),
            attachment = identity.attachment,
            pod = identity.pod(),
            namespace = identity.namespace(),
            uplink = identity.uplink.as_str(),
            vlan = identity.vlan.as_str(),
            direction = %record.direction,
            policy = record.policy,
            rule = record.rule,
            verdict = %record.verdict,
            frame = %record.key,
            "{key}"
        );
    }
}
