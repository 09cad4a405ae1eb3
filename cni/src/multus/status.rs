// SPDX-License-Identifier: Apache-2.0
//! network-status: what the pod got, written back to its annotations (NPWG 1.3, section 5).

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::annotation::{self, Annotations};
use crate::Error;
use crate::spec::delegate::Delegate;
use crate::spec::result::{CniResult, Interface};

/// The annotation.
const STATUS: &str = "k8s.v1.cni.cncf.io/network-status";
/// TKE's.
const TKE_STATUS: &str = "tke.cloud.tencent.com/networks-status";

/// The annotations to set on a pod with these annotations: `device_info` tells of a delegate's device.
///
/// # Errors
/// [`Error::Internal`]: a result makes no sense.
pub(super) fn annotations(
    asked: &Annotations,
    delegates: &[Delegate],
    device_info: impl Fn(usize) -> Option<Map<String, Value>>,
) -> Result<Map<String, Value>, Error> {
    let mut all = Vec::new();
    for (index, delegate) in delegates.iter().enumerate() {
        all.extend(entries(delegate, device_info(index))?);
    }
    let text = serde_json::to_string_pretty(&all)
        .map_err(|error| Error::Internal(format!("network-status: {error}")))?;
    let mut set = Map::new();
    set.insert(STATUS.to_owned(), text.clone().into());
    if asked.contains_key(annotation::TKE_NETWORKS) {
        set.insert(TKE_STATUS.to_owned(), text.into());
    }
    Ok(set)
}

/// Returns one entry for each interface in the pod that the delegate made; one, if it names none.
fn entries(delegate: &Delegate, info: Option<Map<String, Value>>) -> Result<Vec<Value>, Error> {
    let empty = Map::new();
    let result = CniResult::parse(delegate.result.as_ref().unwrap_or(&empty))?;
    let of_pod = result.interfaces.iter().enumerate();
    let mut interfaces: Vec<(Option<usize>, Interface)> = of_pod
        .filter(|(_, interface)| {
            interface
                .sandbox
                .as_deref()
                .is_some_and(|path| !path.is_empty())
        })
        .map(|(index, interface)| (Some(index), interface.clone()))
        .collect();
    if interfaces.is_empty() {
        let interface = Interface {
            name: delegate.ifname.clone(),
            ..Interface::default()
        };
        interfaces.push((None, interface));
    }
    let alone = interfaces.len() == 1;
    let network = delegate.label.as_deref().unwrap_or(&delegate.name);
    let mut entries = Vec::new();
    for (position, (index, interface)) in interfaces.iter().enumerate() {
        let on_it = |of: Option<usize>| alone || of == *index;
        let own = result.ips.iter().filter(|ip| on_it(ip.interface));
        let ips: Vec<String> = own
            .clone()
            .map(|ip| ip.address.addr().to_string())
            .collect();
        let gateways: BTreeSet<String> = result
            .routes
            .iter()
            .filter(|route| route.dst.prefix_len() == 0 && position == 0)
            .filter_map(|route| route.gw)
            .map(|gateway| gateway.to_string())
            .collect();
        let mut entry = json!({
            "name": network,
            "interface": interface.name,
            "dns": result.dns,
        });
        let mut put = |key: &str, value: Value| {
            entry[key] = value;
        };
        if !ips.is_empty() {
            put("ips", ips.into());
        }
        if let Some(mac) = &interface.mac {
            put("mac", mac.as_str().into());
        }
        if let Some(mtu) = interface.mtu {
            put("mtu", mtu.into());
        }
        if delegate.primary && position == 0 {
            put("default", true.into());
        }
        if !gateways.is_empty() {
            put("gateway", gateways.into_iter().collect::<Vec<_>>().into());
        }
        if let Some(info) = info.as_ref().filter(|_| position == 0) {
            put("device-info", info.clone().into());
        }
        entries.push(entry);
    }
    Ok(entries)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn delegate(result: Value, primary: bool) -> Delegate {
        let conf = json!({"name": "n", "type": "t"});
        let mut delegate =
            Delegate::from_conf(conf.as_object().unwrap(), |_| String::new()).unwrap();
        delegate.result = result.as_object().cloned();
        delegate.ifname = "net1".to_owned();
        delegate.primary = primary;
        delegate
    }

    #[test]
    fn an_entry_for_each_interface_of_the_pod() {
        let result = json!({"cniVersion": "1.0.0", "interfaces": [
            {"name": "br0", "mac": "02:00:00:00:00:01"},
            {"name": "eth0", "mac": "02:00:00:00:00:02", "sandbox": "/n"},
            {"name": "eth0b", "sandbox": "/n"}],
            "ips": [{"address": "10.0.0.2/24", "interface": 1},
                {"address": "10.0.1.2/24", "interface": 2}],
            "routes": [{"dst": "0.0.0.0/0", "gw": "10.0.0.1"}], "dns": {"domain": "d"}});
        let all = entries(&delegate(result, true), None).unwrap();
        assert_eq!(
            all,
            [
                json!({"name": "n", "interface": "eth0", "ips": ["10.0.0.2"], "default": true,
                    "mac": "02:00:00:00:00:02", "gateway": ["10.0.0.1"], "dns": {"domain": "d"}}),
                json!({"name": "n", "interface": "eth0b", "ips": ["10.0.1.2"],
                    "dns": {"domain": "d"}})
            ]
        );
    }

    #[test]
    fn an_old_result_names_no_interface_and_tke_reads_its_own_key() {
        let result = json!({"cniVersion": "0.2.0", "ip4": {"ip": "10.0.0.2/24"}});
        let mut one = delegate(result, false);
        one.label = Some("ns/n".to_owned());
        let info = || json!({"type": "pci"}).as_object().cloned();
        let asked = [(annotation::TKE_NETWORKS.to_owned(), "n".to_owned())].into();
        let set = annotations(&asked, &[one], |_| info()).unwrap();
        assert_eq!(set.len(), 2);
        let text: Value = serde_json::from_str(set[STATUS].as_str().unwrap()).unwrap();
        assert_eq!(
            text,
            json!([{"name": "ns/n", "interface": "net1", "ips": ["10.0.0.2"], "dns": {},
                "device-info": {"type": "pci"}}])
        );
    }
}
