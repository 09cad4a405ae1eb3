// SPDX-License-Identifier: Apache-2.0
//! Results of ADD in every version of the CNI specification, and the way from each to each.
//!
//! Four shapes exist: 0.1.0 and 0.2.0 have `ip4` and `ip6`; 0.3.0 to 0.4.0 have lists, with the
//! IP version beside each address; 1.0.0 drops that; 1.1.0 adds members to interfaces and routes.
//! What an older shape has no room for is left out.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};

use crate::Error;
use crate::spec::fields::{self, Fields};
use crate::spec::version::Version;

/// Result of an ADD, in the newest version's shape.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CniResult {
    /// Interfaces made, in the pod and on the host.
    pub interfaces: Vec<Interface>,
    /// Addresses given.
    pub ips: Vec<Ip>,
    /// Routes made.
    pub routes: Vec<Route>,
    /// `nameservers`, `domain`, `search`, `options`.
    pub dns: Map<String, Value>,
}

/// Interface of a result.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Interface name.
    pub name: String,
    /// MAC address, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// MTU in bytes (since 1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The network namespace's path; absent for an interface of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<String>,
    /// Absolute path of the socket that is the interface (since 1.1.0).
    #[serde(
        default,
        rename = "socketPath",
        skip_serializing_if = "Option::is_none"
    )]
    pub socket_path: Option<String>,
    /// PCI address of the device behind it (since 1.1.0).
    #[serde(default, rename = "pciID", skip_serializing_if = "Option::is_none")]
    pub pci_id: Option<String>,
}

/// IP address of a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ip {
    /// Index into `interfaces`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<usize>,
    /// The address with its prefix length.
    pub address: IpNet,
    /// The gateway of its subnet.
    #[serde(
        default,
        deserialize_with = "address",
        skip_serializing_if = "Option::is_none"
    )]
    pub gateway: Option<IpAddr>,
}

/// Route of a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Destination prefix.
    pub dst: IpNet,
    /// Through whom.
    #[serde(
        default,
        deserialize_with = "address",
        skip_serializing_if = "Option::is_none"
    )]
    pub gw: Option<IpAddr>,
    /// `mtu`, `advmss`, `priority`, `table`, `scope` (since 1.1.0).
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// An address; plugins in Go write an absent one as an empty string.
fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<IpAddr>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.filter(|text| !text.is_empty())
        .map(|text| text.parse().map_err(serde::de::Error::custom))
        .transpose()
}

/// `ip4` or `ip6` of 0.1.0 and 0.2.0.
#[derive(Debug, Deserialize)]
struct OldIp {
    ip: IpNet,
    #[serde(default, deserialize_with = "address")]
    gateway: Option<IpAddr>,
    #[serde(default)]
    routes: Option<Vec<Route>>,
}

/// The version a result says it has; 0.1.0 if it says none.
///
/// # Errors
/// [`Error::Version`].
pub fn version_of(result: &Map<String, Value>) -> Result<Version, Error> {
    Version::parse(
        Fields::new(result)
            .string("cniVersion")?
            .unwrap_or_default(),
    )
}

/// Gives a result without a version the one that it has: that of the configuration which its plugin got, as the
/// reference implementation (libcni) does. Where that has none either, or an older one than the result's
/// members, the members tell.
pub fn complete(result: &mut Map<String, Value>, conf: &Map<String, Value>) {
    let written = |map: &Map<String, Value>| {
        let text = fields::find(map, "cniVersion").and_then(Value::as_str);
        text.filter(|text| !text.is_empty()).map(str::to_owned)
    };
    if written(result).is_some() {
        return;
    }
    let mut version = written(conf).unwrap_or_else(|| Version::V0_1_0.as_str().to_owned());
    let has = |key| fields::find(result, key).is_some();
    let is_new = (has("ips") || has("interfaces")) && !has("ip4") && !has("ip6");
    if is_new && Version::parse(&version).is_ok_and(|version| shape(version) == 0) {
        let ips = fields::find(result, "ips").and_then(Value::as_array);
        let mut ips = ips.into_iter().flatten().filter_map(Value::as_object);
        let numbered = ips.any(|ip| fields::find(ip, "version").is_some());
        let of_members = if numbered {
            Version::V0_4_0
        } else {
            Version::V1_0_0
        };
        of_members.as_str().clone_into(&mut version);
    }
    fields::set(result, "cniVersion", version.into());
}

/// A result in another version's shape. Members unknown to us survive where the shape does.
///
/// # Errors
/// [`Error::Version`] or [`Error::Internal`]: it is not a result of the version it claims.
pub fn convert(result: &Map<String, Value>, to: Version) -> Result<Map<String, Value>, Error> {
    let from = version_of(result)?;
    let widened = from == Version::V1_0_0 && to == Version::V1_1_0;
    if shape(from) == shape(to) || widened {
        let mut same = result.clone();
        fields::set(&mut same, "cniVersion", to.as_str().into());
        return Ok(same);
    }
    Ok(CniResult::parse(result)?.render(to))
}

/// Shape of results, of which the versions have four.
fn shape(version: Version) -> u8 {
    match version {
        Version::V0_1_0 | Version::V0_2_0 => 0,
        Version::V0_3_0 | Version::V0_3_1 | Version::V0_4_0 => 1,
        Version::V1_0_0 => 2,
        Version::V1_1_0 => 3,
    }
}

impl CniResult {
    /// Reads a result of any version.
    ///
    /// # Errors
    /// [`Error::Version`]: its version is unknown. [`Error::Internal`]: it does not have the
    /// version's shape.
    pub fn parse(result: &Map<String, Value>) -> Result<CniResult, Error> {
        let fields = Fields::new(result);
        let mut parsed = CniResult {
            dns: fields
                .get("dns")
                .and_then(Value::as_object)
                .cloned()
                .unwrap_or_default(),
            ..CniResult::default()
        };
        if shape(version_of(result)?) == 0 {
            for key in ["ip4", "ip6"] {
                if let Some(old) = member::<OldIp>(&fields, key)? {
                    parsed.take(old);
                }
            }
            return Ok(parsed);
        }
        parsed.interfaces = member(&fields, "interfaces")?.unwrap_or_default();
        parsed.ips = member(&fields, "ips")?.unwrap_or_default();
        parsed.routes = member(&fields, "routes")?.unwrap_or_default();
        Ok(parsed)
    }

    /// Takes in an old shape's address. Its routes without a gateway mean the address's.
    fn take(&mut self, old: OldIp) {
        self.ips.push(Ip {
            interface: None,
            address: old.ip,
            gateway: old.gateway,
        });
        for mut route in old.routes.unwrap_or_default() {
            route.gw = route.gw.or(old.gateway);
            self.routes.push(route);
        }
    }

    /// The result in the shape of `version`.
    pub fn render(&self, version: Version) -> Map<String, Value> {
        let mut object = Map::new();
        object.insert("cniVersion".into(), version.as_str().into());
        if shape(version) == 0 {
            for (key, v4) in [("ip4", true), ("ip6", false)] {
                if let Some(old) = self.old_ip(v4) {
                    object.insert(key.into(), old);
                }
            }
        } else {
            self.render_lists(version, &mut object);
        }
        object.insert("dns".into(), Value::Object(self.dns.clone()));
        object
    }

    fn render_lists(&self, version: Version, object: &mut Map<String, Value>) {
        let rich = version >= Version::V1_1_0;
        let interfaces: Vec<Value> = self
            .interfaces
            .iter()
            .map(|interface| {
                let mut interface = interface.clone();
                if !rich {
                    interface.mtu = None;
                    interface.socket_path = None;
                    interface.pci_id = None;
                }
                json!(interface)
            })
            .collect();
        let ips: Vec<Value> = self
            .ips
            .iter()
            .map(|ip| {
                let mut value = json!(ip);
                if shape(version) == 1 {
                    value["version"] = if is_v4(&ip.address) { "4" } else { "6" }.into();
                }
                value
            })
            .collect();
        let routes: Vec<Value> = self.routes.iter().map(|route| route.value(rich)).collect();
        for (key, list) in [("interfaces", interfaces), ("ips", ips), ("routes", routes)] {
            if !list.is_empty() {
                object.insert(key.into(), Value::Array(list));
            }
        }
    }

    /// The first address of one IP version with that version's routes: all the old shape holds.
    fn old_ip(&self, v4: bool) -> Option<Value> {
        let ip = self.ips.iter().find(|ip| is_v4(&ip.address) == v4)?;
        let mut old = json!({"ip": ip.address});
        if let Some(gateway) = ip.gateway {
            old["gateway"] = json!(gateway);
        }
        let routes: Vec<Value> = self
            .routes
            .iter()
            .filter(|route| is_v4(&route.dst) == v4)
            .map(|route| route.value(false))
            .collect();
        if !routes.is_empty() {
            old["routes"] = Value::Array(routes);
        }
        Some(old)
    }
}

impl Route {
    fn value(&self, rich: bool) -> Value {
        let mut route = self.clone();
        if !rich {
            route.more.clear();
        }
        json!(route)
    }
}

fn is_v4(net: &IpNet) -> bool {
    matches!(net, IpNet::V4(_))
}

fn member<T: serde::de::DeserializeOwned>(
    fields: &Fields<'_>,
    key: &str,
) -> Result<Option<T>, Error> {
    fields
        .get(key)
        .map(|value| T::deserialize(value))
        .transpose()
        .map_err(|error| {
            Error::Internal(format!("the result's {key} is not as CNI has it: {error}"))
        })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    fn rich() -> Map<String, Value> {
        object(json!({
            "cniVersion": "1.1.0",
            "interfaces": [{"name": "net1", "mac": "02:00:00:00:00:01", "mtu": 1500,
                            "sandbox": "/run/netns/x", "socketPath": "/run/s.sock"}],
            "ips": [{"interface": 0, "address": "10.1.2.3/24", "gateway": "10.1.2.1"},
                    {"interface": 0, "address": "fd00::3/64"}],
            "routes": [{"dst": "0.0.0.0/0", "mtu": 1400}, {"dst": "fd01::/64", "gw": "fd00::1"}],
            "dns": {"nameservers": ["10.0.0.53"]},
        }))
    }

    #[test]
    fn a_result_without_a_version_has_that_of_its_configuration_or_of_its_members() {
        let ips = json!([{"address": "10.0.0.2/24"}]);
        let old = json!({"ip": "10.0.0.2/24"});
        for (result, conf, version) in [
            (json!({"ips": ips}), json!({"cniVersion": "0.4.0"}), "0.4.0"),
            (
                json!({"ips": ips, "cniVersion": ""}),
                json!({"cniVersion": "1.1.0"}),
                "1.1.0",
            ),
            (
                json!({"ips": ips, "cniVersion": "0.3.1"}),
                json!({"cniVersion": "1.1.0"}),
                "0.3.1",
            ),
            (json!({"ips": ips, "interfaces": []}), json!({}), "1.0.0"),
            (
                json!({"ips": [{"version": "4", "address": "10.0.0.2/24"}]}),
                json!({}),
                "0.4.0",
            ),
            (json!({"ip4": old}), json!({}), "0.1.0"),
            (json!({"ip4": old}), json!({"cniVersion": "0.2.0"}), "0.2.0"),
            (json!({}), json!({"cniVersion": "1.0.0"}), "1.0.0"),
        ] {
            let mut completed = object(result.clone());
            complete(&mut completed, &object(conf));
            assert_eq!(completed["cniVersion"], version, "{result}");
            let ips = CniResult::parse(&completed).unwrap().ips;
            assert_eq!(ips.is_empty(), result == json!({}), "{result}");
        }
    }

    #[test]
    fn down_to_the_first_shape() {
        for version in [Version::V0_1_0, Version::V0_2_0] {
            let old = Value::Object(convert(&rich(), version).unwrap());
            assert_eq!(
                old,
                json!({
                    "cniVersion": version.as_str(),
                    "ip4": {"ip": "10.1.2.3/24", "gateway": "10.1.2.1",
                            "routes": [{"dst": "0.0.0.0/0"}]},
                    "ip6": {"ip": "fd00::3/64", "routes": [{"dst": "fd01::/64", "gw": "fd00::1"}]},
                    "dns": {"nameservers": ["10.0.0.53"]},
                })
            );
        }
    }

    #[test]
    fn the_middle_shape_names_ip_versions_and_has_no_1_1_members() {
        let middle = Value::Object(convert(&rich(), Version::V0_4_0).unwrap());
        assert_eq!(middle["ips"][0]["version"], "4");
        assert_eq!(middle["ips"][1]["version"], "6");
        assert!(middle["interfaces"][0].get("mtu").is_none());
        assert!(middle["interfaces"][0].get("socketPath").is_none());
        assert_eq!(middle["routes"][0], json!({"dst": "0.0.0.0/0"}));
        let one = Value::Object(convert(&rich(), Version::V1_0_0).unwrap());
        assert!(one["ips"][0].get("version").is_none());
        assert!(one["interfaces"][0].get("mtu").is_none());
        assert_eq!(one["interfaces"][0]["sandbox"], "/run/netns/x");
    }

    #[test]
    fn up_from_the_first_shape_routes_get_the_gateway() {
        let old = object(json!({
            "cniVersion": "0.2.0",
            "ip4": {"ip": "10.1.2.3/24", "gateway": "10.1.2.1", "routes": [{"dst": "0.0.0.0/0"}]},
        }));
        let new = Value::Object(convert(&old, Version::V1_1_0).unwrap());
        assert_eq!(
            new["ips"],
            json!([{"address": "10.1.2.3/24", "gateway": "10.1.2.1"}])
        );
        assert_eq!(
            new["routes"],
            json!([{"dst": "0.0.0.0/0", "gw": "10.1.2.1"}])
        );
        let middle = Value::Object(convert(&old, Version::V0_3_1).unwrap());
        assert_eq!(middle["ips"][0]["version"], "4");
    }

    #[test]
    fn every_version_leads_to_every_version() {
        for from in Version::ALL {
            let start = convert(&rich(), from).unwrap();
            for to in Version::ALL {
                let end = convert(&start, to).unwrap();
                assert_eq!(version_of(&end).unwrap(), to);
                let ips = CniResult::parse(&end).unwrap().ips;
                assert_eq!(ips.len(), 2, "{from:?} to {to:?}");
                assert_eq!(ips[0].gateway, Some("10.1.2.1".parse().unwrap()));
            }
        }
    }

    #[test]
    fn strangers_survive_where_the_shape_does() {
        let mut result = rich();
        result.insert("vendor".into(), json!(1));
        result.insert("cniVersion".into(), "0.3.0".into());
        assert_eq!(convert(&result, Version::V0_4_0).unwrap()["vendor"], 1);
    }

    #[test]
    fn an_empty_gateway_is_none_and_nonsense_is_refused() {
        let result = object(json!({"cniVersion": "1.0.0",
            "ips": [{"address": "10.0.0.1/8", "gateway": ""}]}));
        assert_eq!(CniResult::parse(&result).unwrap().ips[0].gateway, None);
        let result = object(json!({"cniVersion": "1.0.0", "ips": [{"address": "ten"}]}));
        assert!(CniResult::parse(&result).is_err());
        let layer2 = object(json!({"cniVersion": "1.0.0", "interfaces": []}));
        let old = Value::Object(convert(&layer2, Version::V0_2_0).unwrap());
        assert_eq!(old, json!({"cniVersion": "0.2.0", "dns": {}}));
    }
}
