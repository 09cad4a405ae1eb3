// SPDX-License-Identifier: Apache-2.0
//! DEL of the interface plugin ends, whatever became of the ADD, of the engine, of the network namespace
//! and of the disk, and leaves nothing.

mod matrix;

use std::fs;

use serde_json::{Value, json};
use sluice_tests::Netns;

use crate::cni_rig::calls::{NONE, fails, run_vf as run};
use crate::cni_rig::engine::{self, Engine};
use crate::cni_rig::{Host, has_link};

#[track_caller]
fn nothing_left(host: &Host, engine: &Engine<'_>) {
    host.nothing_left();
    assert_eq!(engine::records(host), NONE);
    assert_eq!(engine.client().attachments().unwrap(), []);
}

#[test]
fn an_ipam_that_is_not_installed_holds_no_pod() {
    let Some(host) = Host::new("an_ipam_that_is_not_installed_holds_no_pod") else {
        return;
    };
    let engine = Engine::start(&host);
    let pod = Netns::new("pod").unwrap();
    for tap in [false, true] {
        let mut conf = engine::conf(&host, "10.81.1.0/24");
        conf["tap"] = tap.into();
        conf["ipam"] = json!({"type": "not-there"});
        let msg = run(&host, "ADD", "c", &pod, &conf).refused(7);
        assert!(msg.contains("not-there"), "{msg}");
        nothing_left(&host, &engine);
        for _ in 0..2 {
            run(&host, "DEL", "c", &pod, &conf).ok();
            nothing_left(&host, &engine);
        }
        // It goes missing between ADD and DEL: the attachment goes all the same.
        host.fake_plugin(
            "goes",
            &json!({"cniVersion": "1.0.0", "ips": [{"address": "10.81.1.9/24"}]}),
        );
        conf["ipam"]["type"] = "goes".into();
        run(&host, "ADD", "c", &pod, &conf).ok();
        fs::remove_file(host.bin_dir().join("goes")).unwrap();
        let del = run(&host, "DEL", "c", &pod, &conf);
        del.ok();
        assert!(del.stderr.contains("no retry mends this"), "{}", del.stderr);
        nothing_left(&host, &engine);
    }
}

#[test]
fn an_ipam_that_is_busy_is_asked_ten_times_and_then_no_more() {
    let Some(host) = Host::new("an_ipam_that_is_busy_is_asked_ten_times_and_then_no_more") else {
        return;
    };
    let engine = Engine::start(&host);
    let pod = Netns::new("pod").unwrap();
    let mut conf = engine::conf(&host, "10.81.2.0/24");
    host.fake_plugin(
        "busy",
        &json!({"cniVersion": "1.0.0", "ips": [{"address": "10.81.2.9/24"}]}),
    );
    host.on("busy", "DEL", &fails(11, "later"));
    conf["ipam"] = json!({"type": "busy"});
    run(&host, "ADD", "c", &pod, &conf).ok();
    for _ in 1..10 {
        let msg = run(&host, "DEL", "c", &pod, &conf).refused(11);
        assert!(msg.contains("later"), "{msg}");
        assert_eq!(
            engine.client().attachments().unwrap(),
            [],
            "the rest is done"
        );
    }
    let last = run(&host, "DEL", "c", &pod, &conf);
    last.ok();
    assert!(
        last.stderr.contains("10 DELs of it have failed"),
        "{}",
        last.stderr
    );
    nothing_left(&host, &engine);
    // The one of an ADD that failed is asked once.
    host.on("busy", "ADD", &fails(11, "later"));
    run(&host, "ADD", "c", &pod, &conf).refused(11);
    run(&host, "DEL", "c", &pod, &conf).ok();
    nothing_left(&host, &engine);
}

#[test]
fn the_longest_container_id_is_attached_and_detached() {
    let Some(host) = Host::new("the_longest_container_id_is_attached_and_detached") else {
        return;
    };
    let engine = Engine::start(&host);
    let pod = Netns::new("pod").unwrap();
    let conf = engine::conf(&host, "10.81.3.0/24");
    for length in [150, 200] {
        let container = "c".repeat(length);
        let call = |command| {
            host.pod_call(
                "sluicegate-vf",
                command,
                &container,
                Some(&pod),
                "fifteen-bytes-x",
            )
            .conf(&conf)
            .run()
        };
        call("ADD").ok();
        assert_eq!(engine.client().attachments().unwrap().len(), 1);
        call("DEL").ok();
        call("DEL").ok();
        nothing_left(&host, &engine);
    }
}

#[test]
fn a_later_plugin_of_the_chain_that_fails_leaves_a_deletable_memif() {
    let name = "a_later_plugin_of_the_chain_that_fails_leaves_a_deletable_memif";
    let Some(host) = Host::new(name) else { return };
    let engine = Engine::start(&host);
    let pod = Netns::new("pod").unwrap();
    let mut conf = engine::conf(&host, "10.81.4.0/24");
    let result = run(&host, "ADD", "c", &pod, &conf).ok();
    // sbr looks for a link, which a memif is not.
    std::os::unix::fs::symlink("/usr/lib/cni/sbr", host.bin_dir().join("sbr")).unwrap();
    let mut sbr = json!({"cniVersion": "1.0.0", "name": "wire", "type": "sbr"});
    sbr["prevResult"] = result.clone();
    sbr["prevResult"]["cniVersion"] = "1.0.0".into();
    let output = std::process::Command::new("/bin/sh")
        .arg("-c")
        .arg(format!(
            "ip netns exec {} true; printf '%s' \"$1\" | CNI_COMMAND=ADD CNI_CONTAINERID=c CNI_IFNAME=net1 \
             CNI_NETNS={} CNI_PATH={} {}/sbr",
            pod.name(),
            pod.path().display(),
            host.bin_dir().display(),
            host.bin_dir().display()
        ))
        .args(["sh", &sbr.to_string()])
        .output()
        .unwrap();
    assert!(!output.status.success(), "sbr on a memif: {output:?}");
    conf["prevResult"] = result;
    run(&host, "DEL", "c", &pod, &conf).ok();
    nothing_left(&host, &engine);
}

#[test]
fn a_socket_path_too_long_is_refused_before_anything_is_taken() {
    let Some(host) = Host::new("a_socket_path_too_long_is_refused_before_anything_is_taken") else {
        return;
    };
    let pod = Netns::new("pod").unwrap();
    let mut conf = engine::conf(&host, "10.81.5.0/24");
    let socket = format!("{}/{}/sluiced.sock", host.dir().display(), "d".repeat(100));
    conf["daemonSocket"] = socket.as_str().into();
    for command in ["ADD", "STATUS"] {
        let answer = match command {
            "ADD" => run(&host, "ADD", "c", &pod, &conf),
            _ => host.call("sluicegate-vf", command).conf(&conf).run(),
        };
        let msg = answer.refused(7);
        assert!(
            msg.contains("daemonSocket") && msg.contains(&socket),
            "{msg}"
        );
        assert!(msg.contains("107"), "{msg}");
    }
    run(&host, "DEL", "c", &pod, &conf).ok();
    assert_eq!((host.reserved(), host.records()), (NONE, NONE));
    // An abstract name of the pod's memif likewise.
    let mut conf = engine::conf(&host, "10.81.5.0/24");
    conf["memif"] = json!({"socket": format!("@{}", "n".repeat(108))});
    let msg = run(&host, "ADD", "c", &pod, &conf).refused(7);
    assert!(msg.contains("memif.socket"), "{msg}");
}

#[test]
fn the_hosts_own_namespace_at_del_releases_what_is_recorded() {
    let Some(host) = Host::new("the_hosts_own_namespace_at_del_releases_what_is_recorded") else {
        return;
    };
    let engine = Engine::start(&host);
    let pod = Netns::new("pod").unwrap();
    for tap in [false, true] {
        let mut conf = engine::conf(&host, "10.81.6.0/24");
        conf["tap"] = tap.into();
        run(&host, "ADD", "c", &pod, &conf).ok();
        let links = host.netns.ip(&["-o", "link"]).unwrap();
        run(&host, "DEL", "c", &host.netns, &conf).ok();
        assert_eq!(host.netns.ip(&["-o", "link"]).unwrap(), links);
        nothing_left(&host, &engine);
        run(&host, "DEL", "c", &host.netns, &conf).refused(8);
    }
    assert!(has_link(&host.netns, "wire0"));
}

#[test]
fn an_add_after_a_del_that_the_engine_missed_waits_for_it() {
    let Some(host) = Host::new("an_add_after_a_del_that_the_engine_missed_waits_for_it") else {
        return;
    };
    let engine = Engine::start(&host);
    let pod = Netns::new("pod").unwrap();
    let conf = engine::conf(&host, "10.81.7.0/24");
    run(&host, "ADD", "c", &pod, &conf).ok();
    engine
        .process()
        .signal(rustix::process::Signal::STOP)
        .unwrap();
    let del = host
        .pod_call("sluicegate-vf", "DEL", "c", Some(&pod), "net1")
        .env("SLUICEGATE_BUDGET_MS", "1100")
        .conf(&conf);
    del.run().ok();
    assert_eq!(host.records(), ["c@net1.json"], "the note for later");
    engine
        .process()
        .signal(rustix::process::Signal::CONT)
        .unwrap();
    run(&host, "ADD", "c", &pod, &conf).ok();
    assert_eq!(engine.client().attachments().unwrap().len(), 1);
    // Nothing later takes the new attachment for the old one.
    run(&host, "ADD", "d", &Netns::new("pod").unwrap(), &conf).ok();
    assert_eq!(engine.client().attachments().unwrap().len(), 2);
    for container in ["c", "d"] {
        run(&host, "DEL", container, &pod, &conf).ok();
    }
    nothing_left(&host, &engine);
}

/// Runs `sluicectl records` on a host.
fn records(host: &Host, args: &[&str]) -> (Option<i32>, Value, String) {
    let mut command = std::process::Command::new(sluice_tests::bin("sluicectl"));
    command.args(["--json", "records"]).args(args);
    command.arg("--cni-dir").arg(host.cni_dir());
    let output = host.netns.enter(move || Ok(command.output()?)).unwrap();
    let json = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), json, said)
}

#[test]
fn records_are_listed_reaped_and_dropped_without_an_engine() {
    let Some(host) = Host::new("records_are_listed_reaped_and_dropped_without_an_engine") else {
        return;
    };
    let mut engine = Engine::start(&host);
    let conf = engine::conf(&host, "10.81.8.0/24");
    let meta = host.meta("1.0.0", json!([host.bridge("1.0.0", "10.81.9.0/24"), conf]));
    let pods = ["ends", "reboots", "runs"].map(|name| (name, Netns::new("pod").unwrap()));
    for (name, pod) in &pods {
        host.pod_call("sluicegate", "ADD", name, Some(pod), "eth0")
            .env(
                "CNI_ARGS",
                &format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME={name}"),
            )
            .conf(&meta)
            .run()
            .ok();
    }
    engine.kill();
    let (code, all, _) = records(&host, &["list"]);
    assert_eq!(
        (code, all.as_array().unwrap().len()),
        (Some(0), 6),
        "{all:#}"
    );
    for record in all.as_array().unwrap() {
        let pod = format!("ns/{}", record["container_id"].as_str().unwrap());
        assert_eq!(
            (&record["pod"], &record["state"]),
            (&pod.into(), &"added".into()),
            "{record}"
        );
        assert_eq!(
            (&record["netns"], &record["torn"]),
            (&"alive".into(), &false.into()),
            "{record}"
        );
    }
    // One pod ends with nobody calling DEL: another namespace has its path and its inode number. The
    // second's records are of another boot.
    let ended = pods[0].1.name().to_owned();
    for args in [["netns", "del"], ["netns", "add"]] {
        let mut ip = std::process::Command::new("ip");
        sluice_tests::run(ip.args(args).arg(&ended)).unwrap();
    }
    pods[0]
        .1
        .ip(&["link", "add", "net1", "type", "veth", "peer", "name", "p"])
        .unwrap();
    for file in ["reboots@eth0.json", "vf/reboots@net1.json"] {
        let path = host.cni_dir().join("sluicegate").join(file);
        let text = fs::read_to_string(&path).unwrap();
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        let other = "11111111-2222-3333-4444-555555555555";
        assert!(text.contains(boot.trim()), "{text}");
        fs::write(&path, text.replace(boot.trim(), other)).unwrap();
    }
    let due = |args: &[&str]| {
        let (code, all, said) = records(&host, args);
        assert_eq!(code, Some(0), "{said}");
        let all = all.as_array().unwrap().clone();
        let of =
            |one: &Value| format!("{} {}", one["container_id"], one["outcome"]).replace('"', "");
        let mut names: Vec<String> = all.iter().map(of).collect();
        names.sort();
        names.dedup();
        names
    };
    assert_eq!(due(&["reap", "--older-than", "1h"]), NONE);
    let dry = due(&["reap", "--dry-run"]);
    assert_eq!(dry, ["ends would be deleted", "reboots would be deleted"]);
    assert_eq!(
        records(&host, &["list"]).1.as_array().unwrap().len(),
        6,
        "a dry run"
    );
    assert_eq!(due(&["reap"]), ["ends deleted", "reboots deleted"]);
    assert_eq!(due(&["reap"]), NONE);
    assert!(has_link(&pods[0].1, "net1"), "another pod's");
    assert_eq!(engine::records(&host), ["runs-net1.json"]);
    assert_eq!(host.reserved().len(), 2, "those of the pod that runs");

    // Dropping asks, and says what stays.
    let (code, _, said) = records(&host, &["drop", "runs"]);
    assert_eq!(code, Some(1));
    assert!(
        said.contains("--yes") && said.contains("host") | said.contains("bridge"),
        "{said}"
    );
    assert!(
        records(&host, &["drop", "nobody", "--yes"])
            .2
            .contains("nothing is on record")
    );
    let (code, dropped, said) = records(&host, &["drop", "ru/eth0", "--yes"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        dropped[0]["not_released"]
            .as_str()
            .unwrap()
            .contains("bridge"),
        "{dropped}"
    );
    let left = records(&host, &["list"]).1;
    assert_eq!(
        (left[0]["plugin"].as_str(), left.as_array().unwrap().len()),
        (Some("sluicegate-vf"), 1)
    );
    assert_eq!(host.reserved().len(), 2, "dropping releases nothing");
}
