// SPDX-License-Identifier: Apache-2.0
//! Cases 40 to 42: devices that the kubelet gave to a pod.

use std::fs;

use serde_json::json;

use super::{Lab, NETWORKS};
use crate::cni_rig::kubelet::Kubelet;

/// A lab with two networks on resource vendor/vf: `one` (plugin b) and `chain` (plugins b and c).
fn lab(case: &str) -> Option<Lab> {
    let lab = Lab::new(case)?;
    let resource = json!({"k8s.v1.cni.cncf.io/resourceName": "vendor/vf"});
    let one = json!({"type": "b", "cniVersion": "1.0.0", "capabilities": {"deviceID": true}});
    let chain = json!({"cniVersion": "1.0.0", "plugins": [{"type": "b"}, {"type": "c"}]});
    for (name, conf) in [("one", one), ("chain", chain)] {
        let spec = json!({"config": conf.to_string()});
        lab.api.nad("ns", name, resource.clone(), spec);
    }
    Some(lab)
}

#[test]
fn case_40_and_42_each_network_has_its_own_device_in_the_kubelets_order() {
    let Some(lab) = lab("case_40") else { return };
    let conf = lab.conf();
    let kubelet = Kubelet::start(&lab.host.dir().join("kubelet"));
    kubelet.pod("other", &[&[("vendor/vf", &["0000:01:11.0"])]]);
    kubelet.pod(
        "p40",
        &[
            &[("vendor/gpu", &["g"]), ("vendor/vf", &["0000:01:10.4"])],
            &[("vendor/vf", &["0000:01:10.2", "0000:01:10.0"])],
        ],
    );
    lab.api.pod("ns", "p40", json!({NETWORKS: "one,chain,one"}));
    lab.run("ADD", "p40", &conf).ok();
    let device = |plugin: &str, ifname: &str| {
        let conf = lab.host.conf_of(plugin, "ADD", ifname);
        assert_eq!(conf["deviceID"], conf["pciBusID"]);
        conf["deviceID"].as_str().unwrap().to_owned()
    };
    assert_eq!(device("b", "net1"), "0000:01:10.4");
    assert_eq!(device("b", "net2"), "0000:01:10.2");
    assert_eq!(
        device("c", "net2"),
        "0000:01:10.2",
        "every plugin of a chain"
    );
    assert_eq!(device("b", "net3"), "0000:01:10.0");
    let runtime = lab.host.conf_of("b", "ADD", "net1")["runtimeConfig"].clone();
    assert_eq!(runtime["deviceID"], "0000:01:10.4", "where it is declared");
    lab.run("DEL", "p40", &conf).ok();
    assert_eq!(
        lab.host.conf_of("b", "DEL", "net3")["deviceID"],
        "0000:01:10.0"
    );
}

#[test]
fn case_41_no_device_is_left() {
    let Some(lab) = lab("case_41") else { return };
    let conf = lab.conf();
    let kubelet = Kubelet::start(&lab.host.dir().join("kubelet"));
    kubelet.pod("p41", &[&[("vendor/vf", &["0000:01:10.0"])]]);
    let said = lab.refused("p41", "one,one", &conf, 7);
    assert!(said.contains("vendor/vf"), "{said}");
    let asked = r#"[{"name": "one", "deviceID": "0000:01:10.6"}]"#;
    let said = lab.refused("p41", asked, &conf, 7);
    assert!(said.contains("0000:01:10.6"), "{said}");
    let asked = asked.replace("10.6", "10.0");
    assert_eq!(lab.adds("p41", &asked, &conf), ["ADD a eth0", "ADD b net1"]);
}

#[test]
fn devices_of_a_resource_claim_are_found_by_the_pods_name_of_it() {
    let Some(lab) = lab("claim") else { return };
    let conf = lab.conf();
    let kubelet = Kubelet::start(&lab.host.dir().join("kubelet"));
    let devices = ["0000-01-10-2", "0000-01-10-4"];
    kubelet.pod_with_claim("p-dra", "p-dra-fast-x7k2q", &devices);
    let resource = json!({"k8s.v1.cni.cncf.io/resourceName": "fast/vf"});
    let network = json!({"type": "b", "cniVersion": "1.0.0"});
    let spec = json!({"config": network.to_string()});
    lab.api.nad("ns", "claimed", resource, spec);
    assert_eq!(
        lab.adds("p-dra", "claimed,claimed", &conf),
        ["ADD a eth0", "ADD b net1", "ADD b net2"]
    );
    for (ifname, id) in [("net1", "0000:01:10.2"), ("net2", "0000:01:10.4")] {
        assert_eq!(lab.host.conf_of("b", "ADD", ifname)["deviceID"], id);
    }
    let said = lab.refused("p-dra", "one", &conf, 7);
    assert!(said.contains("vendor/vf"), "{said}");
}

#[test]
fn without_the_socket_the_checkpoint_says_it() {
    let Some(lab) = lab("checkpoint") else { return };
    let conf = lab.conf();
    let said = lab.refused("p", "one", &conf, 11);
    assert!(said.contains("kubelet.sock"), "{said}");
    let folder = lab.host.dir().join("kubelet/device-plugins");
    fs::create_dir_all(&folder).unwrap();
    let entry = json!({"PodUID": "uid-p", "ContainerName": "c", "ResourceName": "vendor/vf",
        "DeviceIDs": {"0": ["0000:01:10.6"]}});
    let checkpoint = json!({"Data": {"PodDeviceEntries": [entry]}});
    fs::write(
        folder.join("kubelet_internal_checkpoint"),
        checkpoint.to_string(),
    )
    .unwrap();
    assert_eq!(lab.adds("p", "one", &conf), ["ADD a eth0", "ADD b net1"]);
    assert_eq!(
        lab.host.conf_of("b", "ADD", "net1")["deviceID"],
        "0000:01:10.6"
    );
}

#[test]
fn device_info_reaches_network_status_and_goes_with_the_pod() {
    let Some(lab) = lab("device_info") else {
        return;
    };
    let conf = lab.conf();
    let able =
        json!({"type": "b", "cniVersion": "1.0.0", "capabilities": {"CNIDeviceInfoFile": true}});
    lab.api.network("able", &able);
    let write = r#"file=$(printf '%s' "$conf" | sed -E 's/.*"CNIDeviceInfoFile":"([^"]*)".*/\1/')
printf '{"type": "pci", "version": "1.1.0", "pci": {"pci-address": "0000:01:10.0"}}' >"$file""#;
    lab.host.on("b", "ADD", write);
    lab.api.pod("ns", "p-info", json!({NETWORKS: "able"}));
    lab.run("ADD", "p-info", &conf).ok();
    let status = lab.api.status("ns", "p-info");
    assert_eq!(
        status[1]["device-info"]["pci"]["pci-address"],
        "0000:01:10.0"
    );
    let path = lab.host.conf_of("b", "ADD", "net1")["runtimeConfig"]["CNIDeviceInfoFile"].clone();
    let path = path.as_str().unwrap();
    assert!(
        path.starts_with("/var/run/k8s.cni.cncf.io/devinfo/cni/"),
        "{path}"
    );
    lab.run("DEL", "p-info", &conf).ok();
    assert!(!std::path::Path::new(path).exists());
}
