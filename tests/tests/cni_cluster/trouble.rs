// SPDX-License-Identifier: Apache-2.0
//! Failures and absence of the API server: each kind has its error code, in bounded time, and DEL never waits.

use std::fs::File;
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;

use super::{Lab, NETWORKS};
use crate::cni_rig::api::Failure;

const EVER: u32 = u32::MAX;

#[test]
fn each_answer_of_the_api_server_has_its_code() {
    let Some(lab) = Lab::new("api_codes") else {
        return;
    };
    let conf = lab.conf();
    lab.api.network("b", &json!({"type": "b"}));
    lab.api.pod("ns", "p", json!({NETWORKS: "b"}));
    // Just written, it may be unknown as yet, which is asked again; an hour old, nobody renews it.
    lab.api.trouble("/pods/p", Failure::Status(401), EVER);
    let said = lab.run("ADD", "p", &conf).refused(11);
    assert!(said.contains("may not know"), "{said}");
    lab.api.calm();
    lab.api.trouble("/pods/p", Failure::Status(401), 2);
    lab.run("ADD", "p", &conf).ok();
    lab.run("DEL", "p", &conf).ok();
    lab.host.take_calls();
    lab.api.calm();
    let then = SystemTime::now() - Duration::from_secs(3_600);
    let file = File::options().write(true).open(&lab.api.kubeconfig);
    file.unwrap().set_modified(then).unwrap();
    for (status, with, code, hint) in [
        (401, "/pods/p", 7, "renew"),
        (403, "/pods/p", 7, "rbac"),
        (403, "network-attachment-definitions", 7, "rbac"),
        (404, "/pods/p", 11, "knows no pod"),
        (409, "/pods/p", 11, "409"),
        (429, "/pods/p", 11, "429"),
        (500, "/pods/p", 11, "500"),
        (503, "network-attachment-definitions", 11, "503"),
    ] {
        lab.api.trouble(with, Failure::Status(status), EVER);
        let start = Instant::now();
        let said = lab.run("ADD", "p", &conf).refused(code);
        assert!(said.contains(hint), "{status}: {said}");
        assert!(start.elapsed() < Duration::from_secs(15), "{status}");
        assert_eq!(lab.host.take_calls(), Vec::<String>::new(), "{status}");
        lab.api.calm();
    }
    // What passes is waited for.
    for status in [409, 429, 500, 503] {
        lab.api.trouble("/pods/p", Failure::Status(status), 2);
        lab.run("ADD", "p", &conf).ok();
        lab.run("DEL", "p", &conf).ok();
        lab.api.calm();
    }
    lab.api
        .trouble("/pods/p", Failure::Sleeps(Duration::from_secs(60)), 1);
    let start = Instant::now();
    lab.run("ADD", "p", &conf).ok();
    assert!(start.elapsed() < Duration::from_secs(10), "asked again");
    lab.run("DEL", "p", &conf).ok();
}

#[test]
fn a_status_that_cannot_be_written_is_an_event_and_no_failure() {
    let Some(lab) = Lab::new("status_fails") else {
        return;
    };
    let conf = lab.conf();
    lab.api.pod("ns", "p", json!({}));
    lab.api.trouble("PATCH", Failure::Status(403), EVER);
    lab.run("ADD", "p", &conf).ok();
    let events = lab.api.take_events();
    assert_eq!(events[0].0, "NetworkStatusFailed", "{events:?}");
    lab.api.trouble("POST", Failure::Status(403), EVER);
    lab.run("DEL", "p", &conf).ok();
    lab.run("ADD", "p", &conf).ok();
}

#[test]
fn case_47_del_asks_no_api_server() {
    let Some(lab) = Lab::new("case_47_api") else {
        return;
    };
    let conf = lab.conf();
    lab.api.network("b", &json!({"type": "b"}));
    lab.api.pod("ns", "p", json!({NETWORKS: "b"}));
    lab.run("ADD", "p", &conf).ok();
    lab.host.take_calls();
    let asked = lab.api.take_requests();
    assert_eq!(asked.len(), 3, "pod, network, status: {asked:?}");
    lab.api
        .trouble("", Failure::Sleeps(Duration::from_secs(60)), EVER);
    let start = Instant::now();
    lab.run("DEL", "p", &conf).ok();
    assert!(start.elapsed() < Duration::from_secs(3));
    assert_eq!(lab.host.take_calls(), ["DEL b net1", "DEL a eth0"]);
    // Nor does one without a record, nor one whose kubeconfig is gone.
    lab.run("DEL", "unknown", &conf).ok();
    let mut gone = conf.clone();
    gone["kubeconfig"] = "/nowhere/kubeconfig".into();
    lab.run("DEL", "p", &gone).ok();
    assert_eq!(lab.api.take_requests(), Vec::<String>::new());
    let said = lab.run("ADD", "p", &gone).refused(7);
    assert!(said.contains("/nowhere/kubeconfig"), "{said}");
}

#[test]
fn an_api_server_that_is_not_there_is_11() {
    let Some(lab) = Lab::new("api_gone") else {
        return;
    };
    let conf = lab.conf();
    let text = std::fs::read_to_string(&lab.api.kubeconfig).unwrap();
    // Nobody listens on the discard port of a namespace of ours.
    let at = text.find("127.0.0.1:").unwrap();
    let end = at + text[at..].find('"').unwrap();
    let text = format!("{}127.0.0.1:9{}", &text[..at], &text[end..]);
    std::fs::write(&lab.api.kubeconfig, text).unwrap();
    let start = Instant::now();
    let said = lab.run("ADD", "p", &conf).refused(11);
    assert!(said.contains("127.0.0.1:9"), "{said}");
    assert!(start.elapsed() < Duration::from_secs(15));
}
