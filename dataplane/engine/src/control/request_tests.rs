// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use super::*;
use serde_json::{Value, json};
use sluice_api::{ErrorCode, Vid};

/// Body of a good request with some of it replaced.
fn body(with: Value) -> Value {
    let mut request = json!({
        "container_id": "c0ffee", "ifname": "net1",
        "netns": {"path": "/run/netns/x", "dev": 4, "ino": 5},
        "uplink": "wire0",
        "vlan": {"mode": "access", "vid": 210},
        "backend": {"type": "memif"}
    });
    for (key, value) in with.as_object().unwrap() {
        request[key] = value.clone();
    }
    request
}

fn request(with: Value) -> AttachRequest {
    serde_json::from_value(body(with)).unwrap()
}

fn refused(with: Value, why: &str) {
    let error = check_attach(body(with.clone()).to_string().as_bytes(), 1500).unwrap_err();
    assert_eq!(error.code, ErrorCode::Invalid);
    assert!(error.message.contains(why), "{with}: {error}");
}

#[test]
fn what_is_not_said_is_the_uplinks() {
    let request = request(json!({}));
    let checked = CheckedRequest::new(&request, 9000).unwrap();
    assert_eq!(
        (checked.mtu, checked.mac, checked.qinq),
        (9000, None, false)
    );
    assert_eq!(checked.vlans, VlanSet::Access(Vid::new(210).unwrap()));
}

#[test]
fn a_vf_needs_its_mac_and_its_port_vlan() {
    let vf = json!({"address": "0000:01:10.0", "port_vlan": 210});
    refused(json!({"vf": vf}), "administrative MAC");
    let mac = "02:00:00:00:00:01";
    assert!(CheckedRequest::new(&request(json!({"vf": vf, "mac": mac})), 1500).is_ok());
    let other = json!({"mode": "access", "vid": 211});
    refused(
        json!({"vf": vf, "mac": mac, "vlan": other}),
        "port VLAN 210",
    );
    let trunk = json!({"mode": "trunk", "vids": [210]});
    refused(
        json!({"vf": vf, "mac": mac, "vlan": trunk}),
        "port VLAN 210",
    );
    let none = json!({"address": "0000:01:10.0"});
    assert!(
        CheckedRequest::new(
            &request(json!({"vf": none, "mac": mac, "vlan": trunk})),
            1500
        )
        .is_ok()
    );
}

#[test]
fn vlans_are_checked() {
    refused(
        json!({"vlan": {"mode": "access", "vid": 4095}}),
        "VLAN 4095",
    );
    refused(
        json!({"vlan": {"mode": "trunk", "vids": []}}),
        "at least one",
    );
    refused(
        json!({"vlan": {"mode": "trunk", "vids": [5, 0]}}),
        "0 is no VLAN of a trunk",
    );
    refused(json!({"vlan": {"mode": "trunk", "vids": [5, 5]}}), "twice");
    refused(
        json!({"vlan": {"mode": "trunk", "vids": [5], "native": 5000}}),
        "VLAN 5000",
    );
    let trunk = json!({"vlan": {"mode": "trunk", "vids": [5, 6], "native": 0, "qinq": true}});
    let request = request(trunk);
    let checked = CheckedRequest::new(&request, 1500).unwrap();
    assert!(checked.qinq);
    assert!(matches!(
        checked.vlans,
        VlanSet::Trunk {
            native: Some(Vid::UNTAGGED),
            ..
        }
    ));
}

#[test]
fn addresses_and_mtu_are_checked() {
    refused(json!({"mac": "01:00:5e:00:00:01"}), "unicast");
    refused(json!({"mac": "00:00:00:00:00:00"}), "unicast");
    refused(json!({"mac": "2:0:0:0:0:1"}), "six pairs");
    for address in [
        "0.0.0.0/0",
        "224.0.0.1/24",
        "127.0.0.1/8",
        "255.255.255.255/32",
        "::/64",
        "ff02::1/64",
    ] {
        refused(
            json!({"addresses": [address]}),
            "cannot be an interface's address",
        );
    }
    refused(
        json!({"addresses": ["10.0.0.1/24", "10.0.0.1/16"]}),
        "twice",
    );
    refused(json!({"mtu": 1501}), "use 68 to 1500");
    refused(json!({"mtu": 67}), "use 68 to 1500");
    refused(
        json!({"mtu": 1000, "addresses": ["fd00::1/64"]}),
        "use 1280 to 1500",
    );
    refused(
        json!({"netns": {"path": "x", "dev": 1, "ino": 1}}),
        "absolute",
    );
}

#[test]
fn vhost_user_sockets_are_checked() {
    let vhost_user = |value: Value| {
        let mut backend = value;
        backend["type"] = json!("vhost-user");
        if backend.get("socket").is_none() {
            backend["socket"] = json!("/run/x/vhost.sock");
        }
        json!({"backend": backend})
    };
    refused(vhost_user(json!({"queues": 17})), "17 queue pairs");
    refused(vhost_user(json!({"queues": 0})), "0 queue pairs");
    refused(vhost_user(json!({"max_memory_mib": 0})), "max_memory_mib 0");
    refused(vhost_user(json!({"socket": "x/y"})), "from / on");
    refused(vhost_user(json!({"socket": "/x/../y"})), "from / on");
    refused(
        json!({"backend": {"type": "vhost-user"}}),
        "missing field `socket`",
    );
}

#[test]
fn memifs_are_checked() {
    let memif = |value: Value| {
        let mut backend = value;
        backend["type"] = json!("memif");
        json!({"backend": backend})
    };
    refused(memif(json!({"rings": 17})), "17 queue pairs");
    refused(memif(json!({"rings": 0})), "0 queue pairs");
    refused(memif(json!({"ring_size": 1000})), "power of two");
    refused(memif(json!({"ring_size": 1})), "power of two");
    refused(memif(json!({"buffer_size": 2048})), "engine as client");
    refused(
        memif(json!({"role": "client", "buffer_size": 100})),
        "256 to 16384",
    );
    refused(
        memif(json!({"role": "client", "allow_unsealed": true})),
        "engine as server",
    );
    refused(memif(json!({"secret": "x".repeat(25)})), "1 to 24 bytes");
    refused(memif(json!({"socket": {"abstract": ""}})), "1 to 107 bytes");
    refused(memif(json!({"socket": {"path": "x/y"}})), "from / on");
    refused(
        memif(json!({"socket": {"path": "/x/../y"}})),
        "without `..`",
    );
    refused(
        json!({"ifname": "net%d", "backend": {"type": "tap"}}),
        "`%`",
    );
    for all_of_them in ["all", "default"] {
        refused(
            json!({"ifname": all_of_them, "backend": {"type": "tap"}}),
            "those of every interface",
        );
    }
}
