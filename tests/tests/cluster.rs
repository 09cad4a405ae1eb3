// SPDX-License-Identifier: Apache-2.0
//! The plugins under the real things: containerd through the CRI, and a kube-apiserver with etcd and a
//! kubelet. `make test-cluster` says where kube-apiserver and kubelet are; without, these are skipped
//! aloud.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluice_tests::cluster::{Cluster, IMAGE, Node, Setup, deployed, programs_or_skip};
use sluice_tests::{skip, wait_for};

const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";

/// host-local on `subnet`, with its store on the node.
fn ipam(dir: &Path, subnet: &str) -> Value {
    json!({"type": "host-local", "dataDir": dir.join("ipam"), "ranges": [[{"subnet": subnet}]]})
}

/// The pod network: bridge cni0 with a default route.
fn bridge(dir: &Path) -> Value {
    let mut ipam = ipam(dir, "10.88.0.0/24");
    ipam["routes"] = json!([{"dst": "0.0.0.0/0"}]);
    json!({"name": "pod-net", "cniVersion": "1.0.0", "type": "bridge", "bridge": "cni0",
        "isGateway": true, "ipam": ipam})
}

/// A conflist of sluicegate alone, with what `more` says.
fn conflist(dir: &Path, more: &Value) -> Value {
    let mut conf = json!({"type": "sluicegate", "cniDir": dir.join("cni"),
        "confDir": dir.join("nets"), "delegates": [bridge(dir)], "LogFile": dir.join("cni.log"),
        "LogLevel": "verbose"});
    conf.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    json!({"cniVersion": "1.0.0", "name": "node-net", "plugins": [conf]})
}

/// Two networks more: a second bridge and a ptp.
fn networks(dir: &Path) -> [Value; 2] {
    [
        json!({"name": "second", "cniVersion": "0.4.0", "type": "bridge", "bridge": "br1",
            "ipam": ipam(dir, "10.89.0.0/24")}),
        json!({"name": "third", "cniVersion": "0.3.1", "type": "ptp",
            "ipam": ipam(dir, "10.90.0.0/24")}),
    ]
}

fn addresses(node: &Node, container: &str) -> String {
    let text = node
        .cri
        .exec(container, &["/bin/ip", "-o", "-4", "address"])
        .unwrap();
    let words = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let name = words.next()?;
        Some(format!("{name} {}", words.nth(1)?))
    });
    words
        .filter(|line| !line.starts_with("lo"))
        .collect::<Vec<_>>()
        .join(", ")
}

#[test]
fn containerd_gives_pods_one_two_and_three_networks_by_annotation() {
    let case = "containerd_gives_pods_one_two_and_three_networks_by_annotation";
    let Some(_) = programs_or_skip(case) else {
        return;
    };
    let annotations = json!({"capabilities": {"io.kubernetes.cri.pod-annotations": true}});
    let node = Node::start(Setup::new().unwrap(), |dir| conflist(dir, &annotations)).unwrap();
    networks(node.dir())
        .iter()
        .for_each(|conf| node.network(conf).unwrap());
    let one = node.cri.pod("one", &[]).unwrap();
    let two = node.cri.pod("two", &[(NETWORKS, "second")]).unwrap();
    let three = node
        .cri
        .pod("three", &[(NETWORKS, "second,third@up")])
        .unwrap();
    assert_eq!(addresses(&node, &one.container), "eth0 10.88.0.2/24");
    assert_eq!(
        addresses(&node, &two.container),
        "eth0 10.88.0.3/24, net1 10.89.0.2/24"
    );
    assert_eq!(
        addresses(&node, &three.container),
        "eth0 10.88.0.4/24, net1 10.89.0.3/24, up 10.90.0.2/24"
    );
    // Pods of one network reach each other in it.
    node.cri
        .exec(
            &three.container,
            &["/bin/ping", "-c", "1", "-W", "5", "10.89.0.2"],
        )
        .unwrap();
    // A network that is not there: no pod, nothing left of it.
    let before = node.leftovers().len();
    let error = node
        .cri
        .sandbox("bad", &[(NETWORKS, "nowhere")])
        .unwrap_err();
    assert!(
        format!("{error:#}").contains("no network nowhere"),
        "{error:#}"
    );
    assert_eq!(node.leftovers().len(), before);
    for pod in [one, two, three] {
        node.cri.stop(&pod.sandbox).unwrap();
        node.cri.remove(&pod.sandbox).unwrap();
    }
    assert_eq!((node.leftovers(), node.veths().unwrap()), (Vec::new(), 0));
}

#[test]
fn a_plugin_killed_in_the_middle_of_add_leaves_nothing_after_the_runtimes_del() {
    let case = "a_plugin_killed_in_the_middle_of_add_leaves_nothing_after_the_runtimes_del";
    let Some(_) = programs_or_skip(case) else {
        return;
    };
    let annotations = json!({"capabilities": {"io.kubernetes.cri.pod-annotations": true}});
    let node = Node::start(Setup::new().unwrap(), |dir| conflist(dir, &annotations)).unwrap();
    networks(node.dir())
        .iter()
        .for_each(|conf| node.network(conf).unwrap());
    // A delegate that kills the meta plugin above it, and then goes on as if nothing had happened.
    let script = format!(
        "#!/bin/sh\nPATH=/usr/bin:/bin:/usr/sbin:/sbin\nif [ \"$CNI_COMMAND\" = ADD ]; then\n\
         kill -9 \"$PPID\"; sleep 1\nfi\nexec {}/bridge\n",
        sluice_tests::cni::REFERENCE_PLUGINS
    );
    let path = node.dir().join("bin/killer");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let mut killer = bridge(node.dir());
    killer["name"] = "killer".into();
    killer["type"] = "killer".into();
    node.network(&killer).unwrap();
    let error = node
        .cri
        .sandbox("dies", &[(NETWORKS, "second,killer")])
        .unwrap_err();
    assert!(!format!("{error:#}").is_empty());
    assert_eq!((node.leftovers(), node.veths().unwrap()), (Vec::new(), 0));
    // And the node goes on.
    let pod = node.cri.pod("lives", &[(NETWORKS, "second")]).unwrap();
    assert!(addresses(&node, &pod.container).contains("net1"));
}

/// Overlay network of flannel: its subnet file as flanneld or an operator writes it, and the plugin's conf.
/// The plugin keeps one file a container in its `dataDir`, so that two networks of one pod need two.
fn overlay(dir: &Path, name: &str, subnet: &str) -> Value {
    let file = dir.join(format!("{name}.env"));
    let (network, _) = subnet.split_once(".1.1/").unwrap();
    let text = format!(
        "FLANNEL_NETWORK={network}.0.0/16\nFLANNEL_SUBNET={subnet}\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"
    );
    fs::write(&file, text).unwrap();
    let bridge = format!("{name}0");
    json!({"name": name, "cniVersion": "0.3.1", "type": "flannel", "subnetFile": file,
        "dataDir": dir.join("flannel").join(name),
        "ipam": {"type": "host-local", "dataDir": dir.join("ipam")},
        "delegate": {"bridge": bridge, "isDefaultGateway": name == "red"}})
}

#[test]
fn flannels_own_plugin_gives_pods_one_and_two_overlay_networks() {
    let case = "flannels_own_plugin_gives_pods_one_and_two_overlay_networks";
    let Some(programs) = programs_or_skip(case) else {
        return;
    };
    let flannel = programs.join("flannel");
    if !flannel.exists() {
        skip(
            case,
            "needs flannel's plugin, which tests/cluster/flannel.sh fetches from Debian 11's archive",
        );
        return;
    }
    let mut setup = Setup::new().unwrap();
    setup.plugins = vec![("flannel".to_owned(), flannel)];
    let node = Node::start(setup, |dir| {
        let mut red = overlay(dir, "red", "10.244.1.1/24");
        red["masterplugin"] = true.into();
        let more = json!({"capabilities": {"io.kubernetes.cri.pod-annotations": true},
            "delegates": [red]});
        conflist(dir, &more)
    })
    .unwrap();
    let blue = overlay(node.dir(), "blue", "10.245.1.1/24");
    node.network(&blue).unwrap();
    let one = node.cri.pod("one", &[]).unwrap();
    let two = node.cri.pod("two", &[(NETWORKS, "blue")]).unwrap();
    let three = node.cri.pod("three", &[(NETWORKS, "blue@north")]).unwrap();
    assert_eq!(addresses(&node, &one.container), "eth0 10.244.1.2/24");
    assert_eq!(
        addresses(&node, &two.container),
        "eth0 10.244.1.3/24, net1 10.245.1.2/24"
    );
    assert_eq!(
        addresses(&node, &three.container),
        "eth0 10.244.1.4/24, north 10.245.1.3/24"
    );
    for peer in ["10.244.1.2", "10.244.1.3", "10.245.1.2", "10.244.1.1"] {
        let ping = ["/bin/ping", "-c", "1", "-W", "5", peer];
        node.cri.exec(&three.container, &ping).expect(peer);
    }
    let routes = node
        .cri
        .exec(&two.container, &["/bin/ip", "route"])
        .unwrap();
    assert!(
        routes.contains("default via 10.244.1.1 dev eth0"),
        "{routes}"
    );
    let mtu = node
        .cri
        .exec(&two.container, &["/bin/cat", "/sys/class/net/net1/mtu"])
        .unwrap();
    assert_eq!(mtu.trim(), "1450", "of the overlay's subnet file");
    let records = |name: &str| {
        let folder = node.dir().join("flannel").join(name);
        fs::read_dir(folder).unwrap().count()
    };
    assert_eq!((records("red"), records("blue")), (3, 2));
    for pod in [one, two, three] {
        node.cri.stop(&pod.sandbox).unwrap();
        node.cri.remove(&pod.sandbox).unwrap();
    }
    assert_eq!((node.leftovers(), node.veths().unwrap()), (Vec::new(), 0));
    assert_eq!((records("red"), records("blue")), (0, 0));
}

/// A pod for the kubelet.
fn pod(name: &str, annotations: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "default", "name": name, "annotations": annotations},
        "spec": {"nodeName": "node", "restartPolicy": "Never", "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": false, "enableServiceLinks": false,
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "c", "image": IMAGE, "imagePullPolicy": "Never",
                "command": ["/bin/sleep", "100000"]}]}})
}

/// A CRD of the older documents, as printed.
fn printed_crd(group: &str) -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1beta1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("networks.{group}")},
        "spec": {"group": group, "version": "v1", "scope": "Namespaced", "names": {
            "plural": "networks", "singular": "network", "kind": "Network",
            "shortNames": ["net"]}}})
}

fn old_network(group: &str, name: &str, plugin: &str, args: &Value) -> Value {
    json!({"apiVersion": format!("{group}/v1"), "kind": "Network",
        "metadata": {"name": name, "namespace": "default"}, "plugin": plugin,
        "args": args.to_string()})
}

/// A node of a real cluster: the API server has what deploy/ has, and the plugin the rights of its
/// ServiceAccount and no others; the older documents' CRDs are in the one form that they were printed in.
fn real_node(programs: &Path) -> (Node, Cluster) {
    let of_cluster = |dir: &Path| {
        json!({"kubeconfig": dir.join("kube/sluicegate.kubeconfig"),
            "kubeletDir": dir.join("kubelet")})
    };
    let node = Node::start(Setup::new().unwrap(), |dir| conflist(dir, &of_cluster(dir))).unwrap();
    let cluster = Cluster::start(&node, programs).unwrap();
    let netns = &node.netns;
    for object in deployed("rbac.yaml").unwrap() {
        cluster.create(netns, &object).unwrap();
    }
    for object in deployed("crds.yaml").unwrap() {
        let is_old = object["metadata"]["name"] == "networks.kubernetes.com";
        let object = if is_old {
            printed_crd("kubernetes.com")
        } else {
            object
        };
        cluster.create(netns, &object).unwrap();
    }
    let token = cluster.token(netns, "kube-system", "sluicegate").unwrap();
    cluster.kubeconfig("sluicegate", &token).unwrap();
    (node, cluster)
}

fn nad(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
        "metadata": {"namespace": "default", "name": name}, "spec": spec})
}

#[test]
fn pods_of_two_generations_on_one_node_of_a_real_cluster() {
    let case = "pods_of_two_generations_on_one_node_of_a_real_cluster";
    let Some(programs) = programs_or_skip(case) else {
        return;
    };
    let (node, mut cluster) = real_node(&programs);
    let netns = &node.netns;
    let [second, third] = networks(node.dir());
    cluster
        .create(
            netns,
            &nad("second", &json!({"config": second.to_string()})),
        )
        .unwrap();
    node.network(&third).unwrap();
    cluster.create(netns, &nad("third", &json!({}))).unwrap();
    let group = "kubernetes.com";
    let primary = old_network(group, "bridge-conf", "bridge", &json!([bridge(node.dir())]));
    let mut third_old = third.clone();
    third_old["if0name"] = "north".into();
    let third_old = old_network(group, "third-old", "ptp", &json!([third_old]));
    let other = old_network(
        "kubernetes-network.cni.cncf.io",
        "second-old",
        "bridge",
        &json!([second]),
    );
    for object in [&primary, &third_old, &other] {
        cluster.create(netns, object).unwrap();
    }
    cluster.kubelet(&node).unwrap();

    let list = r#"[{"name": "bridge-conf"}, {"name": "second-old"}, {"name": "third-old"}]"#;
    let pods = [
        ("plain", json!({}), vec!["eth0"]),
        (
            "modern",
            json!({NETWORKS: "second,third@up"}),
            vec!["eth0", "net1", "up"],
        ),
        (
            "bare-networks",
            json!({"networks": list}),
            vec!["eth0", "net0", "north"],
        ),
        (
            "tke",
            json!({"tke.cloud.tencent.com/networks": "bridge-conf,second"}),
            vec!["eth0", "eth1"],
        ),
    ];
    for (name, annotations, _) in &pods {
        cluster.create(netns, &pod(name, annotations)).unwrap();
    }
    for (name, _, interfaces) in &pods {
        cluster.running(netns, "default", name).unwrap();
        let container = node.cri.find(name).unwrap().container;
        let text = addresses(&node, &container);
        let names: Vec<_> = text
            .split(", ")
            .filter_map(|one| one.split(' ').next())
            .collect();
        assert_eq!(&names, interfaces, "{name}: {text}");
        let annotations =
            cluster.pod(netns, "default", name).unwrap()["metadata"]["annotations"].clone();
        let status = annotations["k8s.v1.cni.cncf.io/network-status"]
            .as_str()
            .expect(name);
        let status: Value = serde_json::from_str(status).unwrap();
        let told: Vec<_> = status
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["interface"].clone())
            .collect();
        assert_eq!(&told, interfaces, "{name}");
        if *name == "tke" {
            assert!(annotations["tke.cloud.tencent.com/networks-status"].is_string());
        }
    }
    let missing = pod("missing", &json!({NETWORKS: "nowhere"}));
    cluster.create(netns, &missing).unwrap();
    let told = || {
        let events = cluster.events(netns, "default", "NetworkFailed");
        events
            .into_iter()
            .find(|text| text.contains("default/nowhere"))
    };
    wait_for("an event on the pod", Duration::from_secs(30), told).unwrap();
    cluster.delete(netns, "default", "missing").unwrap();

    // The API server dies: the runtime still takes pods down, and at once.
    let legacy = node.cri.find("bare-networks").unwrap();
    cluster.kill();
    let start = Instant::now();
    node.cri.stop(&legacy.sandbox).unwrap();
    assert!(
        start.elapsed() < Duration::from_secs(15),
        "{:?}",
        start.elapsed()
    );
    let error = node.cri.sandbox("no-api", &[]).unwrap_err();
    assert!(
        format!("{error:#}").contains("does not answer"),
        "{error:#}"
    );
    cluster.serve(netns).unwrap();
    for (name, ..) in &pods {
        cluster.delete(netns, "default", name).unwrap();
    }
    drop(cluster);
    for (sandbox, _) in node.cri.sandboxes().unwrap() {
        node.cri.stop(&sandbox).unwrap();
        node.cri.remove(&sandbox).unwrap();
    }
    assert_eq!((node.leftovers(), node.veths().unwrap()), (Vec::new(), 0));
}

/// The kubelet of this version names its socket's path as HTTP/2 authority when it calls a device plugin, which
/// servers other than Go's take for malformed: no device plugin could be had for it here. So its own
/// pod-resources socket is asked for a pod that has no devices.
#[test]
fn the_kubelets_own_socket_is_asked_for_devices() {
    let case = "the_kubelets_own_socket_is_asked_for_devices";
    let Some(programs) = programs_or_skip(case) else {
        return;
    };
    const RESOURCE: &str = "sluicegate.test/vf";
    let (node, mut cluster) = real_node(&programs);
    let netns = &node.netns;
    let [second, _] = networks(node.dir());
    let mut fast = nad("fast", &json!({"config": second.to_string()}));
    fast["metadata"]["annotations"] = json!({"k8s.v1.cni.cncf.io/resourceName": RESOURCE});
    cluster.create(netns, &fast).unwrap();
    cluster.kubelet(&node).unwrap();
    cluster
        .create(netns, &pod("short", &json!({NETWORKS: "fast"})))
        .unwrap();
    let told = || {
        let events = cluster.events(netns, "default", "NetworkFailed");
        events.into_iter().find(|text| text.contains(RESOURCE))
    };
    let told = wait_for("an event on the pod", Duration::from_secs(30), told).unwrap();
    let log = node.log("cni.log");
    assert!(
        !log.contains("checkpoint"),
        "the socket did not answer: {told}\n{log}"
    );
    cluster.delete(netns, "default", "short").unwrap();
    drop(cluster);
    assert_eq!((node.leftovers(), node.veths().unwrap()), (Vec::new(), 0));
}

#[test]
fn in_a_pod_the_service_account_is_enough() {
    let case = "in_a_pod_the_service_account_is_enough";
    let Some(programs) = programs_or_skip(case) else {
        return;
    };
    let (node, mut cluster) = real_node(&programs);
    let netns = &node.netns;
    let [second, _] = networks(node.dir());
    let config = json!({"config": second.to_string()});
    let mut there = nad("there", &config);
    there["metadata"]["namespace"] = "kube-system".into();
    cluster.create(netns, &there).unwrap();
    // What the kubelet puts into a pod: the kubelet's own mounts are not containerd's here, so it is put
    // into a folder of the node's.
    let account = node.dir().join("account");
    fs::create_dir(&account).unwrap();
    let token = cluster.token(netns, "kube-system", "sluicegate").unwrap();
    fs::write(account.join("token"), token).unwrap();
    fs::write(account.join("namespace"), "kube-system").unwrap();
    fs::copy(
        node.dir().join("kube/certs/apiserver.crt"),
        account.join("ca.crt"),
    )
    .unwrap();
    cluster.kubelet(&node).unwrap();

    // The program and its libraries are the node's own.
    let folder = sluice_tests::bin("sluicegate");
    let folder = folder.parent().unwrap();
    let host = |name: &str, path: &Path| json!({"name": name, "hostPath": {"path": path}});
    let mount = |name: &str, path: &str| json!({"name": name, "mountPath": path, "readOnly": true});
    let mut inside = pod("inside", &json!({}));
    inside["metadata"]["namespace"] = "kube-system".into();
    inside["spec"]["hostNetwork"] = true.into();
    inside["spec"]["volumes"] = json!([
        host("programs", folder),
        host("lib", Path::new("/lib")),
        host("lib64", Path::new("/lib64")),
        host("plugins", Path::new(sluice_tests::cni::REFERENCE_PLUGINS)),
        host("account", &account)
    ]);
    inside["spec"]["containers"][0]["volumeMounts"] = json!([
        mount("programs", "/programs"),
        mount("lib", "/lib"),
        mount("lib64", "/lib64"),
        mount("plugins", "/plugins"),
        mount("account", "/var/run/secrets/kubernetes.io/serviceaccount")
    ]);
    inside["spec"]["containers"][0]["env"] = json!([
        {"name": "KUBERNETES_SERVICE_HOST", "value": "127.0.0.1"},
        {"name": "KUBERNETES_SERVICE_PORT", "value": "16443"}]);
    cluster.create(netns, &inside).unwrap();
    cluster.running(netns, "kube-system", "inside").unwrap();
    let container = node.cri.find("inside").unwrap().container;
    let status = |network: &str| {
        let conf = json!({"cniVersion": "1.1.0", "name": "n", "type": "sluicegate",
            "clusterNetwork": network, "cniDir": "/tmp/cni", "confDir": "/tmp/none"});
        let script = format!(
            "echo '{conf}' | CNI_COMMAND=STATUS CNI_PATH=/plugins /programs/sluicegate; echo \" $?\""
        );
        node.cri
            .exec(&container, &["/bin/sh", "-c", &script])
            .unwrap()
    };
    let good = status("there");
    assert_eq!(good.trim(), "0", "{good}");
    let bad = status("nowhere");
    assert!(
        bad.contains("nowhere") && !bad.trim().ends_with(" 0"),
        "{bad}"
    );
    cluster.delete(netns, "kube-system", "inside").unwrap();
    drop(cluster);
}
