// SPDX-License-Identifier: Apache-2.0
//! Log of denied frames: JSON lines, written by a thread of their own.
//!
//! The forwarding thread hands over a record, and only one that its leg's token bucket allows; it
//! never waits for the disk or the terminal. Lines that are left out are counted and told.

use std::io::Write;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use sluice_firewall::{Direction, Hit, PolicyIndex};
use sluice_packet::{FlowKey, IpProto};

use crate::drops::Drop;
use crate::interfaces::InterfaceId;
use crate::tables::Tables;
use crate::token_bucket::TokenBucket;

/// Records that may wait for the thread.
const WAITING: usize = 1024;
/// Time from one line about lost lines to the next.
const SUMMARY: Duration = Duration::from_secs(1);

/// Frame that is logged.
#[derive(Debug)]
pub struct Seen {
    /// Flow key.
    pub key: FlowKey,
    /// Interface that decided: that it came in on, or was to leave on.
    pub interface: InterfaceId,
    /// Reason of the drop; `None`: it passed.
    pub reason: Option<Drop>,
    /// Policy, direction and rule that decided.
    pub decision: Option<(PolicyIndex, Direction, Hit)>,
}

/// Event to be logged.
#[derive(Debug)]
pub enum Event {
    /// Frame, with the tables that it was judged by.
    Frame(Arc<Tables>, Box<Seen>),
    /// Lines about frames of a leg that were left out.
    Lost {
        /// Name of the leg.
        leg: String,
        /// Number of lines.
        lines: u64,
    },
    /// Event of a link, or of the program.
    Note {
        /// Kind of event.
        event: &'static str,
        /// Name of the leg; empty where it is of none.
        leg: String,
        /// Text for people.
        text: String,
    },
}

/// Log, as the forwarding thread has it.
#[derive(Debug)]
pub struct Log {
    to: SyncSender<Event>,
    legs: Vec<(TokenBucket, u64)>,
    told: Option<Instant>,
    rate: u32,
    lost: u64,
}

impl Log {
    /// Log of at most `rate` lines a second for each leg, and the receiver of its events.
    #[must_use]
    pub fn new(rate: u32) -> (Log, Receiver<Event>) {
        let (to, events) = sync_channel(WAITING);
        let log = Log {
            to,
            legs: Vec::new(),
            told: None,
            rate,
            lost: 0,
        };
        (log, events)
    }

    /// Sets the number of legs, and the rate.
    pub fn set_legs(&mut self, legs: usize, rate: u32) {
        if rate != self.rate {
            self.legs.clear();
            self.rate = rate;
        }
        let bucket = TokenBucket::new(rate, rate.max(1));
        self.legs.resize(legs, (bucket, 0));
    }

    /// Takes a token of a leg; a line that is left out is counted.
    pub fn allows(&mut self, leg: usize, now: Instant) -> bool {
        let Some((bucket, lost)) = self.legs.get_mut(leg) else {
            return false;
        };
        let allowed = bucket.take(now);
        if !allowed {
            *lost += 1;
            self.lost += 1;
        }
        allowed
    }

    /// Hands an event about a leg's frame over; if too many wait it is counted as lost.
    pub fn write(&mut self, leg: usize, event: Event) {
        if self.to.try_send(event).is_err() {
            self.lost += 1;
            if let Some((_, lost)) = self.legs.get_mut(leg) {
                *lost += 1;
            }
        }
    }

    /// Hands an event of a link or the program over.
    pub fn note(&mut self, event: &'static str, leg: &str, text: impl Into<String>) {
        let leg = leg.to_owned();
        let text = text.into();
        let _ = self.to.try_send(Event::Note { event, leg, text });
    }

    /// Tells how many lines were left out, once a second at most.
    pub fn tell_losses(&mut self, tables: &Tables, now: Instant) {
        if self
            .told
            .is_some_and(|told| now.saturating_duration_since(told) < SUMMARY)
        {
            return;
        }
        self.told = Some(now);
        for (leg, (_, lost)) in self.legs.iter_mut().enumerate() {
            if *lost == 0 {
                continue;
            }
            let event = Event::Lost {
                leg: tables.leg_name(leg).to_owned(),
                lines: *lost,
            };
            if self.to.try_send(event).is_ok() {
                *lost = 0;
            }
        }
    }

    /// Number of lines that were left out so far.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

/// Starts the thread that writes the lines. It ends when the log is dropped.
///
/// # Errors
/// No thread is left.
pub fn start(
    events: Receiver<Event>,
    mut to: Box<dyn Write + Send>,
) -> std::io::Result<JoinHandle<()>> {
    let write = move || {
        while let Ok(event) = events.recv() {
            // Who reads the log may be gone; frames still have to flow.
            let _ = writeln!(to, "{}", line(&event));
            let _ = to.flush();
        }
    };
    std::thread::Builder::new()
        .name("log".to_owned())
        .spawn(write)
}

/// Line of an event.
#[must_use]
pub fn line(event: &Event) -> Value {
    let time = format!("{:.3}", jiff::Timestamp::now());
    match event {
        Event::Frame(tables, seen) => frame_line(&time, tables, seen),
        Event::Lost { leg, lines } => {
            json!({"time": time, "event": "lines_lost", "leg": leg, "lines": lines})
        }
        Event::Note { event, leg, text } if leg.is_empty() => {
            json!({"time": time, "event": event, "text": text})
        }
        Event::Note { event, leg, text } => {
            json!({"time": time, "event": event, "leg": leg, "text": text})
        }
    }
}

fn frame_line(time: &str, tables: &Tables, seen: &Seen) -> Value {
    let mut line = Map::new();
    let mut put = |key: &str, value: Value| {
        line.insert(key.to_owned(), value);
    };
    let interface = tables.interfaces.get(seen.interface);
    put("time", time.into());
    put(
        "event",
        if seen.reason.is_some() {
            "denied"
        } else {
            "passed"
        }
        .into(),
    );
    put("leg", tables.leg_name(interface.leg).into());
    put("interface", interface.name.as_str().into());
    put("vlan", interface.vlan.get().into());
    if let Some(reason) = seen.reason {
        put("reason", reason.name().into());
    }
    if let Some((index, direction, hit)) = seen.decision {
        let policy = tables.policies.policy(index);
        put("direction", direction.as_str().into());
        put("verdict", hit.verdict.as_str().into());
        put("policy", policy.name().into());
        put("file", policy.file().into());
        if let Some(info) = policy.rule_info(direction, hit.rule) {
            put("rule", info.label().into());
            if info.line != 0 {
                put("line", info.line.into());
            }
        }
    }
    flow(&mut put, &seen.key);
    Value::Object(line)
}

/// Five-tuple, or what there is of it.
fn flow(put: &mut impl FnMut(&str, Value), key: &FlowKey) {
    if key.has(FlowKey::ARP) {
        put("protocol", "arp".into());
    } else if key.is_ip() {
        let name = match key.proto {
            IpProto::TCP => "tcp".into(),
            IpProto::UDP => "udp".into(),
            IpProto::ICMP => "icmp".into(),
            IpProto::ICMPV6 => "icmpv6".into(),
            IpProto::SCTP => "sctp".into(),
            other => Value::from(other),
        };
        put("protocol", name);
    } else {
        put("ethertype", format!("{:#06x}", key.ethertype).into());
        put("source_mac", key.src_mac().to_string().into());
        put("destination_mac", key.dst_mac().to_string().into());
    }
    if let (Some(src), Some(dst)) = (key.src_ip(), key.dst_ip()) {
        put("source", src.to_string().into());
        put("destination", dst.to_string().into());
    }
    if key.has(FlowKey::PORTS) {
        put("source_port", key.src_port.into());
        put("destination_port", key.dst_port.into());
    }
    if key.has(FlowKey::ICMP) {
        put("icmp_type", key.icmp_type.into());
        put("icmp_code", key.icmp_code.into());
    }
    if key.has(FlowKey::LATER_FRAGMENT) {
        put("later_fragment", true.into());
    }
}
