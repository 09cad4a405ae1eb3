//! The interface plugin's own keys, as far as engine mode has them.

use std::path::PathBuf;

use serde_json::Value;
use sluice_api::VlanRequest;

use super::memif::MemifConf;

use crate::Error;
use crate::call::Call;
use crate::conf::NetConf;
use crate::fields::Fields;

/// The configuration of an engine attachment on an uplink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VfConf {
    /// `uplink`.
    pub uplink: String,
    /// `vlan`, or `vlans` with `native`; and `qinq`.
    pub vlan: VlanRequest,
    /// `firewall`.
    pub firewall: Option<String>,
    /// `mac`, or what the runtime asks for in its place.
    pub mac: Option<String>,
    /// `mtu`.
    pub mtu: Option<u32>,
    /// `tap`: a kernel interface in place of a memif.
    pub tap: bool,
    /// `memif`.
    pub memif: MemifConf,
    /// `ipam.type`; absent: no addresses.
    pub ipam: Option<String>,
    /// `deviceID`, from the key or runtimeConfig: names the directory of a device plugin.
    pub device_id: Option<String>,
    /// `runtimeConfig.CNIDeviceInfoFile`.
    pub device_info: Option<PathBuf>,
}

/// Keys that set up a VF, which an attachment on an uplink does not have.
const VF_KEYS: [&str; 10] = [
    "if0",
    "vf",
    "vlanQoS",
    "vlanProto",
    "min_tx_rate",
    "max_tx_rate",
    "spoofchk",
    "trust",
    "link_state",
    "l2enable",
];

impl VfConf {
    /// Reads and checks it.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn read(conf: &NetConf, call: &Call) -> Result<VfConf, Error> {
        let fields = conf.fields();
        check_mode(&fields)?;
        if let Some(key) = VF_KEYS.into_iter().find(|key| fields.get(key).is_some()) {
            return Err(Error::Config(format!(
                "{key} sets up a VF, and this build attaches pods to uplinks only: it needs the \
                 VF driver; remove the key"
            )));
        }
        let uplink = fields.string("uplink")?.unwrap_or_default().to_owned();
        if uplink.is_empty() {
            return Err(Error::Config(
                "uplink is missing: name one of the engine's (`sluicectl status` lists them)"
                    .into(),
            ));
        }
        let runtime = fields.object("runtimeConfig")?;
        let ipam = fields
            .object("ipam")?
            .map(|ipam| ipam.string("type"))
            .transpose()?
            .flatten();
        let read = VfConf {
            uplink,
            vlan: vlan(&fields)?,
            firewall: firewall(&fields)?,
            mac: mac(&fields, runtime.as_ref(), call)?,
            mtu: fields.integer("mtu", 68, 65_535)?,
            tap: fields.boolean("tap")?.unwrap_or_default(),
            memif: fields
                .object("memif")?
                .map(|memif| MemifConf::read(&memif))
                .transpose()?
                .unwrap_or_default(),
            ipam: ipam
                .filter(|program| !program.is_empty())
                .map(str::to_owned),
            device_id: device_id(&fields, runtime.as_ref())?,
            device_info: device_info(runtime.as_ref())?,
        };
        if read.ipam.as_deref() == Some("dhcp") {
            return Err(Error::Config(
                "ipam dhcp needs a kernel link to ask on, which an engine attachment has not: use \
                 host-local, static, or another that needs none"
                    .into(),
            ));
        }
        if read.tap && fields.get("memif").is_some() {
            return Err(Error::Config("tap and memif exclude each other".into()));
        }
        Ok(read)
    }
}

fn check_mode(fields: &Fields<'_>) -> Result<(), Error> {
    let mode = fields.string("mode")?;
    let dpdk = fields.get("dpdk").is_some();
    let mode = mode.unwrap_or(if dpdk { "vfio" } else { "kernel" });
    match mode {
        "engine" if dpdk => Err(Error::Config("dpdk goes with mode vfio, not engine".into())),
        "engine" => Ok(()),
        "kernel" | "vfio" => Err(Error::Config(format!(
            "mode {mode} is not in this build yet: it needs the VF driver; this build has mode \
             engine on a netdev uplink"
        ))),
        _ => Err(fields.wrong("mode", "kernel, vfio or engine")),
    }
}

fn vlan(fields: &Fields<'_>) -> Result<VlanRequest, Error> {
    let qinq = fields.boolean("qinq")?.unwrap_or_default();
    let access: Option<u16> = fields.integer("vlan", 0, 4094)?;
    let native: Option<u16> = fields.integer("native", 0, 4094)?;
    match (access, fields.list("vlans")?) {
        (Some(_), Some(_)) => Err(Error::Config(
            "vlan makes an access attachment and vlans a trunk: give one of them".into(),
        )),
        (_, None) if native.is_some() => Err(Error::Config(
            "native belongs to a trunk: give vlans too".into(),
        )),
        (access, None) => Ok(VlanRequest::Access {
            vid: access.unwrap_or(0),
            qinq,
        }),
        (None, Some(list)) => {
            let mut vids = Vec::new();
            for entry in list {
                let range = vid_range(entry).ok_or_else(|| {
                    fields.wrong(
                        "vlans",
                        "a list of VLAN ids 1 to 4094 and ranges \"220-229\"",
                    )
                })?;
                vids.extend(range);
            }
            vids.sort_unstable();
            vids.dedup();
            if vids.is_empty() {
                return Err(fields.wrong("vlans", "a list of at least one VLAN id"));
            }
            Ok(VlanRequest::Trunk { vids, native, qinq })
        }
    }
}

fn vid_range(entry: &Value) -> Option<std::ops::RangeInclusive<u16>> {
    let vid = |number: u64| {
        u16::try_from(number)
            .ok()
            .filter(|vid| (1..=4094).contains(vid))
    };
    match entry {
        Value::Number(number) => number.as_u64().and_then(vid).map(|vid| vid..=vid),
        Value::String(text) => {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            let parse = |text: &str| text.trim().parse().ok().and_then(vid);
            let (first, last) = (parse(first)?, parse(last)?);
            (first <= last).then_some(first..=last)
        }
        _ => None,
    }
}

/// A policy's name, or a list of at most one: an attachment has at most one of its own.
fn firewall(fields: &Fields<'_>) -> Result<Option<String>, Error> {
    let one = "one policy's name (an attachment has at most one besides its VLAN's)";
    let name = match fields.get("firewall") {
        None => return Ok(None),
        Some(Value::Array(list)) if list.is_empty() => return Ok(None),
        Some(Value::Array(list)) if list.len() == 1 => list[0].as_str(),
        Some(value) => value.as_str(),
    };
    name.filter(|name| !name.is_empty())
        .map(|name| Some(name.to_owned()))
        .ok_or_else(|| fields.wrong("firewall", one))
}

/// The MAC asked for: runtimeConfig before CNI_ARGS before the key.
fn mac(
    fields: &Fields<'_>,
    runtime: Option<&Fields<'_>>,
    call: &Call,
) -> Result<Option<String>, Error> {
    let from_runtime = runtime
        .map(|runtime| runtime.string("mac"))
        .transpose()?
        .flatten();
    let candidates = [
        ("runtimeConfig.mac", from_runtime),
        ("CNI_ARGS MAC", call.arg("MAC")),
        ("mac", fields.string("mac")?),
    ];
    let asked = candidates
        .into_iter()
        .find_map(|(source, mac)| mac.filter(|mac| !mac.is_empty()).map(|mac| (source, mac)));
    let Some((source, text)) = asked else {
        return Ok(None);
    };
    unicast_mac(text).map(Some).ok_or_else(|| {
        Error::Config(format!(
            "{source} {text:?} is not a unicast MAC address like 02:00:5e:10:00:01"
        ))
    })
}

/// A MAC address as the engine writes it, if `text` is one that an interface can have.
pub fn unicast_mac(text: &str) -> Option<String> {
    let parts: Vec<&str> = text.split([':', '-']).collect();
    let hex = |part: &&str| part.len() == 2 && part.chars().all(|c| c.is_ascii_hexdigit());
    if parts.len() != 6 || !parts.iter().all(hex) {
        return None;
    }
    let text = parts.join(":").to_ascii_lowercase();
    let multicast = u8::from_str_radix(parts[0], 16).ok()? & 1 == 1;
    (!multicast && text != "00:00:00:00:00:00").then_some(text)
}

fn device_id(fields: &Fields<'_>, runtime: Option<&Fields<'_>>) -> Result<Option<String>, Error> {
    let from_runtime = runtime
        .map(|runtime| runtime.string("deviceID"))
        .transpose()?
        .flatten();
    let id = from_runtime
        .or(fields.string("deviceID")?)
        .filter(|id| !id.is_empty());
    let Some(id) = id else { return Ok(None) };
    if id.contains(':') {
        return Err(Error::Config(format!(
            "deviceID {id:?} is a PCI device, and this build attaches pods to uplinks only: it \
             needs the VF driver"
        )));
    }
    // It names a directory.
    if !crate::conf::is_identifier(id) || id.len() > 100 {
        return Err(Error::Config(format!(
            "deviceID {id:?} is not the id of an attachment"
        )));
    }
    Ok(Some(id.to_owned()))
}

fn device_info(runtime: Option<&Fields<'_>>) -> Result<Option<PathBuf>, Error> {
    let Some(runtime) = runtime else {
        return Ok(None);
    };
    match runtime.string("CNIDeviceInfoFile")? {
        None | Some("") => Ok(None),
        Some(path) if path.starts_with('/') => Ok(Some(PathBuf::from(path))),
        Some(_) => Err(runtime.wrong("CNIDeviceInfoFile", "an absolute path")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use serde_json::json;

    fn call(args: &str) -> Call {
        Call::read(|name| match name {
            "CNI_COMMAND" => Some("ADD".into()),
            "CNI_CONTAINERID" => Some("c0ffee".into()),
            "CNI_NETNS" => Some("/proc/self/ns/net".into()),
            "CNI_IFNAME" => Some("net1".into()),
            "CNI_ARGS" => Some(args.to_owned()),
            _ => None,
        })
        .unwrap()
        .unwrap()
    }

    fn read_with(mut conf: Value, args: &str) -> Result<VfConf, Error> {
        let map = conf.as_object_mut().unwrap();
        map.insert("name".into(), "n".into());
        map.entry("mode").or_insert("engine".into());
        map.entry("uplink").or_insert("wire0".into());
        VfConf::read(
            &NetConf::parse(conf.to_string().as_bytes()).unwrap(),
            &call(args),
        )
    }

    fn read(conf: Value) -> Result<VfConf, Error> {
        read_with(conf, "")
    }

    #[test]
    fn access_untagged_and_trunk() {
        let vlan = |conf| read(conf).unwrap().vlan;
        assert_eq!(
            vlan(json!({})),
            VlanRequest::Access {
                vid: 0,
                qinq: false
            }
        );
        assert_eq!(
            vlan(json!({"VLAN": 210, "qinq": true})),
            VlanRequest::Access {
                vid: 210,
                qinq: true
            }
        );
        assert_eq!(
            vlan(json!({"vlans": [220, "210-212", "211"], "native": 0})),
            VlanRequest::Trunk {
                vids: vec![210, 211, 212, 220],
                native: Some(0),
                qinq: false
            }
        );
    }

    #[test]
    fn what_is_wrong_is_7() {
        for bad in [
            json!({"mode": "kernel"}),
            json!({"mode": "vfio"}),
            json!({"mode": "Engine"}),
            json!({"dpdk": {}}),
            json!({"uplink": ""}),
            json!({"vlan": 4095}),
            json!({"vlan": 1, "vlans": [2]}),
            json!({"native": 1}),
            json!({"vlans": []}),
            json!({"vlans": [0]}),
            json!({"vlans": ["5-4"]}),
            json!({"firewall": ["a", "b"]}),
            json!({"mac": "01:00:00:00:00:01"}),
            json!({"mac": "02:00:00:00:01"}),
            json!({"mtu": 10}),
            json!({"ipam": {"type": "dhcp"}}),
            json!({"tap": true, "memif": {}}),
            json!({"memif": {"role": "master"}}),
            json!({"memif": {"ringSize": 1000}}),
            json!({"memif": {"rings": 0}}),
            json!({"memif": {"socket": "name"}}),
            json!({"memif": {"socketdirectory": "/x"}}),
            json!({"memif": {"secret": "0123456789012345678901234"}}),
            json!({"memif": {"socketDir": "rel"}}),
            json!({"if0": "enp2s0"}),
            json!({"spoofchk": "on"}),
            json!({"deviceID": "0000:af:06.0"}),
            json!({"deviceID": "../x"}),
            json!({"runtimeConfig": {"CNIDeviceInfoFile": "rel"}}),
        ] {
            let error = read(bad.clone()).unwrap_err();
            assert_eq!(error.code(), 7, "{bad}: {error}");
        }
    }

    #[test]
    fn the_nearest_mac_wins() {
        let key = json!({"mac": "02:00:00:00:00:0A"});
        assert_eq!(read(key.clone()).unwrap().mac.unwrap(), "02:00:00:00:00:0a");
        let args = "IgnoreUnknown=1;MAC=02-00-00-00-00-0b";
        assert_eq!(
            read_with(key.clone(), args).unwrap().mac.unwrap(),
            "02:00:00:00:00:0b"
        );
        let mut both = key;
        both["runtimeConfig"] = json!({"mac": "02:00:00:00:00:0c"});
        assert_eq!(
            read_with(both, args).unwrap().mac.unwrap(),
            "02:00:00:00:00:0c"
        );
    }

    #[test]
    fn a_socket_by_each_way() {
        for socket in ["@x", "/run/x.sock"] {
            let conf = read(json!({"memif": {"socket": socket}})).unwrap();
            assert_eq!(conf.memif.socket.unwrap(), socket);
        }
        assert!(read(json!({"memif": {"socket": "x.sock", "socketDir": "/run/y"}})).is_ok());
        let by_id = read(json!({"runtimeConfig": {"deviceID": "wire0-3"}})).unwrap();
        assert_eq!(by_id.device_id.unwrap(), "wire0-3");
    }
}
