// SPDX-License-Identifier: Apache-2.0
//! `sluicectl attachments`: a line for each, what an operator should look at, and with `--verbose`
//! everything.

use std::collections::BTreeMap;

use comfy_table::Cell;
use sluice_api::{AttachmentCounters, AttachmentStatus, Backend, Connections, LinkState};

use super::output::{Style, render};
use super::tables::{reasons, section, vlan};

/// Drop reasons that tell of a pod or of its network, not of a policy: shown without being asked for.
const NOTABLE: [&str; 24] = [
    "hidden_address",
    "spoofed_mac",
    "spoofed_ip",
    "spoofed_arp",
    "spoofed_nd",
    "address_taken",
    "mac_limited",
    "mac_flapping",
    "link_local_taken",
    "link_local_limited",
    "not_router",
    "not_dhcp_server",
    "not_querier",
    "reserved_group",
    "link_control",
    "vlan_not_allowed",
    "broadcast_limited",
    "multicast_limited",
    "arp_nd_limited",
    "reject_limited",
    "rule_limited",
    "handover_full",
    "ring_full",
    "no_mbuf",
];

/// `sluicectl attachments`.
pub(super) fn table(list: &[AttachmentStatus], verbose: bool, style: Style) -> String {
    if list.is_empty() {
        return "no attachments\n".to_owned();
    }
    let mut table = style.table(&[
        "POD", "NAME", "VLAN", "LINK", "FROM POD", "TO POD", "DROPPED",
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
            Cell::new(vlan(&request.vlan)),
            link,
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
        return text;
    }
    let notices: String = list.iter().flat_map(notices).collect();
    if !notices.is_empty() {
        section(&mut text, &notices);
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
        Backend::VhostUser(_) => {
            let socket = attachment.socket.as_deref().unwrap_or("?");
            format!("vhost-user at {socket}")
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
    row("mac", attachment.mac.clone());
    row(
        "uplink",
        format!("{}, worker {}", request.uplink, attachment.worker),
    );
    if let Some(peer) = &attachment.peer {
        row("peer", peer.clone());
    }
    row("namespace", request.netns.path.display().to_string());
    row("backend", backend);
    row("mtu", attachment.mtu.to_string());
    row(
        "addresses",
        list(request.addresses.iter().map(ToString::to_string).collect()),
    );
    if !attachment.link_locals.is_empty() {
        // One a line: four of a VLAN would not fit one.
        let taken = attachment.link_locals.iter();
        let lines = taken.flat_map(|(vid, addresses)| {
            let vlan = segment(*vid);
            addresses.iter().map(move |ip| format!("{ip} in {vlan}"))
        });
        row("link-locals", lines.collect::<Vec<_>>().join("\n"));
    }
    pose_rows(attachment, &mut row);
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
    if let Some(connections) = &attachment.connections {
        row("connections", connected(connections));
        if let Some(reason) = &connections.last_refusal {
            row("last refused", reason.clone());
        }
    }
    if !attachment.groups.is_empty() {
        let groups = attachment.groups.iter();
        row(
            "groups",
            list(groups.map(|group| group.address.to_string()).collect()),
        );
    }
    if attachment.lines_left_out > 0 {
        row(
            "log",
            format!("{} lines left out", attachment.lines_left_out),
        );
    }
    let counters = &attachment.counters;
    row("visits", visits(counters));
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

/// Adds what the pod may pose as, what it has learned, and what it was not let send.
fn pose_rows(attachment: &AttachmentStatus, row: &mut impl FnMut(&str, String)) {
    let request = &attachment.request;
    let mut poses = vec![request.anti_spoof.to_string()];
    if request.promiscuous {
        poses.push("promiscuous".to_owned());
    }
    poses.extend(request.roles.iter().map(ToString::to_string));
    row("may pose as", poses.join(", "));
    if !request.allowed_address_pairs.is_empty() {
        let pairs = request.allowed_address_pairs.iter();
        let lines: Vec<String> = pairs.map(ToString::to_string).collect();
        row("address pairs", lines.join("\n"));
    }
    let learned: Vec<String> = attachment
        .learned
        .iter()
        .flat_map(|(vid, macs)| macs.iter().map(|mac| format!("{mac} in {}", segment(*vid))))
        .collect();
    if !learned.is_empty() {
        row("sends as well as", learned.join("\n"));
    }
    if attachment.counters.mac_moves > 0 {
        row("moves of these", attachment.counters.mac_moves.to_string());
    }
    for frame in &attachment.spoofed {
        row(
            &frame.reason,
            format!("{}: dropped. {}", frame.sent, frame.advice),
        );
    }
}

fn segment(vid: u16) -> String {
    match vid {
        0 => "untagged".to_owned(),
        vid => format!("VLAN {vid}"),
    }
}

/// Lines about what an operator should look at.
fn notices(attachment: &AttachmentStatus) -> Vec<String> {
    let mut notices = Vec::new();
    let counters = &attachment.counters;
    for (way, drops) in [
        ("to it", &counters.ingress_drops),
        ("from it", &counters.egress_drops),
    ] {
        let notable: BTreeMap<String, u64> = drops
            .iter()
            .filter(|(reason, _)| NOTABLE.contains(&reason.as_str()))
            .map(|(reason, count)| (reason.clone(), *count))
            .collect();
        if !notable.is_empty() {
            notices.push(format!("dropped {way}: {}", reasons(&notable)));
        }
    }
    for frame in &attachment.spoofed {
        notices.push(format!("{}: dropped as {}", frame.sent, frame.reason));
    }
    if counters.refused_groups > 0 {
        notices.push(format!(
            "{} times not let into a multicast group: too many, or too fast",
            counters.refused_groups
        ));
    }
    if counters.late_visits > 0 {
        notices.push(visits(counters));
    }
    if let Some(connections) = &attachment.connections
        && connections.refused + connections.broken > 0
    {
        notices.push(connected(connections));
    }
    let name = format!("{} {}", pod(attachment), attachment.request.ifname);
    notices
        .into_iter()
        .map(|notice| format!("{name}: {notice}\n"))
        .collect()
}

fn connected(connections: &Connections) -> String {
    let mut text = format!(
        "{} made, {} broken, {} refused, {} pauses",
        connections.made, connections.broken, connections.refused, connections.pauses
    );
    if let Some(seconds) = connections.last_refused_ago {
        text.push_str(&format!(", the last refused {seconds} s ago"));
    }
    text
}

fn visits(counters: &AttachmentCounters) -> String {
    let micros = counters.longest_visit_ns / 1000;
    format!(
        "{} visits over the time budget, the longest took {micros} us; {} put off",
        counters.late_visits, counters.held_back
    )
}

fn pod(attachment: &AttachmentStatus) -> String {
    let request = &attachment.request;
    match &request.pod {
        Some(pod) => format!("{}/{}", pod.namespace, pod.name),
        // As much as container tools show.
        None => request.container_id.chars().take(12).collect(),
    }
}

#[cfg(test)]
#[path = "attachments_tests.rs"]
mod tests;
