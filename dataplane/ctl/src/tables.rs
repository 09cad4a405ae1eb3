// SPDX-License-Identifier: Apache-2.0
//! Answers as tables.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use comfy_table::Cell;
use sluice_api::{
    ChangeKind, PolicyProblem, PolicyReport, PolicyStatus, RequestStatus, Status, VlanRequest,
};

use super::output::{Style, render};

/// `sluicectl status`.
pub(super) fn status(status: &Status, style: Style) -> String {
    let health = &status.health;
    let mut head = style.table(&[]);
    let state = if health.ready {
        style.good("ready")
    } else if health.draining {
        style.bad("drained")
    } else {
        style.bad("not ready")
    };
    head.add_row(vec![style.bold("engine"), state]);
    head.add_row(vec![
        style.bold("version"),
        Cell::new(format!("{} (pid {})", health.version, health.pid)),
    ]);
    head.add_row(vec![
        style.bold("up for"),
        Cell::new(duration(status.uptime_seconds)),
    ]);
    head.add_row(vec![
        style.bold("attachments"),
        Cell::new(status.attachments),
    ]);
    let policies = match status.policy_version {
        0 => "none loaded: nothing passes".to_owned(),
        version => format!("version {version}"),
    };
    head.add_row(vec![style.bold("policies"), Cell::new(policies)]);
    let mut text = render(head);
    for problem in &health.problems {
        let _ = writeln!(text, "problem: {problem}");
    }
    for notice in requests(&status.requests) {
        let _ = writeln!(text, "notice: {notice}");
    }

    let mut workers = style.table(&[
        "WORKER", "CORE", "NUMA", "BUSY", "LOOPS", "EMPTY", "SLEEPS", "KNOWN", "LEARNED", "DROPPED",
    ]);
    for worker in &status.workers {
        workers.add_row(vec![
            style.number(worker.id),
            style.number(
                worker
                    .core
                    .map_or("any".to_owned(), |core| core.to_string()),
            ),
            style.number(worker.numa.map_or("-".to_owned(), |node| node.to_string())),
            style.number(share(
                worker.busy_cycles,
                worker.busy_cycles.saturating_add(worker.idle_cycles),
            )),
            style.number(short(worker.loops)),
            style.number(share(worker.empty_loops, worker.loops)),
            style.number(short(worker.sleeps)),
            style.number(short(worker.known)),
            style.number(short(worker.learned)),
            style.number(worker.drops.values().sum::<u64>()),
        ]);
    }
    section(&mut text, &render(workers));

    let memory = &status.memory;
    let mut mbufs = style.table(&["MBUFS", "ALL", "FREE", "IN FLIGHT", "ON"]);
    for (size, counts) in [("2 KiB", memory.small), ("10 KiB", memory.large)] {
        mbufs.add_row(vec![
            Cell::new(size),
            style.number(counts.all),
            style.number(counts.free),
            style.number(counts.in_flight),
            Cell::new(&memory.backing),
        ]);
    }
    section(&mut text, &render(mbufs));

    let mut uplinks = style.table(&[
        "UPLINK", "NETWORK", "DRIVER", "DEVICE", "LINK", "WORKER", "MTU", "RX", "TX", "DROPPED",
    ]);
    for uplink in &status.uplinks {
        uplinks.add_row(vec![
            Cell::new(&uplink.name),
            Cell::new(&uplink.network),
            Cell::new(&uplink.driver),
            Cell::new(&uplink.device),
            Cell::new(uplink.link),
            style.number(uplink.worker),
            style.number(uplink.mtu),
            style.number(uplink.counters.rx_frames),
            style.number(uplink.counters.tx_frames),
            style.number(uplink.drops.values().sum::<u64>()),
        ]);
    }
    section(&mut text, &render(uplinks));
    // Of VFs of attachments' own there are many, and one driver.
    for uplink in status
        .uplinks
        .iter()
        .filter(|uplink| uplink.owner.is_none())
    {
        if let Some(reason) = &uplink.driver_reason {
            let (name, driver) = (&uplink.name, &uplink.driver);
            text.push_str(&format!("driver of {name}: {driver} ({reason})\n"));
        }
    }

    if !status.segments.is_empty() {
        let mut segments = style.table(&["SEGMENT", "VLAN", "ATTACHMENTS", "POLICY"]);
        for segment in &status.segments {
            segments.add_row(vec![
                Cell::new(&segment.uplink),
                Cell::new(vid(segment.vid)),
                style.number(segment.attachments),
                match &segment.policy {
                    Some(policy) => Cell::new(policy),
                    None => style.bad("none: carries nothing"),
                },
            ]);
        }
        section(&mut text, &render(segments));
    }
    text
}

/// Notices about control requests that got nothing.
fn requests(found: &RequestStatus) -> Vec<String> {
    let notices = [
        (
            found.refused,
            "control requests of peers that may not ask were refused",
        ),
        (
            found.turned_away,
            "control connections were closed, as there were too many",
        ),
        (
            found.timed_out,
            "control connections were closed, as their peers were too slow",
        ),
    ];
    let some = notices.into_iter().filter(|(count, _)| *count > 0);
    some.map(|(count, what)| format!("{count} {what}"))
        .collect()
}

/// `sluicectl policies list`.
pub(super) fn policies(list: &[PolicyStatus], style: Style) -> String {
    if list.is_empty() {
        return "no policies: nothing passes\n".to_owned();
    }
    let mut table = style.table(&[
        "POLICY", "UPLINK", "VLANS", "RULES", "INGRESS", "EGRESS", "FILE",
    ]);
    for policy in list {
        let vlans = match policy.vids.as_slice() {
            [] => "by name only".to_owned(),
            vids => ranges(vids),
        };
        let name = match policy.audit {
            true => format!("{} (audit)", policy.name),
            false => policy.name.clone(),
        };
        table.add_row(vec![
            Cell::new(name),
            Cell::new(policy.uplink.as_deref().unwrap_or("every")),
            Cell::new(vlans),
            style.number(policy.rules),
            Cell::new(&policy.default_ingress),
            Cell::new(&policy.default_egress),
            Cell::new(&policy.file),
        ]);
    }
    render(table)
}

/// `sluicectl policies check`: problems, else the policies.
pub(super) fn report(report: &PolicyReport, style: Style) -> String {
    let mut text = problems(report, |_| true);
    if report.problems.is_empty() {
        section(&mut text, &policies(&report.policies, style));
    }
    text
}

/// `sluicectl policies apply` and `remove`: problems, else what is other than before.
pub(super) fn changes(report: &PolicyReport, style: Style) -> String {
    let changed = |file: &str| report.changes.iter().any(|change| change.file == file);
    let mut text = problems(report, |warning| changed(&warning.file));
    if !report.problems.is_empty() {
        return text;
    }
    let mut table = style.table(&[]);
    for change in &report.changes {
        let kind = match change.kind {
            ChangeKind::Added => style.good("added"),
            ChangeKind::Changed => Cell::new("changed"),
            ChangeKind::Removed => style.bad("removed"),
        };
        table.add_row(vec![
            kind,
            Cell::new(&change.policy),
            Cell::new(&change.file),
        ]);
    }
    text.push_str(&render(table));
    let (count, version) = (report.policies.len(), report.version);
    let state = match (report.changes.len(), count) {
        (0, _) => format!("nothing changed: {count} policies in force, version {version}"),
        (_, 0) => "no policies: nothing passes".to_owned(),
        _ => format!("{count} policies in force, version {version}"),
    };
    let _ = writeln!(text, "{state}");
    text
}

/// Problems of a report, and those of its warnings that `show` names.
fn problems(report: &PolicyReport, show: impl Fn(&PolicyProblem) -> bool) -> String {
    let mut text = String::new();
    for problem in &report.problems {
        let _ = writeln!(text, "{}", place(problem));
    }
    for warning in report.warnings.iter().filter(|warning| show(warning)) {
        let _ = writeln!(text, "warning: {}", place(warning));
    }
    text
}

/// `file:line:column: message`, as compilers write it.
fn place(problem: &PolicyProblem) -> String {
    match problem.line {
        0 => format!("{}: {}", problem.file, problem.message),
        line => format!(
            "{}:{line}:{}: {}",
            problem.file, problem.column, problem.message
        ),
    }
}

/// `reason 12, other 3`, the most frequent first.
pub(super) fn reasons(drops: &BTreeMap<String, u64>) -> String {
    let mut drops: Vec<_> = drops.iter().collect();
    drops.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let drops = drops
        .into_iter()
        .map(|(reason, count)| format!("{reason} {count}"));
    drops.collect::<Vec<_>>().join(", ")
}

/// Adds a part, an empty line before it.
pub(super) fn section(text: &mut String, part: &str) {
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(part);
}

pub(super) fn vlan(vlan: &VlanRequest) -> String {
    let (mut text, qinq) = match vlan {
        VlanRequest::Access { vid: id, qinq } => (vid(id.get()), qinq),
        VlanRequest::Trunk { vids, native, qinq } => {
            let mut sorted: Vec<u16> = vids.iter().map(|vid| vid.get()).collect();
            sorted.sort_unstable();
            sorted.dedup();
            let native = native.map_or(String::new(), |native| {
                format!(" native {}", vid(native.get()))
            });
            (format!("trunk {}{native}", ranges(&sorted)), qinq)
        }
    };
    if *qinq {
        text.push_str(" qinq");
    }
    text
}

fn vid(vid: u16) -> String {
    if vid == 0 {
        "untagged".to_owned()
    } else {
        vid.to_string()
    }
}

/// Sorted VIDs with runs closed up: `untagged,210,220-229`.
fn ranges(vids: &[u16]) -> String {
    let runs = vids
        .chunk_by(|a, b| *a != 0 && a + 1 == *b)
        .map(|run| match run {
            [first, .., last] => format!("{first}-{last}"),
            run => run.iter().map(|one| vid(*one)).collect(),
        });
    runs.collect::<Vec<_>>().join(",")
}

/// A count for a narrow table: exact up to seven digits, else in three, as `12.3M`.
fn short(count: u64) -> String {
    let (unit, scale) = match count {
        0..10_000_000 => return count.to_string(),
        10_000_000..1_000_000_000 => ('M', 1_000_000),
        1_000_000_000..1_000_000_000_000 => ('G', 1_000_000_000),
        _ => ('T', 1_000_000_000_000),
    };
    let whole = count / scale;
    let tenths = count % scale * 10 / scale;
    match whole {
        100.. => format!("{whole}{unit}"),
        _ => format!("{whole}.{tenths}{unit}"),
    }
}

fn share(part: u64, whole: u64) -> String {
    match (u128::from(part) * 100).checked_div(u128::from(whole)) {
        Some(percent) => format!("{percent}%"),
        None => "-".to_owned(),
    }
}

fn duration(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let (minutes, seconds) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {seconds}s"),
        (0, _, _) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
#[path = "tables_tests.rs"]
mod tests;
