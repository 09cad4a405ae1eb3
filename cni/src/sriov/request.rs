// SPDX-License-Identifier: Apache-2.0
//! Attach request to the engine, and the CNI result from its answer.

use std::path::{Path, PathBuf};

use ipnet::IpNet;
use sluice_api::{
    AttachReply, AttachRequest, Backend, MemifRequest, MemifSocket, PodRef, VfRequest,
    VhostUserRequest, Vid,
};
use sluice_sriov::claim::Record as VfRecord;
use sluice_sriov::settings::Mac;

use super::conf::{UplinkChoice, VfConf};
use super::interface::Acquired;
use super::paths::PluginPaths;
use crate::Error;
use crate::spec::call::Call;
use crate::spec::netns;
use crate::spec::result::{CniResult, Interface};

/// Returns the socket's address; `None`: the engine's default for a memif, an abstract name in the
/// pod's network namespace.
pub(super) fn socket(conf: &VfConf, paths: &PluginPaths, call: &Call) -> Option<MemifSocket> {
    if let Some(vhost_user) = &conf.vhost_user {
        let device_dir = conf.device_id.as_ref().map(|id| paths.attachment_dir(id));
        let path = vhost_user.path(&call.container_id, &call.ifname, device_dir);
        return path.map(MemifSocket::Path);
    }
    let memif = &conf.memif;
    let named = memif.socket.as_deref();
    if let Some(name) = named.and_then(|name| name.strip_prefix('@')) {
        return Some(MemifSocket::Abstract(name.to_owned()));
    }
    if let Some(path) = named.filter(|path| path.starts_with('/')) {
        return Some(MemifSocket::Path(PathBuf::from(path)));
    }
    if let Some(dir) = &memif.socket_dir {
        let id: String = call.container_id.chars().take(12).collect();
        let file = named.map_or_else(|| format!("memif-{id}-{}.sock", call.ifname), str::to_owned);
        return Some(MemifSocket::Path(dir.join(file)));
    }
    let id = conf.device_id.as_ref()?;
    Some(MemifSocket::Path(
        paths.attachment_dir(id).join("memif.sock"),
    ))
}

/// The request for an attachment with the addresses that ipam gave, on the VF that was claimed for it
/// if there is one. The VF gets frames for its administrative MAC address only: it is the attachment's.
///
/// # Errors
/// [`Error::Netns`]: the pod's network namespace is not there.
pub(super) fn build(
    conf: &VfConf,
    paths: &PluginPaths,
    call: &Call,
    Acquired { vf, addresses }: &Acquired,
) -> Result<AttachRequest, Error> {
    let identity = netns::identity(call.netns.as_deref().unwrap_or(Path::new("")))?;
    let mut gateways: Vec<_> = addresses
        .ips
        .iter()
        .filter_map(|ip| ip.gateway)
        .chain(addresses.routes.iter().filter_map(|route| route.gw))
        .collect();
    gateways.sort_unstable();
    gateways.dedup();
    let backend = if conf.tap {
        Backend::Tap {}
    } else if let Some(vhost_user) = &conf.vhost_user {
        let Some(MemifSocket::Path(path)) = socket(conf, paths, call) else {
            return Err(Error::Internal("no place for the vhost-user socket".into()));
        };
        Backend::VhostUser(VhostUserRequest {
            role: vhost_user.role,
            queues: vhost_user.queues,
            max_memory_mib: vhost_user.max_memory_mib,
            socket: path,
        })
    } else {
        Backend::Memif(MemifRequest {
            role: conf.memif.role,
            rings: conf.memif.rings,
            ring_size: conf.memif.ring_size,
            buffer_size: conf.memif.buffer_size,
            secret: conf.memif.secret.clone(),
            id: conf.memif.id,
            socket: socket(conf, paths, call),
            allow_unsealed: conf.memif.allow_unsealed,
        })
    };
    Ok(AttachRequest {
        vf: vf.as_ref().map(|vf| VfRequest {
            address: vf.vf.to_string(),
            port_vlan: port_vlan(vf),
        }),
        container_id: call.container_id.clone(),
        ifname: call.ifname.clone(),
        netns: identity,
        pod: pod(call),
        uplink: match (&conf.choice, vf) {
            (_, Some(vf)) => vf.pf_netdev.clone(),
            (UplinkChoice::Uplink(name), None) => name.clone(),
            (UplinkChoice::Vf(_), None) => return Err(Error::Internal("no VF was claimed".into())),
        },
        vlan: conf.vlan.clone(),
        mac: match &vf {
            Some(vf) => vf.asked.mac.map(sluice_api::Mac::new),
            None => asked_mac(conf)?,
        },
        addresses: addresses
            .ips
            .iter()
            .map(|ip| ip.address)
            .collect::<Vec<IpNet>>(),
        gateways,
        multicast_groups: conf.multicast_groups.clone(),
        roles: conf.roles.clone(),
        anti_spoof: conf.pose.anti_spoof,
        allowed_address_pairs: conf.pose.pairs.clone(),
        promiscuous: conf.pose.promiscuous,
        priority: conf.priority,
        firewall: conf.firewall.clone(),
        mtu: conf.mtu,
        backend,
    })
}

/// The port VLAN that the PF has for the VF.
fn port_vlan(vf: &VfRecord) -> Option<Vid> {
    let vid = vf.asked.vlan.and_then(|vlan| Vid::new(vlan.vid));
    vid.filter(|vid| !vid.is_untagged())
}

/// MAC address that the configuration asks for.
fn asked_mac(conf: &VfConf) -> Result<Option<sluice_api::Mac>, Error> {
    let mac = conf.mac.as_deref().map(sluice_api::Mac::parse_unicast);
    mac.transpose()
        .map_err(|error| Error::Config(format!("mac: {error}")))
}

/// The VF's administrative MAC address.
fn mac(vf: &VfRecord) -> Option<String> {
    vf.asked.mac.map(|mac| Mac(mac).to_string())
}

fn pod(call: &Call) -> Option<PodRef> {
    Some(PodRef {
        namespace: call.arg("K8S_POD_NAMESPACE")?.to_owned(),
        name: call.arg("K8S_POD_NAME")?.to_owned(),
        uid: call.arg("K8S_POD_UID").map(str::to_owned),
    })
}

/// The result of an ADD on the engine: one interface, in the pod, that has ipam's addresses and routes.
pub(super) fn result(
    call: &Call,
    reply: &AttachReply,
    Acquired { vf, addresses }: &Acquired,
) -> CniResult {
    with_interface(
        addresses,
        Interface {
            name: call.ifname.clone(),
            mac: Some(reply.mac.clone()),
            mtu: Some(reply.mtu),
            sandbox: call.netns.as_ref().map(|path| path.display().to_string()),
            // The specification wants a path; an abstract name is in device-info.
            socket_path: reply
                .socket
                .clone()
                .filter(|socket| socket.starts_with('/')),
            pci_id: vf.as_ref().map(|vf| vf.vf.to_string()),
        },
    )
}

/// The result of an ADD that gave the pod the VF itself.
pub(super) fn result_of_vf(
    call: &Call,
    name: &str,
    mtu: Option<u32>,
    vf: &VfRecord,
    addresses: &CniResult,
) -> CniResult {
    with_interface(
        addresses,
        Interface {
            name: name.to_owned(),
            mac: mac(vf),
            mtu,
            sandbox: call.netns.as_ref().map(|path| path.display().to_string()),
            socket_path: None,
            pci_id: Some(vf.vf.to_string()),
        },
    )
}

fn with_interface(addresses: &CniResult, interface: Interface) -> CniResult {
    let mut result = addresses.clone();
    for ip in &mut result.ips {
        ip.interface = Some(0);
    }
    result.interfaces = vec![interface];
    result
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::spec::conf::NetConf;
    use serde_json::{Value, json};
    use sluice_api::MemifRole;

    fn call() -> Call {
        Call::read(|name| match name {
            "CNI_COMMAND" => Some("ADD".into()),
            "CNI_CONTAINERID" => Some("0123456789abcdef".into()),
            "CNI_NETNS" => Some("/proc/self/ns/net".into()),
            "CNI_IFNAME" => Some("net1".into()),
            "CNI_ARGS" => Some("K8S_POD_NAMESPACE=ns;K8S_POD_NAME=web;K8S_POD_UID=u".into()),
            _ => None,
        })
        .unwrap()
        .unwrap()
    }

    fn read(mut conf: Value) -> (VfConf, PluginPaths) {
        let map = conf.as_object_mut().unwrap();
        for (key, value) in [("name", "n"), ("mode", "engine"), ("uplink", "wire0")] {
            map.insert(key.into(), value.into());
        }
        let conf = NetConf::parse(conf.to_string().as_bytes()).unwrap();
        (
            VfConf::read(&conf, &call()).unwrap(),
            PluginPaths::read(&conf),
        )
    }

    #[test]
    fn sockets_by_every_way() {
        let of = |conf: Value| {
            let (conf, paths) = read(conf);
            socket(&conf, &paths, &call())
        };
        let path = |path: &str| Some(MemifSocket::Path(PathBuf::from(path)));
        assert_eq!(of(json!({})), None);
        let named = of(json!({"memif": {"socket": "@vpp"}}));
        assert_eq!(named, Some(MemifSocket::Abstract("vpp".into())));
        assert_eq!(
            of(json!({"memif": {"socket": "/run/a.sock"}})),
            path("/run/a.sock")
        );
        assert_eq!(
            of(json!({"memif": {"socketDir": "/run/a"}})),
            path("/run/a/memif-0123456789ab-net1.sock")
        );
        assert_eq!(
            of(json!({"memif": {"socketDir": "/run/a", "socket": "b"}})),
            path("/run/a/b")
        );
        assert_eq!(
            of(json!({"vhostUser": {"socketDir": "/run/a"}})),
            path("/run/a/vhost-0123456789ab-net1.sock")
        );
        assert_eq!(
            of(json!({"vhostUser": {"socketDir": "/run/a", "socket": "b"}})),
            path("/run/a/b")
        );
        assert_eq!(
            of(json!({"vhostUser": {}, "deviceID": "w-1"})),
            path("/run/sluicegate/att/w-1/vhost.sock")
        );
        assert_eq!(
            of(json!({"sharedDir": "/var/lib/cni/usrspcni/x",
                "host": {"engine": "ovs-dpdk", "iftype": "vhostuser", "netType": "bridge",
                    "vhost": {"mode": "client", "socketfile": "s"}},
                "container": {"iftype": "vhostuser", "vhost": {"mode": "server"}}})),
            path("/var/lib/cni/usrspcni/x/s")
        );
        assert_eq!(
            of(json!({"deviceID": "w-1"})),
            path("/run/sluicegate/att/w-1/memif.sock")
        );
    }

    #[test]
    fn request_and_result_carry_ipams_answer() {
        let (conf, paths) = read(json!({"vlan": 210, "memif": {"role": "client"},
            "antiSpoof": "mac", "promiscuous": true, "trust": "on",
            "allowedAddressPairs": [{"ip": "10.21.0.1"}], "multicastGroups": ["239.1.2.3"]}));
        let addresses = json!({"cniVersion": "1.0.0",
            "ips": [{"address": "10.21.0.5/24", "gateway": "10.21.0.1"}],
            "routes": [{"dst": "0.0.0.0/0", "gw": "10.21.0.1"}]});
        let addresses = CniResult::parse(addresses.as_object().unwrap()).unwrap();
        let acquired = Acquired {
            vf: None,
            addresses,
        };
        let request = build(&conf, &paths, &call(), &acquired).unwrap();
        assert_eq!(
            request.addresses,
            ["10.21.0.5/24".parse::<IpNet>().unwrap()]
        );
        assert_eq!(
            request.gateways,
            ["10.21.0.1".parse::<std::net::IpAddr>().unwrap()]
        );
        assert_eq!(request.pose(), conf.pose);
        assert_eq!(request.multicast_groups, conf.multicast_groups);
        assert_eq!(request.pod.unwrap().name, "web");
        let Backend::Memif(memif) = request.backend else {
            panic!("not a memif")
        };
        assert_eq!(memif.role, MemifRole::Client);

        let (conf, paths) = read(json!({"vhostUser": {"role": "client", "queues": 2,
            "maxMemory": 4096, "socket": "/run/a.sock"}}));
        let asked = build(&conf, &paths, &call(), &acquired).unwrap().backend;
        assert_eq!(
            serde_json::to_value(asked).unwrap(),
            json!({"type": "vhost-user", "role": "client", "queues": 2, "max_memory_mib": 4096,
                "socket": "/run/a.sock"})
        );

        let reply = AttachReply {
            id: 1,
            mac: "02:00:00:00:00:01".into(),
            mtu: 1500,
            socket: Some("@sluicegate/net1".into()),
            pod_role: Some(MemifRole::Server),
            warnings: Vec::new(),
        };
        let made = result(&call(), &reply, &acquired);
        assert_eq!(made.ips[0].interface, Some(0));
        assert_eq!(made.interfaces[0].socket_path, None);
        assert_eq!(
            made.interfaces[0].sandbox.as_deref(),
            Some("/proc/self/ns/net")
        );
        assert_eq!(made.routes.len(), 1);
    }
}
