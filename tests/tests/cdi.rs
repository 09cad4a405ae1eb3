// SPDX-License-Identifier: Apache-2.0
//! Container Device Interface: a containerd that knows it gives a container what the agent's specifications describe,
//! by name. The names are those of the agent's answer to Allocate, which kubelets pass on since 1.28. The SR-IOV card is a sysfs
//! laid out in a folder, and its device files open nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use sluice_tests::cluster::{CardVf, DeviceFile, Node, Setup, lay_out_card, programs_or_skip};
use sluice_tests::{Netns, skip, wait_for};

const PATIENCE: Duration = Duration::from_secs(60);
/// Pools: attachments of the engine, VFs for VFIO, VFs with vhost-net beside them.
const POOLS: [(&str, &str); 3] = [
    ("sluicegate.io/att", "att-1"),
    ("sluicegate.io/vfio", "0000:01:10.0"),
    ("sluicegate.io/vhost", "0000:01:10.2"),
];
const VFS: [CardVf; 2] = [
    CardVf {
        address: "0000:01:10.0",
        driver: "vfio-pci",
        iommu_group: Some(7),
    },
    CardVf {
        address: "0000:01:10.2",
        driver: "igbvf",
        iommu_group: None,
    },
];
const FILES: [DeviceFile; 4] = [
    DeviceFile {
        path: "vfio/vfio",
        major: 10,
        minor: 196,
    },
    DeviceFile {
        path: "vfio/7",
        major: 511,
        minor: 0,
    },
    DeviceFile {
        path: "vhost-net",
        major: 10,
        minor: 238,
    },
    DeviceFile {
        path: "net/tun",
        major: 10,
        minor: 200,
    },
];

fn conflist(dir: &Path) -> Value {
    json!({"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "bridge", "bridge": "cni0",
        "isGateway": true, "ipam": {"type": "host-local", "dataDir": dir.join("ipam"),
            "ranges": [[{"subnet": "10.244.0.0/24"}]]}}]})
}

/// Section of the agent's configuration.
fn devices(dir: &Path) -> String {
    format!(
        "devices:\n  kubelet_dir: {0}/kubelet\n  cni_dir: {0}/cni\n  state_dir: {0}/state\n  cdi_dir: {0}/cdi\n  \
         sysfs: {0}/sys\n  pools:\n  - {{resource: sluicegate.io/att, kind: engine, count: 2}}\n  - {{resource: \
         sluicegate.io/vfio, kind: vfs, mode: vfio, selectors: [{{drivers: [vfio-pci]}}]}}\n  - {{resource: \
         sluicegate.io/vhost, kind: vfs, mode: kernel, selectors: [{{drivers: [igbvf], need_vhost_net: true}}]}}\n",
        dir.display()
    )
}

/// CDI names of all devices in the agent's specifications, once it has written all three.
fn names(node: &Node) -> BTreeSet<String> {
    let read = || {
        let mut names = BTreeSet::new();
        for (resource, id) in POOLS {
            let file = format!("cdi/sluicegate-{}.json", resource.replace('/', "_"));
            let spec: Value = serde_json::from_str(&node.log(&file)).ok()?;
            assert_eq!(spec["kind"], resource);
            let devices = spec["devices"].as_array()?.iter();
            names.extend(
                devices.filter_map(|one| Some(format!("{resource}={}", one["name"].as_str()?))),
            );
            assert!(names.contains(&format!("{resource}={id}")), "{spec:#}");
        }
        Some(names)
    };
    wait_for("the agent's specifications", PATIENCE, read)
        .unwrap_or_else(|error| panic!("{error}: {}", node.log("agent.log")))
}

#[test]
fn a_runtime_gives_containers_what_their_cdi_names_stand_for() {
    let case = "a_runtime_gives_containers_what_their_cdi_names_stand_for";
    let Some(programs) = programs_or_skip(case) else {
        return;
    };
    let runtime = programs.join("containerd-1.7");
    if !runtime.exists() {
        skip(
            case,
            "needs containerd 1.7, which tests/cluster/containerd.sh fetches from Debian 13's archive",
        );
        return;
    }
    let mut setup = Setup::new().unwrap();
    setup.runtime = Some(runtime);
    let wire = Netns::new("wire").unwrap();
    setup.netns.veth("wire0", &wire, "wire0").unwrap();
    let node = Node::start(setup, conflist).unwrap();
    node.device_files(&FILES).unwrap();
    lay_out_card(&node.dir().join("sys"), &VFS).unwrap();
    fs::create_dir_all(node.dir().join("kubelet/device-plugins")).unwrap();
    let _engine = node.engine().unwrap();
    let _agent = node.agent(&devices(node.dir())).unwrap();

    assert_eq!(names(&node).len(), 4, "two attachments and two VFs");
    // Allocate makes it.
    let folder = node.dir().join("run/att/att-1");
    fs::create_dir_all(&folder).unwrap();
    let folder = folder.display().to_string();
    let names = POOLS.map(|(resource, id)| format!("{resource}={id}"));
    let names = names.each_ref().map(String::as_str);
    let pod = node.cri.pod_with_devices("has", &names);
    let pod = pod.unwrap_or_else(|error| panic!("{error:#}: {}", node.log("containerd.log")));
    for file in FILES {
        let path = format!("/dev/{}", file.path);
        let stat = ["/bin/busybox", "stat", "-c", "%F %t:%T", &path];
        let found = node.cri.exec(&pod.container, &stat).expect(file.path);
        let wanted = format!("character special file {:x}:{:x}", file.major, file.minor);
        assert_eq!(found.trim(), wanted, "{path}");
    }
    let mounts = node
        .cri
        .exec(&pod.container, &["/bin/cat", "/proc/self/mountinfo"])
        .unwrap();
    let mount = mounts
        .lines()
        .find(|line| line.contains(&folder))
        .expect("a mount of the id's folder");
    for option in [" ro,", "nosuid", "nodev"] {
        assert!(mount.contains(option), "{mount}");
    }
    // What appears in the folder at ADD appears in the container.
    fs::write(format!("{folder}/interface.json"), "{}").unwrap();
    let there = ["/bin/cat", &format!("{folder}/interface.json")];
    assert_eq!(node.cri.exec(&pod.container, &there).unwrap(), "{}");

    // Without the names it has none of it, and a name of nobody's is refused.
    let bare = node.cri.pod("bare", &[]).unwrap();
    let look = ["/bin/busybox", "stat", "/dev/vfio/7"];
    assert!(node.cri.exec(&bare.container, &look).is_err());
    let unknown = node
        .cri
        .pod_with_devices("unknown", &["sluicegate.io/att=att-9"]);
    let said = format!("{:#}", unknown.unwrap_err());
    assert!(said.contains("sluicegate.io/att=att-9"), "{said}");
}
