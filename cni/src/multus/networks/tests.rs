// SPDX-License-Identifier: Apache-2.0
//! Networks of configurations and of annotations that the runtime passed: no API server is asked.

use serde_json::json;

use super::*;
use crate::multus::source::Pod;
use crate::spec::conf::NetConf;

fn conf(conf: &Value) -> MetaConf {
    MetaConf::read(&NetConf::parse(conf.to_string().as_bytes()).unwrap()).unwrap()
}

fn planned(conf: &MetaConf, pod: Option<Pod>) -> Result<Vec<DelegatePlan>, Error> {
    let pod_context = PodContext { cluster: None, pod };
    resolve(conf, &pod_context, "eth0", &Log::stderr())
}

fn pairs(planned: Vec<DelegatePlan>) -> Vec<(String, String)> {
    let delegates = planned.into_iter().map(|planned| planned.delegate);
    delegates.map(|d| (d.name, d.ifname)).collect()
}

fn pod(namespace: &str, annotations: &[(&str, &str)]) -> Pod {
    let pairs = annotations.iter();
    Pod {
        namespace: namespace.to_owned(),
        name: "p".to_owned(),
        uid: "u".to_owned(),
        annotations: pairs
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect(),
    }
}

/// A directory with configurations a (bridge), b (a chain) and own (renamed to north).
fn on_disk() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    put(
        "a.conf",
        r#"{"name": "a", "type": "bridge", "capabilities": {"mac": true}}"#,
    );
    put(
        "b.conflist",
        r#"{"name": "b", "plugins": [{"type": "ptp"}, {"type": "tuning"}]}"#,
    );
    put(
        "own.conf",
        r#"{"name": "own", "type": "sriov", "if0name": "north"}"#,
    );
    dir
}

#[test]
fn delegates_of_the_configuration() {
    let conf = conf(&json!({"name": "demo", "delegates": [
        {"type": "sriov"}, {"type": "ptp"}, {"type": "flannel", "MasterPlugin": true}]}));
    let found = pairs(planned(&conf, None).unwrap());
    let expected = [
        ("demo-flannel-2", "eth0"),
        ("demo-sriov-0", "net0"),
        ("demo-ptp-1", "net1"),
    ];
    assert_eq!(found, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
}

#[test]
fn what_contradicts_itself_is_7() {
    for delegates in [
        json!([{"type": "a", "masterplugin": true}, {"type": "b", "masterplugin": true}]),
        json!([{"type": "a", "masterplugin": "yes"}]),
        json!([{"type": "a"}, {"type": "b", "if0name": "net2"}, {"type": "c"}]),
        json!([{"type": "a"}, {"type": "b", "if0name": "eth0"}]),
        json!([{"type": "a"}, {"type": "b", "if0name": "a/b"}]),
        json!([{"type": "sluicegate"}]),
        json!([{"plugins": [{"type": "a"}, {"type": "multus"}]}]),
    ] {
        let conf = conf(&json!({"name": "demo", "type": "multus", "delegates": delegates}));
        assert_eq!(planned(&conf, None).unwrap_err().code(), 7, "{delegates}");
    }
}

#[test]
fn annotations_of_each_generation_resolve_on_disk() {
    let dir = on_disk();
    let conf = conf(&json!({"name": "n", "confDir": dir.path(), "delegates": {"type": "flannel"}}));
    let named =
        |key: &str, text: &str| pairs(planned(&conf, Some(pod("ns", &[(key, text)]))).unwrap());
    let all = |list: &[(&str, &str)]| -> Vec<(String, String)> {
        list.iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
            .collect()
    };
    assert_eq!(
        named("k8s.v1.cni.cncf.io/networks", "a,b,a@x1"),
        all(&[
            ("n-flannel-0", "eth0"),
            ("a", "net1"),
            ("b", "net2"),
            ("a", "x1")
        ])
    );
    assert_eq!(
        named(
            "networks",
            r#"[{"name": "a"}, {"name": "b"}, {"name": "own"}]"#
        ),
        all(&[("a", "eth0"), ("b", "net0"), ("own", "north")])
    );
    assert_eq!(
        named(annotation::TKE_NETWORKS, "b,a@eth0,own"),
        all(&[("a", "eth0"), ("b", "eth1"), ("own", "north")])
    );
    let absent = pod("ns", &[("networks", r#"[{"name": "zz"}]"#)]);
    let missing = planned(&conf, Some(absent)).unwrap_err();
    assert_eq!(missing.code(), 7);
    assert!(missing.to_string().contains("no network zz"), "{missing}");
}

#[test]
fn elements_reach_their_own_network_only() {
    let dir = on_disk();
    let conf = conf(
        &json!({"name": "n", "confDir": dir.path(), "delegates": {"type": "flannel"},
        "runtimeConfig": {"portMappings": [], "cgroupPath": "x"}}),
    );
    let text = r#"[{"name": "a", "mac": "02:00:00:00:00:01"}, {"name": "a"}]"#;
    let planned = planned(&conf, Some(pod("ns", &[(annotation::NETWORKS, text)]))).unwrap();
    let has = |index: usize, key: &str| planned[index].delegate.runtime_config.contains_key(key);
    assert!(has(0, "portMappings") && !has(1, "portMappings") && has(1, "cgroupPath"));
    assert!(has(1, "mac") && !has(2, "mac") && !has(0, "mac"));
}

#[test]
fn defaults_isolation_and_the_pods_own_default() {
    let dir = on_disk();
    let conf = conf(
        &json!({"name": "n", "confDir": dir.path(), "clusterNetwork": "a",
        "defaultNetworks": ["b"], "namespaceIsolation": true, "globalNamespaces": ["open"]}),
    );
    let named = |pod: Pod| planned(&conf, Some(pod)).map(pairs);
    let names = |list: Vec<(String, String)>| -> Vec<String> {
        list.into_iter().map(|(name, _)| name).collect()
    };
    assert_eq!(names(named(pod("ns", &[])).unwrap()), ["a", "b"]);
    assert_eq!(names(named(pod("kube-system", &[])).unwrap()), ["a"]);
    let own = [("v1.multus-cni.io/default-network", "own")];
    assert_eq!(names(named(pod("kube-system", &own)).unwrap()), ["own"]);
    let theirs = [("v1.multus-cni.io/default-network", "other/own")];
    let error = named(pod("ns", &theirs)).unwrap_err();
    assert!(error.to_string().contains("namespaceIsolation"), "{error}");
    let clusters = [("v1.multus-cni.io/default-network", "kube-system/own")];
    assert!(named(pod("ns", &clusters)).is_ok());
    let two = [("v1.multus-cni.io/default-network", "a,b")];
    assert_eq!(named(pod("ns", &two)).unwrap_err().code(), 7);
    let foreign = |text| named(pod("ns", &[(annotation::NETWORKS, text)]));
    let error = foreign("other/a").unwrap_err();
    assert_eq!(error.code(), 7);
    assert!(error.to_string().contains("namespaceIsolation"), "{error}");
    assert!(foreign("open/a").is_ok() && foreign("ns/a").is_ok());
    let routes = r#"[{"name": "a", "default-route": []}, {"name": "b", "default-route": []}]"#;
    assert!(
        foreign(routes)
            .unwrap_err()
            .to_string()
            .contains("default-route")
    );
}

#[test]
fn tke_defaults_by_name() {
    let dir = on_disk();
    let conf = conf(
        &json!({"name": "n", "confDir": dir.path(), "kubeconfig": "/k",
        "defaultDelegates": "own,a"}),
    );
    let found = pairs(planned(&conf, None).unwrap());
    assert_eq!(
        found,
        [
            ("own".to_owned(), "eth0".to_owned()),
            ("a".to_owned(), "eth1".to_owned())
        ]
    );
}
