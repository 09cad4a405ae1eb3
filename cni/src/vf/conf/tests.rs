#![allow(clippy::unwrap_used, reason = "tests")]

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
        json!({"mode": "Engine"}),
        json!({"dpdk": {}}),
        json!({"mode": "kernel", "if0": "enp2s0"}),
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
