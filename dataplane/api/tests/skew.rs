// SPDX-License-Identifier: Apache-2.0
//! Messages of the release before: plugins, tools and the agent of one release talk to the engine of another while a
//! node is upgraded. `fixtures/0.1` has what that release sent and answered, recorded from its programs.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeSet;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sluice_api::*;

fn fixture(name: &str) -> Value {
    let path = format!(
        "{}/tests/fixtures/0.1/{name}.json",
        env!("CARGO_MANIFEST_DIR")
    );
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Checks that all that `old` says is in `new`, which may say more.
fn is_within(old: &Value, new: &Value, path: &str) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for (key, value) in old {
                let path = format!("{path}.{key}");
                let found = new.get(key).unwrap_or(&Value::Null);
                // What is as it is by default may be left out.
                let left_out = [json!(false), json!([]), Value::Null].contains(value);
                if !(left_out && found.is_null()) {
                    is_within(value, found, &path);
                }
            }
        }
        (Value::Array(old), Value::Array(new)) => {
            assert_eq!(old.len(), new.len(), "{path}");
            for (index, (old, new)) in old.iter().zip(new).enumerate() {
                is_within(old, new, &format!("{path}[{index}]"));
            }
        }
        _ => assert_eq!(old, new, "{path}"),
    }
}

/// Reads a message of the release before as one of this, and checks that nothing of it is lost.
fn read<T: Serialize + DeserializeOwned>(name: &str) -> T {
    let old = fixture(name);
    let new: T =
        serde_json::from_value(old.clone()).unwrap_or_else(|error| panic!("{name}: {error}"));
    // So a program of the release before finds all that it looks for in an answer of this one.
    is_within(&old, &serde_json::to_value(&new).unwrap(), name);
    new
}

#[test]
fn this_engine_reads_what_older_plugins_and_tools_ask() {
    let request: AttachRequest = read("attach-request");
    assert_eq!(request.mtu, Some(1400));
    assert_eq!(request.anti_spoof, AntiSpoof::Mac);
    let files: PolicyFiles = read("policies-request");
    assert_eq!(files.files.len(), 1);
}

#[test]
fn this_client_reads_what_an_older_engine_answers() {
    assert_eq!(read::<AttachReply>("attach-reply").mtu, 1400);
    assert!(read::<DetachReply>("detach-reply").existed);
    assert!(read::<Health>("health").ready);
    assert_eq!(read::<Status>("status").workers.len(), 2);
    assert_eq!(read::<Counters>("counters").attachments.len(), 1);
    assert!(read::<Balance>("balance").balanced);
    assert_eq!(read::<Vec<AttachmentStatus>>("attachments").len(), 1);
    assert_eq!(read::<Vec<PolicyStatus>>("policies")[0].name, "voice");
    assert!(read::<PolicyReport>("policies-report").problems.is_empty());
    assert_eq!(read::<ApiError>("error").code, ErrorCode::Invalid);
}

/// An older engine refuses keys that it does not know, by name: it could not do what they ask for. So a plugin of
/// this release sends one only for a pod that asks for it.
#[test]
fn a_plain_request_has_only_keys_that_older_engines_know() {
    let plain: AttachRequest = serde_json::from_value(json!({
        "container_id": "c", "ifname": "net1", "uplink": "wire0",
        "netns": {"path": "/run/netns/a", "dev": 4, "ino": 5},
        "vlan": {"mode": "access", "vid": 210}, "backend": {"type": "memif"}
    }))
    .unwrap();
    let written = serde_json::to_value(&plain).unwrap();
    let keys = |value: &Value| -> BTreeSet<String> {
        value.as_object().unwrap().keys().cloned().collect()
    };
    let known = fixture("attach-request");
    for part in ["", "netns", "vlan", "backend"] {
        let of = |value: &Value| keys(if part.is_empty() { value } else { &value[part] });
        let new: Vec<String> = of(&written).difference(&of(&known)).cloned().collect();
        assert!(new.is_empty(), "{part}: {new:?}");
    }
}
