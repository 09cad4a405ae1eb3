// SPDX-License-Identifier: Apache-2.0
//! Answers of delegates, and what they are asked: results without a version, results that are none, defaults and aliases of
//! the specifications.

use serde_json::{Value, json};
use sluice_tests::Netns;

use crate::cni_rig::Host;
use crate::cni_rig::calls::run;

#[test]
fn a_result_without_a_version_keeps_its_addresses() {
    let Some(host) = Host::new("a_result_without_a_version_keeps_its_addresses") else {
        return;
    };
    let pod = Netns::new("pod").unwrap();
    let result = json!({"interfaces": [{"name": "eth0", "sandbox": "/x"}],
        "ips": [{"address": "10.32.0.1/12", "interface": 0}]});
    host.fake_plugin("weave-net", &result);
    host.fake_plugin("next", &result);
    // The documents' own example names no version; a chain does.
    let plain = json!([{"type": "weave-net", "hairpinMode": true, "masterplugin": true}]);
    let chain = json!([{"name": "n", "cniVersion": "0.4.0",
        "plugins": [{"type": "weave-net"}, {"type": "next"}]}]);
    for delegates in [plain, chain] {
        for version in ["0.2.0", "0.4.0", "1.1.0"] {
            let conf = host.meta(version, delegates.clone());
            let answer = run(&host, "ADD", "c1", &pod, &conf).ok();
            run(&host, "DEL", "c1", &pod, &conf).ok();
            let address = match version {
                "0.2.0" => &answer["ip4"]["ip"],
                _ => &answer["ips"][0]["address"],
            };
            assert_eq!(*address, "10.32.0.1/12", "{answer}");
        }
    }
    let previous = host.conf_of("next", "ADD", "eth0")["prevResult"].clone();
    assert_eq!(previous["cniVersion"], "0.4.0");
}

#[test]
fn a_result_that_is_none_says_whose_it_is() {
    let Some(host) = Host::new("a_result_that_is_none_says_whose_it_is") else {
        return;
    };
    let pod = Netns::new("pod").unwrap();
    host.fake_plugin("a", &Value::Null);
    let conf = host.meta(
        "1.0.0",
        json!([{"type": "a", "cniVersion": "1.0.0", "name": "lan"}]),
    );
    let answer = run(&host, "ADD", "c1", &pod, &conf).ok();
    assert_eq!(answer["cniVersion"], "1.0.0", "null is an empty result");
    run(&host, "DEL", "c1", &pod, &conf).ok();
    for (result, code) in [
        (r#"{"cniVersion": "9.9.9"}"#, 999),
        (
            r#"{"cniVersion": "1.0.0", "ips": [{"address": "ten"}]}"#,
            999,
        ),
        (r#"{"cniVersion": "1.0.0", "ips": "#, 6),
        ("[]", 6),
    ] {
        host.on("a", "ADD", &format!("printf '%s' '{result}'; exit 0"));
        let said = run(&host, "ADD", "c1", &pod, &conf).refused(code);
        assert!(
            said.contains("delegate a (network lan, eth0)"),
            "{result}: {said}"
        );
        run(&host, "DEL", "c1", &pod, &conf).ok();
    }
}

#[test]
fn arguments_reach_delegates_in_one_form() {
    let Some(host) = Host::new("arguments_reach_delegates_in_one_form") else {
        return;
    };
    let pod = Netns::new("pod").unwrap();
    host.fake_plugin("a", &Value::Null);
    let conf = host.meta("1.0.0", json!([{"type": "a", "cniVersion": "1.0.0"}]));
    for (given, got) in [
        ("K8S_POD_NAME=p", Some("IgnoreUnknown=1;K8S_POD_NAME=p")),
        (
            ";K8S_POD_NAME=p;;X=;",
            Some("IgnoreUnknown=1;K8S_POD_NAME=p;X="),
        ),
        ("IgnoreUnknown=true;A=1", Some("IgnoreUnknown=1;A=1")),
        ("A=1;nonsense; B=a=b", Some("IgnoreUnknown=1;A=1;B=a=b")),
        (";", None),
    ] {
        let add = host.pod_call("sluicegate", "ADD", "c1", Some(&pod), "eth0");
        add.env("CNI_ARGS", given).conf(&conf).run().ok();
        let env = host.env_of("a", "ADD", "eth0");
        assert_eq!(env.get("CNI_ARGS").map(String::as_str), got, "{given}");
        run(&host, "DEL", "c1", &pod, &conf).ok();
    }
}

#[test]
fn a_rate_without_a_burst_and_a_port_without_a_protocol_reach_the_real_plugins() {
    let Some(host) = Host::new("a_rate_without_a_burst_and_a_port_without_a_protocol") else {
        return;
    };
    let pod = Netns::new("pod").unwrap();
    for name in ["portmap", "bandwidth"] {
        host.fake_plugin(name, &Value::Null);
    }
    let plugin =
        |name: &str, capability: &str| json!({"type": name, "capabilities": {capability: true}});
    let mut conf = host.meta(
        "1.0.0",
        json!([{"name": "n", "cniVersions": ["0.4.0", "1.0.0", "7.0.0"], "disableCheck": "true",
            "plugins": [plugin("portmap", "portMappings"), plugin("bandwidth", "bandwidth")]}]),
    );
    conf["runtimeConfig"] = json!({"portMappings": [{"hostPort": 8080, "containerPort": 80}],
        "bandwidth": {"ingressRate": 10_000_000}});
    run(&host, "ADD", "c1", &pod, &conf).ok();
    let ports = host.conf_of("portmap", "ADD", "eth0");
    assert_eq!(ports["runtimeConfig"]["portMappings"][0]["protocol"], "tcp");
    assert_eq!(ports["cniVersion"], "1.0.0");
    let rates = host.conf_of("bandwidth", "ADD", "eth0")["runtimeConfig"].clone();
    assert_eq!(
        rates["bandwidth"],
        json!({"ingressRate": 10_000_000, "ingressBurst": 1_000_000})
    );
    host.take_calls();
    run(&host, "CHECK", "c1", &pod, &conf).ok();
    assert_eq!(
        host.take_calls(),
        Vec::<String>::new(),
        "disableCheck as text"
    );
    run(&host, "DEL", "c1", &pod, &conf).ok();
}

#[test]
fn errors_name_the_network_and_the_place_in_its_list() {
    let Some(host) = Host::new("errors_name_the_network_and_the_place_in_its_list") else {
        return;
    };
    let pod = Netns::new("pod").unwrap();
    host.fake_plugin("a", &Value::Null);
    for (delegates, place) in [
        (json!([{"type": "a"}, {"name": "x"}]), "delegates[1]: "),
        (
            json!([{"plugins": [{"type": "a"}, {"typ": "b"}]}]),
            "delegates[0]: plugins[1]: ",
        ),
        (
            json!([{"plugins": [{"type": "a"}, {"type": 7}]}]),
            "delegates[0]: plugins[1]: type",
        ),
    ] {
        let said = run(&host, "ADD", "c1", &pod, &host.meta("1.0.0", delegates)).refused(7);
        assert!(said.contains(place), "{said}");
    }
}
