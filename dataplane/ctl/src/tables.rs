// SPDX-License-Identifier: Apache-2.0
//! Answers as tables.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use comfy_table::Cell;
use sluice_api::{
    AttachmentStatus, Backend, LinkState, PolicyProblem, PolicyReport, PolicyStatus, Status,
    VlanRequest,
};

use super::output::{Style, render};

/// `sluicectl status`.
pub(super) fn status(status: &Status, style: Style) -> String {
    let health = &status.health;
    let mut head = style.table(&[]);
    let state = if health.ready {
        style.good("ready")
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

    let mut workers = style.table(&[
        "WORKER",
        "CORE",
        "LOOPS",
        "EMPTY",
        "SLEEPS",
        "KNOWN FRAMES",
        "FLOWS LEARNED",
    ]);
    for worker in &status.workers {
        workers.add_row(vec![
            style.number(worker.id),
            style.number(
                worker
                    .core
                    .map_or("any".to_owned(), |core| core.to_string()),
            ),
            style.number(worker.loops),
            style.number(share(worker.empty_loops, worker.loops)),
            style.number(worker.sleeps),
            style.number(worker.known),
            style.number(worker.learned),
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

/// `sluicectl attachments`.
pub(super) fn attachments(list: &[AttachmentStatus], verbose: bool, style: Style) -> String {
    if list.is_empty() {
        return "no attachments\n".to_owned();
    }
    let mut table = style.table(&[
        "POD",
        "INTERFACE",
        "UPLINK",
        "VLAN",
        "MAC",
        "LINK",
        "PEER",
        "WORKER",
        "FROM POD",
        "TO POD",
        "DROPPED",
    ]);
    for attachment in list {
        let request = &attachment.request;
        let link = match attachment.link {
            LinkState::Up => style.good("up"),
            other => style.bad(other),
        };
        let counters = &attachment.counters;
        let drops = counters
            .ingress_drops
            .values()
            .chain(counters.egress_drops.values());
        table.add_row(vec![
            Cell::new(pod(attachment)),
            Cell::new(&request.ifname),
            Cell::new(&request.uplink),
            Cell::new(vlan(&request.vlan)),
            Cell::new(&attachment.mac),
            link,
            Cell::new(attachment.peer.as_deref().unwrap_or("-")),
            style.number(attachment.worker),
            style.number(counters.port.rx_frames),
            style.number(counters.port.tx_frames),
            style.number(drops.sum::<u64>()),
        ]);
    }
    let mut text = render(table);
    if verbose {
        for attachment in list {
            section(&mut text, &details(attachment, style));
        }
    }
    text
}

fn details(attachment: &AttachmentStatus, style: Style) -> String {
    let request = &attachment.request;
    let list = |items: Vec<String>| {
        if items.is_empty() {
            "any".to_owned()
        } else {
            items.join(", ")
        }
    };
    let backend = match &request.backend {
        Backend::Memif(_) => {
            format!("memif at {}", attachment.socket.as_deref().unwrap_or("?"))
        }
        Backend::Tap {} => format!("tap {}", request.ifname),
    };
    let mut table = style.table(&[]);
    let mut row = |name: &str, value: String| {
        table.add_row(vec![style.bold(name), Cell::new(value)]);
    };
    row(
        "attachment",
        format!("{}/{}", request.container_id, request.ifname),
    );
    row("namespace", request.netns.path.display().to_string());
    row("backend", backend);
    row("mtu", attachment.mtu.to_string());
    row(
        "addresses",
        list(request.addresses.iter().map(ToString::to_string).collect()),
    );
    row(
        "own policy",
        request
            .firewall
            .clone()
            .unwrap_or_else(|| "none".to_owned()),
    );
    if let Some(reason) = &attachment.last_down {
        row("went down", reason.clone());
    }
    let counters = &attachment.counters;
    for (name, drops) in [
        ("dropped to it", &counters.ingress_drops),
        ("dropped from it", &counters.egress_drops),
    ] {
        if !drops.is_empty() {
            row(name, reasons(drops));
        }
    }
    render(table)
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
        table.add_row(vec![
            Cell::new(&policy.name),
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

/// `sluicectl policies check` and `apply`: problems, else the policies.
pub(super) fn report(report: &PolicyReport, style: Style) -> String {
    let mut text = String::new();
    for problem in &report.problems {
        let _ = writeln!(text, "{}", place(problem));
    }
    for warning in &report.warnings {
        let _ = writeln!(text, "warning: {}", place(warning));
    }
    if report.problems.is_empty() {
        section(&mut text, &policies(&report.policies, style));
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

fn pod(attachment: &AttachmentStatus) -> String {
    let request = &attachment.request;
    match &request.pod {
        Some(pod) => format!("{}/{}", pod.namespace, pod.name),
        // As much as container tools show.
        None => request.container_id.chars().take(12).collect(),
    }
}

fn vlan(vlan: &VlanRequest) -> String {
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
