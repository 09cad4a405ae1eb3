// SPDX-License-Identifier: Apache-2.0
//! Real kubelet over the node's containerd.

use std::fs;
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use super::kube::logged;
use super::{ADMIN, Api, IMAGE, Node};
use crate::{Process, wait_for};

/// Running kubelet. What it sets for the whole machine is put back on drop.
#[derive(Debug)]
pub struct Kubelet {
    process: Process,
    sysctls: Vec<(&'static str, String)>,
}

/// Sysctls that the kubelet sets for the whole machine.
const SYSCTLS: [&str; 5] = [
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
];

/// Script that gives the kubelet its own folder of device plugins, in a mount namespace of its own.
const BIND: &str = r#"at=/var/lib/kubelet/device-plugins
mkdir -p "$at"
mount --bind "$0" "$at"
exec "$@""#;

impl Kubelet {
    /// Starts a kubelet, named `node`, from the folder `programs`. Its folder of device plugins is `kubelet/device-plugins`
    /// in the node's folder. Only one may run on a machine at a time: what it sets is the whole machine's.
    ///
    /// # Errors
    /// It does not start, or the node is not ready in time.
    pub fn start(node: &Node, api: &Api, programs: &Path) -> Result<Kubelet> {
        let mut sysctls = Vec::new();
        for key in SYSCTLS {
            if let Ok(value) = fs::read_to_string(Path::new("/proc/sys").join(key)) {
                sysctls.push((key, value));
            }
        }
        let config = json!({"kind": "KubeletConfiguration",
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "cgroupDriver": "cgroupfs",
            "cgroupsPerQOS": false, "enforceNodeAllocatable": [], "failSwapOn": false,
            "makeIPTablesUtilChains": false, "authentication": {"anonymous": {"enabled": true},
            "webhook": {"enabled": false}}, "authorization": {"mode": "AlwaysAllow"},
            "readOnlyPort": 0, "address": "127.0.0.1", "syncFrequency": "2s",
            "nodeStatusUpdateFrequency": "2s",
            "evictionHard": {"memory.available": "1Mi"}});
        let file = node.dir().join("kubelet.json");
        fs::write(&file, config.to_string())?;
        let root = node.dir().join("kubelet");
        // The folder of device plugins is the same path for every kubelet of a machine, whatever `--root-dir` says.
        let plugins = root.join("device-plugins");
        fs::create_dir_all(&plugins)?;
        let mut command = node.netns.daemon("unshare");
        command
            .args(["--mount", "--propagation", "slave", "--", "sh", "-ec", BIND])
            .arg(&plugins)
            .arg(programs.join("kubelet"))
            .arg("--config")
            .arg(&file)
            .arg("--kubeconfig")
            .arg(api.kubeconfig("admin", ADMIN)?)
            .arg("--root-dir")
            .arg(&root)
            .arg("--cert-dir")
            .arg(root.join("pki"))
            .args([
                "--container-runtime",
                "remote",
                "--container-runtime-endpoint",
            ])
            .arg(format!("unix://{}", node.socket().display()))
            .args([
                "--hostname-override",
                "node",
                "--pod-infra-container-image",
                IMAGE,
            ])
            .args(["--runtime-cgroups", "/", "--kubelet-cgroups", "/"]);
        let log = node.dir().join("kubelet.log");
        let process = Process::start(logged(&mut command, &log)?)?;
        let kubelet = Kubelet { process, sysctls };
        let ready = || {
            let node = api
                .must(&node.netns, "GET", "/api/v1/nodes/node", &Value::Null)
                .ok()?;
            let conditions = node["status"]["conditions"].as_array()?.clone();
            let mut ready = conditions.iter().filter(|one| one["type"] == "Ready");
            ready.any(|one| one["status"] == "True").then_some(())
        };
        wait_for("the kubelet to be ready", node.patience, ready)?;
        Ok(kubelet)
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.process.kill();
        for (key, value) in &self.sysctls {
            let _ = fs::write(Path::new("/proc/sys").join(key), value);
        }
    }
}
