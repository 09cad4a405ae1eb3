// SPDX-License-Identifier: Apache-2.0
//! The JSON that goes over the socket: what is written can be read again, and the forms that other
//! programs write by hand stay as they are.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::net::IpAddr;

use ipnet::IpNet;
use proptest::prelude::*;
use serde_json::{Value, json};
use sluice_api::*;

fn net() -> impl Strategy<Value = IpNet> {
    prop_oneof![
        (any::<[u8; 4]>(), 0..=32u8).prop_map(|(octets, len)| (IpAddr::from(octets), len)),
        (any::<[u8; 16]>(), 0..=128u8).prop_map(|(octets, len)| (IpAddr::from(octets), len)),
    ]
    .prop_map(|(address, len)| IpNet::new(address, len).unwrap())
}

fn vid(first: u16) -> impl Strategy<Value = Vid> {
    (first..4095u16).prop_map(|number| Vid::new(number).unwrap())
}

fn vlan() -> impl Strategy<Value = VlanRequest> {
    prop_oneof![
        (vid(0), any::<bool>()).prop_map(|(vid, qinq)| VlanRequest::Access { vid, qinq }),
        (
            prop::collection::vec(vid(1), 1..5),
            prop::option::of(vid(0)),
            any::<bool>()
        )
            .prop_map(|(vids, native, qinq)| VlanRequest::Trunk { vids, native, qinq }),
    ]
}

fn socket() -> impl Strategy<Value = MemifSocket> {
    prop_oneof![
        "\\PC{1,20}".prop_map(MemifSocket::Abstract),
        "/[a-z/]{1,20}".prop_map(|path| MemifSocket::Path(path.into())),
    ]
}

fn backend() -> impl Strategy<Value = Backend> {
    let role = prop_oneof![Just(MemifRole::Server), Just(MemifRole::Client)];
    let memif = (
        role,
        prop::option::of(any::<u16>()),
        prop::option::of(any::<u16>()),
        prop::option::of(any::<u32>()),
        prop::option::of("\\PC{0,24}"),
        any::<u32>(),
        prop::option::of(socket()),
        any::<bool>(),
    )
        .prop_map(
            |(role, rings, ring_size, buffer_size, secret, id, socket, allow_unsealed)| {
                let memif = MemifRequest {
                    role,
                    rings,
                    ring_size,
                    buffer_size,
                    secret,
                    id,
                    socket,
                    allow_unsealed,
                };
                Backend::Memif(memif)
            },
        );
    let role = prop_oneof![Just(MemifRole::Server), Just(MemifRole::Client)];
    let vhost_user = (
        role,
        prop::option::of(any::<u16>()),
        prop::option::of(any::<u32>()),
        "/[a-z/]{1,20}",
    )
        .prop_map(|(role, queues, max_memory_mib, socket)| {
            Backend::VhostUser(VhostUserRequest {
                role,
                queues,
                max_memory_mib,
                socket: socket.into(),
            })
        });
    prop_oneof![memif, vhost_user, Just(Backend::Tap {})]
}

fn pose() -> impl Strategy<Value = (AntiSpoof, Vec<AddressPair>, bool)> {
    let mac = prop::option::of(any::<[u8; 6]>().prop_map(Mac::new));
    let pair = (mac, prop::option::of(net())).prop_map(|(mac, ip)| AddressPair { mac, ip });
    (
        prop::sample::select(AntiSpoof::ALL.to_vec()),
        prop::collection::vec(pair, 0..3),
        any::<bool>(),
    )
}

prop_compose! {
    fn request()(
        container_id in "[a-z0-9]{1,64}",
        ifname in "[a-z0-9]{1,15}",
        place in ("/[a-z/]{1,20}", any::<u64>(), any::<u64>()),
        pod in prop::option::of(("[a-z]{1,9}", "[a-z]{1,9}", prop::option::of("[a-f0-9]{8}"))),
        uplink in "\\PC{0,9}",
        vf in prop::option::of(("[0-9a-f:.]{12}", prop::option::of(vid(1)))),
        vlan in vlan(),
        mac in prop::option::of(any::<[u8; 6]>().prop_map(Mac::new)),
        addresses in prop::collection::vec(net(), 0..3),
        gateways in prop::collection::vec(any::<IpAddr>(), 0..3),
        roles in prop::sample::subsequence(Role::ALL.to_vec(), 0..=3),
        pose in pose(),
        keep in any::<bool>(),
        firewall in prop::option::of("\\PC{0,9}"),
        mtu in prop::option::of(any::<u32>()),
        backend in backend(),
    ) -> AttachRequest {
        let (path, dev, ino) = place;
        AttachRequest {
            vf: vf.map(|(address, port_vlan)| VfRequest { address, port_vlan }),
            container_id,
            ifname,
            netns: NetnsRef { path: path.into(), dev, ino },
            pod: pod.map(|(namespace, name, uid)| PodRef { namespace, name, uid }),
            uplink,
            vlan,
            mac,
            addresses,
            multicast_groups: gateways.clone(),
            gateways,
            roles,
            anti_spoof: pose.0,
            allowed_address_pairs: pose.1,
            promiscuous: pose.2,
            priority: if keep { PriorityRequest::Keep } else { PriorityRequest::Clear },
            firewall,
            mtu,
            backend,
        }
    }
}

proptest! {
    #[test]
    fn every_request_comes_back(request in request()) {
        let text = serde_json::to_string(&request).unwrap();
        prop_assert_eq!(serde_json::from_str::<AttachRequest>(&text).unwrap(), request);
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,100}") {
        let _ = serde_json::from_str::<AttachRequest>(&text);
        let _ = serde_json::from_str::<PolicyFiles>(&text);
        let _ = serde_json::from_str::<ApiError>(&text);
    }
}

/// Reads a value and writes it again.
fn again<T: serde::de::DeserializeOwned + serde::Serialize>(value: &Value) -> Value {
    serde_json::to_value(serde_json::from_value::<T>(value.clone()).unwrap()).unwrap()
}

#[test]
fn the_least_request() {
    let least = json!({
        "container_id": "c0ffee", "ifname": "net1",
        "netns": {"path": "/var/run/netns/x", "dev": 4, "ino": 4026532281_u64},
        "uplink": "wire0",
        "vlan": {"mode": "access", "vid": 210},
        "backend": {"type": "memif"}
    });
    let request: AttachRequest = serde_json::from_value(least).unwrap();
    assert_eq!(request.backend, Backend::Memif(MemifRequest::default()));
    assert_eq!(
        request.vlan,
        VlanRequest::Access {
            vid: Vid::new(210).unwrap(),
            qinq: false
        }
    );
    assert!(request.addresses.is_empty() && request.mac.is_none());
}

#[test]
fn forms_of_requests() {
    let full = json!({
        "container_id": "c0ffee", "ifname": "net1",
        "netns": {"path": "/var/run/netns/x", "dev": 4, "ino": 5},
        "pod": {"namespace": "default", "name": "vnf", "uid": "1-2-3"},
        "uplink": "wire0",
        "vlan": {"mode": "trunk", "vids": [210, 220], "native": 0, "qinq": true},
        "mac": "02:00:5e:10:00:01",
        "addresses": ["10.21.0.5/24", "fd00::5/64"],
        "gateways": ["10.21.0.1"],
        "firewall": "management",
        "mtu": 1500,
        "backend": {
            "type": "memif", "role": "client", "rings": 2, "ring_size": 512, "buffer_size": 4096,
            "secret": "s", "id": 7, "socket": {"path": "/run/x/memif.sock"}, "allow_unsealed": false
        }
    });
    assert_eq!(again::<AttachRequest>(&full), full);
    for backend in [
        json!({"type": "tap"}),
        json!({"type": "memif", "role": "server", "id": 0,
        "socket": {"abstract": "a/b"}, "allow_unsealed": true}),
    ] {
        assert_eq!(again::<Backend>(&backend), backend);
    }
}

#[test]
fn unknown_keys_are_refused_where_they_would_be_lost() {
    let request = |extra: Value| {
        let mut request = json!({
            "container_id": "c", "ifname": "i", "netns": {"path": "/x", "dev": 1, "ino": 2},
            "uplink": "u", "vlan": {"mode": "access", "vid": 1}, "backend": {"type": "memif"}
        });
        for (key, value) in extra.as_object().unwrap() {
            request[key] = value.clone();
        }
        serde_json::from_value::<AttachRequest>(request)
    };
    assert!(request(json!({})).is_ok());
    for extra in [
        json!({"mtuu": 1}),
        json!({"vlan": {"mode": "access", "vid": 1, "vids": [2]}}),
        json!({"vlan": {"mode": "both"}}),
        json!({"backend": {"type": "memif", "ring-size": 5}}),
        json!({"backend": {"type": "tap", "name": "x"}}),
        json!({"netns": {"path": "/x", "dev": 1}}),
        json!({"addresses": ["10.0.0.1/33"]}),
    ] {
        assert!(request(extra.clone()).is_err(), "{extra} was taken");
    }
}

#[test]
fn forms_of_answers() {
    let reply = json!({
        "id": 65536, "mac": "02:00:5e:10:00:01", "mtu": 1500, "socket": "@sluicegate/net1",
        "pod_role": "client", "warnings": ["w"]
    });
    assert_eq!(again::<AttachReply>(&reply), reply);
    let error = json!({"code": "not-found", "message": "there is none"});
    assert_eq!(again::<ApiError>(&error), error);
    let report = json!({
        "problems": [{"file": "a.yaml", "line": 3, "column": 7, "message": "m"}],
        "warnings": [],
        "changes": [{"policy": "voice", "file": "voice.yaml", "kind": "added"}],
        "policies": [{"name": "voice", "file": "voice.yaml", "uplink": "wire0", "vids": [0, 210],
            "rules": 3, "default_ingress": "drop", "default_egress": "accept"}],
        "version": 4
    });
    assert_eq!(again::<PolicyReport>(&report), report);
    let counters = json!({
        "uplinks": {
            "wire0": {"name": "wire0", "network": "wire0", "link": "up", "driver": "af_packet",
                "device": "eth1", "worker": 0, "mtu": 1500,
                "counters": {"rx_frames": 1, "rx_bytes": 2, "tx_frames": 3, "tx_bytes": 4},
                "drops": {"not_ours": 5}},
            "0000:01:10.0": {"name": "0000:01:10.0", "network": "enp1s0f0", "owner": "c/net1",
                "link": "waiting", "driver": "igbvf", "device": "0000:01:10.0", "numa": 0, "worker": 1,
                "nic": {"rx_frames": 1, "rx_bytes": 2, "rx_multicast": 3, "tx_frames": 4,
                    "tx_bytes": 5, "resets": 6},
                "mtu": 1500,
                "counters": {"rx_frames": 1, "rx_bytes": 2, "tx_frames": 3, "tx_bytes": 4},
                "drops": {}}
        },
        "attachments": {"c/net1": {
            "port": {"rx_frames": 0, "rx_bytes": 0, "tx_frames": 0, "tx_bytes": 0},
            "ingress_drops": {"denied": 1}, "egress_drops": {},
            "held_back": 1, "late_visits": 2, "longest_visit_ns": 50_000, "refused_groups": 3,
            "lost_log_records": 4, "mac_moves": 5}},
        "workers": [{"id": 0, "core": 3, "loops": 1, "empty_loops": 2, "sleeps": 3, "known": 4,
            "numa": 1, "busy_cycles": 14, "idle_cycles": 15, "cycles_per_ms": 16,
            "burst_frames": [1, 2, 3, 4, 5, 6, 7], "burst_frames_sum": 17,
            "learned": 5, "connections": {"now": 18, "opened": 19, "evicted": 20, "refused": {"quota": 21},
            "invalid": {"seq_over": 22}}, "drops": {"no_mbuf": 6}, "lost_log_records": 7, "copies": 8, "flooded": 9,
            "answers": 10, "handed_off": 11, "taken_over": 12,
            "gone_traffic": {"rx_frames": 1, "rx_bytes": 2, "tx_frames": 3, "tx_bytes": 4},
            "gone_drops": {"denied": 13}}],
        "rules": [{"policy": "voice", "direction": "ingress", "rule": "#1", "line": 4,
            "verdict": "drop", "frames": 9, "bytes": 99}]
    });
    assert_eq!(again::<Counters>(&counters), counters);
    let connections = json!({
        "made": 1, "broken": 2, "refused": 3, "pauses": 4, "pause_ms": 5, "last_refusal": "no",
        "refused_for": 6, "last_refused_ago": 7
    });
    assert_eq!(again::<Connections>(&connections), connections);
    let sums = json!({
        "received": 1, "copied": 2, "answered": 3, "sent": 4, "flooded": 5, "dropped": 6,
        "in_flight": -7, "difference": -2
    });
    let balance = json!({
        "balanced": false, "total": sums, "workers": [sums], "drops": {"denied": 6}
    });
    assert_eq!(again::<Balance>(&balance), balance);
}

#[test]
fn every_code_has_a_status_and_a_name() {
    for (code, name, status) in [
        (ErrorCode::Invalid, "invalid", 422),
        (ErrorCode::Conflict, "conflict", 409),
        (ErrorCode::NotFound, "not-found", 404),
        (ErrorCode::Forbidden, "forbidden", 403),
        (ErrorCode::Unavailable, "unavailable", 503),
        (ErrorCode::Internal, "internal", 500),
    ] {
        assert_eq!(serde_json::to_value(code).unwrap(), json!(name));
        assert_eq!(code.http_status(), status);
    }
}
