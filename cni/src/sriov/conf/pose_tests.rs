// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::{Value, json};
use sluice_api::{AntiSpoof, Pose};
use sluice_sriov::settings::VfSettings;

use crate::Error;
use crate::spec::call::Call;
use crate::spec::conf::NetConf;
use crate::sriov::VfConf;

fn read_with(with: Value, args: &str) -> Result<VfConf, Error> {
    let mut conf = json!({"name": "n", "type": "sluicegate-vf", "mode": "engine"});
    let map = conf.as_object_mut().unwrap();
    map.extend(with.as_object().unwrap().clone());
    if !map.contains_key("if0") {
        map.insert("uplink".into(), "wire0".into());
    }
    let call = Call::read(|name| match name {
        "CNI_COMMAND" => Some("ADD".into()),
        "CNI_CONTAINERID" => Some("c0ffee".into()),
        "CNI_NETNS" => Some("/proc/self/ns/net".into()),
        "CNI_IFNAME" => Some("net1".into()),
        "CNI_ARGS" => Some(args.to_owned()),
        _ => None,
    });
    let conf = NetConf::parse(conf.to_string().as_bytes()).unwrap();
    VfConf::read(&conf, &call.unwrap().unwrap())
}

fn read(with: Value) -> Result<VfConf, Error> {
    read_with(with, "")
}

fn refused(with: Value, parts: &[&str]) {
    let error = read(with.clone()).unwrap_err();
    assert_eq!(error.code(), 7, "{with}: {error}");
    for part in parts {
        assert!(error.to_string().contains(part), "{with}: {error}");
    }
}

#[test]
fn every_key_is_read_in_any_case() {
    let conf = read(
        json!({"ANTISPOOF": "mac", "Promiscuous": true, "trust": "on",
        "allowedaddresspairs": [
            {"MAC": "00:00:5E:00:01:33", "ip": "10.21.0.1"}, {"ip": "fd00::/64"}, {"mac": "02:00:00:00:00:09"}],
        "MulticastGroups": ["239.1.2.3", "ff05::1:3", "239.1.2.3"]}),
    );
    let conf = conf.unwrap();
    assert_eq!(conf.pose.anti_spoof, AntiSpoof::Mac);
    assert!(conf.pose.promiscuous);
    let pairs: Vec<String> = conf.pose.pairs.iter().map(ToString::to_string).collect();
    assert_eq!(
        pairs,
        [
            "00:00:5e:00:01:33=10.21.0.1/32",
            "own=fd00::/64",
            "02:00:00:00:00:09=any"
        ]
    );
    let groups: Vec<String> = conf
        .multicast_groups
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(groups, ["239.1.2.3", "ff05::1:3"]);
    let nothing = read(json!({"antiSpoof": "", "allowedAddressPairs": [], "promiscuous": false}));
    assert_eq!(nothing.unwrap().pose, Pose::default());
}

#[test]
fn older_keys_say_the_same_and_contradictions_name_both() {
    let anti_spoof = |with: Value| read(with).unwrap().pose.anti_spoof;
    assert_eq!(anti_spoof(json!({"spoofchk": "off"})), AntiSpoof::Off);
    assert_eq!(anti_spoof(json!({"spoofchk": "on"})), AntiSpoof::Strict);
    let both = json!({"spoofchk": false, "antiSpoof": "off"});
    assert_eq!(anti_spoof(both), AntiSpoof::Off);
    let both = json!({"spoofchk": "on", "antiSpoof": "mac"});
    assert_eq!(anti_spoof(both), AntiSpoof::Mac);
    for strict in ["strict", "mac"] {
        let both = json!({"spoofchk": "off", "antiSpoof": strict});
        refused(both, &["spoofchk off", &format!("antiSpoof {strict}")]);
    }
    let both = json!({"spoofchk": "on", "antiSpoof": "off"});
    refused(both, &["spoofchk on", "antiSpoof off"]);
    let pairs = json!([{"mac": "02:00:00:00:00:01"}]);
    let both = json!({"spoofchk": "on", "allowedAddressPairs": pairs});
    refused(both, &["spoofchk on", "allowedAddressPairs"]);
    for trust in [json!({}), json!({"trust": "off"})] {
        let mut with = trust;
        with["promiscuous"] = true.into();
        refused(with, &["promiscuous", "trust: on"]);
    }
    assert!(
        read(json!({"trust": "on"})).is_ok(),
        "it permits, and asks for nothing"
    );
}

#[test]
fn wrong_values_are_named() {
    let pairs = |pairs: Value| json!({"allowedAddressPairs": pairs});
    refused(
        json!({"antiSpoof": "on"}),
        &["antiSpoof must be strict, mac or off"],
    );
    refused(json!({"antiSpoof": true}), &["antiSpoof"]);
    refused(
        json!({"promiscuous": "yes", "trust": "on"}),
        &["promiscuous"],
    );
    for (wrong, why) in [
        (json!({"mac": "02:00:00:00:00:01"}), "a list"),
        (json!(["10.0.0.1"]), "objects with mac, ip or both"),
        (
            json!([{"mac": "02:00:00:00:00:01", "port": 1}]),
            "objects with mac, ip or both",
        ),
        (json!([{}]), "mac, ip or both"),
        (json!([{"mac": "", "ip": ""}]), "mac, ip or both"),
        (json!([{"mac": "01:00:5e:00:00:01"}]), "unicast"),
        (json!([{"mac": 5}]), "mac must be a string"),
        (
            json!([{"ip": "10.0.0.1/33"}]),
            "neither an address nor a prefix",
        ),
        (json!([{"ip": "239.0.0.1"}]), "nobody sends from"),
        (json!([{"ip": "10.0.0.1"}, {"ip": "10.0.0.1/32"}]), "twice"),
        (
            Value::Array(vec![json!({"ip": "10.0.0.1"}); 33]),
            "at most 32",
        ),
    ] {
        refused(pairs(wrong), &["allowedAddressPairs", why]);
    }
    for wrong in [
        json!("239.1.2.3"),
        json!([5]),
        json!(["224.0.0.1"]),
        json!(["10.0.0.1"]),
    ] {
        refused(json!({"multicastGroups": wrong}), &["multicastGroups"]);
    }
}

#[test]
fn a_pod_cannot_loosen_what_its_network_says() {
    let asks = json!({"antiSpoof": "off", "spoofchk": "off", "trust": "on", "promiscuous": true,
        "allowedAddressPairs": [{"mac": "02:00:00:00:00:01"}], "multicastGroups": ["239.1.2.3"],
        "roles": ["router"]});
    let by_pod = json!({"runtimeConfig": asks, "args": {"cni": asks}});
    let args = "IgnoreUnknown=1;antiSpoof=off;spoofchk=off;trust=on;promiscuous=true;roles=router";
    let conf = read_with(by_pod, args).unwrap();
    assert_eq!(conf.pose, Pose::default());
    assert!(conf.multicast_groups.is_empty() && conf.roles.is_empty());
}

#[test]
fn other_modes_have_none_of_it() {
    for (key, value) in [
        ("antiSpoof", json!("mac")),
        ("allowedAddressPairs", json!([{"ip": "10.0.0.1"}])),
        ("promiscuous", json!(true)),
        ("multicastGroups", json!(["239.1.2.3"])),
    ] {
        for mode in ["kernel", "vfio"] {
            refused(
                json!({"mode": mode, "if0": "enp2s0", "trust": "on", key: value}),
                &[key, "mode engine"],
            );
        }
    }
    let kernel = json!({"mode": "kernel", "if0": "enp2s0", "spoofchk": "off", "trust": "on"});
    let kernel = read(kernel).unwrap();
    assert_eq!(kernel.pose, Pose::default());
    assert_eq!(
        (kernel.settings.spoofchk, kernel.settings.trust),
        (Some(false), Some(true))
    );
}

#[test]
fn a_vf_is_set_in_step() {
    let of = |mut with: Value| {
        with["if0"] = "enp2s0".into();
        let VfSettings {
            spoofchk, trust, ..
        } = read(with).unwrap().settings;
        (spoofchk, trust)
    };
    let pairs = |pair: Value| json!({"allowedAddressPairs": [pair]});
    assert_eq!(of(json!({})), (None, None));
    assert_eq!(of(json!({"antiSpoof": "mac"})), (None, None));
    assert_eq!(of(json!({"antiSpoof": "off"})), (Some(false), None));
    assert_eq!(of(json!({"spoofchk": "off"})), (Some(false), None));
    assert_eq!(of(pairs(json!({"ip": "10.0.0.1"}))), (None, None));
    let named = json!({"mac": "00:00:5e:00:01:33"});
    assert_eq!(of(pairs(named.clone())), (Some(false), Some(true)));
    let mut untrusted = pairs(named);
    untrusted["trust"] = "off".into();
    assert_eq!(of(untrusted), (Some(false), Some(false)));
    let on_an_uplink = read(json!({"antiSpoof": "off"})).unwrap();
    assert_eq!(on_an_uplink.settings, VfSettings::default());
}
