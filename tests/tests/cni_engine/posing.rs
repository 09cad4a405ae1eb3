// SPDX-License-Identifier: Apache-2.0
//! Keys by which a network lets its pods pose as others, against what the node's owner allows.

use std::fs;

use serde_json::{Value, json};
use sluice_api::AntiSpoof;
use sluice_tests::Netns;

use super::{NONE, run};
use crate::cni_rig::Host;
use crate::cni_rig::engine::{self, Engine};

fn with(conf: &Value, more: &Value) -> Value {
    let mut conf = conf.clone();
    conf.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    conf
}

#[test]
fn a_network_asks_and_the_nodes_owner_has_the_last_word() {
    let Some(host) = Host::new("a_network_asks_and_the_nodes_owner_has_the_last_word") else {
        return;
    };
    let mut engine = Engine::start(&host);
    let pod = Netns::new("pod").unwrap();
    let conf = engine::conf(&host, "10.80.62.0/24");

    // What is more than the node's owner allows is 7 and takes nothing.
    for (more, key, limit) in [
        (
            json!({"antiSpoof": "off"}),
            "antiSpoof: off",
            "posing.loosest: mac",
        ),
        (
            json!({"spoofchk": "off"}),
            "spoofchk: off",
            "posing.loosest: mac",
        ),
        (
            json!({"promiscuous": true, "trust": "on"}),
            "promiscuous: true",
            "posing.promiscuous: false",
        ),
    ] {
        let msg = run(&host, "ADD", "c62", &pod, &with(&conf, &more)).refused(7);
        for part in [key, limit, "uplink wire0", "sluiced.yaml"] {
            assert!(msg.contains(part), "{part}: {msg}");
        }
    }
    // What contradicts itself needs no engine to be refused.
    let both = json!({"antiSpoof": "mac", "spoofchk": "off"});
    let msg = run(&host, "ADD", "c62", &pod, &with(&conf, &both)).refused(7);
    assert!(msg.contains("antiSpoof mac and spoofchk off"), "{msg}");
    assert_eq!((host.reserved(), host.records()), (NONE, NONE));
    assert_eq!(engine::records(&host), NONE);

    // A router with a virtual address is allowed by default. What the pod itself may say loosens nothing.
    let asks = json!({"antiSpoof": "mac", "allowedAddressPairs": [{"ip": "10.80.62.1"}],
        "multicastGroups": ["239.1.2.3"],
        "runtimeConfig": {"antiSpoof": "off", "promiscuous": true},
        "args": {"cni": {"antiSpoof": "off", "roles": ["router"]}}});
    let mut asked = with(&conf, &asks);
    asked["prevResult"] = run(&host, "ADD", "c62", &pod, &asked).ok();
    let request = engine.attachment("c62", "net1").request;
    assert_eq!(request.anti_spoof, AntiSpoof::Mac);
    assert_eq!(
        request.allowed_address_pairs[0].to_string(),
        "own=10.80.62.1/32"
    );
    assert_eq!(request.multicast_groups[0].to_string(), "239.1.2.3");
    assert!(!request.promiscuous && request.roles.is_empty());
    run(&host, "CHECK", "c62", &pod, &asked).ok();
    let mut changed = asked.clone();
    changed["antiSpoof"] = "strict".into();
    let msg = run(&host, "CHECK", "c62", &pod, &changed).refused(999);
    assert!(msg.contains("may pose as"), "{msg}");

    // The owner allows less now: the engine does not serve it again, and says so; DEL works.
    engine.kill();
    let file = host.dir().join("sluiced.yaml");
    let allowed = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{allowed}posing: {{loosest: strict}}\n")).unwrap();
    engine.restart();
    assert!(engine.client().attachments().unwrap().is_empty());
    let problems = engine.client().health().unwrap().problems.join("\n");
    for part in [
        "c62-net1",
        "is not served: antiSpoof: mac is more than",
        "loosest: strict",
    ] {
        assert!(problems.contains(part), "{part}: {problems}");
    }
    assert_eq!(engine::records(&host), ["c62-net1.json"]);
    // Allowed again, it is served again.
    engine.kill();
    fs::write(&file, allowed).unwrap();
    engine.restart();
    let served = engine.attachment("c62", "net1").request;
    assert_eq!(served.anti_spoof, AntiSpoof::Mac);
    run(&host, "DEL", "c62", &pod, &asked).ok();
    assert_eq!((host.reserved(), host.records()), (NONE, NONE));
    assert_eq!(engine::records(&host), NONE);
}
