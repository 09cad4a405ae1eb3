// SPDX-License-Identifier: Apache-2.0
//! A pod's link: every attribute of its routes, and CHECK of all that ADD set.

use serde_json::{Value, json};
use sluice_tests::Netns;

use crate::cni_rig::Host;
use crate::cni_rig::calls::{NONE, run_vf};
use crate::cni_rig::engine::{self, Engine};

/// A tap whose ipam answers with `routes`, on addresses of both IP versions.
fn tap(host: &Host, routes: &Value) -> Value {
    let ips = json!([{"address": "10.83.0.5/24", "gateway": "10.83.0.1"},
        {"address": "fd83::5/64", "gateway": "fd83::1"}]);
    let result = json!({"cniVersion": "1.0.0", "ips": ips, "routes": routes});
    host.fake_plugin("answers", &result);
    let mut conf = engine::conf(host, "10.83.0.0/24");
    conf["tap"] = true.into();
    conf["ipam"] = json!({"type": "answers"});
    conf
}

fn shown(pod: &Netns, args: &[&str]) -> String {
    pod.ip(args).unwrap()
}

#[test]
fn every_attribute_of_a_route_is_set_and_checked() {
    let Some(host) = Host::new("every_attribute_of_a_route_is_set_and_checked") else {
        return;
    };
    let _engine = Engine::start(&host);
    let pod = Netns::new("pod").unwrap();
    let mut conf = tap(
        &host,
        &json!([
            {"dst": "10.66.0.0/16", "table": 123, "priority": 7, "mtu": 1400, "advmss": 1300},
            {"dst": "10.67.0.0/16", "table": 70000},
            {"dst": "10.83.0.64/26", "gw": "10.83.0.9", "scope": 0},
            {"dst": "fd66::/32", "table": 123, "priority": 7, "mtu": 1400, "advmss": 1300},
            {"dst": "0.0.0.0/0"}, {"dst": "::/0"}
        ]),
    );
    let result = run_vf(&host, "ADD", "c", &pod, &conf).ok();
    assert_eq!(result["routes"][0]["table"], 123);
    for version in ["-4", "-6"] {
        let table = shown(&pod, &[version, "route", "show", "table", "123"]);
        for word in ["66:", "66.", "metric 7", "mtu 1400", "advmss 1300"] {
            let other = if version == "-4" { "66:" } else { "66." };
            assert!(word == other || table.contains(word), "{word} in {table}");
        }
    }
    let large = shown(&pod, &["route", "show", "table", "70000"]);
    assert!(large.contains("10.67.0.0/16 via 10.83.0.1"), "{large}");
    let main = shown(&pod, &["route", "show"]);
    assert!(!main.contains("10.66") && !main.contains("10.67"), "{main}");
    conf["prevResult"] = result;
    run_vf(&host, "CHECK", "c", &pod, &conf).ok();
    for (table, dst) in [("123", "10.66.0.0/16"), ("70000", "10.67.0.0/16")] {
        shown(&pod, &["route", "del", dst, "table", table]);
        let msg = run_vf(&host, "CHECK", "c", &pod, &conf).refused(999);
        assert!(msg.contains("has lost route") && msg.contains(dst), "{msg}");
        assert!(msg.contains(&format!("table {table}")), "{msg}");
    }
    run_vf(&host, "DEL", "c", &pod, &conf).ok();
}

#[test]
fn check_compares_all_that_add_set() {
    let Some(host) = Host::new("check_compares_all_that_add_set") else {
        return;
    };
    let _engine = Engine::start(&host);
    // (how the pod's owner breaks it, what CHECK says)
    let faults: [(&[&str], &str); 8] = [
        (
            &["route", "del", "default"],
            "lost route 0.0.0.0/0 via 10.83.0.1",
        ),
        (
            &["-6", "route", "del", "default"],
            "lost route ::/0 via fd83::1",
        ),
        (&["link", "set", "net1", "down"], "link net1 is down"),
        (
            &["link", "set", "net1", "mtu", "1300"],
            "MTU 1300, not 1500",
        ),
        (
            &["link", "set", "net1", "address", "02:00:00:00:77:77"],
            "MAC 02:00:00:00:77:77, not",
        ),
        (
            &["address", "del", "10.83.0.5/24", "dev", "net1"],
            "lost address 10.83.0.5/24",
        ),
        (
            &["address", "del", "fd83::5/64", "dev", "net1"],
            "lost address fd83::5/64",
        ),
        (&["link", "del", "net1"], "gone from the pod"),
    ];
    // Version 1.0.0 has no MTU in its result: it is known all the same.
    for version in ["1.1.0", "1.0.0"] {
        for (fault, said) in faults {
            let pod = Netns::new("pod").unwrap();
            let mut conf = tap(&host, &json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]));
            conf["cniVersion"] = version.into();
            conf["prevResult"] = run_vf(&host, "ADD", "c", &pod, &conf).ok();
            run_vf(&host, "CHECK", "c", &pod, &conf).ok();
            shown(&pod, fault);
            let msg = run_vf(&host, "CHECK", "c", &pod, &conf).refused(999);
            assert!(msg.contains(said), "{fault:?}: {msg}");
            run_vf(&host, "DEL", "c", &pod, &conf).ok();
        }
        let pod = Netns::new("pod").unwrap();
        let mut conf = tap(&host, &json!([]));
        conf["cniVersion"] = version.into();
        conf["prevResult"] = run_vf(&host, "ADD", "c", &pod, &conf).ok();
        shown(&pod, &["address", "del", "10.83.0.5/24", "dev", "net1"]);
        shown(&pod, &["address", "add", "10.83.0.5/16", "dev", "net1"]);
        let msg = run_vf(&host, "CHECK", "c", &pod, &conf).refused(999);
        assert!(
            msg.contains("10.83.0.5/24 has become 10.83.0.5/16"),
            "{msg}"
        );
        run_vf(&host, "DEL", "c", &pod, &conf).ok();
    }
    assert_eq!(host.records(), NONE);
}

#[test]
fn a_mac_that_a_later_plugin_sets_is_said_by_check() {
    let Some(host) = Host::new("a_mac_that_a_later_plugin_sets_is_said_by_check") else {
        return;
    };
    let _engine = Engine::start(&host);
    let pod = Netns::new("pod").unwrap();
    let mut conf = tap(&host, &json!([]));
    let mut result = run_vf(&host, "ADD", "c", &pod, &conf).ok();
    // As the plugin tuning does it.
    shown(
        &pod,
        &["link", "set", "net1", "address", "02:00:00:00:77:78"],
    );
    result["interfaces"][0]["mac"] = "02:00:00:00:77:78".into();
    conf["prevResult"] = result;
    let msg = run_vf(&host, "CHECK", "c", &pod, &conf).refused(999);
    for word in ["02:00:00:00:77:78", "spoofed", "key mac", "tuning"] {
        assert!(msg.contains(word), "{msg}");
    }
    run_vf(&host, "DEL", "c", &pod, &conf).ok();
}

#[test]
fn two_gateways_of_one_destination_are_both_there() {
    let Some(host) = Host::new("two_gateways_of_one_destination_are_both_there") else {
        return;
    };
    let _engine = Engine::start(&host);
    let pod = Netns::new("pod").unwrap();
    let mut conf = tap(
        &host,
        &json!([
            {"dst": "10.70.0.0/16", "gw": "10.83.0.1"}, {"dst": "10.70.0.0/16", "gw": "10.83.0.2"},
            {"dst": "10.70.0.0/16", "gw": "10.83.0.1"},
            {"dst": "fd70::/32", "gw": "fd83::1"}, {"dst": "fd70::/32", "gw": "fd83::2"},
            {"dst": "fd70::/32", "gw": "fd83::2"},
            // Its gateway is reached by the route after it.
            {"dst": "10.71.0.0/16", "gw": "169.254.1.1"}, {"dst": "169.254.1.1/32", "gw": ""}
        ]),
    );
    // Without gateways of addresses a route without one goes straight out.
    let mut answer: Value = serde_json::from_str(
        &std::fs::read_to_string(host.notes().join("result-answers")).unwrap(),
    )
    .unwrap();
    answer["ips"] = json!([{"address": "10.83.0.5/24"}, {"address": "fd83::5/64"}]);
    host.fake_plugin("answers", &answer);
    conf["prevResult"] = run_vf(&host, "ADD", "c", &pod, &conf).ok();
    let main = shown(&pod, &["route", "show"]);
    assert_eq!(main.matches("10.70.0.0/16").count(), 2, "{main}");
    assert!(main.contains("10.71.0.0/16 via 169.254.1.1"), "{main}");
    let six = shown(&pod, &["-6", "route", "show", "fd70::/32"]);
    assert!(
        six.contains("via fd83::1") && six.contains("via fd83::2"),
        "{six}"
    );
    run_vf(&host, "CHECK", "c", &pod, &conf).ok();
    shown(&pod, &["route", "del", "10.70.0.0/16", "via", "10.83.0.2"]);
    let msg = run_vf(&host, "CHECK", "c", &pod, &conf).refused(999);
    assert!(msg.contains("10.70.0.0/16 via 10.83.0.2"), "{msg}");
    run_vf(&host, "DEL", "c", &pod, &conf).ok();
}

#[test]
fn a_route_that_cannot_be_names_itself_and_what_to_do() {
    let Some(host) = Host::new("a_route_that_cannot_be_names_itself_and_what_to_do") else {
        return;
    };
    let engine = Engine::start(&host);
    let pod = Netns::new("pod").unwrap();
    for (route, words) in [
        (
            json!({"dst": "10.9.0.0/16", "gw": "192.0.2.1"}),
            &[
                "10.9.0.0/16",
                "192.0.2.1",
                "net1",
                "10.83.0.5/24",
                "192.0.2.1/32",
            ][..],
        ),
        (
            json!({"dst": "fd09::/16", "gw": "fd99::1"}),
            &["fd09::/16", "fd99::1", "net1"],
        ),
        (
            json!({"dst": "10.9.0.0/16", "onlink": true}),
            &["onlink", "10.9.0.0/16"],
        ),
        (
            json!({"dst": "10.9.0.0/16", "table": "main"}),
            &["table", "10.9.0.0/16"],
        ),
    ] {
        let conf = tap(&host, &json!([route]));
        let msg = run_vf(&host, "ADD", "c", &pod, &conf).refused(7);
        for word in words {
            assert!(msg.contains(word), "{word}: {msg}");
        }
        assert_eq!(host.records(), NONE);
        assert_eq!(engine.client().attachments().unwrap(), []);
    }
    // host-local of Debian 12 knows no attribute: it loses them, which nobody would notice.
    let mut conf = engine::conf(&host, "10.83.1.0/24");
    conf["tap"] = true.into();
    conf["ipam"]["routes"] = json!([{"dst": "10.66.0.0/16", "table": 123}]);
    let answer = run_vf(&host, "ADD", "c", &pod, &conf);
    if answer.code == Some(0) {
        assert!(shown(&pod, &["route", "show", "table", "123"]).contains("10.66.0.0/16"));
    } else {
        let msg = answer.refused(7);
        assert!(msg.contains("host-local") && msg.contains("table"), "{msg}");
        host.nothing_left();
    }
    run_vf(&host, "DEL", "c", &pod, &conf).ok();
}
