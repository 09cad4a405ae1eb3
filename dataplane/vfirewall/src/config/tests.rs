// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use super::*;
use proptest::prelude::*;

const GOOD: &str = "\
legs:
  - socket: '@sluicegate/net1'
    mac: 02:00:5e:10:00:01
    vlan: 210
    addresses: [10.21.0.1/24, 'fd21::1/64']
  - name: trunk
    socket: '@sluicegate/net2'
    mac: 02:00:5e:10:00:02
    vlans:
      - {vlan: 220, addresses: [10.22.0.1/24], policy: data}
      - {vlan: 230, addresses: [10.23.0.1/24], reverse_path: off, mtu: 1400}
routes:
  - {to: 0.0.0.0/0, via: 10.22.0.254}
  - {to: '::/0', via: 'fe80::1', interface: net1}
policies: policies
";

fn parse(text: &str) -> Result<Config, Problems> {
    Config::parse(Path::new("/etc/vfirewall/config.yaml"), text)
}

#[test]
fn a_good_file_is_taken() {
    let config = parse(GOOD).unwrap();
    assert_eq!(config.legs.len(), 2);
    let names: Vec<&str> = config.interfaces.iter().map(|one| &*one.name).collect();
    assert_eq!(names, ["net1", "trunk.220", "trunk.230"]);
    assert!(!config.interfaces[0].tagged && config.interfaces[1].tagged);
    assert_eq!(config.interfaces[2].mtu, 1400);
    assert!(!config.interfaces[2].reverse_path && config.interfaces[1].reverse_path);
    assert_eq!(config.routes[0].1.interface, 1);
    assert_eq!(config.routes[1].1.interface, 0);
    assert_eq!(config.policies, Path::new("/etc/vfirewall/policies"));
}

#[test]
fn every_problem_is_told_with_its_line() {
    let bad = [
        (
            "mac: 02:00:5e:10:00:01",
            "mac: 03:00:5e:10:00:01",
            3,
            "multicast",
        ),
        ("vlan: 210", "vlan: 4095", 4, "4095"),
        ("10.21.0.1/24", "10.21.0.0/24", 5, "no address of a host"),
        ("10.23.0.1/24", "10.22.0.9/16", 11, "overlaps"),
        ("via: 10.22.0.254", "via: 10.99.0.1", 13, "not another host"),
        ("via: 10.22.0.254", "via: 10.22.0.1", 13, "not another host"),
        ("interface: net1", "interface: net9", 14, "net1, trunk.220"),
        ("0.0.0.0/0", "0.0.0.1/0", 13, "host bits"),
        ("policies: policies", "policy: policies", 15, "no such key"),
        (
            "reverse_path: off",
            "reverse_path: loose",
            11,
            "strict or off",
        ),
        ("{vlan: 230", "{vlan: 220", 11, "twice"),
        ("mtu: 1400", "mtu: 9000", 11, "1280 to 1500"),
        ("name: trunk", "name: net1", 6, "two legs"),
    ];
    for (from, to, line, word) in bad {
        let text = GOOD.replacen(from, to, 1);
        assert_ne!(text, GOOD, "{from}");
        let Problems(problems) = parse(&text).unwrap_err();
        let told = problems[0].to_string();
        assert_eq!(problems[0].line, line, "{told}");
        assert!(told.contains(word), "{told}");
    }
    let both = GOOD.replace("210", "x").replace("10.22.0.254", "y");
    let told = parse(&both).unwrap_err();
    assert!(told.0.len() >= 2, "{told}");
    let Problems(problems) = parse("").unwrap_err();
    assert_eq!(problems.len(), 2, "legs and policies");
}

#[test]
fn what_the_plugin_wrote_need_not_be_typed() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("memif.sock");
    let leg = format!("legs: [{{socket: {}}}]\npolicies: p\n", socket.display());
    let told = parse(&leg).unwrap_err().to_string();
    assert!(told.contains("interface.json"), "{told}");
    let file = r#"{"interface": "net1", "mac": "02:00:00:00:00:0c", "mtu": 1400, "vlan": {"vid": 210},
        "addresses": [{"address": "10.80.45.7/24", "gateway": "10.80.45.1"}]}"#;
    std::fs::write(dir.path().join("interface.json"), file).unwrap();
    let config = parse(&leg).unwrap();
    let one = &config.interfaces[0];
    assert_eq!(one.mac.to_string(), "02:00:00:00:00:0c");
    assert_eq!((one.mtu, one.vlan.get()), (1400, 210));
    assert_eq!(one.addresses, ["10.80.45.7/24".parse().unwrap()]);
    std::fs::write(dir.path().join("interface.json"), "{").unwrap();
    assert!(parse(&leg).is_err());
}

#[test]
fn arguments_say_the_same() {
    let source = |memif: &str| Source::Arguments {
        memifs: vec![memif.to_owned()],
        routes: vec!["10.0.0.0/8=10.21.0.254".to_owned()],
        policies: "policies".into(),
        log_rate: 5,
    };
    let good =
        "socket=@sluicegate/net1,ip=10.21.0.1/24,ip=fd21::1/64,mac=02:00:00:00:00:01,vlan=210";
    let config = source(good).read().unwrap();
    assert_eq!(config.interfaces[0].addresses.len(), 2);
    assert_eq!((config.routes.len(), config.log_rate), (1, 5));
    for bad in [
        "socket=@x,speed=1",
        "socket",
        &format!("{good},mac=02:00:00:00:00:02"),
    ] {
        let told = source(bad).read().unwrap_err().to_string();
        assert!(told.starts_with("arguments: --memif"), "{told}");
    }
}

proptest! {
    #[test]
    fn no_text_breaks_the_reader(at in 0..GOOD.len(), with in "[a-z0-9:{}\\[\\]\\-' \n]{0,6}") {
        let text = format!("{}{with}{}", &GOOD[..at], &GOOD[at..]);
        let _ = parse(&text);
    }
}
