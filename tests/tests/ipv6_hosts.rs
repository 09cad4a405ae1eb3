// SPDX-License-Identifier: Apache-2.0
//! IPv6 as hosts do it: kernels on taps, a network function on a memif, and a real router's daemon on the wire.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod engine_rig;
mod ipv6_hosts {
    mod groups;
    mod network_function;
}

use std::fs;
use std::net::{Ipv6Addr, SocketAddrV6, UdpSocket};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use engine_rig::{Node, PATIENCE, pod};
use serde_json::json;
use sluice_tests::{Netns, Process, program_or_skip, root_or_skip, run, wait_for};

/// Everything passes: these are not about policies.
const OPEN: &str = "name: open\nvlans: [untagged]\ndefault: {ingress: accept, egress: accept}\n";
/// Prefix that the router advertises.
const PREFIX: &str = "2001:db8:210:";

fn node() -> Node {
    let node = Node::new();
    node.write_policy("voice.yaml", OPEN);
    let address = ["addr", "add", "2001:db8:210::1/64", "dev", "wire0", "nodad"];
    node.wire.ip(&address).unwrap();
    node
}

/// Advertises [`PREFIX`] on a netdev until it is dropped.
fn radvd(netns: &Netns, device: &str, dir: &Path) -> Process {
    set(netns, "net/ipv6/conf/all/forwarding", "1");
    let config = dir.join("radvd.conf");
    let text = format!(
        "interface {device} {{ AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4;\n\
         prefix {PREFIX}:/64 {{ AdvOnLink on; AdvAutonomous on; }}; }};\n"
    );
    fs::write(&config, text).unwrap();
    let mut command = netns.command("radvd");
    command.args(["--nodaemon", "--logmethod", "stderr", "--config"]);
    command
        .arg(&config)
        .arg("--pidfile")
        .arg(dir.join("radvd.pid"));
    command.stdin(Stdio::null()).stderr(Stdio::null());
    Process::start(&mut command).unwrap()
}

/// Sets a sysctl of a namespace.
fn set(netns: &Netns, name: &str, value: &str) {
    let path = Path::new("/proc/sys").join(name);
    netns.enter(move || Ok(fs::write(path, value)?)).unwrap();
}

fn setting(netns: &Netns, name: &str) -> String {
    let path = Path::new("/proc/sys/net/ipv6/conf/net1").join(name);
    let text = netns.enter(move || Ok(fs::read_to_string(path)?)).unwrap();
    text.trim().to_owned()
}

/// A pod whose kernel makes its addresses as most do today: stable and opaque (RFC 7217).
fn private_pod() -> Arc<Netns> {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let pod = pod();
    let secret = format!("2001:db8::{:x}", NEXT.fetch_add(1, Ordering::Relaxed));
    set(&pod, "net/ipv6/conf/default/stable_secret", &secret);
    pod
}

/// The IPv6 addresses of `net1` that are of `scope`, none of which is still looked for.
fn addresses(pod: &Netns, scope: &str) -> Vec<String> {
    let list = ["-6", "-o", "addr", "show", "dev", "net1", "scope", scope];
    let text = pod.ip(&list).unwrap();
    let usable = text.lines().filter(|line| !line.contains("tentative"));
    usable
        .filter_map(|line| Some(line.split_whitespace().nth(3)?.to_owned()))
        .collect()
}

fn ping(from: &Netns, to: &str) -> bool {
    let mut command = from.command("ping");
    run(command.args(["-6", "-c", "2", "-W", "5", to])).is_ok()
}

#[test]
fn a_router_on_the_wire_gives_addresses_to_pods_that_have_none_and_to_no_other() {
    let name = "a_router_on_the_wire_gives_addresses_to_pods_that_have_none_and_to_no_other";
    let needed = ["radvd", "ping"]
        .iter()
        .all(|program| program_or_skip(name, program));
    if !root_or_skip(name) || !needed {
        return;
    }
    let node = node();
    let _engine = node.start();
    let _radvd = radvd(&node.wire, "wire0", node.dir.path());
    let [free, given, v4] = [private_pod(), private_pod(), private_pod()];
    let tap = |addresses: &[&str]| json!({"vlan": {"mode": "access", "vid": 0}, "backend": {"type": "tap"}, "addresses": addresses});
    let mac = node.attach(&free, "net1", tap(&[])).mac;
    node.attach(&given, "net1", tap(&["2001:db8:210::5/64"]));
    node.attach(&v4, "net1", tap(&["10.22.0.9/24"]));

    // The kernel of a pod without addresses does all of it: solicits, takes the prefix, looks for duplicates.
    let own = wait_for("an address by advertisement", PATIENCE, || {
        addresses(&free, "global").into_iter().next()
    });
    let own = own.unwrap_or_else(|error| panic!("{error}; log:\n{}", node.log()));
    assert!(own.starts_with(PREFIX), "{own}");
    let eui64 = format!("ff:fe{}", &mac[9..11]);
    assert!(!own.contains(&eui64), "{own} is made of {mac}");
    assert!(ping(&free, "2001:db8:210::1"), "log:\n{}", node.log());
    for (setting_name, value) in [
        ("accept_ra", "1"),
        ("autoconf", "1"),
        ("addr_gen_mode", "2"),
    ] {
        assert_eq!(setting(&free, setting_name), value, "{setting_name}");
    }

    // The advertisements went to all of the segment. Who was given addresses has these, and no route of theirs.
    assert_eq!(addresses(&given, "global"), ["2001:db8:210::5/64"]);
    assert_eq!(given.ip(&["-6", "route", "show", "default"]).unwrap(), "");
    assert_ne!(free.ip(&["-6", "route", "show", "default"]).unwrap(), "");
    for setting_name in ["accept_ra", "autoconf", "accept_redirects"] {
        assert_eq!(setting(&given, setting_name), "0", "{setting_name}");
        assert_eq!(setting(&v4, setting_name), "0", "{setting_name}");
    }
    // How its link-local address is made stays the pod's choice.
    assert_eq!(setting(&given, "addr_gen_mode"), "2");
    assert!(ping(&given, "2001:db8:210::1"), "log:\n{}", node.log());
    assert_eq!(setting(&v4, "disable_ipv6"), "1");
    assert!(addresses(&v4, "link").is_empty());
    let drops = node.attachment(&given, "net1").counters.egress_drops;
    assert_eq!(drops.get("spoofed_ip"), None, "{drops:?}");
}

#[test]
fn a_duplicate_address_is_seen_by_the_kernel_that_would_take_it() {
    let name = "a_duplicate_address_is_seen_by_the_kernel_that_would_take_it";
    if !root_or_skip(name) {
        return;
    }
    let node = node();
    let _engine = node.start();
    let pods = [private_pod(), private_pod()];
    for pod in &pods {
        node.attach(
            pod,
            "net1",
            json!({"vlan": {"mode": "access", "vid": 0}, "backend": {"type": "tap"}}),
        );
    }
    let add = ["addr", "add", "2001:db8:210::77/64", "dev", "net1"];
    pods[0].ip(&add).unwrap();
    wait_for("the first to have it", PATIENCE, || {
        (addresses(&pods[0], "global").len() == 1).then_some(())
    })
    .unwrap();
    pods[1].ip(&add).unwrap();
    let show = ["-6", "-o", "addr", "show", "dev", "net1", "dadfailed"];
    wait_for("the second to see the duplicate", PATIENCE, || {
        let text = pods[1].ip(&show).unwrap();
        text.contains("2001:db8:210::77").then_some(())
    })
    .unwrap();
}

/// Index of `net1` in a pod.
fn index(pod: &Netns) -> u32 {
    let line = pod.ip(&["-o", "link", "show", "net1"]).unwrap();
    line.split(':').next().unwrap().parse().unwrap()
}

#[test]
fn only_a_pod_with_the_role_advertises_as_a_router() {
    let name = "only_a_pod_with_the_role_advertises_as_a_router";
    if !root_or_skip(name) || !program_or_skip(name, "radvd") {
        return;
    }
    let node = node();
    let _engine = node.start();
    let [rogue, router, host] = [private_pod(), private_pod(), private_pod()];
    let tap = |roles: &[&str]| json!({"vlan": {"mode": "access", "vid": 0}, "backend": {"type": "tap"}, "roles": roles});
    node.attach(&host, "net1", tap(&[]));
    node.attach(&rogue, "net1", tap(&[]));
    wait_for("a link-local address", PATIENCE, || {
        addresses(&rogue, "link").pop()
    })
    .unwrap();
    let radvd_of_rogue = radvd(&rogue, "net1", node.dir.path());
    wait_for("advertisements that are dropped", PATIENCE, || {
        let drops = node.attachment(&rogue, "net1").counters.egress_drops;
        drops.get("not_router").filter(|&&count| count > 1).copied()
    })
    .unwrap();
    assert!(addresses(&host, "global").is_empty());
    assert_eq!(host.ip(&["-6", "route", "show", "default"]).unwrap(), "");
    drop(radvd_of_rogue);

    node.attach(&router, "net1", tap(&["router"]));
    wait_for("a link-local address", PATIENCE, || {
        addresses(&router, "link").pop()
    })
    .unwrap();
    let _radvd = radvd(&router, "net1", node.dir.path());
    wait_for("an address by advertisement", PATIENCE, || {
        addresses(&host, "global").into_iter().next()
    })
    .unwrap();
    let drops = node.attachment(&router, "net1").counters.egress_drops;
    assert_eq!(drops.get("not_router"), None, "{drops:?}");
}

#[test]
fn only_a_pod_with_the_role_answers_dhcpv6() {
    let name = "only_a_pod_with_the_role_answers_dhcpv6";
    if !root_or_skip(name) || !program_or_skip(name, "dnsmasq") {
        return;
    }
    let node = node();
    let _engine = node.start();
    let [rogue, server, host] = [private_pod(), private_pod(), private_pod()];
    let tap = |roles: &[&str]| json!({"vlan": {"mode": "access", "vid": 0}, "backend": {"type": "tap"}, "roles": roles});
    node.attach(&host, "net1", tap(&[]));
    wait_for("a link-local address", PATIENCE, || {
        addresses(&host, "link").pop()
    })
    .unwrap();
    for (pod, roles) in [(&rogue, &[][..]), (&server, &["dhcp-server"][..])] {
        node.attach(pod, "net1", tap(roles));
        let own = ["addr", "add", "2001:db8:210::2/64", "dev", "net1", "nodad"];
        pod.ip(&own).unwrap();
        wait_for("a link-local address", PATIENCE, || {
            addresses(pod, "link").pop()
        })
        .unwrap();
        let dnsmasq = dnsmasq(pod);
        let answered = wait_for("the end of the question", PATIENCE, || {
            let answered = solicit(&host);
            let drops = node.attachment(pod, "net1").counters.egress_drops;
            let dropped = drops.contains_key("not_dhcp_server");
            (answered || dropped).then_some(answered)
        });
        assert_eq!(answered.unwrap(), !roles.is_empty(), "{roles:?}");
        drop(dnsmasq);
        node.client().detach(pod.name(), "net1").unwrap();
    }
}

/// Gives addresses by DHCPv6 on `net1` of a pod.
fn dnsmasq(pod: &Netns) -> Process {
    let mut command = pod.command("dnsmasq");
    command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--port=0"]);
    command.args([
        "--user=root",
        "--pid-file=",
        "--leasefile-ro",
        "--interface=net1",
    ]);
    command.args(["--bind-interfaces", "--dhcp-authoritative"]);
    command.arg("--dhcp-range=2001:db8:210::100,2001:db8:210::1ff,64,1h");
    command.stdin(Stdio::null()).stderr(Stdio::null());
    Process::start(&mut command).unwrap()
}

/// Asks for an address by DHCPv6 (RFC 8415); whether a server advertises itself within a second.
fn solicit(host: &Netns) -> bool {
    let scope = index(host);
    let link_local = addresses(host, "link").pop().unwrap();
    let link_local: Ipv6Addr = link_local.split('/').next().unwrap().parse().unwrap();
    let socket = host
        .enter(move || {
            Ok(UdpSocket::bind(SocketAddrV6::new(
                link_local, 546, 0, scope,
            ))?)
        })
        .unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    let mut message = vec![1, 7, 7, 7];
    // Client id by link-layer address, elapsed time, and an association for one address.
    message.extend([0, 1, 0, 10, 0, 3, 0, 1, 2, 0, 0, 0, 0, 7]);
    message.extend([0, 8, 0, 2, 0, 0]);
    message.extend([0, 3, 0, 12, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    let servers: Ipv6Addr = "ff02::1:2".parse().unwrap();
    socket
        .send_to(&message, SocketAddrV6::new(servers, 547, 0, scope))
        .unwrap();
    let mut answer = [0; 1500];
    socket.recv_from(&mut answer).is_ok() && answer[..4] == [2, 7, 7, 7]
}
