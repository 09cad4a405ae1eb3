// SPDX-License-Identifier: Apache-2.0
//! CHECK: the attachment is as its ADD left it.

use std::path::Path;

use serde_json::Value;
use sluice_api::{AttachmentStatus, Backend, MemifRole};
use sluice_sriov::claim::Mode;

use super::conf::{UplinkChoice, VfConf};
use super::engine::Engine;
use super::ipam::Ipam;
use super::paths::PluginPaths;
use super::pod::Expected;
use super::{InterfaceRecord, claim, pod};
use crate::Error;
use crate::spec::call::Call;
use crate::spec::exec::Runner;
use crate::spec::fields;
use crate::spec::protocol::Context;
use crate::spec::result::CniResult;

pub(super) fn run(context: &Context) -> Result<(), Error> {
    let Context {
        call, log, budget, ..
    } = context;
    let conf = VfConf::read(&context.conf, call)?;
    let paths = PluginPaths::read(&context.conf);
    let previous = fields::find(&context.conf.json, "prevResult").and_then(Value::as_object);
    let previous = previous
        .ok_or_else(|| Error::Config("CHECK needs prevResult, the result that ADD gave".into()))?;
    let previous = CniResult::parse(previous)?;
    let mut differences = Vec::new();
    if conf.mode == Mode::Engine {
        let engine = Engine::new(&paths, *budget);
        let status = engine
            .attachment(&call.container_id, &call.ifname)?
            .ok_or_else(|| {
                Error::Unknown(format!(
                    "the engine has no attachment {} of container {}",
                    call.ifname, call.container_id
                ))
            })?;
        differences = compare(&call.ifname, &conf, &previous, &status);
    }
    let has_link = conf.tap || conf.mode == Mode::Kernel;
    if has_link {
        let made = made(context, &paths)?.unwrap_or_else(|| previous.clone());
        let name = conf.pod_ifname(call);
        let (mac, mtu) = link_of(name, &previous, &made);
        let expected = Expected {
            name,
            mac: mac.as_deref(),
            mtu,
            result: &made,
        };
        differences.extend(pod::differences(call, &expected)?);
    }
    if matches!(conf.choice, UplinkChoice::Vf(_)) {
        let drift = claim::node(&paths).check(&call.container_id, &call.ifname);
        differences.extend(drift.map_err(claim::error)?);
    }
    if !differences.is_empty() {
        return Err(Error::Internal(format!(
            "{} differs from what ADD made: {}",
            call.ifname,
            differences.join("; ")
        )));
    }
    if let Some(program) = &conf.ipam {
        let runner = Runner::new(call, &paths.bin_dir, log);
        Ipam::new(&runner, program, &context.conf.json).check(*budget)?;
    }
    Ok(())
}

/// The result of ADD as it was recorded, with what versions before 1.1 cannot say.
fn made(context: &Context, paths: &PluginPaths) -> Result<Option<CniResult>, Error> {
    let Call {
        container_id,
        ifname,
        ..
    } = &context.call;
    let record = InterfaceRecord::load(&paths.records, container_id, ifname, &context.log)?;
    let result = record.and_then(|record| record.result);
    result.as_ref().map(CniResult::parse).transpose()
}

/// MAC address and MTU that the link is to have: those of the last result, which a later plugin of the
/// chain may have changed, or where it does not say those that ADD gave.
fn link_of(name: &str, previous: &CniResult, made: &CniResult) -> (Option<String>, Option<u32>) {
    let of = |result: &CniResult| {
        let mut interfaces = result.interfaces.iter();
        let ours = interfaces.find(|one| one.name == name && one.sandbox.is_some());
        ours.map_or((None, None), |one| (one.mac.clone(), one.mtu))
    };
    let (last, first) = (of(previous), of(made));
    (last.0.or(first.0), last.1.or(first.1))
}

/// Everything in which an attachment is not what its ADD said it was.
fn compare(
    ifname: &str,
    conf: &VfConf,
    previous: &CniResult,
    status: &AttachmentStatus,
) -> Vec<String> {
    let mut found = Vec::new();
    let ours = previous
        .interfaces
        .iter()
        .enumerate()
        .find(|(_, interface)| interface.name == ifname && interface.sandbox.is_some());
    let Some((index, interface)) = ours else {
        return vec![format!("prevResult has no interface {ifname} in the pod")];
    };
    let mac = interface.mac.as_deref().unwrap_or_default();
    if !mac.eq_ignore_ascii_case(&status.mac) {
        found.push(format!(
            "the engine lets MAC {} pass, and the result has {mac}: every frame of the pod is dropped \
             as spoofed; ask for the MAC address here (key mac, or the capability mac), not in a later \
             plugin such as tuning",
            status.mac
        ));
    }
    if interface.mtu.is_some_and(|mtu| mtu != status.mtu) {
        found.push(format!(
            "the MTU is {}, not {:?}",
            status.mtu, interface.mtu
        ));
    }
    let mut wanted: Vec<_> = previous
        .ips
        .iter()
        .filter(|ip| ip.interface.is_none_or(|of| of == index))
        .map(|ip| ip.address)
        .collect();
    let mut there = status.request.addresses.clone();
    wanted.sort();
    there.sort();
    if wanted != there {
        found.push(format!("the addresses are {there:?}, not {wanted:?}"));
    }
    if let UplinkChoice::Uplink(uplink) = &conf.choice
        && status.request.uplink != *uplink
    {
        found.push(format!(
            "the uplink is {}, not {uplink}",
            status.request.uplink
        ));
    }
    if status.request.vlan != conf.vlan {
        found.push(format!(
            "the VLANs are {:?}, not {:?}",
            status.request.vlan, conf.vlan
        ));
    }
    if status.request.firewall != conf.firewall {
        found.push(format!(
            "its own policy is {:?}, not {:?}",
            status.request.firewall, conf.firewall
        ));
    }
    if status.request.roles != conf.roles {
        found.push(format!(
            "its roles are {:?}, not {:?}",
            status.request.roles, conf.roles
        ));
    }
    if status.request.pose() != conf.pose {
        found.push(format!(
            "it may pose as {:?}, not {:?}",
            status.request.pose(),
            conf.pose
        ));
    }
    if status.request.multicast_groups != conf.multicast_groups {
        found.push(format!(
            "its multicast groups are {:?}, not {:?}",
            status.request.multicast_groups, conf.multicast_groups
        ));
    }
    if status.request.priority != conf.priority {
        found.push(format!(
            "the priority of its tags is {:?}, not {:?}",
            status.request.priority, conf.priority
        ));
    }
    let as_asked = match &status.request.backend {
        Backend::Tap {} => conf.tap,
        Backend::VhostUser(_) => conf.vhost_user.is_some(),
        Backend::Memif(_) => !conf.tap && conf.vhost_user.is_none(),
    };
    if !as_asked {
        found.push("it is reached in another way".to_owned());
    }
    // Where the engine listens on a path, the pod needs the file.
    let role = match &conf.vhost_user {
        Some(vhost_user) => vhost_user.role,
        None => conf.memif.role,
    };
    let listens = role == MemifRole::Server;
    let path = status
        .socket
        .as_deref()
        .filter(|socket| socket.starts_with('/') && listens);
    if let Some(path) = path.filter(|path| !Path::new(path).exists()) {
        found.push(format!("its socket {path} is gone"));
    }
    found
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use serde_json::json;

    fn status(socket: &str) -> AttachmentStatus {
        serde_json::from_value(json!({
            "id": 1, "mac": "02:00:00:00:00:01", "mtu": 1500, "worker": 0, "link": "up",
            "socket": socket,
            "counters": {"port": {"rx_frames": 0, "rx_bytes": 0, "tx_frames": 0, "tx_bytes": 0},
                "ingress_drops": {}, "egress_drops": {}},
            "request": {"container_id": "c", "ifname": "net1",
                "netns": {"path": "/x", "dev": 1, "ino": 2}, "uplink": "wire0",
                "vlan": {"mode": "access", "vid": 210}, "addresses": ["10.0.0.5/24"],
                "backend": {"type": "memif"}},
        }))
        .unwrap()
    }

    fn conf() -> VfConf {
        let conf = json!({"name": "n", "mode": "engine", "uplink": "wire0", "vlan": 210});
        let net = crate::spec::conf::NetConf::parse(conf.to_string().as_bytes()).unwrap();
        let call = crate::spec::call::Call::read(|name| {
            (name == "CNI_COMMAND").then(|| "STATUS".to_owned())
        });
        VfConf::read(&net, &call.unwrap().unwrap()).unwrap()
    }

    fn previous() -> CniResult {
        let result = json!({"cniVersion": "1.1.0",
            "interfaces": [{"name": "net1", "mac": "02:00:00:00:00:01", "mtu": 1500,
                "sandbox": "/x"}],
            "ips": [{"interface": 0, "address": "10.0.0.5/24"}]});
        CniResult::parse(result.as_object().unwrap()).unwrap()
    }

    #[test]
    fn what_is_as_it_was_is_fine() {
        let none = compare("net1", &conf(), &previous(), &status("@sluicegate/net1"));
        assert_eq!(none, Vec::<String>::new());
    }

    #[test]
    fn every_drift_is_named() {
        let mut drifted = status("/nonexistent/memif.sock");
        drifted.mac = "02:00:00:00:00:02".into();
        drifted.mtu = 9000;
        drifted.request.addresses.clear();
        drifted.request.uplink = "wire1".into();
        drifted.request.firewall = Some("other".into());
        drifted.request.vlan = sluice_api::VlanRequest::Access {
            vid: sluice_api::Vid::new(211).unwrap(),
            qinq: false,
        };
        drifted.request.backend = Backend::Tap {};
        drifted.request.anti_spoof = sluice_api::AntiSpoof::Off;
        drifted.request.multicast_groups = vec!["239.1.2.3".parse().unwrap()];
        let all = compare("net1", &conf(), &previous(), &drifted);
        assert_eq!(all.len(), 10, "{all:?}");
        assert_eq!(compare("net2", &conf(), &previous(), &drifted).len(), 1);
    }
}
