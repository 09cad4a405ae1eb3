// SPDX-License-Identifier: Apache-2.0
//! Cases 1 to 14: the conversation itself. Both plugins speak it.

use serde_json::{Value, json};
use sluice_tests::Netns;

use crate::cni_rig::{Call, Host};

const PLUGINS: [&str; 2] = ["sluicegate", "sluicegate-vf"];

/// A configuration that both plugins can read.
fn conf(version: Option<&str>) -> Value {
    let mut conf = json!({"name": "demo", "type": "sluicegate", "mode": "engine",
        "uplink": "wire0", "delegates": [{"type": "loopback"}]});
    if let Some(version) = version {
        conf["cniVersion"] = version.into();
    }
    conf
}

fn add<'a>(host: &'a Host, plugin: &str, pod: &Netns) -> Call<'a> {
    let state = host.cni_dir();
    let mut conf = conf(Some("1.0.0"));
    conf["cniDir"] = state.display().to_string().into();
    host.pod_call(plugin, "ADD", "c1", Some(pod), "eth0")
        .conf(&conf)
}

#[test]
fn case_01_no_command_tells_what_it_is() {
    let Some(host) = Host::new("case_01") else {
        return;
    };
    for plugin in PLUGINS {
        let answer = host.call(plugin, "").without("CNI_COMMAND").run();
        assert_eq!(answer.code, Some(0), "{answer:?}");
        assert_eq!(answer.stdout, "");
        assert!(answer.stderr.contains(plugin), "{answer:?}");
        assert!(
            answer
                .stderr
                .contains("0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0")
        );
    }
}

#[test]
fn case_02_an_unknown_command_is_4() {
    let Some(host) = Host::new("case_02") else {
        return;
    };
    for plugin in PLUGINS {
        let msg = host.call(plugin, "FOO").conf(&conf(None)).run().refused(4);
        assert!(msg.contains("FOO"), "{msg}");
    }
}

#[test]
fn case_03_all_missing_variables_are_named_at_once() {
    let Some(host) = Host::new("case_03") else {
        return;
    };
    for plugin in PLUGINS {
        let msg = host.call(plugin, "ADD").conf(&conf(None)).run().refused(4);
        for name in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"] {
            assert!(msg.contains(name), "{msg}");
        }
    }
}

#[test]
fn case_04_a_container_id_that_leads_elsewhere_is_4() {
    let Some(host) = Host::new("case_04") else {
        return;
    };
    let pod = Netns::new("pod").unwrap();
    for plugin in PLUGINS {
        let msg = add(&host, plugin, &pod)
            .env("CNI_CONTAINERID", "../x")
            .run()
            .refused(4);
        assert!(msg.contains("../x"), "{msg}");
    }
    assert_eq!(host.records(), Vec::<String>::new());
}

#[test]
fn case_05_bad_interface_names_are_4() {
    let Some(host) = Host::new("case_05") else {
        return;
    };
    let pod = Netns::new("pod").unwrap();
    for plugin in PLUGINS {
        for name in ["0123456789abcdef", ".", "..", "a/b", "a:b", "a b"] {
            let msg = add(&host, plugin, &pod)
                .env("CNI_IFNAME", name)
                .run()
                .refused(4);
            assert!(msg.contains("CNI_IFNAME"), "{msg}");
        }
    }
}

#[test]
fn case_06_what_is_not_json_is_6_with_its_place() {
    let Some(host) = Host::new("case_06") else {
        return;
    };
    let pod = Netns::new("pod").unwrap();
    for plugin in PLUGINS {
        add(&host, plugin, &pod).text("").run().refused(6);
        let broken = "{\n  \"name\": \"x\",\n  nonsense\n}";
        let msg = add(&host, plugin, &pod).text(broken).run().refused(6);
        assert!(msg.contains("line 3, column 3"), "{msg}");
        // As the documents print it.
        let printed = "{\n  \"name\": \"multus-demo-network\",\n  \"type\": \"multus\",\n  \
                       \"delegates\": [\n    {\n      \"type\": \"sriov\",\n      \
                       #part of sriov plugin conf\n      \"if0\": \"enp12s0f0\"\n    }\n  ]\n}";
        let msg = add(&host, plugin, &pod).text(printed).run().refused(6);
        assert!(msg.contains("line 7, column 7"), "{msg}");
        assert!(msg.contains("JSON has no comments"), "{msg}");
    }
}

#[test]
fn case_07_a_missing_or_bad_name_is_7() {
    let Some(host) = Host::new("case_07") else {
        return;
    };
    let pod = Netns::new("pod").unwrap();
    for plugin in PLUGINS {
        for name in [
            Value::Null,
            "".into(),
            "a b".into(),
            "-a".into(),
            "a/b".into(),
        ] {
            let mut conf = conf(None);
            conf["name"] = name;
            let msg = add(&host, plugin, &pod).conf(&conf).run().refused(7);
            assert!(msg.contains("name"), "{msg}");
        }
    }
}

#[test]
fn case_08_standard_input_that_cannot_be_read_is_5() {
    let Some(host) = Host::new("case_08") else {
        return;
    };
    let pod = Netns::new("pod").unwrap();
    for plugin in PLUGINS {
        let msg = add(&host, plugin, &pod).unreadable().run().refused(5);
        assert!(msg.contains("standard input"), "{msg}");
    }
}

#[test]
fn case_09_an_unknown_version_is_1() {
    let Some(host) = Host::new("case_09") else {
        return;
    };
    let pod = Netns::new("pod").unwrap();
    for plugin in PLUGINS {
        let msg = add(&host, plugin, &pod)
            .conf(&conf(Some("9.9.9")))
            .run()
            .refused(1);
        assert!(msg.contains("9.9.9"), "{msg}");
    }
}

#[test]
fn case_10_an_absent_version_is_0_1_0() {
    let Some(host) = Host::new("case_10") else {
        return;
    };
    let pod = Netns::new("pod").unwrap();
    // The meta plugin answers in the shape of 0.1.0 ...
    let mut meta = host.meta("", json!([host.bridge("", "10.80.10.0/24")]));
    meta.as_object_mut().unwrap().remove("cniVersion");
    let result = add(&host, "sluicegate", &pod).conf(&meta).run().ok();
    assert_eq!(result["cniVersion"], "0.1.0");
    assert_eq!(result["ip4"]["ip"], "10.80.10.2/24");
    let del = host
        .pod_call("sluicegate", "DEL", "c1", Some(&pod), "eth0")
        .conf(&meta);
    del.run().ok();
    // ... and both know no CHECK there.
    for plugin in PLUGINS {
        let check = host
            .pod_call(plugin, "CHECK", "c1", Some(&pod), "eth0")
            .conf(&conf(None));
        let msg = check.run().refused(1);
        assert!(msg.contains("0.1.0"), "{msg}");
    }
}

#[test]
fn case_11_version_needs_no_input() {
    let Some(host) = Host::new("case_11") else {
        return;
    };
    for plugin in PLUGINS {
        let info = host.call(plugin, "VERSION").run().ok();
        assert_eq!(
            info["supportedVersions"],
            json!([
                "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"
            ])
        );
        assert!(info["cniVersion"].is_string());
    }
}

#[test]
fn case_12_check_at_0_3_1_is_1() {
    let Some(host) = Host::new("case_12") else {
        return;
    };
    let pod = Netns::new("pod").unwrap();
    for plugin in PLUGINS {
        let call = add(&host, plugin, &pod).env("CNI_COMMAND", "CHECK");
        let msg = call.conf(&conf(Some("0.3.1"))).run().refused(1);
        assert!(msg.contains("CHECK exists since CNI 0.4.0"), "{msg}");
    }
}

#[test]
fn case_13_gc_and_status_at_1_0_0_are_1() {
    let Some(host) = Host::new("case_13") else {
        return;
    };
    for plugin in PLUGINS {
        for command in ["GC", "STATUS"] {
            let msg = host
                .call(plugin, command)
                .conf(&conf(Some("1.0.0")))
                .run()
                .refused(1);
            assert!(msg.contains("since CNI 1.1.0"), "{msg}");
        }
    }
}

#[test]
fn case_14_the_hosts_own_namespace_is_8() {
    let Some(host) = Host::new("case_14") else {
        return;
    };
    let pod = Netns::new("pod").unwrap();
    let own = host.netns.path().display().to_string();
    for plugin in PLUGINS {
        for command in ["ADD", "DEL"] {
            let call = add(&host, plugin, &pod).env("CNI_COMMAND", command);
            let msg = call.env("CNI_NETNS", &own).run().refused(8);
            assert!(msg.contains(&own), "{msg}");
        }
        let msg = add(&host, plugin, &pod)
            .env("CNI_NETNS", "/nonexistent")
            .run()
            .refused(8);
        assert!(msg.contains("/nonexistent"), "{msg}");
    }
    assert_eq!(host.records(), Vec::<String>::new());
}
