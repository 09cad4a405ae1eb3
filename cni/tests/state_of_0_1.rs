// SPDX-License-Identifier: Apache-2.0
//! State that the plugins of version 0.1 wrote is read, every field of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed unwrap is a failed test"
)]

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sluicegate::multus::PodRecord;
use sluicegate::spec::log::Log;
use sluicegate::spec::progress::Progress;
use sluicegate::sriov::InterfaceRecord;
use sluicegate::state::lock::ContainerLock;

const CONTAINER: &str = "0123456789abcdef";
const GONE: &str = "fedcba9876543210";

fn state_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/0.1/cni/sluicegate")
}

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn the_record_of_a_pod() {
    let dir = state_dir();
    let mut record = PodRecord::load(&dir, CONTAINER, "eth0", &Log::stderr())
        .unwrap()
        .unwrap();
    let path = PodRecord::path(&dir, CONTAINER, "eth0");
    assert_eq!(serde_json::to_value(&record).unwrap(), json_of(&path));
    assert!(record.complete && record.begun == 2);
    record.infer_progress();
    let [primary, second] = &record.delegates[..] else {
        panic!("two delegates: {record:?}")
    };
    let states = primary.states.iter().chain(&second.states);
    assert!(
        states
            .clone()
            .all(|state| state.progress == Progress::Added)
    );
    assert_eq!(states.count(), 3, "one for each plugin");
    assert!(primary.primary && primary.has_link && !primary.disable_check);
    assert_eq!(
        (primary.name.as_str(), primary.ifname.as_str()),
        ("flannel", "eth0")
    );
    assert!(!second.primary && second.disable_check && second.disable_gc);
    assert_eq!(second.label.as_deref(), Some("default/tenant-a"));
    assert_eq!(second.more_args, ["MAC=02:00:5e:10:00:01"]);
    assert_eq!(second.plugins.len(), 2);
    assert_eq!(second.runtime_config["mac"], "02:00:5e:10:00:01");
    assert_eq!(
        second.result.as_ref().unwrap()["interfaces"],
        json!([{"name": "net1"}])
    );
}

#[test]
fn the_records_of_interfaces_and_of_those_to_be_released() {
    let dir = state_dir().join("vf");
    let log = Log::stderr();
    let record = InterfaceRecord::load(&dir, CONTAINER, "net1", &log)
        .unwrap()
        .unwrap();
    let path = dir.join(format!("{CONTAINER}@net1.json"));
    assert_eq!(serde_json::to_value(&record).unwrap(), json_of(&path));
    assert!(record.complete && record.args.is_some());
    assert_eq!(record.conf["vlan"], 210);
    assert_eq!(
        InterfaceRecord::released(&dir).unwrap(),
        [(GONE.to_owned(), "net1".to_owned())]
    );
    let released = InterfaceRecord::load(&dir.join("released"), GONE, "net1", &log)
        .unwrap()
        .unwrap();
    assert!(!released.complete && released.args.is_none());
}

#[test]
fn the_locks_of_a_call_that_has_ended() {
    for lock in [
        format!("locks/{CONTAINER}"),
        format!("vf/locks/{CONTAINER}@net1"),
    ] {
        let from = state_dir().join(lock);
        assert!(sluice_host::lock::noted_pid(&from).is_some());
        let dir = tempfile::tempdir().unwrap();
        std::fs::copy(&from, dir.path().join("c")).unwrap();
        let taken = ContainerLock::try_take(dir.path(), "c").unwrap();
        taken.expect("nobody holds it").remove();
        assert!(!dir.path().join("c").exists());
    }
}
