// SPDX-License-Identifier: Apache-2.0
//! Device plugin of the agent under the real kubelet, scheduler, containerd and engine. The SR-IOV card is a sysfs laid
//! out in a folder, so its pods get the device's name and no VF.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod devices_rig;

use std::fs;
use std::os::unix::fs::MetadataExt;

use devices_rig::{ATT, FILES, PATIENCE, Rig, VFIO, VFS, VHOST};
use rustix::process::Signal;
use serde_json::{Value, json};
use sluice_api::{AttachRequest, LinkState, NetnsRef};
use sluice_tests::cluster::programs_or_skip;
use sluice_tests::wait_for;

/// Command of a pod that opens its memif by path, with the MAC address that its folder tells.
const VNF: &str = r#"socket=$SLUICEGATE_SLUICEGATE_IO_ATT_SOCKETS
mac=$(sed -n 's/.*"mac": "\(.*\)",/\1/p' "${socket%/*}/interface.json")
exec vnf --memif "socket=$socket,role=client,mac=$mac,ip=10.80.1.5/24""#;

/// Networks of both resources.
fn networks(rig: &Rig) {
    let dir = rig.dir();
    let ipam = |subnet: &str| json!({"type": "host-local", "dataDir": dir.join("ipam"), "ranges": [[{"subnet": subnet}]]});
    let voice = json!({"cniVersion": "1.0.0", "name": "voice", "type": "sluicegate-vf", "mode": "engine",
        "uplink": "wire0", "vlan": 210, "ipam": ipam("10.80.1.0/24"), "cniDir": dir.join("cni"),
        "stateDir": dir.join("state"), "daemonSocket": dir.join("run/control/sluiced.sock")});
    let bridge = |name: &str| {
        json!({"cniVersion": "1.0.0", "name": name, "type": "bridge", "bridge": "br1",
            "ipam": ipam("10.89.0.0/24")})
    };
    for (name, resource, conf) in [
        ("voice", ATT, voice),
        ("fast", VFS, bridge("fast")),
        ("direct", VFIO, bridge("direct")),
        ("hosted", VHOST, bridge("hosted")),
    ] {
        let nad = json!({"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
            "metadata": {"namespace": "default", "name": name,
                "annotations": {"k8s.v1.cni.cncf.io/resourceName": resource}},
            "spec": {"config": conf.to_string()}});
        rig.cluster.create(&rig.node.netns, &nad).unwrap();
    }
}

/// Waits until so many pods have opened their memif.
fn wait_links(rig: &Rig, count: usize) {
    let linked = wait_for("pods to open their memif by path", PATIENCE, || {
        let all = rig.client().attachments().ok()?;
        let up = all.iter().filter(|one| one.link == LinkState::Up);
        (up.count() == count).then_some(())
    });
    if linked.is_err() {
        rig.node.show_logs();
        panic!("{:#?}", rig.client().attachments());
    }
}

#[test]
fn pods_have_devices_through_restarts_of_kubelet_and_agent() {
    let case = "pods_have_devices_through_restarts_of_kubelet_and_agent";
    let Some(programs) = programs_or_skip(case) else {
        return;
    };
    let mut rig = Rig::start(&programs);
    networks(&rig);
    rig.wait_allocatable(ATT, "2");
    rig.wait_allocatable(VFS, "2");
    let log = rig.node.log("agent.log");
    assert!(
        log.contains("intel.com/rdma: selector isRdma is not served"),
        "{log}"
    );

    a_pod_without_privileges_opens_its_memif(&rig);
    two_devices_three_pods(&rig);
    ids_outlast_the_agent(&mut rig);
    ids_outlast_the_kubelet(&mut rig);
    an_uplink_without_link_takes_the_ids_away(&rig);
    for name in ["two", "three"] {
        rig.delete(name);
    }
    an_id_is_not_given_out_before_its_del(&rig);
    device_files_come_with_their_vfs(&rig);
    vfs_follow_the_link_of_their_pf(&rig);
    drop(rig.kubelet.take());
    let agent = rig.agent.take().unwrap();
    agent.signal(Signal::TERM).unwrap();
    let sockets = || {
        let folder = fs::read_dir(rig.dir().join("kubelet/device-plugins")).unwrap();
        let names = folder
            .flatten()
            .map(|entry| entry.file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("sluicegate-")).count()
    };
    wait_for("the sockets to be removed", PATIENCE, || {
        (sockets() == 0).then_some(())
    })
    .unwrap();
}

fn a_pod_without_privileges_opens_its_memif(rig: &Rig) {
    rig.pod("one", ATT, "voice", VNF);
    rig.wait_running("one");
    wait_links(rig, 1);
    let attachment = &rig.client().attachments().unwrap()[0];
    let socket = attachment.socket.clone().unwrap();
    let given = rig.pod_resources(ATT);
    assert_eq!(given.len(), 1, "{given:?}");
    let (pod, id) = &given[0];
    assert_eq!(pod, "one");
    assert_eq!(
        socket,
        format!("{}/run/att/{id}/memif.sock", rig.dir().display())
    );
    assert_eq!(rig.exec("one", "id -u").trim(), "1000");
    let folder = format!("{}/run/att/{id}", rig.dir().display());
    assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o755);
    let mounts = rig.exec("one", "cat /proc/self/mountinfo");
    let mount = mounts
        .lines()
        .find(|line| line.contains(&folder))
        .expect("a mount");
    assert!(mount.contains(" ro"), "{mount}");
    let told = rig.exec("one", "echo $SLUICEGATE_SLUICEGATE_IO_ATT");
    assert_eq!(told.trim(), id);
    let log = rig.node.log("agent.log");
    let place = |word: &str| {
        log.find(&format!("{ATT}: {word}"))
            .unwrap_or_else(|| panic!("{word}: {log}"))
    };
    assert!(place("ListAndWatch") < place("GetPreferredAllocation"));
    assert!(place("GetPreferredAllocation") < place("Allocate"));
    let cdi = fs::read(rig.dir().join("cdi/sluicegate-sluicegate.io_att.json")).unwrap();
    let cdi: Value = serde_json::from_slice(&cdi).unwrap();
    assert_eq!(cdi["kind"], ATT);
    assert_eq!(cdi["devices"].as_array().unwrap().len(), 2);
}

/// A VF for VFIO comes with the files of VFIO and of its group, one with `need_vhost_net` with vhost-net and tun, and
/// neither with the other's.
fn device_files_come_with_their_vfs(rig: &Rig) {
    for (name, resource, network, vf, files) in [
        ("direct", VFIO, "direct", "0000:01:10.4", &FILES[..2]),
        ("hosted", VHOST, "hosted", "0000:01:10.6", &FILES[2..]),
    ] {
        rig.wait_allocatable(resource, "1");
        rig.pod(name, resource, network, "exec sleep 100000");
        rig.wait_running(name);
        assert_eq!(
            rig.pod_resources(resource),
            [(name.to_owned(), vf.to_owned())]
        );
        for file in FILES {
            let script = format!("busybox stat -c '%F %t:%T' /dev/{} || true", file.path);
            let wanted = match files.contains(&file) {
                true => format!("character special file {:x}:{:x}", file.major, file.minor),
                false => String::new(),
            };
            assert_eq!(
                rig.exec(name, &script).trim(),
                wanted,
                "{name}: {}",
                file.path
            );
        }
        let variable = format!(
            "PCIDEVICE_{}",
            resource.to_uppercase().replace(['.', '/'], "_")
        );
        assert_eq!(rig.exec(name, &format!("echo ${variable}")).trim(), vf);
        let info = rig.exec(name, &format!("echo ${variable}_INFO"));
        let info: Value = serde_json::from_str(&info).unwrap();
        let told = if resource == VFIO {
            json!({"vfio": {"mount": "/dev/vfio/vfio", "dev-mount": "/dev/vfio/7"}})
        } else {
            json!({"vhost": {"net-mount": "/dev/vhost-net", "tun-mount": "/dev/net/tun"}})
        };
        for (key, value) in told.as_object().unwrap() {
            assert_eq!(&info[vf][key], value, "{info}");
        }
        rig.delete(name);
    }
}

fn two_devices_three_pods(rig: &Rig) {
    rig.pod("two", ATT, "voice", VNF);
    rig.wait_running("two");
    wait_links(rig, 2);
    rig.pod("three", ATT, "voice", VNF);
    let why = || {
        let pod = rig.cluster.pod(&rig.node.netns, "default", "three").ok()?;
        let conditions = pod["status"]["conditions"].as_array()?.clone();
        let mut messages = conditions.iter().filter_map(|one| one["message"].as_str());
        messages
            .find(|text| text.contains("Insufficient"))
            .map(str::to_owned)
    };
    let why = wait_for("the third pod to be told why it waits", PATIENCE, why).unwrap();
    assert!(why.contains(ATT), "{why}");
    rig.delete("one");
    rig.wait_running("three");
    wait_links(rig, 2);
}

fn ids_outlast_the_agent(rig: &mut Rig) {
    let before = rig.pod_resources(ATT);
    assert_eq!(before.len(), 2, "{before:?}");
    rig.agent.take().unwrap().kill();
    rig.wait_allocatable(ATT, "0");
    assert_eq!(rig.has(ATT).unwrap().1, "2", "capacity stays");
    rig.start_agent();
    rig.wait_allocatable(ATT, "2");
    assert_eq!(rig.pod_resources(ATT), before);
    wait_links(rig, 2);
}

fn ids_outlast_the_kubelet(rig: &mut Rig) {
    let before = rig.pod_resources(ATT);
    let registered = |rig: &Rig| {
        let log = rig.node.log("agent.log");
        log.matches(&format!("{ATT} is registered at")).count()
    };
    let count = registered(rig);
    drop(rig.kubelet.take());
    rig.start_kubelet();
    wait_for("another registration", PATIENCE, || {
        (registered(rig) > count).then_some(())
    })
    .unwrap();
    rig.wait_allocatable(ATT, "2");
    rig.wait_allocatable(VFS, "2");
    assert_eq!(rig.pod_resources(ATT), before);
    wait_links(rig, 2);
}

fn an_uplink_without_link_takes_the_ids_away(rig: &Rig) {
    rig.wire.ip(&["link", "set", "wire0", "down"]).unwrap();
    rig.wait_allocatable(ATT, "0");
    let log = rig.node.log("agent.log");
    assert!(log.contains("is not given out: uplink wire0"), "{log}");
    rig.wire.ip(&["link", "set", "wire0", "up"]).unwrap();
    rig.wait_allocatable(ATT, "2");
    wait_links(rig, 2);
}

/// Attachment that the kubelet knows nothing of, as of a pod whose DEL has not ended.
fn an_id_is_not_given_out_before_its_del(rig: &Rig) {
    wait_links(rig, 0);
    rig.wait_allocatable(ATT, "2");
    let netns = NetnsRef::of(&rig.wire.path()).unwrap();
    let socket = rig.dir().join("run/att/att-0/memif.sock");
    let request = json!({"container_id": "old", "ifname": "net1", "netns": netns, "uplink": "wire0",
        "vlan": {"mode": "access", "vid": 210},
        "backend": {"type": "memif", "role": "server", "socket": {"path": socket}},
        "pod": {"namespace": "default", "name": "old"}});
    let request: AttachRequest = serde_json::from_value(request).unwrap();
    rig.client().attach(&request).unwrap();
    rig.wait_allocatable(ATT, "1");
    let said = rig.allocate(ATT, "att-0").unwrap_err();
    assert!(
        said.contains("net1 of pod default/old") && said.contains("DEL"),
        "{said}"
    );
    assert!(socket.exists(), "the old pod's folder is left alone");
    rig.allocate(ATT, "att-1").unwrap();
    rig.client().detach("old", "net1").unwrap();
    rig.wait_allocatable(ATT, "2");
    let answer = rig.allocate(ATT, "att-0").unwrap();
    assert_eq!(answer.containers[0].mounts.len(), 1);
    assert!(!socket.exists(), "emptied for the next pod");
    assert!(rig.allocate(ATT, "att-9").unwrap_err().contains("att-9"));
}

fn vfs_follow_the_link_of_their_pf(rig: &Rig) {
    rig.pod("fast", VFS, "fast", "sleep 100000");
    rig.wait_running("fast");
    let given = rig.pod_resources(VFS);
    let id = &given[0].1;
    assert!(id.starts_with("0000:01:10."), "{given:?}");
    let told = rig.exec(
        "fast",
        "echo $PCIDEVICE_INTEL_COM_VFS $PCIDEVICE_INTEL_COM_VFS_INFO",
    );
    let (first, info) = told.trim().split_once(' ').unwrap();
    assert_eq!(first, id);
    let info: Value = serde_json::from_str(info).unwrap();
    assert_eq!(info[id]["generic"]["deviceID"], **id);
    assert_eq!(info[id]["extra"]["token"], "x");
    // The delegate of the network has the device's name, by the meta plugin and the kubelet's socket.
    let records = fs::read_dir(rig.dir().join("cni/sluicegate"))
        .unwrap()
        .flatten();
    let texts = records.filter_map(|entry| fs::read_to_string(entry.path()).ok());
    let has = |text: &String| text.contains("\"deviceID\"") && text.contains(id.as_str());
    assert!(
        texts.filter(has).count() == 1,
        "no record with deviceID {id}"
    );
    rig.carrier(false);
    rig.wait_allocatable(VFS, "0");
    let phase =
        rig.cluster.pod(&rig.node.netns, "default", "fast").unwrap()["status"]["phase"].clone();
    assert_eq!(phase, "Running", "a pod that has one is left alone");
    rig.carrier(true);
    rig.wait_allocatable(VFS, "2");
    rig.delete("fast");
}
