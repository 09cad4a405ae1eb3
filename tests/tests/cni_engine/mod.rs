// SPDX-License-Identifier: Apache-2.0
//! Cases 45, 47 and 52: the interface plugin with the engine up, down and hanging.

mod posing;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use sluice_tests::{Netns, Process, bin, wait_for};

use crate::cni_rig::calls::{NONE, run_vf as run};
use crate::cni_rig::engine::{self, Engine};
use crate::cni_rig::{Host, addresses, has_link};

/// A VNF in the pod, on the memif at `socket`, as the result of the ADD says.
fn vnf(pod: &Netns, socket: &str, role: &str, result: &Value) -> Process {
    let mac = result["interfaces"][0]["mac"].as_str().unwrap();
    let ip = result["ips"][0]["address"].as_str().unwrap();
    let mut command = pod.command(bin("vnf"));
    command
        .arg("--memif")
        .arg(format!("socket={socket},role={role},mac={mac},ip={ip}"));
    command.stdout(Stdio::null());
    Process::start(&mut command).unwrap()
}

#[test]
fn case_45_a_pod_opens_its_memif_by_each_way() {
    let Some(host) = Host::new("case_45") else {
        return;
    };
    let engine = Engine::start(&host);
    let shared = host.dir().join("shared");
    fs::create_dir(&shared).unwrap();
    let mounted = host.dir().join("run/att/wire0-3");
    fs::create_dir_all(&mounted).unwrap();
    let inode = fs::metadata(&mounted).unwrap().ino();
    let in_shared = format!("{}/memif-c45-net1.sock", shared.display());
    let in_mounted = format!("{}/memif.sock", mounted.display());
    let ways = [
        (json!({}), "@sluicegate/net1"),
        (json!({"deviceID": "wire0-3"}), in_mounted.as_str()),
        (json!({"memif": {"socketDir": shared}}), in_shared.as_str()),
    ];
    // The engine as server first, as every peer expects; then as client of a pod that serves.
    for role in ["server", "client"] {
        let (pods_role, device_role) = if role == "server" {
            ("client", "slave")
        } else {
            ("server", "master")
        };
        for (way, socket) in &ways {
            let pod = Netns::new("pod").unwrap();
            let info = host.dir().join("devinfo/c45-net1.json");
            let mut conf = engine::conf(&host, "10.80.45.0/24");
            for (key, value) in way.as_object().unwrap() {
                conf[key] = value.clone();
            }
            conf["memif"]["role"] = role.into();
            conf["mac"] = "02:00:00:00:00:0a".into();
            conf["runtimeConfig"] = json!({"mac": "02:00:00:00:00:0c", "CNIDeviceInfoFile": info});

            if way.get("deviceID").is_some() {
                fs::write(mounted.join("left-over"), "").unwrap();
            }
            let result = run(&host, "ADD", "c45", &pod, &conf).ok();
            let made = &result["interfaces"][0];
            assert_eq!(made["name"], "net1");
            assert_eq!(made["mac"], "02:00:00:00:00:0c", "the runtime's MAC wins");
            assert_eq!(made["mtu"], 1500);
            assert_eq!(made["sandbox"], pod.path().display().to_string());
            let path = socket.starts_with('/');
            assert_eq!(made.get("socketPath").is_some(), path, "{made}");
            assert_eq!(result["ips"][0]["interface"], 0);
            assert_eq!(host.reserved().len(), 1);
            let device: Value = serde_json::from_slice(&fs::read(&info).unwrap()).unwrap();
            let memif = json!({"role": device_role, "path": socket, "mode": "ethernet"});
            assert_eq!(
                device,
                json!({"type": "memif", "version": "1.1.0", "memif": memif})
            );
            if way.get("deviceID").is_some() {
                assert!(!mounted.join("left-over").exists(), "emptied at ADD");
                let text = fs::read(mounted.join("interface.json")).unwrap();
                let interface: Value = serde_json::from_slice(&text).unwrap();
                assert_eq!(interface["socket"], *socket);
                assert_eq!(interface["role"], pods_role);
                assert_eq!(interface["mac"], "02:00:00:00:00:0c");
                assert_eq!(interface["vlan"]["vid"], 210);
                assert_eq!(interface["addresses"][0]["gateway"], "10.80.45.1");
            }

            let mut peer = vnf(&pod, socket, pods_role, &result);
            engine.wait_for_link("c45", "net1");
            conf["prevResult"] = result;
            run(&host, "CHECK", "c45", &pod, &conf).ok();
            conf["prevResult"]["interfaces"][0]["mac"] = "02:00:00:00:00:0d".into();
            let msg = run(&host, "CHECK", "c45", &pod, &conf).refused(999);
            assert!(msg.contains("MAC"), "{msg}");
            let msg = run(&host, "ADD", "c45", &pod, &conf).refused(4);
            assert!(msg.contains("exists already"), "{msg}");

            run(&host, "DEL", "c45", &pod, &conf).ok();
            peer.kill();
            assert_eq!(engine.client().attachments().unwrap().len(), 0);
            assert!(!info.exists());
            assert_eq!(
                fs::metadata(&mounted).unwrap().ino(),
                inode,
                "its mount is kept"
            );
            for dir in [&mounted, &shared] {
                let files = fs::read_dir(dir).unwrap().count();
                // Where the pod serves, the socket is the pod's.
                assert!(
                    files == 0 || (role == "client" && dir == &shared),
                    "{dir:?}"
                );
            }
            let _ = fs::remove_file(&in_shared);
            host.nothing_left();
            assert_eq!(engine::records(&host), NONE);
        }
    }

    // What cannot be on the engine is said before anything is taken.
    let pod = Netns::new("pod").unwrap();
    let conf = engine::conf(&host, "10.80.45.0/24");
    let eth0 = host
        .pod_call("sluicegate-vf", "ADD", "c45", Some(&pod), "eth0")
        .conf(&conf);
    assert!(eth0.run().refused(7).contains("eth0"));
    let mut dhcp = conf.clone();
    dhcp["ipam"] = json!({"type": "dhcp"});
    assert!(
        run(&host, "ADD", "c45", &pod, &dhcp)
            .refused(7)
            .contains("dhcp")
    );
    let mut unknown = conf.clone();
    unknown["uplink"] = "wire9".into();
    assert!(
        run(&host, "ADD", "c45", &pod, &unknown)
            .refused(7)
            .contains("wire9")
    );
    let mut policy = conf;
    policy["firewall"] = "no-such-policy".into();
    assert!(
        run(&host, "ADD", "c45", &pod, &policy)
            .refused(7)
            .contains("no-such-policy")
    );
    host.nothing_left();
}

#[test]
fn case_47_del_with_the_engine_down_is_0_and_nothing_comes_back() {
    let Some(host) = Host::new("case_47") else {
        return;
    };
    let mut engine = Engine::start(&host);
    let pod = Netns::new("pod").unwrap();
    let info = host.dir().join("devinfo/c47-net1.json");
    let shared = host.dir().join("shared");
    fs::create_dir(&shared).unwrap();
    let mut conf = engine::conf(&host, "10.80.47.0/24");
    conf["runtimeConfig"] = json!({"CNIDeviceInfoFile": info});
    conf["memif"] = json!({"socketDir": shared});
    run(&host, "ADD", "c47", &pod, &conf).ok();
    assert_eq!(engine::records(&host), ["c47-net1.json"]);

    engine.kill();
    // ADD is to be tried again, and has changed nothing.
    let before = (host.reserved(), host.records(), engine::records(&host));
    let add = host
        .pod_call("sluicegate-vf", "ADD", "other", Some(&pod), "net2")
        .conf(&conf);
    assert!(add.run().refused(11).contains("the engine does not answer"));
    assert_eq!(
        (host.reserved(), host.records(), engine::records(&host)),
        before
    );

    // The pod is gone too; the configuration is not asked for anything but where things lie.
    drop(pod);
    let start = Instant::now();
    host.pod_call("sluicegate-vf", "DEL", "c47", None, "net1")
        .conf(&conf)
        .run()
        .ok();
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
    host.nothing_left();
    assert_eq!(engine::records(&host), NONE);
    assert!(!info.exists());
    assert_eq!(
        fs::read_dir(&shared).unwrap().count(),
        0,
        "the dead engine's socket"
    );
    host.pod_call("sluicegate-vf", "DEL", "c47", None, "net1")
        .conf(&conf)
        .run()
        .ok();

    engine.restart();
    assert_eq!(engine.client().attachments().unwrap().len(), 0);

    // The same under the meta plugin, from its record: pods do not notice an engine that is down.
    let pod = Netns::new("pod").unwrap();
    let mut vf = conf.clone();
    vf.as_object_mut().unwrap().remove("runtimeConfig");
    let meta = host.meta("1.0.0", json!([host.bridge("1.0.0", "10.80.48.0/24"), vf]));
    let call = |command| {
        host.pod_call("sluicegate", command, "c47", Some(&pod), "eth0")
            .conf(&meta)
            .run()
    };
    let result = call("ADD").ok();
    assert_eq!(result["interfaces"][2]["name"], "eth0");
    assert_eq!(engine.attachment("c47", "net1").request.addresses.len(), 1);
    engine.kill();
    call("DEL").ok();
    host.nothing_left();
    let msg = call("ADD").refused(11);
    assert!(msg.contains("delegate sluicegate-vf"), "{msg}");
    host.nothing_left();
}

#[test]
fn case_52_del_while_the_engine_hangs_is_bounded_and_finished_later() {
    let Some(host) = Host::new("case_52") else {
        return;
    };
    let mut engine = Engine::start(&host);
    let pod = Netns::new("pod").unwrap();
    let conf = engine::conf(&host, "10.80.52.0/24");
    for revived in [true, false] {
        run(&host, "ADD", "c52", &pod, &conf).ok();
        engine.process().signal(Signal::STOP).unwrap();
        let start = Instant::now();
        run(&host, "DEL", "c52", &pod, &conf).ok();
        let took = start.elapsed();
        assert!(took < Duration::from_secs(7), "{took:?}");
        assert!(
            took > Duration::from_secs(4),
            "the engine was asked: {took:?}"
        );
        assert_eq!(host.reserved(), NONE, "its addresses are free");
        let released = host.cni_dir().join("sluicegate/vf/released/c52@net1.json");
        assert!(released.exists());
        assert_eq!(
            engine::records(&host),
            NONE,
            "a new engine does not bring it back"
        );
        if revived {
            // A second DEL is 0 as well.
            run(&host, "DEL", "c52", &pod, &conf).ok();
            engine.process().signal(Signal::CONT).unwrap();
        } else {
            engine.kill();
            engine.restart();
        }
        // GC, or any ADD, finishes what the hanging engine could not.
        let mut gc = conf.clone();
        gc["cni.dev/valid-attachments"] = json!([]);
        host.call("sluicegate-vf", "GC").conf(&gc).run().ok();
        wait_for("the attachment to be gone", Duration::from_secs(5), || {
            engine.client().attachments().ok().filter(Vec::is_empty)
        })
        .unwrap();
        assert!(!released.exists());
        assert_eq!(host.records(), NONE);
    }
    assert!(Path::new(&pod.path()).exists());
}

#[test]
fn a_tap_has_its_addresses_and_routes() {
    let Some(host) = Host::new("a_tap_has_its_addresses_and_routes") else {
        return;
    };
    let engine = Engine::start(&host);
    let pod = Netns::new("pod").unwrap();
    let mut conf = engine::conf(&host, "10.80.60.0/24");
    conf["tap"] = true.into();
    let result = run(&host, "ADD", "tap", &pod, &conf).ok();
    let mac = result["interfaces"][0]["mac"].as_str().unwrap();
    assert!(
        pod.ip(&["link", "show", "dev", "net1"])
            .unwrap()
            .contains(mac)
    );
    assert!(addresses(&pod, "net1").contains("10.80.60.2/24"));
    let route = pod.ip(&["route", "show", "default"]).unwrap();
    assert!(route.contains("via 10.80.60.1 dev net1"), "{route}");
    conf["prevResult"] = result;
    run(&host, "CHECK", "tap", &pod, &conf).ok();
    pod.ip(&["address", "delete", "10.80.60.2/24", "dev", "net1"])
        .unwrap();
    let msg = run(&host, "CHECK", "tap", &pod, &conf).refused(999);
    assert!(msg.contains("has lost address 10.80.60.2/24"), "{msg}");
    run(&host, "DEL", "tap", &pod, &conf).ok();
    wait_for("the tap to be gone", Duration::from_secs(5), || {
        (!has_link(&pod, "net1")).then_some(())
    })
    .unwrap();
    assert_eq!(engine.client().attachments().unwrap().len(), 0);
    host.nothing_left();
}

#[test]
fn case_15_status_tells_apart_an_engine_that_is_down_and_one_that_cuts_pods_off() {
    let name = "status_tells_apart_an_engine_that_is_down_and_one_that_cuts_pods_off";
    let Some(host) = Host::new(name) else { return };
    let conf = engine::conf(&host, "10.80.61.0/24");
    let status = || host.call("sluicegate-vf", "STATUS").conf(&conf).run();
    status().refused(50);
    let mut engine = Engine::start(&host);
    status().ok();
    let pod = Netns::new("pod").unwrap();
    run(&host, "ADD", "c", &pod, &conf).ok();
    engine.kill();
    status().refused(51);
    run(&host, "DEL", "c", &pod, &conf).ok();
    status().refused(50);
}
