// SPDX-License-Identifier: Apache-2.0
//! [`NetworkSelectionElement`]: one network that a pod asks for, as text or as JSON in an annotation.
//!
//! Text is `namespace/name@interface, ...`; JSON is a list of selection elements (NPWG
//! specification 1.3, section 4.1). Members are found in any case, as the Go plugins find them;
//! unknown ones are passed over, since the specification lets vendors add their own.

use std::net::IpAddr;

use serde_json::{Map, Value};
use sluice_packet::{Mac, MacError};

use crate::Error;
use crate::multus::capability::{is_address, is_mac};
use crate::spec::call::{IfnameError, check_ifname};
use crate::spec::fields::Fields;

/// An element of a pod's networks.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::multus) struct NetworkSelectionElement {
    /// Name of the network's object or configuration.
    pub(in crate::multus) name: String,
    /// Namespace, if one is written.
    pub(in crate::multus) namespace: Option<String>,
    /// `interface`, or the older `interfaceRequest`.
    pub(in crate::multus) interface: Option<String>,
    /// `mac`.
    pub(in crate::multus) mac: Option<String>,
    /// `ips`: addresses with or without prefix length.
    pub(in crate::multus) ips: Vec<String>,
    /// `infiniband-guid`.
    pub(in crate::multus) infiniband_guid: Option<String>,
    /// `portMappings`.
    pub(in crate::multus) port_mappings: Option<Value>,
    /// `bandwidth`.
    pub(in crate::multus) bandwidth: Option<Value>,
    /// `deviceID`.
    pub(in crate::multus) device_id: Option<String>,
    /// `cni-args`.
    pub(in crate::multus) cni_args: Map<String, Value>,
    /// `default-route`: the gateways of the pod's default route; an empty list takes the network's own.
    pub(in crate::multus) default_route: Option<Vec<IpAddr>>,
}

/// Reads an annotation in either form. `key` names it in errors.
///
/// # Errors
/// [`Error::Config`]: it is not as either form has it.
pub(in crate::multus) fn parse(
    key: &str,
    text: &str,
) -> Result<Vec<NetworkSelectionElement>, Error> {
    let wrong = |why: String| Error::Config(format!("annotation {key}: {why}"));
    let text = text.trim();
    // The reference passes over a comma at the end.
    let text = text.strip_suffix(',').unwrap_or(text).trim_end();
    if text.is_empty() {
        return Ok(Vec::new());
    }
    // No name of either form holds one of these.
    if !text.contains(['[', '{', '"']) {
        return text
            .split(',')
            .map(|element| short(element.trim()).map_err(|error| wrong(error.to_string())))
            .collect();
    }
    if text.starts_with('{') {
        return Err(wrong(format!(
            "is one JSON object, and a list of them is wanted: write [{text}]"
        )));
    }
    let list: Vec<Value> = serde_json::from_str(text).map_err(|error| {
        wrong(format!(
            "is neither a list of names nor a JSON list of objects: {error}"
        ))
    })?;
    list.iter()
        .enumerate()
        .map(|(index, element)| {
            let map = element
                .as_object()
                .ok_or_else(|| wrong(format!("element {index} is not an object: {element}")))?;
            long(map).map_err(|error| wrong(format!("element {index}: {error}")))
        })
        .collect()
}

/// Reason why a network selection element is refused.
#[derive(Debug, thiserror::Error)]
enum ElementError {
    /// Separator that may be there once.
    #[error("{1:?} has two '{0}': write namespace/name@interface")]
    TwoOf(char, String),
    /// Member of the wrong kind.
    #[error(transparent)]
    Member(#[from] Box<Error>),
    /// IP claim without an IPAM that keeps it.
    #[error(
        "ipam-claim-reference: IP claims need an IPAM that keeps them, and no delegate here has \
         one: ask with ips instead"
    )]
    IpClaim,
    /// Addresses asked for in two ways.
    #[error("ips and ipam-claim-reference exclude each other: the claim says which addresses")]
    IpsAndClaim,
    /// Element without a name.
    #[error("a network has no name")]
    NoName,
    /// Name with the namespace in it, in JSON.
    #[error(
        "\"name\": {0:?} holds the namespace too, which has a member of its own in JSON: write \
         {{\"name\": {2:?}, \"namespace\": {1:?}}}"
    )]
    NamespaceInName(String, String, String),
    /// Name or namespace that no object can have.
    #[error(
        "{0:?} is not an object's name: lower-case letters, digits, '-' and '.' only, a letter or \
         digit at both ends"
    )]
    Label(String),
    /// Interface name that the kernel refuses.
    #[error("interface {0:?} {1}")]
    Interface(String, #[source] IfnameError),
    /// MAC address that no interface can have.
    #[error("mac: {0}")]
    Mac(#[from] MacError),
    /// Text in `ips` that is neither an address nor a prefix.
    #[error("ips holds {0:?}, which is not an address")]
    Ip(String),
}

/// `namespace/name@interface`.
fn short(text: &str) -> Result<NetworkSelectionElement, ElementError> {
    let (place, interface) = match text.split_once('@') {
        Some((_, rest)) if rest.contains('@') => {
            return Err(ElementError::TwoOf('@', text.to_owned()));
        }
        Some((place, interface)) => (place.trim(), Some(interface.trim())),
        None => (text, None),
    };
    let (namespace, name) = match place.split_once('/') {
        Some((_, rest)) if rest.contains('/') => {
            return Err(ElementError::TwoOf('/', text.to_owned()));
        }
        Some((namespace, name)) => (Some(namespace.trim()), name.trim()),
        None => (None, place),
    };
    let selection = NetworkSelectionElement {
        name: name.to_owned(),
        namespace: namespace.map(str::to_owned),
        interface: interface.map(str::to_owned),
        ..NetworkSelectionElement::default()
    };
    selection.check()?;
    Ok(selection)
}

fn long(map: &Map<String, Value>) -> Result<NetworkSelectionElement, ElementError> {
    let fields = Fields::new(map);
    let read = || -> Result<NetworkSelectionElement, Error> {
        let text = |key: &str| -> Result<Option<String>, Error> {
            let text = fields.string(key)?.filter(|text| !text.is_empty());
            Ok(text.map(str::to_owned))
        };
        Ok(NetworkSelectionElement {
            name: text("name")?.unwrap_or_default(),
            namespace: text("namespace")?,
            interface: text("interface")?.or(text("interfaceRequest")?),
            mac: text("mac")?,
            ips: strings(&fields, "ips")?,
            infiniband_guid: text("infiniband-guid")?,
            port_mappings: fields
                .list("portMappings")?
                .map(|list| list.to_vec().into()),
            bandwidth: fields
                .object("bandwidth")?
                .map(|rates| rates.map().clone().into()),
            device_id: text("deviceID")?,
            cni_args: fields
                .object("cni-args")?
                .map(|args| args.map().clone())
                .unwrap_or_default(),
            default_route: default_route(&fields)?,
        })
    };
    let selection = read().map_err(Box::new)?;
    selection.check()?;
    if fields
        .get("ipam-claim-reference")
        .is_some_and(|claim| *claim != "")
    {
        return Err(if selection.ips.is_empty() {
            ElementError::IpClaim
        } else {
            ElementError::IpsAndClaim
        });
    }
    Ok(selection)
}

fn strings(fields: &Fields<'_>, key: &str) -> Result<Vec<String>, Error> {
    let wrong = || fields.wrong(key, "a list of strings");
    let list = fields.list(key)?.unwrap_or_default();
    let texts = list.iter().map(|text| text.as_str().map(str::to_owned));
    texts.collect::<Option<_>>().ok_or_else(wrong)
}

fn default_route(fields: &Fields<'_>) -> Result<Option<Vec<IpAddr>>, Error> {
    if fields.get("default-route").is_none() {
        return Ok(None);
    }
    let texts = strings(fields, "default-route")?;
    let gateways = texts.iter().map(|text| text.parse().ok());
    let gateways: Vec<IpAddr> = gateways
        .collect::<Option<_>>()
        .ok_or_else(|| fields.wrong("default-route", "a list of gateways' addresses"))?;
    let of = |v4| gateways.iter().filter(|ip| ip.is_ipv4() == v4).count();
    if of(true) > 1 || of(false) > 1 {
        return Err(fields.wrong(
            "default-route",
            "one gateway for IPv4 and one for IPv6 at most",
        ));
    }
    Ok(Some(gateways))
}

impl NetworkSelectionElement {
    fn check(&self) -> Result<(), ElementError> {
        if self.name.is_empty() {
            return Err(ElementError::NoName);
        }
        if let Some((namespace, name)) = self.name.split_once('/') {
            return Err(ElementError::NamespaceInName(
                self.name.clone(),
                namespace.to_owned(),
                name.to_owned(),
            ));
        }
        for part in [Some(&self.name), self.namespace.as_ref()]
            .into_iter()
            .flatten()
        {
            if !is_label(part) {
                return Err(ElementError::Label(part.clone()));
            }
        }
        if let Some(name) = &self.interface
            && let Err(why) = check_ifname(name)
        {
            return Err(ElementError::Interface(name.clone(), why));
        }
        if let Some(mac) = self.mac.as_deref().filter(|mac| !is_mac(mac)) {
            Mac::parse_unicast(mac)?;
        }
        for ip in &self.ips {
            if !is_address(ip) {
                return Err(ElementError::Ip(ip.clone()));
            }
        }
        Ok(())
    }

    /// Returns `namespace/name`, the label of a network that has no other.
    pub(in crate::multus) fn label(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{namespace}/{}", self.name),
            None => self.name.clone(),
        }
    }
}

/// Whether Kubernetes would take it as an object's name (RFC 1123, subdomain).
pub(in crate::multus) fn is_label(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.len() <= 253
        && text.starts_with(inner)
        && text.ends_with(inner)
        && text.chars().all(|c| inner(c) || c == '-' || c == '.')
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn one(text: &str) -> Result<NetworkSelectionElement, Error> {
        parse("k", text).map(|mut list| list.remove(0))
    }

    #[test]
    fn names_places_and_interfaces() {
        let list = parse("k", "a, ns/b ,c@north,ns-2/d.e@net9").unwrap();
        let seen: Vec<_> = list
            .iter()
            .map(|one| (one.label(), one.interface.as_deref().unwrap_or("-")))
            .collect();
        let expected = [
            ("a", "-"),
            ("ns/b", "-"),
            ("c", "north"),
            ("ns-2/d.e", "net9"),
        ];
        assert_eq!(seen, expected.map(|(name, at)| (name.to_owned(), at)));
        for same in ["a,b", "a, b,", "a,b , "] {
            assert_eq!(parse("k", same).unwrap().len(), 2, "{same}");
        }
        assert_eq!(parse("k", " ").unwrap(), []);
        assert_eq!(parse("k", "[]").unwrap(), []);
    }

    #[test]
    fn what_is_malformed_is_7_and_names_the_annotation() {
        for bad in [
            "a/b/c",
            "a@b@c",
            "Upper",
            "a,,b",
            "a@0123456789abcdef",
            "a@x/y",
            "-a",
            "a-",
            "a@",
            "/a",
            "a b",
            "[{\"name\": \"a\"}",
            "{\"name\": \"a\"}",
            "[\"a\"]",
            "[{}]",
            r#"[{"name": "a", "mac": "zz"}]"#,
            r#"[{"name": "a", "mac": "01:00:5e:00:00:01"}]"#,
            r#"[{"name": "a", "ips": "10.0.0.1"}]"#,
            r#"[{"name": "a", "ips": ["10.0.0.300"]}]"#,
            r#"[{"name": "a", "default-route": ["10.0.0.0/8"]}]"#,
            r#"[{"name": "a", "default-route": ["10.0.0.1", "10.0.0.2"]}]"#,
            r#"[{"name": "a", "portMappings": {}}]"#,
            r#"[{"name": "a", "cni-args": []}]"#,
            r#"[{"name": "a", "ips": ["10.0.0.1"], "ipam-claim-reference": "c"}]"#,
            r#"[{"name": "a", "ipam-claim-reference": "c"}]"#,
        ] {
            let error = one(bad).unwrap_err();
            assert_eq!(error.code(), 7, "{bad}");
            assert!(error.to_string().contains("annotation k"), "{bad}: {error}");
        }
    }

    #[test]
    fn what_to_write_instead_is_said() {
        for (text, instead) in [
            (
                r#"[{"name": "ns/a"}]"#,
                r#"{"name": "a", "namespace": "ns"}"#,
            ),
            (r#" {"name": "a"}"#, r#"write [{"name": "a"}]"#),
        ] {
            let said = one(text).unwrap_err().to_string();
            assert!(said.contains(instead), "{said}");
        }
    }

    #[test]
    fn a_hardware_address_of_infiniband_is_taken() {
        let mac = vec!["80"; 20].join(":");
        let element = one(&format!(r#"[{{"name": "a", "mac": "{mac}"}}]"#)).unwrap();
        assert_eq!(element.mac, Some(mac));
    }

    #[test]
    fn every_member_of_an_element() {
        let all = one(r#"[{"Name": "a", "namespace": "ns", "interface": "north",
            "interfaceRequest": "old", "mac": "02:00:00:00:00:01", "ips": ["10.0.0.1/24", "fd00::1"],
            "infiniband-guid": "c2:11:22:33:44:55:66:77", "portMappings": [{"hostPort": 80}],
            "bandwidth": {"ingressRate": 1}, "deviceID": "0000:01:10.0", "cni-args": {"k": 1},
            "default-route": ["10.0.0.254"], "vendor.example/x": true}]"#)
        .unwrap();
        assert_eq!(all.interface.as_deref(), Some("north"));
        assert_eq!(all.ips.len(), 2);
        assert_eq!(all.default_route.unwrap().len(), 1);
        assert_eq!(all.cni_args["k"], 1);
        assert!(all.port_mappings.is_some() && all.bandwidth.is_some());
        assert!(all.infiniband_guid.is_some() && all.device_id.is_some());
        let old = one(r#"[{"name": "a", "interfaceRequest": "old"}]"#).unwrap();
        assert_eq!(old.interface.as_deref(), Some("old"));
    }
}
