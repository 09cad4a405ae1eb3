// SPDX-License-Identifier: Apache-2.0
//! Values of runtimeConfig, checked before any plugin runs: the capabilities of CNI's conventions and of the
//! Network Plumbing specification, with the defaults that both give.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Map, Value, json};

use crate::Error;
use crate::spec::fields::Fields;

/// Least burst that is made up for a rate, in bits: one segmentation offload's worth of bytes (64 KiB).
const BURST_MIN: u64 = 8 * 65_536;
/// Largest burst that the bandwidth plugin takes, in bits.
const BURST_MAX: u64 = 8 * (u32::MAX as u64 - 1);

/// Returns the value of a capability with its defaults filled in. Values of capabilities that are not known here
/// are returned as they are.
///
/// # Errors
/// [`Error::Config`], naming the member: the value is not as the conventions have it.
pub(super) fn checked(capability: &str, value: &Value) -> Result<Value, Error> {
    let wrong = |want: &str| Error::Config(format!("{capability} must be {want}, not {value}"));
    match capability {
        "portMappings" => each(capability, value, port_mapping),
        "bandwidth" => bandwidth(value.as_object().ok_or_else(|| wrong("an object"))?),
        "ips" => each(capability, value, |ip| text(ip, is_address, "an address")),
        "mac" => text(value, is_mac, "6 or 20 bytes in hexadecimal with colons"),
        "infinibandGUID" => text(
            value,
            |guid| bytes(guid) == Some(8),
            "8 bytes in hexadecimal with colons",
        ),
        "aliases" => each(capability, value, |alias| text(alias, |_| true, "a name")),
        "dns" => dns(value.as_object().ok_or_else(|| wrong("an object"))?),
        "ipRanges" => each(capability, value, |set| each("a set", set, range)),
        "deviceID" | "cgroupPath" => text(value, |_| true, "text"),
        "CNIDeviceInfoFile" => text(value, |path| path.starts_with('/'), "an absolute path"),
        _ => Ok(value.clone()),
    }
    .map_err(|error| match error {
        Error::Config(why) if !why.starts_with(capability) => {
            Error::Config(format!("{capability}: {why}"))
        }
        error => error,
    })
}

fn each(
    what: &str,
    list: &Value,
    one: impl Fn(&Value) -> Result<Value, Error>,
) -> Result<Value, Error> {
    let list = list
        .as_array()
        .ok_or_else(|| Error::Config(format!("{what} must be a list, not {list}")))?;
    let entries = list.iter().enumerate().map(|(index, entry)| {
        one(entry).map_err(|error| Error::Config(format!("{what}[{index}]: {error}")))
    });
    entries.collect::<Result<Vec<_>, _>>().map(Value::Array)
}

fn text(value: &Value, good: impl Fn(&str) -> bool, want: &str) -> Result<Value, Error> {
    match value.as_str().filter(|text| good(text)) {
        Some(_) => Ok(value.clone()),
        None => Err(Error::Config(format!("must be {want}, not {value}"))),
    }
}

fn object(value: &Value) -> Result<Fields<'_>, Error> {
    value
        .as_object()
        .map(Fields::new)
        .ok_or_else(|| Error::Config(format!("must be an object, not {value}")))
}

/// Lists of `servers`, `searches` and `options`.
fn dns(members: &Map<String, Value>) -> Result<Value, Error> {
    for (key, list) in members {
        let of = match key.to_ascii_lowercase().as_str() {
            "servers" => |ip: &str| ip.parse::<IpAddr>().is_ok(),
            "searches" | "options" => |_: &str| true,
            _ => continue,
        };
        each(key, list, |entry| {
            text(entry, of, "text; a server is an address")
        })?;
    }
    Ok(members.clone().into())
}

/// `hostPort`, `containerPort`, `protocol` (TCP if absent), `hostIP`.
fn port_mapping(value: &Value) -> Result<Value, Error> {
    let fields = object(value)?;
    for key in ["hostPort", "containerPort"] {
        fields
            .integer::<u16>(key, 1, 65_535)?
            .ok_or_else(|| fields.wrong(key, "a port from 1 to 65535, as a number"))?;
    }
    let protocol = fields.string("protocol")?.unwrap_or_default();
    if !["", "tcp", "udp", "sctp"].contains(&protocol.to_ascii_lowercase().as_str()) {
        return Err(fields.wrong("protocol", "tcp, udp or sctp"));
    }
    let host_ip = fields.string("hostIP")?.filter(|ip| !ip.is_empty());
    if host_ip.is_some_and(|ip| ip.parse::<IpAddr>().is_err()) {
        return Err(fields.wrong("hostIP", "an address"));
    }
    let mut mapping = fields.map().clone();
    if protocol.is_empty() {
        crate::spec::fields::set(&mut mapping, "protocol", "tcp".into());
    }
    Ok(mapping.into())
}

/// Rates and bursts in bits. A rate without a burst gets one: what the rate carries in 100 ms.
fn bandwidth(value: &Map<String, Value>) -> Result<Value, Error> {
    let fields = Fields::new(value);
    let mut filled = value.clone();
    for direction in ["ingress", "egress"] {
        let (rate_key, burst_key) = (format!("{direction}Rate"), format!("{direction}Burst"));
        let rate: u64 = fields.integer(&rate_key, 0, u64::MAX)?.unwrap_or_default();
        let burst: u64 = fields
            .integer(&burst_key, 0, BURST_MAX)?
            .unwrap_or_default();
        if rate == 0 && burst != 0 {
            return Err(fields.wrong(&rate_key, &format!("given with {burst_key}")));
        }
        if rate != 0 && burst == 0 {
            let burst = (rate / 10).clamp(BURST_MIN, BURST_MAX);
            crate::spec::fields::set(&mut filled, &burst_key, json!(burst));
        }
    }
    Ok(filled.into())
}

fn range(value: &Value) -> Result<Value, Error> {
    let fields = object(value)?;
    let subnet = fields.string("subnet")?.unwrap_or_default();
    if subnet.parse::<IpNet>().is_err() {
        return Err(fields.wrong("subnet", "a prefix"));
    }
    for key in ["rangeStart", "rangeEnd", "gateway"] {
        let address = fields.string(key)?.filter(|text| !text.is_empty());
        if address.is_some_and(|text| text.parse::<IpAddr>().is_err()) {
            return Err(fields.wrong(key, "an address"));
        }
    }
    Ok(value.clone())
}

/// Whether a text is an address, with or without prefix length.
pub(super) fn is_address(text: &str) -> bool {
    text.parse::<IpNet>().is_ok() || text.parse::<IpAddr>().is_ok()
}

/// Number of bytes in a hardware address; `None` if it is none.
pub(super) fn bytes(text: &str) -> Option<usize> {
    let separator = if text.contains('-') { '-' } else { ':' };
    let parts: Vec<&str> = text.split(separator).collect();
    let good = |part: &&str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    parts.iter().all(good).then_some(parts.len())
}

/// Whether a text is an address of Ethernet (6 bytes, unicast) or of IP over InfiniBand (20, RFC 4391).
pub(super) fn is_mac(text: &str) -> bool {
    match bytes(text) {
        Some(6) => sluice_packet::Mac::parse_unicast(text).is_ok(),
        count => count == Some(20),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn every_member_of_the_wrong_kind_is_7_and_is_named() {
        let ip_over_ib = vec!["80"; 20].join(":");
        for (capability, bad, named) in [
            ("portMappings", json!({}), "portMappings"),
            ("portMappings", json!(["80"]), "portMappings[0]"),
            (
                "portMappings",
                json!([{"hostPort": "8080", "containerPort": 80}]),
                "hostPort",
            ),
            (
                "portMappings",
                json!([{"hostPort": 8080, "containerPort": "80"}]),
                "containerPort",
            ),
            ("portMappings", json!([{"hostPort": 8080}]), "containerPort"),
            (
                "portMappings",
                json!([{"hostPort": 70000, "containerPort": 80}]),
                "hostPort",
            ),
            (
                "portMappings",
                json!([{"hostPort": 0, "containerPort": 80}]),
                "hostPort",
            ),
            (
                "portMappings",
                json!([{"hostPort": 80, "containerPort": 80, "protocol": "icmp"}]),
                "protocol",
            ),
            (
                "portMappings",
                json!([{"hostPort": 80, "containerPort": 80, "hostIP": "here"}]),
                "hostIP",
            ),
            ("bandwidth", json!([]), "bandwidth"),
            ("bandwidth", json!({"ingressRate": "1M"}), "ingressRate"),
            ("bandwidth", json!({"egressRate": -1}), "egressRate"),
            ("bandwidth", json!({"egressRate": 1.5}), "egressRate"),
            ("bandwidth", json!({"ingressBurst": 1}), "ingressRate"),
            ("ips", json!("10.0.0.1"), "ips"),
            ("ips", json!(["10.0.0.300"]), "ips[0]"),
            ("ips", json!([10]), "ips[0]"),
            ("mac", json!(7), "mac"),
            ("mac", json!("02:00:00:00:00"), "mac"),
            ("mac", json!("01:00:5e:00:00:01"), "mac"),
            ("infinibandGUID", json!("g"), "infinibandGUID"),
            ("aliases", json!("web"), "aliases"),
            ("aliases", json!([1]), "aliases[0]"),
            ("dns", json!({"servers": ["ns1"]}), "servers[0]"),
            ("dns", json!({"searches": "a"}), "searches"),
            ("ipRanges", json!([{"subnet": "10.0.0.0/8"}]), "ipRanges[0]"),
            ("ipRanges", json!([[{"subnet": "10"}]]), "subnet"),
            ("deviceID", json!(1), "deviceID"),
            ("CNIDeviceInfoFile", json!("relative"), "CNIDeviceInfoFile"),
        ] {
            let error = checked(capability, &bad).unwrap_err();
            assert_eq!(error.code(), 7, "{capability} {bad}");
            let said = error.to_string();
            assert!(
                said.starts_with(capability) && said.contains(named),
                "{said}"
            );
        }
        for (capability, good) in [
            ("mac", json!("02:00:00:00:00:01")),
            ("mac", json!(ip_over_ib)),
            ("infinibandGUID", json!("c2:11:22:33:44:55:66:77")),
            ("ips", json!(["10.0.0.1/24", "fd00::1"])),
            (
                "dns",
                json!({"servers": ["10.0.0.53"], "searches": ["a"], "vendor": 1}),
            ),
            (
                "ipRanges",
                json!([[{"subnet": "10.0.0.0/8", "gateway": "10.0.0.1"}]]),
            ),
            ("vendor.example/any", json!(7)),
        ] {
            assert_eq!(checked(capability, &good).unwrap(), good);
        }
    }

    #[test]
    fn defaults_are_the_specifications() {
        let ports = json!([{"hostPort": 8080, "containerPort": 80},
            {"hostPort": 53, "containerPort": 53, "protocol": "UDP", "hostIP": ""}]);
        let ports = checked("portMappings", &ports).unwrap();
        assert_eq!(
            (&ports[0]["protocol"], &ports[1]["protocol"]),
            (&json!("tcp"), &json!("UDP"))
        );
        let rates =
            json!({"ingressRate": 1_000_000, "egressRate": 1_000_000_000, "egressBurst": 8_000});
        let rates = checked("bandwidth", &rates).unwrap();
        assert_eq!(rates["ingressBurst"], BURST_MIN);
        assert_eq!(rates["egressBurst"], 8_000);
        let fast = checked("bandwidth", &json!({"egressRate": 1_000_000_000})).unwrap();
        assert_eq!(fast["egressBurst"], 100_000_000);
        assert_eq!(checked("bandwidth", &json!({})).unwrap(), json!({}));
    }
}
