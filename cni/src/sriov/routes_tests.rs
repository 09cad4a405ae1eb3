// SPDX-License-Identifier: Apache-2.0
//! Tests of what is read of routes; what the kernel makes of them is tested in namespaces.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use serde_json::json;

fn result(routes: &Value) -> CniResult {
    let result = json!({"cniVersion": "1.1.0",
        "ips": [{"address": "10.0.0.2/24", "gateway": "10.0.0.1"}, {"address": "fd00::2/64"}],
        "routes": routes});
    CniResult::parse(result.as_object().unwrap()).unwrap()
}

fn shown(routes: &Value) -> Vec<String> {
    let all = PodRoute::all(&result(routes)).unwrap();
    all.iter().map(ToString::to_string).collect()
}

#[test]
fn a_route_takes_its_own_gateway_or_its_address_s() {
    let routes =
        json!([{"dst": "0.0.0.0/0"}, {"dst": "10.9.0.0/16", "gw": "10.0.0.9"}, {"dst": "::/0"}]);
    let shown = shown(&routes);
    assert_eq!(
        shown,
        ["0.0.0.0/0 via 10.0.0.1", "10.9.0.0/16 via 10.0.0.9", "::/0"]
    );
}

#[test]
fn every_attribute_is_read_and_0_is_none() {
    let routes = json!([
        {"dst": "10.66.1.0/16", "table": 123, "Priority": 5, "mtu": 1400, "advmss": 1360, "scope": 0},
        {"dst": "10.67.0.0/16", "table": 0, "priority": 0, "mtu": 0, "advmss": null, "scope": null}
    ]);
    assert_eq!(
        shown(&routes),
        [
            "10.66.0.0/16 via 10.0.0.1 table 123 priority 5 mtu 1400 advmss 1360 scope 0",
            "10.67.0.0/16 via 10.0.0.1"
        ]
    );
}

#[test]
fn what_cannot_be_set_is_refused_by_name() {
    for (route, named) in [
        (json!({"dst": "10.1.0.0/16", "onlink": true}), "onlink"),
        (json!({"dst": "10.1.0.0/16", "table": "123"}), "table"),
        (json!({"dst": "10.1.0.0/16", "mtu": -1}), "mtu"),
        (json!({"dst": "10.1.0.0/16", "advmss": 1.5}), "advmss"),
        (json!({"dst": "10.1.0.0/16", "scope": 256}), "scope"),
        (json!({"dst": "fd01::/64", "scope": 253}), "scope"),
        (json!({"dst": "10.8.0.0/16", "gw": "fd00::1"}), "gateway"),
    ] {
        let error = PodRoute::all(&result(&json!([route]))).unwrap_err();
        assert_eq!(error.code(), 7, "{error}");
        assert!(error.to_string().contains(named), "{error}");
    }
}

#[test]
fn an_ipam_that_loses_an_attribute_is_named() {
    let ipam = json!({"routes": [{"dst": "10.66.0.0/16", "table": 123}, {"dst": "10.67.0.0/16"}]});
    let ipam = ipam.as_object().unwrap();
    let kept = result(&json!([{"dst": "10.66.0.0/16", "table": 123}]));
    check_kept(ipam, "static", &kept).unwrap();
    check_kept(ipam, "static", &result(&json!([]))).unwrap();
    let lost = result(&json!([{"dst": "10.66.0.0/16"}, {"dst": "10.67.0.0/16"}]));
    let error = check_kept(ipam, "static", &lost).unwrap_err();
    let said = error.to_string();
    assert_eq!(error.code(), 7);
    for word in ["static", "table", "10.66.0.0/16"] {
        assert!(said.contains(word), "{said}");
    }
}
