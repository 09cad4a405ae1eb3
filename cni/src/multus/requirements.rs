// SPDX-License-Identifier: Apache-2.0
//! [`Requirements`]: MAC, IPs, routes and device that a selection element asks of its delegate, passed as runtimeConfig where the
//! plugins declare the capability, `CNI_ARGS` where that has always worked, a refusal elsewhere.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Map, Value};

use super::annotation::NetworkSelectionElement;
use super::capability;
use crate::Error;
use crate::spec::delegate::Delegate;
use crate::spec::fields;
use crate::spec::result::CniResult;

/// Requirements that are verified once the delegate has run.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Requirements {
    /// MAC address that its result must have.
    pub(super) mac: Option<String>,
    /// Addresses that its result must have.
    pub(super) ips: Vec<String>,
    /// Whether the pod's default route is to go through it: by these gateways, or, with none named, by
    /// its own.
    pub(super) default_route: Option<Vec<IpAddr>>,
    /// Device of the network: resource name and device id.
    pub(super) device: Option<(String, String)>,
}

/// Gives a delegate what `selection` asks for.
///
/// # Errors
/// [`Error::Config`], naming what its plugins do not declare.
pub(super) fn apply(
    delegate: &mut Delegate,
    selection: &NetworkSelectionElement,
    strict: bool,
) -> Result<Requirements, Error> {
    let mut requirements = Requirements {
        default_route: selection.default_route.clone(),
        ..Requirements::default()
    };
    let texts = |ips: &[String]| Value::from(ips.to_vec());
    let by_args = [
        ("mac", "MAC", selection.mac.clone().map(Value::from)),
        (
            "ips",
            "IP",
            (!selection.ips.is_empty()).then(|| texts(&selection.ips)),
        ),
    ];
    let mut args = Vec::new();
    for (capability, name, value) in by_args {
        let Some(value) = value else { continue };
        let value = checked(delegate, capability, &value)?;
        if capability == "mac"
            && is_ours(delegate)
            && value.as_str().and_then(capability::bytes) != Some(6)
        {
            return Err(Error::Config(format!(
                "network {}: mac {value} is not one of Ethernet, which has 6 bytes",
                delegate.name
            )));
        }
        if delegate.declares(capability) {
            delegate.runtime_config.insert(capability.to_owned(), value);
        } else if strict {
            return Err(undeclared(delegate, capability));
        } else {
            let text = match &value {
                Value::Array(ips) => {
                    let ips: Vec<&str> = ips.iter().filter_map(Value::as_str).collect();
                    ips.join(",")
                }
                value => value.as_str().unwrap_or_default().to_owned(),
            };
            args.push(format!("{name}={text}"));
            match name {
                "MAC" => requirements.mac.clone_from(&selection.mac),
                _ => requirements.ips.clone_from(&selection.ips),
            }
        }
    }
    delegate.more_args = args;
    let by_capability = [
        (
            "infinibandGUID",
            selection.infiniband_guid.clone().map(Value::from),
        ),
        ("portMappings", selection.port_mappings.clone()),
        ("bandwidth", selection.bandwidth.clone()),
    ];
    for (capability, value) in by_capability {
        let Some(value) = value else { continue };
        if !delegate.declares(capability) {
            return Err(undeclared(delegate, capability));
        }
        let value = checked(delegate, capability, &value)?;
        delegate.runtime_config.insert(capability.to_owned(), value);
    }
    if !selection.cni_args.is_empty() {
        for plugin in &mut delegate.plugins {
            merge_args(plugin, &selection.cni_args);
        }
    }
    Ok(requirements)
}

/// The value of a capability with its defaults.
fn checked(delegate: &Delegate, capability: &str, value: &Value) -> Result<Value, Error> {
    capability::checked(capability, value)
        .map_err(|error| Error::Config(format!("network {}: {error}", delegate.name)))
}

/// Checks what the runtime passed, where a plugin is going to get it, and fills in defaults.
///
/// # Errors
/// [`Error::Config`], naming the network and the member.
pub(super) fn check_runtime_config(delegate: &mut Delegate) -> Result<(), Error> {
    let passed = std::mem::take(&mut delegate.runtime_config);
    for (capability, value) in passed {
        let value = if delegate.declares(&capability) {
            checked(delegate, &capability, &value)?
        } else {
            value
        };
        delegate.runtime_config.insert(capability, value);
    }
    Ok(())
}

/// Whether its interface is made by the plugin that is built with this one.
fn is_ours(delegate: &Delegate) -> bool {
    delegate.program() == "sluicegate-vf"
}

fn undeclared(delegate: &Delegate, capability: &str) -> Error {
    Error::Config(format!(
        "the pod asks for {capability} on network {}, and none of its plugins ({}) declares that \
         capability",
        delegate.name,
        delegate.programs().collect::<Vec<_>>().join(", ")
    ))
}

/// `cni-args` over what `args.cni` has already.
fn merge_args(plugin: &mut Map<String, Value>, more: &Map<String, Value>) {
    let object = |map: &Map<String, Value>, key| {
        let inner = fields::find(map, key).and_then(Value::as_object);
        inner.cloned().unwrap_or_default()
    };
    let mut args = object(plugin, "args");
    let mut cni = object(&args, "cni");
    cni.extend(more.clone());
    fields::set(&mut args, "cni", cni.into());
    fields::set(plugin, "args", args.into());
}

/// Gives a delegate its device: to every plugin of it, under both names that plugins know.
pub(super) fn set_device(delegate: &mut Delegate, id: &str) {
    for plugin in &mut delegate.plugins {
        for key in ["deviceID", "pciBusID"] {
            fields::set(plugin, key, id.into());
        }
    }
    delegate
        .runtime_config
        .insert("deviceID".to_owned(), id.into());
}

impl Requirements {
    /// Looks whether a delegate's result has what could only be asked for by `CNI_ARGS`, which a plugin
    /// may pass over.
    ///
    /// # Errors
    /// [`Error::Config`]: it has not.
    pub(super) fn verify(&self, delegate: &Delegate) -> Result<(), Error> {
        if self.mac.is_none() && self.ips.is_empty() {
            return Ok(());
        }
        let empty = Map::new();
        let result = CniResult::parse(delegate.result.as_ref().unwrap_or(&empty))?;
        let unmet = |what: &str, asked: &str| {
            Err(Error::Config(format!(
                "the pod asks for {what} {asked} on {}, and network {} gave another: its plugins \
                 neither declare the capability nor follow CNI_ARGS",
                delegate.ifname, delegate.name
            )))
        };
        if let Some(mac) = &self.mac {
            let plain = |mac: &str| mac.replace('-', ":").to_ascii_lowercase();
            let mut macs = result
                .interfaces
                .iter()
                .filter_map(|there| there.mac.as_ref());
            // Results before 0.3.0 have no room for it.
            if !result.interfaces.is_empty() && !macs.any(|there| plain(there) == plain(mac)) {
                return unmet("MAC address", mac);
            }
        }
        for asked in &self.ips {
            let address = asked
                .parse::<IpNet>()
                .map(|net| net.addr())
                .or_else(|_| asked.parse::<IpAddr>())
                .ok();
            let mut ips = result.ips.iter();
            if !ips.any(|ip| Some(ip.address.addr()) == address) {
                return unmet("address", asked);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::multus::annotation;
    use serde_json::json;

    fn delegate(conf: Value) -> Delegate {
        Delegate::from_conf(conf.as_object().unwrap(), |_| "n".to_owned()).unwrap()
    }

    fn element(more: &str) -> NetworkSelectionElement {
        let text = format!("[{{\"name\": \"a\", {more}}}]");
        annotation::parse("k", &text).unwrap().remove(0)
    }

    #[test]
    fn what_is_declared_goes_into_runtime_config() {
        let mut chain = delegate(json!({"plugins": [{"type": "a"},
            {"type": "b", "capabilities": {"mac": true, "ips": true, "bandwidth": true,
            "portMappings": true, "infinibandGUID": true}}]}));
        let all = element(
            r#""mac": "02:00:00:00:00:01", "ips": ["10.0.0.1/24"], "bandwidth": {},
            "portMappings": [], "infiniband-guid": "c2:11:22:33:44:55:66:77""#,
        );
        let requirements = apply(&mut chain, &all, true).unwrap();
        assert_eq!(requirements, Requirements::default());
        assert_eq!(chain.runtime_config.len(), 5);
        assert!(chain.more_args.is_empty());
    }

    #[test]
    fn what_is_not_declared_goes_by_args_or_is_refused() {
        let plain = || delegate(json!({"type": "a", "capabilities": {"mac": false}}));
        let mac = element(r#""mac": "02:00:00:00:00:01", "ips": ["10.0.0.1/24", "fd00::1"]"#);
        let mut by_args = plain();
        let requirements = apply(&mut by_args, &mac, false).unwrap();
        assert_eq!(
            by_args.more_args,
            ["MAC=02:00:00:00:00:01", "IP=10.0.0.1/24,fd00::1"]
        );
        assert!(requirements.mac.is_some() && requirements.ips.len() == 2);
        assert_eq!(apply(&mut plain(), &mac, true).unwrap_err().code(), 7);
        for refused in [
            r#""portMappings": []"#,
            r#""bandwidth": {}"#,
            r#""infiniband-guid": "g""#,
        ] {
            let error = apply(&mut plain(), &element(refused), false).unwrap_err();
            assert_eq!(error.code(), 7, "{refused}");
        }
    }

    #[test]
    fn a_result_is_held_against_what_was_asked() {
        let mut done = delegate(json!({"type": "a"}));
        let asked = element(r#""mac": "02-00-00-00-00-0A", "ips": ["10.0.0.1"]"#);
        let requirements = apply(&mut done, &asked, false).unwrap();
        let mut with = |mac: &str, ip: &str| {
            let result = json!({"cniVersion": "1.0.0", "ips": [{"address": ip}],
                "interfaces": [{"name": "net1", "mac": mac, "sandbox": "/n"}]});
            done.result = result.as_object().cloned();
            requirements.verify(&done)
        };
        assert!(with("02:00:00:00:00:0a", "10.0.0.1/24").is_ok());
        assert_eq!(
            with("02:00:00:00:00:0b", "10.0.0.1/24").unwrap_err().code(),
            7
        );
        assert_eq!(
            with("02:00:00:00:00:0a", "10.0.0.2/24").unwrap_err().code(),
            7
        );
    }

    #[test]
    fn arguments_are_merged_and_the_pod_wins() {
        let mut chain = delegate(json!({"plugins": [
            {"type": "a", "args": {"cni": {"k": 1, "keep": 2}, "other": 3}}, {"type": "b"}]}));
        apply(&mut chain, &element(r#""cni-args": {"k": 9}"#), false).unwrap();
        let args = json!({"cni": {"k": 9, "keep": 2}, "other": 3});
        assert_eq!(chain.plugins[0]["args"], args);
        assert_eq!(chain.plugins[1]["args"], json!({"cni": {"k": 9}}));
        set_device(&mut chain, "0000:01:10.0");
        for plugin in &chain.plugins {
            assert_eq!(
                (&plugin["deviceID"], &plugin["pciBusID"]),
                (&json!("0000:01:10.0"), &json!("0000:01:10.0"))
            );
        }
    }
}
