// SPDX-License-Identifier: Apache-2.0
//! Report of the counters, for people and as JSON.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::counters::DropCounts;
use crate::drops::Drop;
use crate::worker::Snapshot;

/// Report as JSON.
#[must_use]
pub fn json(snapshot: &Snapshot) -> Value {
    let Snapshot {
        tables,
        counters,
        neighbours,
        up,
    } = snapshot;
    let legs = tables.legs.iter().zip(&counters.legs).zip(up);
    let legs: Vec<Value> = legs
        .map(|((name, leg), up)| {
            json!({
                "name": name, "up": up,
                "received": leg.received, "received_bytes": leg.received_bytes,
                "sent": leg.sent, "sent_bytes": leg.sent_bytes,
                "drops": drops_json(&leg.drops),
            })
        })
        .collect();
    let interfaces = tables.interfaces.iter().zip(&counters.interfaces);
    let interfaces: Vec<Value> = interfaces
        .map(|((_, one), counters)| {
            json!({
                "name": one.name, "vlan": one.vlan.get(),
                "input": counters.input, "forwarded": counters.forwarded,
                "output": counters.output, "fragmented": counters.fragmented,
                "local": counters.local, "made": counters.made,
                "errors": counters.errors, "errors_withheld": counters.errors_withheld,
                "conflicts": counters.conflicts, "drops": drops_json(&counters.drops),
            })
        })
        .collect();
    let rules = tables.policies.rules().zip(&counters.rules);
    let rules: Vec<Value> = rules
        .map(|((policy, direction, rule), frames)| {
            json!({
                "policy": policy.name(), "direction": direction.as_str(), "rule": rule.label(),
                "file": policy.file(), "line": rule.line,
                "verdict": rule.verdict.as_str(), "frames": frames,
            })
        })
        .collect();
    json!({
        "event": "counters", "legs": legs, "interfaces": interfaces, "rules": rules,
        "neighbours": {
            "known": neighbours.known, "pending": neighbours.pending,
            "waiting": neighbours.waiting,
        },
        "log_lines_lost": counters.log_lost,
    })
}

fn drops_json(drops: &DropCounts) -> Value {
    let counted = Drop::ALL.iter().zip(drops).filter(|(_, count)| **count > 0);
    let counted = counted.map(|(reason, count)| (reason.name().to_owned(), json!(count)));
    Value::Object(counted.collect::<Map<_, _>>())
}

/// Report for people.
#[must_use]
pub fn text(snapshot: &Snapshot) -> String {
    let Snapshot {
        tables,
        counters,
        neighbours,
        up,
    } = snapshot;
    let mut out = String::new();
    for ((name, leg), up) in tables.legs.iter().zip(&counters.legs).zip(up) {
        let state = if *up { "up" } else { "down" };
        let _ = writeln!(
            out,
            "leg {name} ({state}): received {} frames ({} bytes), sent {} ({})",
            leg.received, leg.received_bytes, leg.sent, leg.sent_bytes
        );
        drops_text(&mut out, &leg.drops);
    }
    for ((_, one), counters) in tables.interfaces.iter().zip(&counters.interfaces) {
        let _ = writeln!(
            out,
            "interface {} (VLAN {}): {} in, {} of them forwarded and {} for the firewall; {} out, \
             {} made here, {} of them errors",
            one.name,
            one.vlan,
            counters.input,
            counters.forwarded,
            counters.local,
            counters.output,
            counters.made,
            counters.errors
        );
        drops_text(&mut out, &counters.drops);
    }
    for ((policy, direction, rule), frames) in tables.policies.rules().zip(&counters.rules) {
        if *frames > 0 {
            let _ = writeln!(out, "policy {} {direction} {rule}: {frames}", policy.name());
        }
    }
    let _ = writeln!(
        out,
        "neighbours: {} known, {} asked for, {} packets waiting; {} log lines left out",
        neighbours.known, neighbours.pending, neighbours.waiting, counters.log_lost
    );
    out
}

fn drops_text(out: &mut String, drops: &DropCounts) {
    for (reason, count) in Drop::ALL.iter().zip(drops) {
        if *count > 0 {
            let _ = writeln!(out, "  dropped as {}: {count}", reason.name());
        }
    }
}
