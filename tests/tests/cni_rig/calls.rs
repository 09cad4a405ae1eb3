// SPDX-License-Identifier: Apache-2.0
//! Calls that most cases make, and what fake plugins answer them with.

use std::process::Command;

use serde_json::{Value, json};
use sluice_tests::{Netns, run as execute};

use super::{Answer, Host};

/// Nothing left, for comparison with lists of names.
pub(crate) const NONE: Vec<String> = Vec::new();

/// Calls the meta plugin about `eth0` of a container.
pub(crate) fn run(
    host: &Host,
    command: &str,
    container: &str,
    pod: &Netns,
    conf: &Value,
) -> Answer {
    host.pod_call("sluicegate", command, container, Some(pod), "eth0")
        .conf(conf)
        .run()
}

/// Calls the interface plugin about `net1` of a container.
pub(crate) fn run_vf(
    host: &Host,
    command: &str,
    container: &str,
    pod: &Netns,
    conf: &Value,
) -> Answer {
    host.pod_call("sluicegate-vf", command, container, Some(pod), "net1")
        .conf(conf)
        .run()
}

/// Returns the result of a fake plugin that makes one interface, without addresses.
pub(crate) fn canned(ifname: &str) -> Value {
    json!({"cniVersion": "0.4.0", "interfaces": [{"name": ifname, "sandbox": "/x"}]})
}

/// Returns the script of a fake plugin that fails with a CNI error ([`Host::on`]).
pub(crate) fn fails(code: u32, msg: &str) -> String {
    let error = json!({"code": code, "msg": msg});
    format!("printf '%s' '{error}'; exit 1")
}

/// Has the path of a pod's namespace lead to another one, or to an empty plain file.
pub(crate) fn lead_elsewhere(pod: &Netns, to: Option<&Netns>) {
    execute(Command::new("umount").arg(pod.path())).unwrap();
    if let Some(to) = to {
        let mut bind = Command::new("mount");
        bind.arg("--bind").arg(to.path()).arg(pod.path());
        execute(&mut bind).unwrap();
    }
}
