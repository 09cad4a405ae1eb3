// SPDX-License-Identifier: Apache-2.0
//! End of a DEL: what a failed ADD leaves behind holds no pod, passing failures are repeated a bounded number of
//! times, identity is the namespace's and not its path's.

use std::fs;

use serde_json::{Value, json};
use sluice_tests::Netns;

use crate::cni_rig::calls::{NONE, canned, fails, lead_elsewhere, run};
use crate::cni_rig::disk::SmallDisk;
use crate::cni_rig::{Host, has_link};

/// Message of plugins that fail.
const AGAIN: &str = "again and again";

fn record(host: &Host, container: &str) -> Value {
    let path = host
        .cni_dir()
        .join(format!("sluicegate/{container}@eth0.json"));
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_delegate_whose_add_failed_holds_no_pod_and_the_others_are_repeated() {
    let Some(host) = Host::new("a_delegate_whose_add_failed_holds_no_pod") else {
        return;
    };
    let pod = Netns::new("pod").unwrap();
    for name in ["a", "b", "c"] {
        host.fake_plugin(name, &canned(name));
    }
    let chain = json!({"cniVersion": "1.0.0", "name": "chain",
        "plugins": [{"type": "b"}, {"type": "c"}, {"type": "a"}]});
    let conf = host.meta("1.1.0", json!([{"type": "a"}, chain]));
    // c fails at ADD as at DEL; b, before it in the chain, succeeded and is busy now.
    host.on("c", "ADD", &fails(999, AGAIN));
    host.on("c", "DEL", &fails(999, AGAIN));
    host.on("b", "DEL", &fails(999, AGAIN));
    run(&host, "ADD", "c1", &pod, &conf).refused(999);
    let calls = [
        "ADD a eth0",
        "ADD b net1",
        "ADD c net1",
        "DEL c net1",
        "DEL b net1",
        "DEL a eth0",
    ];
    assert_eq!(host.take_calls(), calls);
    let states = record(&host, "c1")["delegates"][1]["states"].clone();
    let progress: Vec<_> = states
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["progress"])
        .collect();
    assert_eq!(progress, ["added", "deleted", "not-run"]);
    assert_eq!(states[0]["failed_dels"], 1);
    let said = run(&host, "DEL", "c1", &pod, &conf).refused(999);
    assert!(said.contains("delegate b (network chain, net1)"), "{said}");
    host.off("b", "DEL");
    run(&host, "DEL", "c1", &pod, &conf).ok();
    assert_eq!(host.take_calls(), ["DEL b net1", "DEL b net1"]);
    assert_eq!(host.records(), NONE);
}

#[test]
fn what_no_retry_mends_ends_at_once_and_the_rest_after_ten() {
    let Some(host) = Host::new("what_no_retry_mends_ends_at_once") else {
        return;
    };
    let pod = Netns::new("pod").unwrap();
    host.fake_plugin("a", &canned("eth0"));
    let conf = host.meta("1.1.0", json!([{"type": "a"}]));
    for (code, dels) in [
        (1, 1),
        (2, 1),
        (3, 1),
        (4, 1),
        (6, 1),
        (7, 1),
        (8, 1),
        (5, 10),
        (11, 10),
        (999, 10),
    ] {
        run(&host, "ADD", "c1", &pod, &conf).ok();
        host.on("a", "DEL", &fails(code, AGAIN));
        for _ in 1..dels {
            run(&host, "DEL", "c1", &pod, &conf).refused(code.into());
        }
        let last = run(&host, "DEL", "c1", &pod, &conf);
        last.ok();
        assert!(last.stderr.contains("again and again"), "{last:?}");
        assert_eq!(host.records(), NONE, "{code}");
        host.off("a", "DEL");
    }
    // A plugin that is not there any more; one that prints to standard output and succeeds.
    run(&host, "ADD", "c1", &pod, &conf).ok();
    let away = host.dir().join("away");
    fs::rename(host.bin_dir().join("a"), &away).unwrap();
    let mut gone = conf.clone();
    gone["binDir"] = json!(host.dir().join("none"));
    let answer = run(&host, "DEL", "c1", &pod, &gone);
    answer.ok();
    assert!(answer.stderr.contains("install it there"), "{answer:?}");
    fs::rename(away, host.bin_dir().join("a")).unwrap();
    run(&host, "ADD", "c1", &pod, &conf).ok();
    host.on("a", "DEL", "echo deleted");
    run(&host, "DEL", "c1", &pod, &conf).ok();
    host.off("a", "DEL");
    // GC counts as DEL does.
    run(&host, "ADD", "c1", &pod, &conf).ok();
    host.on("a", "DEL", &fails(999, AGAIN));
    let mut gc = conf.clone();
    gc["cni.dev/attachments"] = json!([]);
    for _ in 1..10 {
        host.call("sluicegate", "GC").conf(&gc).run().refused(999);
    }
    host.call("sluicegate", "GC").conf(&gc).run().ok();
    assert_eq!(host.records(), NONE);
    // A torn record says nothing, and goes.
    let folder = host.cni_dir().join("sluicegate");
    fs::write(folder.join("torn@eth0.json"), "{").unwrap();
    host.call("sluicegate", "GC").conf(&gc).run().ok();
    assert_eq!(host.records(), NONE);
}

#[test]
fn a_path_that_leads_to_another_namespace_by_now_touches_nothing_there() {
    let Some(host) = Host::new("a_path_that_leads_to_another_namespace") else {
        return;
    };
    let (a, b) = (Netns::new("a").unwrap(), Netns::new("b").unwrap());
    host.noted("bridge");
    let conf = host.meta("1.0.0", json!([host.bridge("1.0.0", "10.80.60.0/24")]));
    run(&host, "ADD", "a", &a, &conf).ok();
    b.veth("eth0", &host.netns, "bs").unwrap();
    // As if a's path had been given to b.
    lead_elsewhere(&a, Some(&b));
    let said = run(&host, "CHECK", "a", &a, &conf).refused(8);
    assert!(said.contains("another network namespace"), "{said}");
    run(&host, "DEL", "a", &a, &conf).ok();
    assert!(has_link(&b, "eth0"), "b keeps its own");
    assert!(
        !host
            .env_of("bridge", "DEL", "eth0")
            .contains_key("CNI_NETNS")
    );
    host.nothing_left();

    // Nor without a record, where the namespace is another one's by its own.
    b.ip(&["link", "delete", "eth0"]).unwrap();
    run(&host, "ADD", "b", &b, &conf).ok();
    let answer = run(&host, "DEL", "never", &b, &conf);
    answer.ok();
    assert!(answer.stderr.contains("of container b"), "{answer:?}");
    assert!(has_link(&b, "eth0"));
    run(&host, "DEL", "b", &b, &conf).ok();

    // The host's own: what is recorded is released, and the host's interfaces are not touched.
    let pod = Netns::new("pod").unwrap();
    run(&host, "ADD", "c", &pod, &conf).ok();
    host.netns
        .ip(&["link", "add", "eth0", "type", "bridge"])
        .unwrap();
    run(&host, "DEL", "c", &host.netns, &conf).ok();
    assert!(has_link(&host.netns, "eth0"));
    host.nothing_left();
    host.take_calls();
    run(&host, "DEL", "c", &host.netns, &conf).refused(8);
    assert_eq!(
        host.take_calls(),
        NONE,
        "nothing is recorded, nothing is run"
    );

    // A record of another boot: its namespace is gone, whatever the path says.
    let pod = Netns::new("pod").unwrap();
    run(&host, "ADD", "d", &pod, &conf).ok();
    let path = host.cni_dir().join("sluicegate/d@eth0.json");
    let mut old = record(&host, "d");
    old["netns_identity"]["boot_id"] = "another".into();
    fs::write(path, old.to_string()).unwrap();
    run(&host, "DEL", "d", &pod, &conf).ok();
    assert!(
        !host
            .env_of("bridge", "DEL", "eth0")
            .contains_key("CNI_NETNS")
    );
    host.nothing_left();
}

#[test]
fn an_address_is_released_for_a_plugin_that_does_not_once_the_namespace_is_gone() {
    let name = "an_address_is_released_for_a_plugin_that_does_not_once_the_namespace_is_gone";
    let Some(host) = Host::new(name) else {
        return;
    };
    // As host-device 1.1, whose DEL returns before its ipam's if there is no namespace.
    host.fake_plugin("lazy", &Value::Null);
    host.on(
        "lazy",
        "ADD",
        "printf '%s' \"$conf\" | /usr/lib/cni/host-local; exit $?",
    );
    let lazy =
        json!({"type": "lazy", "cniVersion": "1.0.0", "ipam": host.host_local("10.80.63.0/24")});
    let conf = host.meta("1.0.0", json!([lazy]));
    for dels in ["", &fails(999, "no namespace")] {
        host.on("lazy", "DEL", dels);
        let pod = Netns::new("pod").unwrap();
        run(&host, "ADD", "c1", &pod, &conf).ok();
        assert_eq!(host.reserved().len(), 1);
        let path = pod.path();
        drop(pod);
        let del = host.pod_call("sluicegate", "DEL", "c1", None, "eth0");
        let del = del
            .env("CNI_NETNS", &path.display().to_string())
            .conf(&conf);
        del.run().ok();
        host.nothing_left();
    }
    // While the namespace is there the address is the plugin's own business.
    host.off("lazy", "DEL");
    let pod = Netns::new("pod").unwrap();
    run(&host, "ADD", "c1", &pod, &conf).ok();
    run(&host, "DEL", "c1", &pod, &conf).ok();
    assert_eq!(host.reserved().len(), 1);
    fs::remove_dir_all(host.dir().join("ipam")).unwrap();

    // An ipam that does not take this configuration, which the plugin makes another one of, holds no pod.
    let flannel = json!({"type": "flannel", "cniVersion": "1.0.0", "ipam": {"type": "host-local"}});
    host.fake_plugin("flannel", &canned("eth0"));
    let conf = host.meta("1.0.0", json!([flannel]));
    run(&host, "ADD", "c1", &pod, &conf).ok();
    let answer = host
        .pod_call("sluicegate", "DEL", "c1", None, "eth0")
        .conf(&conf)
        .run();
    answer.ok();
    host.nothing_left();
}

#[test]
fn a_disk_that_takes_no_file_holds_no_pod() {
    let Some(host) = Host::new("a_disk_that_takes_no_file_holds_no_pod") else {
        return;
    };
    let pod = Netns::new("pod").unwrap();
    host.fake_plugin("a", &canned("eth0"));
    let mut conf = host.meta("1.0.0", json!([{"type": "a"}]));
    let disk = SmallDisk::mount(&host.dir().join("disk"), "64k");
    conf["cniDir"] = json!(disk.dir());
    // Nothing is recorded, and no lock can be made.
    disk.remount("ro");
    run(&host, "DEL", "never", &pod, &conf).ok();
    run(&host, "ADD", "c1", &pod, &conf).refused(5);
    run(&host, "DEL", "c1", &pod, &conf).ok();
    disk.remount("rw");
    host.take_calls();
    // A record that cannot be removed: everything in it is done.
    run(&host, "ADD", "c1", &pod, &conf).ok();
    disk.remount("ro");
    run(&host, "DEL", "c1", &pod, &conf).ok();
    assert_eq!(host.take_calls(), ["ADD a eth0", "DEL a eth0"]);
    disk.remount("rw");
    run(&host, "DEL", "c1", &pod, &conf).ok();
    host.take_calls();
    // Full: DEL of what was never added, and of what was.
    run(&host, "ADD", "c1", &pod, &conf).ok();
    disk.fill();
    run(&host, "ADD", "c2", &pod, &conf).refused(5);
    run(&host, "DEL", "c2", &pod, &conf).ok();
    run(&host, "DEL", "c1", &pod, &conf).ok();
}

#[test]
fn a_container_id_of_150_characters_is_taken_and_one_that_is_too_long_leaves_nothing() {
    let Some(host) = Host::new("a_container_id_of_150_characters") else {
        return;
    };
    let pod = Netns::new("pod").unwrap();
    let conf = host.meta("1.0.0", json!([host.bridge("1.0.0", "10.80.61.0/24")]));
    for (length, taken) in [(150, true), (200, true), (201, false), (300, false)] {
        let id = "c".repeat(length);
        let add = run(&host, "ADD", &id, &pod, &conf);
        if taken {
            add.ok();
        } else {
            add.refused(4);
        }
        run(&host, "DEL", &id, &pod, &conf).ok();
        assert_eq!((host.reserved(), host.records()), (NONE, NONE), "{length}");
    }
}

#[test]
fn ports_as_text_are_refused_before_anything_runs() {
    let Some(host) = Host::new("ports_as_text_are_refused_before_anything_runs") else {
        return;
    };
    let pod = Netns::new("pod").unwrap();
    host.noted("bridge");
    let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}});
    let chain = json!({"cniVersion": "1.0.0", "name": "net",
        "plugins": [host.bridge("", "10.80.62.0/24"), portmap]});
    std::os::unix::fs::symlink("/usr/lib/cni/portmap", host.bin_dir().join("portmap")).unwrap();
    let mut conf = host.meta("1.0.0", json!([chain]));
    conf["runtimeConfig"] = json!({"portMappings": [{"hostPort": "8080", "containerPort": "80"}]});
    let said = run(&host, "ADD", "c1", &pod, &conf).refused(7);
    assert!(
        said.contains("portMappings[0]: hostPort") && said.contains("network net"),
        "{said}"
    );
    assert_eq!(host.take_calls(), NONE);
    run(&host, "DEL", "c1", &pod, &conf).ok();
    host.nothing_left();
}
