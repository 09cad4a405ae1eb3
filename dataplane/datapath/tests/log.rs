// SPDX-License-Identifier: Apache-2.0
//! Log records: a noisy rule or pod takes nobody else's, and what was left out is counted.
#![allow(clippy::unwrap_used, reason = "a test says what it expects")]

mod lab;

use std::collections::BTreeMap;

use lab::{Lab, Pod};
use sluice_datapath::{AttachmentId, Event};
use sluice_packet::Mac;
use sluice_packet::build::FrameBuilder;

const HOST: Mac = Mac([2, 0, 0, 0, 0xff, 1]);
const POLICY: &str = "name: web
vlans: [210]
default: {ingress: accept, egress: accept}
rules:
  - {name: noisy, direction: egress, protocol: udp, ports: [1], verdict: accept, log: true}
  - {name: quiet, direction: egress, protocol: udp, ports: [2], verdict: accept, log: true}
";

fn udp(pod: &Pod, port: u16) -> Vec<u8> {
    FrameBuilder::new(HOST, pod.mac)
        .ipv4([10, 0, 0, 1].into(), [10, 0, 0, 2].into())
        .udp(1000, port)
        .build()
}

/// Log records by attachment and rule.
fn records(events: Vec<Event>) -> BTreeMap<(AttachmentId, String), u64> {
    let mut records = BTreeMap::new();
    for event in events {
        if let Event::Log(record) = event {
            *records.entry((record.attachment, record.rule)).or_default() += 1;
        }
    }
    records
}

fn lost(lab: &Lab, pod: &Pod) -> u64 {
    let snapshot = lab.engine.snapshot();
    let mut attachments = snapshot.attachments.iter();
    let found = attachments.find(|found| found.id == pod.id);
    found.unwrap().lost_log_records
}

#[test]
fn a_noisy_rule_takes_no_other_rules_records_nor_another_pods() {
    let mut lab = Lab::new(1);
    lab.policies(&[POLICY]);
    let pods = [lab.access(210), lab.access(210)];
    lab.send(&pods[0].port, vec![udp(&pods[0], 1); 20_000]);
    lab.send(&pods[0].port, vec![udp(&pods[0], 2); 5]);
    lab.send(&pods[1].port, vec![udp(&pods[1], 1); 5]);
    let records = records(lab.engine.take_events());
    let of = |pod: &Pod, rule: &str| records[&(pod.id, rule.to_owned())];
    let noisy = of(&pods[0], "noisy");
    assert!((20..100).contains(&noisy), "{noisy}");
    assert_eq!(of(&pods[0], "quiet"), 5);
    assert_eq!(of(&pods[1], "noisy"), 5);
    assert_eq!(
        noisy + lost(&lab, &pods[0]),
        20_000,
        "the others are counted"
    );
    assert_eq!(lost(&lab, &pods[1]), 0);
    let all = lab.engine.lost_records();
    assert_eq!(all.len(), 1);
    assert_eq!(
        (all[0].attachment, all[0].total),
        (pods[0].id, 20_000 - noisy)
    );
    assert_eq!(all[0].rule, Some(("web".to_owned(), "noisy".to_owned())));
    lab.end();
}

#[test]
fn log_records_leave_room_for_faults() {
    let mut lab = Lab::new(1);
    lab.policies(&[POLICY]);
    let pods: Vec<_> = (0..240).map(|_| lab.access(210)).collect();
    // Nobody takes events meanwhile: what each pod's own limits let through, 40 records, is more in all
    // than the ring holds.
    for pod in &pods {
        let both = [udp(pod, 1), udp(pod, 2)];
        lab.send(&pod.port, both.into_iter().cycle().take(60));
    }
    pods[7].port.lock().unwrap().fault = Some("broken ring".to_owned());
    lab.few_loops();
    let events = lab.engine.take_events();
    let faults = events.iter().filter_map(|event| match event {
        Event::PortFault { attachment, fault } => Some((*attachment, fault.reason.clone())),
        _ => None,
    });
    let faults: Vec<_> = faults.collect();
    assert_eq!(faults, [(pods[7].id, "broken ring".to_owned())]);
    let lost: u64 = pods.iter().map(|pod| lost(&lab, pod)).sum();
    let kept: u64 = records(events).values().sum();
    let places = 8192 - 256;
    assert_eq!(kept, 240 * (places / 240), "each has an equal part");
    assert_eq!(kept + lost, 240 * 60);
    lab.end();
}

#[test]
fn a_sample_logs_the_first_frame_and_each_so_manieth_of_every_pod() {
    let mut lab = Lab::new(1);
    lab.policies(&[&POLICY.replace("log: true", "log: 1/10")]);
    let pods = [lab.access(210), lab.access(210)];
    lab.send(&pods[0].port, vec![udp(&pods[0], 1); 95]);
    lab.send(&pods[0].port, vec![udp(&pods[0], 2); 1]);
    lab.send(&pods[1].port, vec![udp(&pods[1], 1); 11]);
    let records = records(lab.engine.take_events());
    let of = |pod: &Pod, rule: &str| records[&(pod.id, rule.to_owned())];
    assert_eq!(of(&pods[0], "noisy"), 10);
    assert_eq!(of(&pods[0], "quiet"), 1, "rules are told apart");
    assert_eq!(of(&pods[1], "noisy"), 2, "and so are pods");
    assert_eq!(
        lost(&lab, &pods[0]),
        0,
        "what is not of the sample is not lost"
    );
    assert_eq!(lab.hits("web", "noisy"), 106, "counters have every frame");
    lab.end();
}

#[test]
fn a_default_logs_what_no_rule_matches() {
    let mut lab = Lab::new(1);
    let policy = POLICY.replace("egress: accept}\n", "egress: drop, log: egress}\n");
    lab.policies(&[&policy]);
    let pod = lab.access(210);
    assert_eq!(lab.pod_sends(&pod, udp(&pod, 9)), Some("denied"));
    assert_eq!(lab.pod_sends(&pod, udp(&pod, 9)), Some("denied"));
    let records = records(lab.engine.take_events());
    assert_eq!(records[&(pod.id, "default".to_owned())], 2);
    lab.end();
}
