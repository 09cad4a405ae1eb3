// SPDX-License-Identifier: Apache-2.0
//! Engine on a host: the built `sluiced`, with a wire to an uplink of its own.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use sluice_api::client::Client;
use sluice_api::{AttachmentStatus, LinkState};
use sluice_tests::{Netns, Process, bin, wait_for};

use super::Host;

/// Running engine with one uplink, `wire0`.
pub(crate) struct Engine<'a> {
    host: &'a Host,
    process: Process,
    // Its far end goes with it.
    _wire: Netns,
}

impl<'a> Engine<'a> {
    /// Starts the engine on a host and waits until it takes attachments.
    pub(crate) fn start(host: &'a Host) -> Engine<'a> {
        let wire = Netns::new("wire").unwrap();
        host.netns.veth("wire0", &wire, "wire0").unwrap();
        let policies = host.dir().join("policies");
        fs::create_dir_all(&policies).unwrap();
        let policy =
            "name: open\nvlans: [0, 210, 220]\ndefault: {ingress: accept, egress: accept}\n";
        fs::write(policies.join("open.yaml"), policy).unwrap();
        let config = format!(
            "uplinks: [{{name: wire0, device: wire0}}]\n\
             workers: {{count: 1, pin: false}}\n\
             memory: {{small_mbufs: 4096, large_mbufs: 256, huge_pages: off}}\n\
             policies: {0}/policies\nstate_dir: {0}/state\nrun_dir: {0}/run\nlog: info\n",
            host.dir().display()
        );
        fs::write(host.dir().join("sluiced.yaml"), config).unwrap();
        let process = launch(host);
        Engine {
            host,
            process,
            _wire: wire,
        }
    }

    /// Starts the engine again after it ended.
    pub(crate) fn restart(&mut self) {
        self.process = launch(self.host);
    }

    /// Kills the engine with SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    pub(crate) fn client(&self) -> Client {
        client(self.host)
    }

    /// Returns the attachment of `container` on `ifname`.
    pub(crate) fn attachment(&self, container: &str, ifname: &str) -> AttachmentStatus {
        self.client().attachment(container, ifname).unwrap()
    }

    /// Waits until the pod has opened its side of the attachment.
    pub(crate) fn wait_for_link(&self, container: &str, ifname: &str) {
        wait_for("the pod to open its memif", Duration::from_secs(20), || {
            (self.attachment(container, ifname).link == LinkState::Up).then_some(())
        })
        .unwrap();
    }
}

/// Makes a configuration of the interface plugin for an engine on `host`, with addresses on `subnet`.
pub(crate) fn conf(host: &Host, subnet: &str) -> Value {
    json!({
        "cniVersion": "1.1.0", "name": "wire", "type": "sluicegate-vf", "mode": "engine",
        "uplink": "wire0", "vlan": 210, "ipam": host.host_local(subnet),
        "cniDir": host.cni_dir(), "stateDir": host.dir().join("state"), "daemonSocket": socket(host),
        "capabilities": {"CNIDeviceInfoFile": true, "mac": true},
    })
}

/// Lists the engine's records of attachments.
pub(crate) fn records(host: &Host) -> Vec<String> {
    super::files_below(&host.dir().join("state/attachments"))
}

fn socket(host: &Host) -> PathBuf {
    host.dir().join("run/control/sluiced.sock")
}

fn client(host: &Host) -> Client {
    Client::new(socket(host)).timeout(Duration::from_secs(5))
}

fn launch(host: &Host) -> Process {
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(host.dir().join("sluiced.log"))
        .unwrap();
    let mut command = Command::new(bin("sluiced"));
    command
        .arg("--config")
        .arg(host.dir().join("sluiced.yaml"))
        .stdin(Stdio::null());
    command.stdout(log.try_clone().unwrap()).stderr(log);
    let process = host
        .netns
        .enter(move || Process::start(&mut command))
        .unwrap();
    let ready = wait_for(
        "the engine to take attachments",
        Duration::from_secs(20),
        || client(host).health().ok().filter(|health| health.ready),
    );
    if let Err(error) = ready {
        let log = fs::read_to_string(host.dir().join("sluiced.log")).unwrap_or_default();
        panic!("{error}; log of the engine:\n{log}");
    }
    process
}
