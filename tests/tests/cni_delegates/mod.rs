// SPDX-License-Identifier: Apache-2.0
//! Cases 15 to 21, 35, 37, 46, 48, 50 and 51: the meta plugin and its delegates.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluice_tests::{Netns, wait_for};

use crate::cni_rig::calls::{NONE, canned, fails, run};
use crate::cni_rig::{Answer, Host, addresses, has_link};

#[test]
fn case_18_the_master_is_first_and_the_others_are_numbered() {
    let Some(host) = Host::new("case_18") else {
        return;
    };
    let pod = Netns::new("pod").unwrap();
    host.fake_plugin("sriov", &canned("net0"));
    host.fake_plugin("flannel", &canned("eth0"));
    host.noted("ptp");
    let mut conf = host.meta(
        "0.4.0",
        json!([
            {"type": "sriov", "if0": "enp12s0f0"},
            {"type": "ptp", "cniVersion": "0.4.0", "ipam": host.host_local("10.168.1.0/24"),
             "capabilities": {"portMappings": true}},
            {"type": "flannel", "masterplugin": true, "delegate": {"isDefaultGateway": true},
             "capabilities": {"portMappings": true}},
        ]),
    );
    conf["runtimeConfig"] = json!({"portMappings": [{"hostPort": 80, "containerPort": 80}],
        "mac": "unasked"});
    let args = "IgnoreUnknown=1;K8S_POD_NAME=web";
    let add = host.pod_call("sluicegate", "ADD", "c18", Some(&pod), "eth0");
    let result = add.env("CNI_ARGS", args).conf(&conf).run().ok();
    assert_eq!(
        host.take_calls(),
        ["ADD flannel eth0", "ADD sriov net0", "ADD ptp net1"]
    );
    // The master's result alone.
    assert_eq!(
        result["interfaces"],
        json!([{"name": "eth0", "sandbox": "/x"}])
    );
    assert!(addresses(&pod, "net1").contains("10.168.1.2/24"));

    // Its own configuration, a name put in, no version put in, runtimeConfig where declared.
    let sriov = json!({"type": "sriov", "if0": "enp12s0f0", "name": "demo-sriov-0"});
    assert_eq!(host.conf_of("sriov", "ADD", "net0"), sriov);
    let flannel = host.conf_of("flannel", "ADD", "eth0");
    assert_eq!(flannel["name"], "demo-flannel-2");
    assert_eq!(
        flannel["runtimeConfig"],
        json!({"portMappings": [{"hostPort": 80, "containerPort": 80, "protocol": "tcp"}]})
    );
    let ptp = host.conf_of("ptp", "ADD", "net1");
    assert_eq!(ptp["cniVersion"], "0.4.0");
    assert!(
        ptp.get("runtimeConfig").is_none(),
        "ports are the primary interface's"
    );

    let env = host.env_of("sriov", "ADD", "net0");
    for (name, value) in [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "c18"),
        ("CNI_IFNAME", "net0"),
        ("CNI_ARGS", args),
        ("CNI_NETNS", &pod.path().display().to_string()),
    ] {
        assert_eq!(env[name], value);
    }
    assert!(env["CNI_PATH"].starts_with(&host.bin_dir().display().to_string()));

    // CHECK goes to those that have one, with what ADD gave them.
    run(&host, "CHECK", "c18", &pod, &conf).ok();
    assert_eq!(host.take_calls(), ["CHECK ptp net1"]);
    let previous = host.conf_of("ptp", "CHECK", "net1");
    assert_eq!(previous["prevResult"]["ips"][0]["address"], "10.168.1.2/24");
    pod.ip(&["link", "delete", "net1"]).unwrap();
    let msg = run(&host, "CHECK", "c18", &pod, &conf).refused(999);
    assert!(
        msg.contains("delegate ptp (network demo-ptp-1, net1)"),
        "{msg}"
    );
    host.take_calls();

    run(&host, "DEL", "c18", &pod, &conf).ok();
    assert_eq!(
        host.take_calls(),
        ["DEL ptp net1", "DEL sriov net0", "DEL flannel eth0"]
    );
    assert_eq!(
        host.conf_of("ptp", "DEL", "net1")["prevResult"]["ips"][0]["address"],
        "10.168.1.2/24"
    );
    assert!(
        host.conf_of("sriov", "DEL", "net0")
            .get("prevResult")
            .is_none(),
        "before 0.4.0"
    );
    host.nothing_left();

    // Without a mark the first is master, and numbers start at 1.
    host.fake_plugin("a", &canned("eth0"));
    host.fake_plugin("b", &canned("net1"));
    let conf = host.meta("0.4.0", json!([{"type": "a"}, {"type": "b"}]));
    run(&host, "ADD", "c18", &pod, &conf).ok();
    assert_eq!(host.take_calls(), ["ADD a eth0", "ADD b net1"]);
    run(&host, "DEL", "c18", &pod, &conf).ok();
}

#[test]
fn case_19_the_result_is_in_the_version_asked_for() {
    let Some(host) = Host::new("case_19") else {
        return;
    };
    let pod = Netns::new("pod").unwrap();
    // The delegate answers in the shape of 0.1.0, of 0.4.0 and of 1.0.0.
    for delegate in ["", "0.4.0", "1.0.0"] {
        for version in [
            "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0",
        ] {
            let conf = host.meta(version, json!([host.bridge(delegate, "10.80.19.0/24")]));
            let result = run(&host, "ADD", "c19", &pod, &conf).ok();
            run(&host, "DEL", "c19", &pod, &conf).ok();
            assert_eq!(result["cniVersion"], version);
            let told = format!("{delegate:?} to {version}: {result}");
            match version {
                "0.1.0" | "0.2.0" => {
                    assert!(
                        result["ip4"]["ip"].as_str().unwrap().ends_with("/24"),
                        "{told}"
                    );
                    assert_eq!(result["ip4"]["gateway"], "10.80.19.1", "{told}");
                    assert_eq!(result["ip4"]["routes"][0]["dst"], "0.0.0.0/0", "{told}");
                    assert!(result.get("ips").is_none(), "{told}");
                }
                _ => {
                    assert_eq!(result["ips"][0]["gateway"], "10.80.19.1", "{told}");
                    assert_eq!(result["routes"][0]["dst"], "0.0.0.0/0", "{told}");
                    let ip_version = &result["ips"][0]["version"];
                    let wanted = if version.starts_with("0.") {
                        "4".into()
                    } else {
                        Value::Null
                    };
                    assert_eq!(*ip_version, wanted, "{told}");
                    let has_interfaces = result["interfaces"].is_array();
                    assert_eq!(has_interfaces, !delegate.is_empty(), "{told}");
                }
            }
        }
    }
    host.nothing_left();
}

#[test]
fn case_20_a_failed_add_is_undone_and_answered_in_the_delegates_words() {
    let Some(host) = Host::new("case_20") else {
        return;
    };
    let pod = Netns::new("pod").unwrap();
    host.noted("bridge");
    host.fake_plugin("a", &canned("net1"));
    host.fake_plugin("b", &canned("net2"));
    host.fake_plugin("c", &canned("net3"));
    let words = json!({"code": 107, "msg": "no carrier", "details": "on enp2s0"});
    host.on("b", "ADD", &format!("printf '%s' '{words}'; exit 1"));
    let bridge = host.bridge("0.4.0", "10.80.20.0/24");
    let conf = host.meta(
        "0.4.0",
        json!([bridge, {"type": "a"}, {"type": "b"}, {"type": "c"}]),
    );
    let answer = run(&host, "ADD", "c20", &pod, &conf);
    let msg = answer.refused(107);
    assert!(
        msg.contains("delegate b (network demo-b-2, net2): no carrier"),
        "{msg}"
    );
    let error: Value = serde_json::from_str(&answer.stdout).unwrap();
    assert_eq!(error["details"], "on enp2s0");
    assert_eq!(
        host.take_calls(),
        [
            "ADD bridge eth0",
            "ADD a net1",
            "ADD b net2",
            "DEL b net2",
            "DEL a net1",
            "DEL bridge eth0"
        ]
    );
    assert!(!has_link(&pod, "eth0"));
    host.nothing_left();

    // A delegate that cannot be found is known before anything is run.
    let conf = host.meta("0.4.0", json!([{"type": "a"}, {"type": "not-installed"}]));
    let msg = run(&host, "ADD", "c20", &pod, &conf).refused(7);
    assert!(msg.contains("not-installed"), "{msg}");
    assert_eq!(host.take_calls(), NONE);
}

#[test]
fn case_21_an_interface_that_exists_is_left_alone() {
    let Some(host) = Host::new("case_21") else {
        return;
    };
    let pod = Netns::new("pod").unwrap();
    host.noted("bridge");
    host.fake_plugin("b", &canned("net1"));
    let conf = host.meta(
        "0.4.0",
        json!([host.bridge("0.4.0", "10.80.21.0/24"), {"type": "b"}]),
    );
    for name in ["eth0", "net1"] {
        pod.veth(name, &host.netns, "far").unwrap();
        let msg = run(&host, "ADD", "c21", &pod, &conf).refused(4);
        assert!(msg.contains(name), "{msg}");
        assert_eq!(host.take_calls(), NONE, "no delegate is run");
        // The runtime deletes after a failed ADD: the stranger's interface must survive that.
        run(&host, "DEL", "c21", &pod, &conf).ok();
        assert_eq!(host.take_calls(), NONE);
        assert!(has_link(&pod, name));
        pod.ip(&["link", "delete", name]).unwrap();
        host.nothing_left();
    }
}

#[test]
fn case_35_a_configuration_without_networks_is_7() {
    let Some(host) = Host::new("case_35") else {
        return;
    };
    let pod = Netns::new("pod").unwrap();
    let mut conf = host.meta("1.0.0", json!([]));
    conf.as_object_mut().unwrap().remove("delegates");
    let msg = run(&host, "ADD", "c35", &pod, &conf).refused(7);
    for key in ["delegates", "clusterNetwork", "kubeconfig"] {
        assert!(msg.contains(key), "{msg}");
    }
    assert_eq!(host.records(), NONE);
}

#[test]
fn case_46_del_is_0_however_often_and_whatever_is_left() {
    let Some(host) = Host::new("case_46") else {
        return;
    };
    let conf = host.meta("1.0.0", json!([host.bridge("1.0.0", "10.80.46.0/24")]));
    let nothing_left = || host.nothing_left();

    // Twice.
    let pod = Netns::new("pod").unwrap();
    run(&host, "ADD", "c46", &pod, &conf).ok();
    assert_eq!(host.reserved(), ["10.80.46.2"]);
    run(&host, "DEL", "c46", &pod, &conf).ok();
    assert!(!has_link(&pod, "eth0"));
    nothing_left();
    run(&host, "DEL", "c46", &pod, &conf).ok();
    nothing_left();

    // Without its records, lost or torn: what the configuration names is deleted.
    for torn in [false, true] {
        run(&host, "ADD", "c46", &pod, &conf).ok();
        let record = host.cni_dir().join("sluicegate/c46@eth0.json");
        if torn {
            let text = fs::read(&record).unwrap();
            fs::write(&record, &text[..text.len() / 2]).unwrap();
        } else {
            fs::remove_file(&record).unwrap();
        }
        let answer = run(&host, "DEL", "c46", &pod, &conf);
        answer.ok();
        assert_eq!(answer.stderr.contains("torn"), torn, "{answer:?}");
        assert!(!has_link(&pod, "eth0"));
        nothing_left();
    }

    // Without a namespace: named and gone, and not named at all.
    for named in [true, false] {
        let pod = Netns::new("pod").unwrap();
        run(&host, "ADD", "c46", &pod, &conf).ok();
        let path = pod.path().display().to_string();
        drop(pod);
        let mut del = host
            .pod_call("sluicegate", "DEL", "c46", None, "eth0")
            .conf(&conf);
        if named {
            del = del.env("CNI_NETNS", &path);
        }
        del.run().ok();
        nothing_left();
    }

    // Of something that never was, by the interface plugin too, with no engine there.
    let pod = Netns::new("pod").unwrap();
    run(&host, "DEL", "never", &pod, &conf).ok();
    let vf = json!({"cniVersion": "1.0.0", "name": "wire", "type": "sluicegate-vf",
        "mode": "engine", "uplink": "wire0", "cniDir": host.cni_dir(),
        "stateDir": host.dir().join("state"),
        "daemonSocket": host.dir().join("run/control/sluiced.sock"),
        "ipam": host.host_local("10.80.47.0/24")});
    for _ in 0..2 {
        host.pod_call("sluicegate-vf", "DEL", "never", None, "net1")
            .conf(&vf)
            .run()
            .ok();
    }
    nothing_left();
}

#[test]
fn case_48_a_failed_del_stops_no_other_and_can_be_repeated() {
    let Some(host) = Host::new("case_48") else {
        return;
    };
    let pod = Netns::new("pod").unwrap();
    host.noted("bridge");
    host.fake_plugin("a", &canned("net1"));
    host.fake_plugin("b", &canned("net2"));
    let bridge = host.bridge("1.0.0", "10.80.48.0/24");
    let conf = host.meta("1.0.0", json!([bridge, {"type": "a"}, {"type": "b"}]));
    run(&host, "ADD", "c48", &pod, &conf).ok();
    host.take_calls();

    host.on("a", "DEL", &fails(111, "busy"));
    let msg = run(&host, "DEL", "c48", &pod, &conf).refused(111);
    assert!(
        msg.contains("delegate a (network demo-a-1, net1): busy"),
        "{msg}"
    );
    assert_eq!(
        host.take_calls(),
        ["DEL b net2", "DEL a net1", "DEL bridge eth0"]
    );
    assert!(!has_link(&pod, "eth0"));
    assert_eq!(host.reserved(), NONE);
    assert!(host.records().contains(&"c48@eth0.json".to_owned()));

    host.off("a", "DEL");
    // The retry works from the record alone: the configuration names another network by now.
    let other = host.meta("1.0.0", json!([{"type": "b"}]));
    run(&host, "DEL", "c48", &pod, &other).ok();
    assert_eq!(host.take_calls(), ["DEL a net1"], "the rest alone");
    assert_eq!(host.records(), NONE);
}

#[test]
fn case_51_a_killed_add_leaves_nothing_after_del() {
    let Some(host) = Host::new("case_51") else {
        return;
    };
    let pod = Netns::new("pod").unwrap();
    // An ipam that takes its time and then reserves: it is a child of the delegate, so it
    // outlives both the meta plugin and the delegate.
    host.fake_plugin("slow-ipam", &Value::Null);
    let work = "printf '%s' \"$conf\" | /usr/lib/cni/host-local; exit $?";
    let note = format!("echo $$ >{}/slow-pid", host.notes().display());
    host.on("slow-ipam", "ADD", &format!("{note}; sleep 1.5; {work}"));
    host.on("slow-ipam", "DEL", work);
    let mut second = host.bridge("1.0.0", "10.80.51.0/24");
    second["bridge"] = "br1".into();
    second["ipam"]["type"] = "slow-ipam".into();
    let conf = host.meta(
        "1.0.0",
        json!([host.bridge("1.0.0", "10.80.52.0/24"), second]),
    );

    let add = host
        .pod_call("sluicegate", "ADD", "c51", Some(&pod), "eth0")
        .conf(&conf);
    let mut plugin = add.start();
    let slow = host.notes().join("slow-pid");
    let orphan = wait_for(
        "the second delegate's ipam to run",
        Duration::from_secs(10),
        || {
            fs::read_to_string(&slow)
                .ok()
                .filter(|text| text.ends_with('\n'))
        },
    );
    let orphan = orphan.unwrap().trim().to_owned();
    // The list was on disk before; the first delegate is done, the second is in the middle.
    let record = fs::read(host.cni_dir().join("sluicegate/c51@eth0.json")).unwrap();
    let record: Value = serde_json::from_slice(&record).unwrap();
    assert_eq!(record["delegates"].as_array().unwrap().len(), 2);
    assert_eq!(
        (&record["begun"], &record["complete"]),
        (&json!(2), &json!(false))
    );
    let delegates = children_of(plugin.id());
    assert_eq!(delegates.len(), 1, "{delegates:?}");
    plugin.kill().unwrap();
    plugin.wait().unwrap();
    wait_for(
        "the delegate to die with its parent",
        Duration::from_secs(5),
        || {
            let gone = !delegates.iter().any(|pid| runs(pid));
            gone.then_some(())
        },
    )
    .unwrap();
    assert!(runs(&orphan), "the ipam is still at work");

    let start = Instant::now();
    run(&host, "DEL", "c51", &pod, &conf).ok();
    assert!(start.elapsed() < Duration::from_secs(20));
    assert!(!runs(&orphan), "DEL has waited for it");
    assert!(!has_link(&pod, "eth0") && !has_link(&pod, "net1"));
    host.nothing_left();
}

#[test]
fn case_50_gc_deletes_what_is_no_more_and_spares_the_rest() {
    let Some(host) = Host::new("case_50_gc_deletes_what_is_no_more_and_spares_the_rest") else {
        return;
    };
    let pods = [Netns::new("pod").unwrap(), Netns::new("pod").unwrap()];
    host.fake_plugin("newer", &json!({"cniVersion": "1.1.0"}));
    let mut conf = host.meta(
        "1.1.0",
        json!([host.bridge("1.0.0", "10.80.50.0/24"), {"type": "newer", "cniVersion": "1.1.0"}]),
    );
    for (pod, container) in pods.iter().zip(["gone", "here"]) {
        run(&host, "ADD", container, pod, &conf).ok();
    }
    assert_eq!(host.reserved().len(), 2);
    host.take_calls();
    let gc = |conf: &Value| host.call("sluicegate", "GC").conf(conf).run();

    // A list that is missing is not an empty one.
    gc(&conf).refused(7);
    conf["cni.dev/valid-attachments"] = json!([{"containerID": "here", "ifname": "eth0"}]);
    conf["disableGC"] = true.into();
    gc(&conf).ok();
    assert_eq!((host.reserved().len(), host.take_calls()), (2, NONE));

    conf["disableGC"] = false.into();
    gc(&conf).ok();
    assert_eq!(host.reserved(), ["10.80.50.3"]);
    // Delegates that know GC learn of the interface that is theirs, not only of eth0.
    assert_eq!(host.take_calls(), ["DEL newer net1", "GC newer "]);
    let told = host.conf_of("newer", "GC", "");
    let valid = json!([{"containerID": "here", "ifname": "net1"}]);
    assert_eq!(told["cni.dev/valid-attachments"], valid);
    assert_eq!(told["cni.dev/attachments"], valid);
    assert!(has_link(&pods[1], "eth0"));

    conf["cni.dev/valid-attachments"] = json!([]);
    gc(&conf).ok();
    host.nothing_left();
}

#[test]
fn case_15_to_17_status_is_that_of_the_default_network() {
    let Some(host) = Host::new("case_15_to_17_status_is_that_of_the_default_network") else {
        return;
    };
    host.fake_plugin("first", &Value::Null);
    host.fake_plugin("second", &Value::Null);
    let mut conf = host.meta(
        "1.1.0",
        json!([{"type": "first", "cniVersion": "1.1.0"}, {"type": "second", "cniVersion": "1.1.0"}]),
    );
    let status = |conf: &Value| host.call("sluicegate", "STATUS").conf(conf).run();
    status(&conf).ok();
    assert_eq!(host.take_calls(), ["STATUS first "]);
    host.on("first", "STATUS", &fails(50, "no agent"));
    assert!(status(&conf).refused(50).contains("no agent"));
    // Older delegates have none.
    conf["delegates"][0]["cniVersion"] = "1.0.0".into();
    status(&conf).ok();
    conf["readinessindicatorfile"] = host.dir().join("ready").display().to_string().into();
    assert!(status(&conf).refused(50).contains("ready"));
}

#[test]
fn a_hundred_pods_at_once_each_get_their_own_address() {
    let Some(host) = Host::new("a_hundred_pods") else {
        return;
    };
    let pods: Vec<Netns> = (0..100).map(|_| Netns::new("p").unwrap()).collect();
    let mut bridge = host.bridge("1.0.0", "10.35.0.0/24");
    bridge["isGateway"] = false.into();
    let conf = host.meta("1.0.0", json!([bridge]));
    let all = |command: &str| {
        let call = |(index, pod)| {
            let container = format!("c{index}");
            let call = host.pod_call("sluicegate", command, &container, Some(pod), "eth0");
            call.conf(&conf).start()
        };
        let started: Vec<_> = pods.iter().enumerate().map(call).collect();
        for child in started {
            Answer::of(child.wait_with_output().unwrap()).ok();
        }
    };
    all("ADD");
    let address = |pod: &Netns| {
        addresses(pod, "eth0")
            .split_whitespace()
            .nth(3)
            .map(str::to_owned)
    };
    let seen: std::collections::BTreeSet<_> = pods.iter().map(address).collect();
    assert_eq!(seen.len(), 100);
    all("DEL");
    host.nothing_left();
}

/// Lists the pids of a process's children.
fn children_of(pid: u32) -> Vec<String> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    fs::read_to_string(path)
        .unwrap()
        .split_whitespace()
        .map(str::to_owned)
        .collect()
}

/// Whether a process exists and is no zombie.
fn runs(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with('Z'))
}
