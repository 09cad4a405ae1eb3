// SPDX-License-Identifier: Apache-2.0
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

fn vid(number: u16) -> Vid {
    Vid::new(number).unwrap()
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
            vid: vid(0),
            qinq: false
        }
    );
    assert_eq!(
        vlan(json!({"VLAN": 210, "qinq": true})),
        VlanRequest::Access {
            vid: vid(210),
            qinq: true
        }
    );
    assert_eq!(
        vlan(json!({"vlans": [220, "210-212", "211"], "native": 0})),
        VlanRequest::Trunk {
            vids: [210, 211, 212, 220].map(vid).to_vec(),
            native: Some(vid(0)),
            qinq: false
        }
    );
}

#[test]
fn roles_and_priority() {
    let none = read(json!({})).unwrap();
    assert_eq!(
        (none.roles, none.priority),
        (vec![], PriorityRequest::Clear)
    );
    let all = json!({"roles": ["router", "dhcp-server", "querier", "router"], "priority": "keep"});
    let all = read(all).unwrap();
    assert_eq!(all.roles, Role::ALL);
    assert_eq!(all.priority, PriorityRequest::Keep);
    let kernel = json!({"mode": "kernel", "uplink": "", "if0": "enp2s0", "roles": ["router"]});
    assert_eq!(read(kernel).unwrap_err().code(), 7);
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
        json!({"roles": ["dhcp"]}),
        json!({"roles": "router"}),
        json!({"roles": [1]}),
        json!({"priority": "5"}),
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
        json!({"vlanQoS": 1}),
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

/// A conf as it is, for DEL-like reading: nothing added but a name.
fn as_printed(mut conf: Value) -> Result<VfConf, Error> {
    let map = conf.as_object_mut().unwrap();
    map.entry("name").or_insert("n".into());
    VfConf::read(
        &NetConf::parse(conf.to_string().as_bytes()).unwrap(),
        &call(""),
    )
}

fn vf_of(conf: &VfConf) -> &VfChoice {
    match &conf.choice {
        UplinkChoice::Vf(vf) => vf,
        UplinkChoice::Uplink(name) => panic!("it stands on uplink {name}"),
    }
}

#[test]
fn the_older_documents_examples_are_read() {
    let conf = as_printed(json!({"type": "sriov", "if0": "enp12s0f1", "ipam": {
        "type": "host-local", "subnet": "10.56.217.0/24", "rangeStart": "10.56.217.171",
        "rangeEnd": "10.56.217.181", "routes": [{"dst": "0.0.0.0/0"}], "gateway": "10.56.217.1"}}))
    .unwrap();
    assert_eq!(
        (conf.mode, conf.ipam.as_deref()),
        (Mode::Kernel, Some("host-local"))
    );
    assert_eq!(vf_of(&conf).pf.as_deref(), Some("enp12s0f1"));
    assert_eq!(vf_of(&conf).pick, PickConf::FirstFree);
    assert_eq!(
        conf.settings,
        VfSettings::default(),
        "nothing was asked for"
    );

    let conf = as_printed(
        json!({"type": "sriov", "if0": "enp2s0", "vlan": 210, "if0name": "north", "l2enable": true}),
    )
    .unwrap();
    assert_eq!(conf.pod_ifname(&call("")), "north");
    assert_eq!(conf.settings.vlan.unwrap().vid, 210);
    assert_eq!(conf.ipam, None);

    let conf = as_printed(
        json!({"type": "sriov", "if0": "enp4s0f3", "if0name": "north0", "dpdk": {
        "kernel_driver": "ixgbevf", "dpdk_driver": "igb_uio",
        "dpdk_tool": "/opt/dpdk/usertools/dpdk-devbind.py"}}),
    )
    .unwrap();
    assert_eq!(conf.mode, Mode::Vfio);
    assert_eq!(vf_of(&conf).driver, "igb_uio");
    assert_eq!(vf_of(&conf).kernel_driver.as_deref(), Some("ixgbevf"));
}

#[test]
fn every_key_of_todays_plugin_is_read() {
    let conf = as_printed(
        json!({"type": "sriov", "deviceID": "0000:af:06.0", "vlan": 1000,
        "vlanQoS": 7, "vlanProto": "802.1AD", "mac": "CA:FE:C0:FF:EE:00", "spoofchk": "off",
        "trust": "on", "link_state": "enable", "min_tx_rate": 100, "max_tx_rate": 200,
        "logLevel": "warning"}),
    )
    .unwrap();
    assert_eq!(
        vf_of(&conf).pick,
        PickConf::Address("0000:af:06.0".parse().unwrap())
    );
    assert_eq!(conf.mac.as_deref(), Some("ca:fe:c0:ff:ee:00"));
    let settings = serde_json::to_value(&conf.settings).unwrap();
    assert_eq!(
        settings,
        json!({"vlan": {"vid": 1000, "qos": 7, "is_8021ad": true}, "spoofchk": false, "trust": true,
            "min_tx_rate": 100, "max_tx_rate": 200, "link_state": "enable"})
    );
    let zero = as_printed(json!({"if0": "enp2s0", "vf": 0})).unwrap();
    assert_eq!(vf_of(&zero).pick, PickConf::Index(0), "0 counts as given");
    let text = as_printed(json!({"if0": "enp2s0", "vf": "3", "l2enable": "true",
        "ipam": {"type": "host-local"}}))
    .unwrap();
    assert_eq!(
        (&vf_of(&text).pick, &text.ipam),
        (&PickConf::Index(3), &None)
    );
}

#[test]
fn a_vf_of_the_engine_has_its_port_vlan_or_none() {
    let port_vlan = |more: Value| {
        let mut conf = json!({"mode": "engine", "if0": "enp2s0"});
        conf.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let conf = as_printed(conf).unwrap();
        (conf.settings.vlan.map(|vlan| vlan.vid), conf.vlan)
    };
    let access = |number| VlanRequest::Access {
        vid: vid(number),
        qinq: false,
    };
    assert_eq!(port_vlan(json!({"vlan": 210})), (Some(210), access(210)));
    assert_eq!(port_vlan(json!({})), (Some(0), access(0)));
    let (port, trunk) = port_vlan(json!({"vlans": [210, 220]}));
    assert_eq!(port, Some(0));
    assert!(matches!(trunk, VlanRequest::Trunk { .. }));
}

#[test]
fn what_cannot_be_of_a_vf_is_7_and_names_the_key() {
    for (bad, named) in [
        (json!({}), "if0"),
        (json!({"mode": "engine"}), "uplink"),
        (json!({"deviceID": "not-an-address"}), "not a PCI address"),
        (json!({"if0": "a", "mode": "engine", "uplink": "w"}), "if0"),
        (json!({"if0": "a", "uplink": "w"}), "uplink"),
        (json!({"if0": "a", "memif": {"rings": 1}}), "memif"),
        (json!({"if0": "a", "mode": "vfio", "vlans": [5]}), "vlans"),
        (json!({"if0": "a", "mode": "kernel", "dpdk": {}}), "dpdk"),
        (json!({"if0": "a", "if0name": "eth0"}), "if0name"),
        (json!({"if0": "a", "if0name": "a/b"}), "if0name"),
        (json!({"if0": "a", "vf": -1}), "vf"),
        (json!({"if0": "a", "vf": "x"}), "vf"),
        (json!({"if0": "a", "vlan": 4095}), "vlan"),
        (json!({"if0": "a", "vlan": 0, "vlanQoS": 1}), "vlanQoS"),
        (json!({"if0": "a", "vlan": 5, "vlanQoS": 8}), "vlanQoS"),
        (
            json!({"if0": "a", "vlan": 5, "vlanProto": "802.1x"}),
            "vlanProto",
        ),
        (json!({"if0": "a", "spoofchk": "maybe"}), "spoofchk"),
        (json!({"if0": "a", "trust": 1}), "trust"),
        (json!({"if0": "a", "link_state": "up"}), "link_state"),
        (
            json!({"if0": "a", "min_tx_rate": 9, "max_tx_rate": 8}),
            "min_tx_rate",
        ),
        (
            json!({"if0": "a", "dpdk": {"dpdk_driver": "../x"}}),
            "dpdk_driver",
        ),
        (
            json!({"if0": "a", "mode": "engine", "allowUnsafeNoIommu": true}),
            "allowUnsafeNoIommu",
        ),
        (
            json!({"if0": "a", "mode": "vfio", "ipam": {"type": "dhcp"}}),
            "dhcp",
        ),
    ] {
        let error = as_printed(bad.clone()).unwrap_err();
        assert_eq!(error.code(), 7, "{bad}: {error}");
        assert!(error.to_string().contains(named), "{bad}: {error}");
    }
    let dhcp = json!({"if0": "a", "ipam": {"type": "dhcp"}});
    assert!(as_printed(dhcp).is_ok(), "a kernel link can be asked on");
}

#[test]
fn vhost_user_sockets_are_read_and_checked() {
    let engine = |mut conf: Value| {
        for (key, value) in [("mode", "engine"), ("uplink", "wire0")] {
            conf[key] = value.into();
        }
        read(conf)
    };
    let conf = engine(json!({"vhostUser": {"role": "client", "socketDir": "/run/a"}})).unwrap();
    assert_eq!(conf.vhost_user.unwrap().role, sluice_api::MemifRole::Client);
    // userspace-cni's keys for OVS, and those that are for its other back end.
    let host =
        |iftype: &str| json!({"engine": "ovs-dpdk", "iftype": iftype, "vhost": {"mode": "client"}});
    let conf = engine(json!({"host": host("vhostuser"), "sharedDir": "/run/b"})).unwrap();
    assert_eq!(conf.vhost_user.unwrap().role, sluice_api::MemifRole::Client);
    let conf = engine(json!({"host": host("memif"), "sharedDir": "/run/b"})).unwrap();
    assert_eq!(conf.vhost_user, None);
    for (conf, why) in [
        (json!({"vhostUser": {}}), "needs a place for its socket"),
        (
            json!({"host": host("vhostuser")}),
            "needs a place for its socket",
        ),
        (json!({"vhostUser": {"socket": "@x"}}), "an absolute path"),
        (
            json!({"vhostUser": {"socket": "x"}}),
            "a file name beside socketDir",
        ),
        (json!({"vhostUser": {"socketDir": "x"}}), "an absolute path"),
        (
            json!({"vhostUser": {"socket": "/x", "role": "both"}}),
            "server or client",
        ),
        (
            json!({"vhostUser": {"socket": "/x", "queues": 17}}),
            "queues",
        ),
        (
            json!({"vhostUser": {"socket": "/x"}, "memif": {}}),
            "excludes tap and memif",
        ),
        (
            json!({"vhostUser": {"socket": "/x"}, "tap": true}),
            "excludes tap and memif",
        ),
        (json!({"vhostUser": {"socket": "/x", "rings": 2}}), "rings"),
    ] {
        let error = engine(conf).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    let kernel =
        json!({"vhostUser": {"socket": "/x"}, "if0": "eth1", "mode": "kernel", "uplink": ""});
    let error = read(kernel).unwrap_err().to_string();
    assert!(
        error.contains("vhostUser is for attachments on the engine"),
        "{error}"
    );
}
