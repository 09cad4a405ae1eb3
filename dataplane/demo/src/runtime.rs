// SPDX-License-Identifier: Apache-2.0
//! The container runtime's part: executing a CNI plugin with a cleared environment, the call in
//! `CNI_*` variables and the configuration on standard input.

use std::io::Write;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::Scene;
use super::failure::Failure;
use super::namespace::Namespace;
use super::process;

/// Longest time for one call. The plugins' own budgets are 60 s for ADD and 20 s for DEL.
const LIMIT: Duration = Duration::from_secs(70);

/// A pod as the runtime knows it: a container id, a namespace, and what an ADD came to. The DEL is
/// made up for on drop.
#[derive(Debug)]
pub(super) struct Sandbox<'a> {
    scene: &'a Scene,
    node: Arc<Namespace>,
    pod: Arc<Namespace>,
    /// `CNI_CONTAINERID`.
    pub(super) container: String,
    name: String,
    plugin: Plugin,
    ifname: &'static str,
    conf: Value,
    added: bool,
}

/// Plugin that the runtime executes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plugin {
    /// The meta plugin.
    Sluicegate,
    /// The interface plugin, by itself.
    SluicegateVf,
}

impl<'a> Sandbox<'a> {
    /// A pod called `name` in the namespace `pod` of node `node`, without any network yet.
    pub(super) fn new(
        scene: &'a Scene,
        node: &Arc<Namespace>,
        pod: &Arc<Namespace>,
        name: &str,
        (plugin, ifname, conf): (Plugin, &'static str, Value),
    ) -> Sandbox<'a> {
        Sandbox {
            scene,
            node: Arc::clone(node),
            pod: Arc::clone(pod),
            container: format!("{}-{name}", scene.home.mark()),
            name: name.to_owned(),
            plugin,
            ifname,
            conf,
            added: false,
        }
    }

    /// Network namespace of the pod.
    pub(super) fn pod(&self) -> &Arc<Namespace> {
        &self.pod
    }

    /// ADD; the result. It becomes `prevResult` of later calls.
    pub(super) fn add(&mut self) -> Result<Value, Failure> {
        // Even an ADD that fails is followed by a DEL.
        self.added = true;
        let printed = self.call("ADD")?;
        let result: Value = serde_json::from_str(&printed).map_err(|error| {
            Failure::unexpected(
                format!("the result of ADD for pod {}", self.name),
                "JSON",
                format!("{error}: {printed:?}"),
            )
        })?;
        self.conf["prevResult"] = result.clone();
        Ok(result)
    }

    /// CHECK.
    pub(super) fn check(&self) -> Result<(), Failure> {
        self.call("CHECK").map(drop)
    }

    /// DEL, with the ADD's result as runtimes pass it on the first one.
    pub(super) fn del(&mut self) -> Result<(), Failure> {
        self.call("DEL")?;
        self.added = false;
        Ok(())
    }

    /// DEL once more, without a result, as runtimes do when they remove a sandbox.
    pub(super) fn del_again(&mut self) -> Result<(), Failure> {
        if let Some(conf) = self.conf.as_object_mut() {
            conf.remove("prevResult");
        }
        self.del()
    }

    /// Executes the plugin; what it printed.
    fn call(&self, verb: &str) -> Result<String, Failure> {
        let programs = &self.scene.programs;
        let program = match self.plugin {
            Plugin::Sluicegate => &programs.sluicegate,
            Plugin::SluicegateVf => &programs.sluicegate_vf,
        };
        let container = &self.container;
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", container)
            .env("CNI_NETNS", self.pod.path())
            .env("CNI_IFNAME", self.ifname)
            .env("CNI_PATH", &programs.cni_path)
            .env(
                "CNI_ARGS",
                format!(
                    "IgnoreUnknown=1;K8S_POD_NAMESPACE=demo;K8S_POD_NAME={};\
                     K8S_POD_INFRA_CONTAINER_ID={container}",
                    self.name
                ),
            )
            .current_dir("/");
        let output = process::run(&self.node, &mut command, &self.conf.to_string(), LIMIT)?;
        self.log(verb, &output.stderr);
        if !output.status.success() {
            return Err(Failure::unexpected(
                format!("{verb} of pod {} by {}", self.name, program.display()),
                "exit code 0",
                format!(
                    "{}: {}",
                    output.status,
                    String::from_utf8_lossy(&output.stdout).trim()
                ),
            ));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Keeps what the plugins wrote to standard error.
    fn log(&self, verb: &str, said: &[u8]) {
        let path = self.scene.home.log("cni");
        if let Ok(mut file) = std::fs::File::options()
            .create(true)
            .append(true)
            .open(path)
        {
            let _ = writeln!(file, "-- {verb} of {}", self.container);
            let _ = file.write_all(said);
        }
    }
}

impl Drop for Sandbox<'_> {
    fn drop(&mut self) {
        if self.added {
            // On the way out of a failure, which is what is reported.
            let _ = self.call("DEL");
        }
    }
}

/// The first address of interface `ifname` in a result.
pub(super) fn address_of(result: &Value, ifname: &str) -> Option<String> {
    let interfaces = result["interfaces"].as_array()?;
    let in_pod = |one: &Value| one["name"] == ifname && one["sandbox"].is_string();
    let index = interfaces.iter().position(in_pod)?;
    let ips = result["ips"].as_array()?;
    let ip = ips.iter().find(|ip| ip["interface"] == json!(index))?;
    ip["address"].as_str().map(str::to_owned)
}

/// The MAC address of interface `ifname` in a result.
pub(super) fn mac_of(result: &Value, ifname: &str) -> Option<String> {
    let interfaces = result["interfaces"].as_array()?;
    let found = interfaces
        .iter()
        .find(|one| one["name"] == ifname && one["sandbox"].is_string())?;
    found["mac"].as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_results_interface_has_its_own_address() {
        let result = json!({
            "interfaces": [{"name": "br", "mac": "02:00:00:00:00:01"},
                {"name": "eth0"}, {"name": "eth0", "mac": "02:00:00:00:00:02", "sandbox": "/n"}],
            "ips": [{"interface": 0, "address": "10.0.0.1/24"},
                {"interface": 2, "address": "10.0.0.2/24"}],
        });
        assert_eq!(address_of(&result, "eth0").as_deref(), Some("10.0.0.2/24"));
        assert_eq!(
            mac_of(&result, "eth0").as_deref(),
            Some("02:00:00:00:00:02")
        );
        assert_eq!(address_of(&result, "net1"), None);
        assert_eq!(address_of(&json!({}), "eth0"), None);
    }
}
