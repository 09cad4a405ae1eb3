// SPDX-License-Identifier: Apache-2.0
//! The matrix of DEL: back end, what became of the ADD, of the namespace, of the disk and of the engine.

use std::fs;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use sluice_tests::{Netns, wait_for};

use super::{NONE, nothing_left, run};
use crate::cni_rig::disk::SmallDisk;
use crate::cni_rig::engine::{self, Engine};
use crate::cni_rig::{Answer, Host, has_link};

/// Outcomes of the ADD.
const ADDS: [&str; 5] = ["never", "refused", "half-way", "killed", "succeeded"];
/// States of the network namespace at the DEL.
const NAMESPACES: [&str; 4] = ["there", "gone", "reused", "a plain file"];
/// States of the engine at the DEL.
const ENGINES: [&str; 4] = ["up", "gone", "hung", "restarted"];

/// Container of one case.
struct Case {
    name: String,
    container: String,
    namespace: &'static str,
    pod: Netns,
    conf: Value,
}

#[test]
fn del_ends_with_0_and_leaves_nothing() {
    let Some(host) = Host::new("del_ends_with_0_and_leaves_nothing") else {
        return;
    };
    // Small, so that it can be filled.
    let disks = [host.cni_dir(), host.dir().join("ipam")].map(|dir| SmallDisk::mount(&dir, "2m"));
    let mut engine = Engine::start(&host);
    let mut serial = 0;
    for state in ENGINES {
        for full in [false, true] {
            let cases = add_all(&host, &mut serial);
            for case in &cases {
                change_namespace(case);
            }
            if full {
                disks.iter().for_each(SmallDisk::fill);
            }
            match state {
                "gone" => engine.kill(),
                "hung" => engine.process().signal(Signal::STOP).unwrap(),
                "restarted" => {
                    engine.kill();
                    engine.restart();
                }
                _ => {}
            }
            del_all(&host, &cases, state, full);
            disks.iter().for_each(SmallDisk::empty);
            match state {
                "gone" => engine.restart(),
                "hung" => engine.process().signal(Signal::CONT).unwrap(),
                _ => {}
            }
            // What a hung engine could not do any later call has done.
            let mut gc = engine::conf(&host, "10.82.0.0/22");
            gc["cni.dev/valid-attachments"] = json!([]);
            let gone = wait_for("the engine to let go", Duration::from_secs(20), || {
                host.call("sluicegate-vf", "GC").conf(&gc).run().ok();
                engine.client().attachments().ok().filter(Vec::is_empty)
            });
            assert!(
                gone.is_ok(),
                "engine {state}, disk full {full}: {:#?}",
                engine.client().attachments()
            );
            nothing_left(&host, &engine);
            for case in cases {
                untouched(&case);
                if case.namespace == "a plain file" {
                    fs::remove_file(case.pod.path()).unwrap();
                }
                // Dropping it deletes it.
                if ["a plain file", "gone"].contains(&case.namespace) {
                    run_ip(&["netns", "add", case.pod.name()]);
                }
            }
        }
    }
}

/// Adds a container for each case of back end, ADD and namespace, up to where its ADD gets.
fn add_all(host: &Host, serial: &mut u32) -> Vec<Case> {
    let mut cases = Vec::new();
    for tap in [false, true] {
        for add in ADDS {
            for namespace in NAMESPACES {
                *serial += 1;
                let mut conf = engine::conf(host, "10.82.0.0/22");
                conf["tap"] = tap.into();
                let case = Case {
                    name: format!("tap {tap}, ADD {add}, namespace {namespace}"),
                    container: format!("m{serial}"),
                    namespace,
                    pod: Netns::new("pod").unwrap(),
                    conf,
                };
                cases.push(case.add(host, add));
            }
        }
    }
    cases
}

impl Case {
    fn add(mut self, host: &Host, add: &str) -> Case {
        let succeed = |case: &Case| run(host, "ADD", &case.container, &case.pod, &case.conf).ok();
        match add {
            "never" => {}
            "refused" => {
                self.conf["firewall"] = "no-such-policy".into();
                run(host, "ADD", &self.container, &self.pod, &self.conf).refused(7);
            }
            "half-way" => {
                // After the attachment is made: a file in the way, a route that cannot be.
                let file = host.dir().join("sluiced.yaml/x");
                self.conf["runtimeConfig"] = json!({"CNIDeviceInfoFile": file});
                let route = json!({"dst": "10.9.0.0/16", "gw": "192.0.2.1"});
                self.conf["ipam"]["routes"] = json!([route]);
                let answer = run(host, "ADD", &self.container, &self.pod, &self.conf);
                assert_eq!(answer.code, Some(1), "{answer:?}");
                assert!(answer.stderr.contains("undoing"), "{answer:?}");
                self.conf["runtimeConfig"] = json!({});
            }
            "killed" => {
                succeed(&self);
                // As a kill before the last write of the record leaves it.
                let record = format!("sluicegate/vf/{}@net1.json", self.container);
                let record = host.cni_dir().join(record);
                let mut text: Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
                text["complete"] = false.into();
                text.as_object_mut().unwrap().remove("result");
                fs::write(&record, text.to_string()).unwrap();
            }
            _ => drop(succeed(&self)),
        }
        self
    }
}

fn change_namespace(case: &Case) {
    let name = case.pod.name();
    match case.namespace {
        "gone" => run_ip(&["netns", "del", name]),
        "reused" => {
            run_ip(&["netns", "del", name]);
            run_ip(&["netns", "add", name]);
            // Another pod's, of the same name.
            let veth = [
                "link", "add", "net1", "type", "veth", "peer", "name", "peer1",
            ];
            case.pod.ip(&veth).unwrap();
        }
        "a plain file" => {
            run_ip(&["netns", "del", name]);
            fs::write(case.pod.path(), "").unwrap();
        }
        _ => {}
    }
}

fn untouched(case: &Case) {
    if case.namespace == "reused" {
        assert!(has_link(&case.pod, "net1"), "{}: another pod's", case.name);
    }
}

/// Deletes every container twice, all at once.
fn del_all(host: &Host, cases: &[Case], state: &str, full: bool) {
    for round in 1..=2 {
        let started: Vec<_> = cases
            .iter()
            .map(|case| {
                host.pod_call(
                    "sluicegate-vf",
                    "DEL",
                    &case.container,
                    Some(&case.pod),
                    "net1",
                )
                // So that a hung engine is waited for half a second.
                .env(
                    "SLUICEGATE_BUDGET_MS",
                    if state == "hung" { "1100" } else { "" },
                )
                .conf(&case.conf)
                .start()
            })
            .collect();
        for (case, child) in cases.iter().zip(started) {
            let answer = Answer::of(child.wait_with_output().unwrap());
            let name = &case.name;
            assert_eq!(
                answer.code,
                Some(0),
                "{name}, engine {state}, disk full {full}, DEL {round}: {answer:#?}"
            );
        }
    }
    assert_eq!(host.reserved(), NONE, "engine {state}, disk full {full}");
}

fn run_ip(args: &[&str]) {
    sluice_tests::run(Command::new("ip").args(args)).unwrap();
}
