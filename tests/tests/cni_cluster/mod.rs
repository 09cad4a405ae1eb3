// SPDX-License-Identifier: Apache-2.0
//! Cases 22 to 34, 36 and 38 to 43: networks that the API server names. The server is a fake, so that every
//! case can be had on demand; the real one is in `make test-cluster`.

mod devices;
mod surroundings;
mod trouble;

use serde_json::{Value, json};
use sluice_tests::Netns;

use crate::cni_rig::api::Api;
use crate::cni_rig::{Answer, Host, addresses, has_link};

pub(crate) const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";

/// A host with an API server, and a pod on it.
pub(crate) struct Lab {
    pub(crate) host: Host,
    pub(crate) api: Api,
    pub(crate) pod: Netns,
}

impl Lab {
    pub(crate) fn new(case: &str) -> Option<Lab> {
        let host = Host::new(case)?;
        let api = Api::start(&host);
        let pod = Netns::new("pod").unwrap();
        for name in ["a", "b", "c"] {
            host.fake_plugin(name, &canned(name));
        }
        Some(Lab { host, api, pod })
    }

    /// Makes a configuration with default network `a`, a fake plugin.
    pub(crate) fn conf(&self) -> Value {
        let mut conf = self
            .host
            .meta("1.0.0", json!([{"type": "a", "name": "default-net"}]));
        conf["kubeconfig"] = json!(self.api.kubeconfig);
        conf["confDir"] = json!(self.host.dir().join("net.d"));
        conf["kubeletDir"] = json!(self.host.dir().join("kubelet"));
        conf
    }

    /// Makes a call for pod `name` of namespace ns.
    pub(crate) fn run(&self, command: &str, name: &str, conf: &Value) -> Answer {
        self.run_as(command, "ns", name, &format!("uid-{name}"), conf)
    }

    pub(crate) fn run_as(
        &self,
        command: &str,
        namespace: &str,
        name: &str,
        uid: &str,
        conf: &Value,
    ) -> Answer {
        let args = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};\
             K8S_POD_INFRA_CONTAINER_ID=c-{name};K8S_POD_UID={uid}"
        );
        let container = format!("c-{name}");
        self.host
            .pod_call("sluicegate", command, &container, Some(&self.pod), "eth0")
            .env("CNI_ARGS", &args)
            .conf(conf)
            .run()
    }

    /// Calls ADD and DEL for a pod with this annotation, which must succeed, and returns the delegates' ADDs.
    pub(crate) fn adds(&self, name: &str, networks: &str, conf: &Value) -> Vec<String> {
        self.api.pod("ns", name, json!({NETWORKS: networks}));
        self.run("ADD", name, conf).ok();
        let calls = self.host.take_calls();
        self.run("DEL", name, conf).ok();
        self.host.take_calls();
        calls
    }

    /// Calls ADD for a pod with this annotation, which must be refused before any delegate runs, and returns the
    /// message.
    pub(crate) fn refused(&self, name: &str, networks: &str, conf: &Value, code: u64) -> String {
        self.api.pod("ns", name, json!({NETWORKS: networks}));
        let said = self.run("ADD", name, conf).refused(code);
        assert_eq!(self.host.take_calls(), Vec::<String>::new(), "{said}");
        said
    }
}

/// Result of a fake plugin: an interface of its own name.
fn canned(name: &str) -> Value {
    json!({"cniVersion": "1.0.0", "interfaces": [{"name": name, "sandbox": "/x",
        "mac": "02:00:00:00:00:0a"}], "ips": [{"address": "10.9.0.2/24", "interface": 0}]})
}

#[test]
fn case_22_and_23_names_in_text() {
    let Some(lab) = Lab::new("case_22") else {
        return;
    };
    let conf = lab.conf();
    for name in ["b", "c"] {
        lab.api.network(name, &json!({"type": name}));
    }
    assert_eq!(
        lab.adds("p22", "ns/b@north, c", &conf),
        ["ADD a eth0", "ADD b north", "ADD c net2"]
    );
    for bad in ["x/y/z", "b@x@y", "B", "b@0123456789abcdef", "b@a/b"] {
        let said = lab.refused("p23", bad, &conf, 7);
        assert!(said.contains(NETWORKS), "{said}");
    }
    let events = lab.api.take_events();
    assert_eq!(events.len(), 5, "{events:?}");
}

#[test]
fn case_24_to_26_what_an_element_asks_for() {
    let Some(lab) = Lab::new("case_24") else {
        return;
    };
    let conf = lab.conf();
    let able = json!({"type": "b", "cniVersion": "1.0.0", "capabilities": {"mac": true, "ips": true,
        "bandwidth": true, "portMappings": true}});
    lab.api.network("able", &able);
    lab.api
        .network("plain", &json!({"type": "c", "cniVersion": "1.0.0"}));
    let all = r#"[{"name": "able", "mac": "02:00:00:00:00:0a", "ips": ["10.9.0.2/24"],
        "bandwidth": {"ingressRate": 1}, "portMappings": [{"hostPort": 1, "containerPort": 2}],
        "interface": "new", "interfaceRequest": "old"}, {"name": "plain"}]"#;
    assert_eq!(
        lab.adds("p24", all, &conf),
        ["ADD a eth0", "ADD b new", "ADD c net2"],
        "interface wins over interfaceRequest"
    );
    let runtime = lab.host.conf_of("b", "ADD", "new")["runtimeConfig"].clone();
    assert_eq!(runtime["mac"], "02:00:00:00:00:0a");
    assert_eq!(runtime["ips"], json!(["10.9.0.2/24"]));
    assert!(runtime["bandwidth"].is_object() && runtime["portMappings"].is_array());
    for (plugin, ifname) in [("a", "eth0"), ("c", "net2")] {
        assert!(
            lab.host
                .conf_of(plugin, "ADD", ifname)
                .get("runtimeConfig")
                .is_none()
        );
    }
    // Undeclared: by CNI_ARGS, and held against the result.
    let asks = |mac: &str| format!(r#"[{{"name": "plain", "mac": "{mac}", "ips": ["10.9.0.2"]}}]"#);
    lab.adds("p25", &asks("02:00:00:00:00:0a"), &conf);
    let args = lab.host.env_of("c", "ADD", "net1")["CNI_ARGS"].clone();
    assert!(
        args.ends_with(";MAC=02:00:00:00:00:0a;IP=10.9.0.2"),
        "{args}"
    );
    assert!(args.contains("K8S_POD_NAME=p25"), "{args}");
    lab.api
        .pod("ns", "p25b", json!({NETWORKS: asks("02:00:00:00:00:0b")}));
    let said = lab.run("ADD", "p25b", &conf).refused(7);
    assert!(said.contains("02:00:00:00:00:0b"), "{said}");
    let calls = lab.host.take_calls();
    assert_eq!(calls[2..], ["DEL c net1", "DEL a eth0"], "rolled back");
    let mut strict = conf.clone();
    strict["strictCapabilities"] = true.into();
    lab.refused("p25c", &asks("02:00:00:00:00:0a"), &strict, 7);
    for only in [
        r#""portMappings": []"#,
        r#""bandwidth": {}"#,
        r#""infiniband-guid": "g""#,
    ] {
        let text = format!(r#"[{{"name": "plain", {only}}}]"#);
        lab.refused("p25d", &text, &conf, 7);
    }
}

#[test]
fn case_27_the_same_network_twice() {
    let Some(lab) = Lab::new("case_27") else {
        return;
    };
    let conf = lab.conf();
    lab.api
        .network("b", &json!({"type": "b", "cniVersion": "1.0.0"}));
    lab.api.pod("ns", "p27", json!({NETWORKS: "b,b"}));
    lab.run("ADD", "p27", &conf).ok();
    let calls = lab.host.take_calls();
    assert_eq!(calls, ["ADD a eth0", "ADD b net1", "ADD b net2"]);
    let status = lab.api.status("ns", "p27");
    let names: Vec<_> = status.iter().map(|entry| entry["name"].clone()).collect();
    assert_eq!(names, ["default-net", "ns/b", "ns/b"]);
    assert_eq!(status[0]["default"], true);
    assert_eq!(status[1]["ips"], json!(["10.9.0.2"]));
    lab.run("DEL", "p27", &conf).ok();
    let calls = lab.host.take_calls();
    assert_eq!(calls, ["DEL b net2", "DEL b net1", "DEL a eth0"]);
}

#[test]
fn case_28_to_30_objects() {
    let Some(lab) = Lab::new("case_28") else {
        return;
    };
    let conf = lab.conf();
    let said = lab.refused("p28", "nowhere", &conf, 7);
    assert!(said.contains("ns/nowhere"), "{said}");
    let events = lab.api.take_events();
    assert_eq!(events.len(), 1);
    assert!(events[0].1.contains("ns/nowhere"), "{events:?}");

    lab.api.network("unnamed", &json!({"type": "b"}));
    lab.adds("p29", "unnamed", &conf);
    assert_eq!(
        lab.host.conf_of("b", "ADD", "net1"),
        json!({"type": "b", "name": "unnamed"})
    );

    lab.api.nad("ns", "on-disk", json!({}), Value::Null);
    let said = lab.refused("p30", "on-disk", &conf, 7);
    assert!(said.contains("on-disk"), "{said}");
    let folder = lab.host.dir().join("net.d");
    std::fs::create_dir(&folder).unwrap();
    let chain =
        r#"{"name": "on-disk", "cniVersion": "1.0.0", "plugins": [{"type": "b"}, {"type": "c"}]}"#;
    std::fs::write(folder.join("10.conflist"), chain).unwrap();
    assert_eq!(
        lab.adds("p30", "on-disk", &conf),
        ["ADD a eth0", "ADD b net1", "ADD c net1"]
    );
    lab.api
        .nad("ns", "knows", json!({}), json!({"plugin": "c"}));
    assert_eq!(
        lab.adds("p30b", "knows", &conf),
        ["ADD a eth0", "ADD c net1"]
    );
}

#[test]
fn case_31_32_34_and_36_who_may_use_what() {
    let Some(lab) = Lab::new("case_31") else {
        return;
    };
    let mut conf = lab.conf();
    conf["namespaceIsolation"] = true.into();
    conf["globalNamespaces"] = "open".into();
    for namespace in ["other", "open", "kube-system"] {
        let config = json!({"config": json!({"type": "b"}).to_string()});
        lab.api.nad(namespace, "b", json!({}), config);
    }
    let said = lab.refused("p31", "other/b", &conf, 7);
    assert!(said.contains("namespaceIsolation"), "{said}");
    assert_eq!(
        lab.adds("p31", "open/b", &conf),
        ["ADD a eth0", "ADD b net1"]
    );

    let default = "v1.multus-cni.io/default-network";
    lab.api.pod("ns", "p32", json!({default: "b,b"}));
    let said = lab.run("ADD", "p32", &conf).refused(7);
    assert!(said.contains(default), "{said}");
    lab.api.pod("ns", "p32", json!({default: "b"}));
    lab.run("ADD", "p32", &conf).ok();
    assert_eq!(lab.host.take_calls(), ["ADD b eth0"]);
    lab.run("DEL", "p32", &conf).ok();
    lab.host.take_calls();

    let claim = r#"[{"name": "b", "ips": ["10.9.0.2"], "ipam-claim-reference": "c"}]"#;
    let said = lab.refused("p34", claim, &conf, 7);
    assert!(said.contains("ipam-claim-reference"), "{said}");

    let conf = json!({"cniVersion": "1.0.0", "name": "demo", "type": "sluicegate",
        "cniDir": lab.host.cni_dir(), "kubeconfig": lab.api.kubeconfig,
        "clusterNetwork": "b", "defaultNetworks": ["more"], "systemNamespaces": ["sys"]});
    let config = json!({"config": json!({"type": "c"}).to_string()});
    lab.api.nad("kube-system", "more", json!({}), config);
    for (namespace, expected) in [
        ("ns", vec!["ADD b eth0", "ADD c net1"]),
        ("sys", vec!["ADD b eth0"]),
    ] {
        lab.api.pod(namespace, "p36", json!({}));
        lab.run_as("ADD", namespace, "p36", "uid-p36", &conf).ok();
        assert_eq!(lab.host.take_calls(), expected, "{namespace}");
        lab.run_as("DEL", namespace, "p36", "uid-p36", &conf).ok();
        lab.host.take_calls();
    }
}

#[test]
fn case_33_the_default_route_goes_where_the_pod_wants_it() {
    let Some(lab) = Lab::new("case_33") else {
        return;
    };
    let mut conf = lab.conf();
    let route = |network: &str| {
        lab.pod
            .ip(&["route", "show", "default"])
            .map(|text| text.contains(network))
            .unwrap()
    };
    conf["delegates"] = json!([lab.host.bridge("1.0.0", "10.31.0.0/24")]);
    let mut second = lab.host.bridge("1.0.0", "10.32.0.0/24");
    second["bridge"] = "br1".into();
    second["ipam"]["routes"] = json!([]);
    lab.api.network("second", &second);
    let two = r#"[{"name": "second", "default-route": ["10.32.0.1"]},
        {"name": "second", "default-route": []}]"#;
    lab.refused("p33", two, &conf, 7);
    let one = r#"[{"name": "second", "default-route": ["10.32.0.1"]}]"#;
    lab.api.pod("ns", "p33", json!({NETWORKS: one}));
    let result = lab.run("ADD", "p33", &conf).ok();
    assert!(route("via 10.32.0.1 dev net1") && !route("dev eth0"));
    let routes = result["routes"].as_array().cloned().unwrap_or_default();
    assert!(
        routes.iter().all(|route| route["dst"] != "0.0.0.0/0"),
        "{result}"
    );
    let status = lab.api.status("ns", "p33");
    assert_eq!(status[1]["gateway"], json!(["10.32.0.1"]));
    // The reference plugin's own CHECK believes the rewritten results.
    lab.run("CHECK", "p33", &conf).ok();
    let cache = lab
        .host
        .cni_dir()
        .join("sluicegate/results/second-c-p33-net1");
    let cached: Value = serde_json::from_slice(&std::fs::read(&cache).unwrap()).unwrap();
    assert_eq!(cached["kind"], "cniCacheV1");
    assert_eq!(cached["result"]["routes"][0]["gw"], "10.32.0.1");
    lab.run("DEL", "p33", &conf).ok();
    assert!(!has_link(&lab.pod, "net1") && !cache.exists());
}

#[test]
fn case_38_and_39_the_pod_that_the_call_is_for() {
    let Some(lab) = Lab::new("case_38") else {
        return;
    };
    let conf = lab.conf();
    lab.api.pod("ns", "p38", json!({}));
    let said = lab.run_as("ADD", "ns", "p38", "another", &conf).refused(7);
    assert!(
        said.contains("another") && said.contains("uid-p38"),
        "{said}"
    );
    lab.api
        .pod("ns", "p38", json!({"kubernetes.io/config.mirror": "h"}));
    lab.run_as("ADD", "ns", "p38", "another", &conf).ok();
    lab.api.pod("ns", "p38", json!({}));
    lab.host.take_calls();
    lab.run_as("DEL", "ns", "p38", "third", &conf).ok();
    assert_eq!(lab.host.take_calls(), ["DEL a eth0"], "from the record");
    let said = lab.run("ADD", "p39", &conf).refused(11);
    assert!(said.contains("ns/p39"), "{said}");
}

#[test]
fn case_43_arguments_are_merged_and_the_pod_wins() {
    let Some(lab) = Lab::new("case_43") else {
        return;
    };
    let conf = lab.conf();
    lab.api.network(
        "b",
        &json!({"type": "b", "args": {"cni": {"k": 1, "keep": 2}}}),
    );
    lab.adds("p43", r#"[{"name": "b", "cni-args": {"k": 9}}]"#, &conf);
    let args = lab.host.conf_of("b", "ADD", "net1")["args"].clone();
    assert_eq!(args, json!({"cni": {"k": 9, "keep": 2}}));
}

#[test]
fn pods_of_every_generation_side_by_side() {
    let Some(lab) = Lab::new("generations") else {
        return;
    };
    lab.host.fake_plugin("flannel", &canned("eth0"));
    lab.host.fake_plugin("sriov", &canned("net0"));
    let mut conf = lab.conf();
    conf["delegates"] = json!([{"type": "a", "masterplugin": true}]);
    for (group, namespace) in [
        ("kubernetes.com", "default"),
        ("kubernetes-network.cni.cncf.io", "ns"),
    ] {
        for (name, plugin, args) in [
            (
                "flannel-conf",
                "flannel",
                r#"[{"delegate": {"isDefaultGateway": true}}]"#,
            ),
            ("sriov-conf", "sriov", r#"[{"if0": "enp12s0f1"}]"#),
            (
                "sriov-vlanid-l2enable-conf",
                "sriov",
                r#"[{"if0": "enp2s0", "vlan": 210, "if0name": "north", "l2enable": true}]"#,
            ),
        ] {
            lab.api.old_network(
                group,
                namespace,
                name,
                json!({"plugin": plugin, "args": args}),
            );
        }
        let list = r#"[{"name": "flannel-conf"}, {"name": "sriov-conf"},
            {"name": "sriov-vlanid-l2enable-conf"}]"#;
        let added = |key: &str, text: &str| {
            lab.api
                .pod("ns", "multus-multi-net-poc", json!({key: text}));
            lab.run("ADD", "multus-multi-net-poc", &conf).ok();
            let calls = lab.host.take_calls();
            lab.run("DEL", "multus-multi-net-poc", &conf).ok();
            lab.host.take_calls();
            calls
        };
        let poc = ["ADD flannel eth0", "ADD sriov net0", "ADD sriov north"];
        assert_eq!(added("networks", list), poc);
        let tke = ["ADD flannel eth0", "ADD sriov eth1", "ADD sriov north"];
        let renamed = list.replace(
            r#"l2enable-conf""#,
            r#"l2enable-conf", "interfaceRequest": "north""#,
        );
        assert_eq!(added("tke.cloud.tencent.com/networks", &renamed), tke);
        let draft = ["ADD a eth0", "ADD flannel net1", "ADD sriov net2"];
        let text = "flannel-conf,sriov-conf";
        assert_eq!(added("kubernetes.v1.cni.cncf.io/networks", text), draft);
        assert_eq!(added(NETWORKS, text), draft);
        lab.api
            .world()
            .objects
            .retain(|path, _| !path.contains("/networks/"));
    }
    let both = json!({"tke.cloud.tencent.com/networks": "a", "k8s.v1.cni.cncf.io/networks": "b"});
    lab.api.pod("ns", "both", both);
    let said = lab.run("ADD", "both", &conf).refused(7);
    assert!(said.contains("networks and"), "{said}");
    // Somebody else's annotation under the bare key, alone and beside one of ours.
    lab.api.network("b", &json!({"type": "b"}));
    for (ours, calls) in [(None, 1), (Some("b"), 2)] {
        let mut annotations = json!({"networks": "Production LAN"});
        if let Some(ours) = ours {
            annotations["k8s.v1.cni.cncf.io/networks"] = ours.into();
        }
        lab.api.pod("ns", "claimed", annotations);
        lab.run("ADD", "claimed", &conf).ok();
        assert_eq!(lab.host.take_calls().len(), calls);
        lab.run("DEL", "claimed", &conf).ok();
        lab.host.take_calls();
    }
    // TKE's own defaults, from disk, and its own status.
    let folder = lab.host.dir().join("net.d");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(
        folder.join("10-tke.conf"),
        r#"{"name": "tke-bridge", "type": "b"}"#,
    )
    .unwrap();
    let mut tke = lab.conf();
    tke.as_object_mut().unwrap().remove("delegates");
    tke["defaultDelegates"] = "tke-bridge".into();
    for annotations in [
        json!({}),
        json!({"tke.cloud.tencent.com/networks": "tke-bridge"}),
    ] {
        lab.api.pod("ns", "samplepod", annotations);
        lab.run("ADD", "samplepod", &tke).ok();
        assert_eq!(lab.host.take_calls(), ["ADD b eth0"]);
        lab.run("DEL", "samplepod", &tke).ok();
        lab.host.take_calls();
    }
    let status = lab.api.annotations("ns", "samplepod");
    assert!(
        status["tke.cloud.tencent.com/networks-status"].is_string(),
        "{status}"
    );
}

#[test]
fn case_49_check_with_the_real_plugins() {
    let Some(lab) = Lab::new("case_49") else {
        return;
    };
    let mut conf = lab.conf();
    conf["delegates"] = json!([lab.host.bridge("1.0.0", "10.33.0.0/24")]);
    let mut ptp =
        json!({"type": "ptp", "cniVersion": "0.3.1", "ipam": lab.host.host_local("10.34.0.0/24")});
    ptp["ipam"]["routes"] = json!([]);
    lab.api.network("ptp-net", &ptp);
    lab.api.pod("ns", "web", json!({NETWORKS: "ptp-net@up"}));
    lab.run("ADD", "web", &conf).ok();
    assert!(addresses(&lab.pod, "up").contains("10.34.0.2/24"));
    lab.run("CHECK", "web", &conf).ok();
    // A delegate too old for CHECK is looked at all the same.
    lab.pod.ip(&["address", "flush", "dev", "up"]).unwrap();
    let said = lab.run("CHECK", "web", &conf).refused(999);
    assert!(said.contains("10.34.0.2/24"), "{said}");
    lab.pod.ip(&["link", "delete", "dev", "up"]).unwrap();
    let said = lab.run("CHECK", "web", &conf).refused(999);
    assert!(said.contains("interface up"), "{said}");
    let mut disabled = conf.clone();
    disabled["disableCheck"] = true.into();
    lab.run("CHECK", "web", &disabled).ok();
    lab.run("DEL", "web", &conf).ok();
    assert!(lab.host.reserved().is_empty() && lab.host.records().is_empty());
}

#[test]
fn pods_of_multus_are_deleted_from_its_caches() {
    let Some(lab) = Lab::new("pods_of_multus") else {
        return;
    };
    let conf = lab.conf();
    let bytes = |conf: &Value| {
        let text = conf.to_string();
        let mut child = std::process::Command::new("base64")
            .args(["-w", "0"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
    };
    let today = json!([
        {"Conf": {"name": "x"}, "Name": "x",
            "Bytes": bytes(&json!({"name": "x", "type": "b", "cniVersion": "0.4.0"}))},
        {"Name": "y", "ifnameRequest": "north", "Bytes": bytes(&json!({"name": "y", "type": "c"}))}]);
    let old = json!([{"type": "c"}, {"type": "b", "masterplugin": true}]);
    let results = lab.host.cni_dir().join("results");
    std::fs::create_dir(&results).unwrap();
    for (id, cache, expected) in [
        ("0123456789abcdef", &today, ["DEL c north", "DEL b eth0"]),
        ("0123456789abcdee", &old, ["DEL c net0", "DEL b eth0"]),
    ] {
        let by_gc = |gc: bool| {
            std::fs::write(lab.host.cni_dir().join(id), cache.to_string()).unwrap();
            let result = json!({"kind": "cniCacheV1", "result": canned("b")});
            std::fs::write(results.join(format!("x-{id}-eth0")), result.to_string()).unwrap();
            if gc {
                let mut conf = conf.clone();
                conf["cniVersion"] = "1.1.0".into();
                conf["cni.dev/valid-attachments"] = json!([]);
                lab.host.call("sluicegate", "GC").conf(&conf).run().ok();
            } else {
                let call = lab
                    .host
                    .pod_call("sluicegate", "DEL", id, Some(&lab.pod), "eth0");
                call.conf(&conf).run().ok();
            }
            assert_eq!(lab.host.take_calls(), expected, "{id}");
            assert!(!lab.host.cni_dir().join(id).exists());
        };
        by_gc(false);
        by_gc(true);
    }
    let previous = lab.host.conf_of("b", "DEL", "eth0");
    assert!(
        previous.get("prevResult").is_none(),
        "before 0.4.0: {previous}"
    );
}
