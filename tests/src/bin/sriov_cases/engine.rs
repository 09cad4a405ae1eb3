// SPDX-License-Identifier: Apache-2.0
//! Engine on the rig's node, and pods with interfaces on it.

use std::fs;
use std::process::Stdio;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sluice_tests::cni::Sandbox;
use sluice_tests::{Netns, Process, Sluiced, bin};

use crate::rig::Rig;

/// Policy that lets pings and UDP echo in, and everything out; the rest is dropped and counted.
fn policy(vid: u16) -> String {
    format!(
        "name: net-{vid}\nvlans: [{vid}]\ndefault: {{ingress: drop, egress: accept}}\nrules:\n\
         \x20 - {{name: arp, direction: ingress, ethertype: [arp], verdict: accept}}\n\
         \x20 - {{name: ping, direction: ingress, protocol: icmp, verdict: accept}}\n\
         \x20 - {{name: echo, direction: ingress, protocol: udp, ports: [7], verdict: accept}}\n\
         \x20 - {{name: telnet, direction: ingress, protocol: tcp, ports: [23], verdict: drop}}\n"
    )
}

/// Starts an engine on the rig's node, without an uplink of its own, with policies for VLANs 0, 210 and
/// 220.
pub(crate) fn start(rig: &Rig) -> Result<Sluiced> {
    start_with(rig, "")
}

/// Starts an engine as [`start`] does, with `more` lines in its configuration.
pub(crate) fn start_with(rig: &Rig, more: &str) -> Result<Sluiced> {
    let policies = rig.path("policies");
    fs::create_dir_all(&policies)?;
    for vid in [0, 210, 220] {
        fs::write(policies.join(format!("net-{vid}.yaml")), policy(vid))?;
    }
    let config = format!(
        "workers: {{count: 1, pin: false}}\n\
         memory: {{small_mbufs: 4096, large_mbufs: 256}}\n\
         policies: {0}/policies\nstate_dir: {0}/state\nrun_dir: {0}/run\nlog: info\n{more}",
        rig.path("").display()
    );
    let path = rig.path("sluiced.yaml");
    fs::write(&path, config)?;
    Sluiced::start(&path, &socket(rig), &rig.path("sluiced.log"))
}

/// Path of the engine's control socket.
pub(crate) fn socket(rig: &Rig) -> std::path::PathBuf {
    rig.path("run/control/sluiced.sock")
}

/// Makes a configuration of the interface plugin in engine mode; members of `with` are added.
pub(crate) fn conf(rig: &Rig, with: Value) -> Value {
    let mut conf = rig.conf(json!({"mode": "engine", "daemonSocket": socket(rig)}));
    if let (Some(conf), Value::Object(with)) = (conf.as_object_mut(), with) {
        conf.extend(with);
    }
    conf
}

/// Interface of a pod, made by ADD.
pub(crate) struct Interface {
    pub(crate) sandbox: Sandbox,
    pub(crate) conf: Value,
    pub(crate) address: String,
    pub(crate) mac: String,
}

impl Interface {
    /// Calls ADD for `ifname` in `pod`.
    pub(crate) fn add(
        rig: &Rig,
        container: &str,
        pod: &Netns,
        ifname: &str,
        conf: Value,
    ) -> Result<Interface> {
        let sandbox = Sandbox::new(container, pod, ifname);
        let result = rig.plugins()?.add(&sandbox, &conf)?;
        let text = |value: &Value, what: &str| {
            let text = value
                .as_str()
                .with_context(|| format!("the result has no {what}: {result}"))?;
            Ok::<_, anyhow::Error>(text.to_owned())
        };
        Ok(Interface {
            address: text(&result["ips"][0]["address"], "address")?,
            mac: text(&result["interfaces"][0]["mac"], "MAC")?,
            sandbox,
            conf,
        })
    }

    /// Returns the interface's address without the prefix length.
    pub(crate) fn ip(&self) -> &str {
        self.address.split('/').next().unwrap_or_default()
    }

    /// Calls DEL.
    pub(crate) fn del(&self, rig: &Rig) -> Result<()> {
        rig.plugins()?.del(&self.sandbox, &self.conf)
    }
}

/// Starts the network function that answers ARP, pings and UDP echo on a pod's interfaces.
pub(crate) fn vnf(rig: &Rig, pod: &Netns, interfaces: &[&Interface]) -> Result<Process> {
    let mut command = pod.command(bin("vnf"));
    for one in interfaces {
        command.arg("--memif").arg(format!(
            "socket=@sluicegate/{},ip={},mac={}",
            one.sandbox.ifname, one.address, one.mac
        ));
    }
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(rig.path("vnf.log"))?;
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    Process::start(&mut command)
}
