// SPDX-License-Identifier: Apache-2.0
//! State that the engine of version 0.1 wrote is read, every field of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed unwrap is a failed test"
)]

use std::path::{Path, PathBuf};

use serde_json::Value;
use sluice_api::{Backend, MemifRole, MemifSocket, VlanRequest};
use sluice_host::engine::{EngineLock, attachments_dir, uplinks_dir};
use sluiced::records::{AttachmentRecord, Records};
use sluiced::uplinks::UplinkRecord;

const BOOT: &str = "1b4e28ba-2fa1-11d2-883f-0016d3cca427";

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../host/tests/fixtures/0.1")
}

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn the_records_of_attachments() {
    let records = Records::open(attachments_dir(&fixtures().join("state"))).unwrap();
    let all: Vec<(String, AttachmentRecord)> = records
        .all()
        .unwrap()
        .into_iter()
        .collect::<Result<_, _>>()
        .unwrap();
    for (name, record) in &all {
        let written = json_of(&records.path(name));
        assert_eq!(serde_json::to_value(record).unwrap(), written, "{name}");
        assert_eq!(record.boot_id, BOOT);
        let request = &record.request;
        assert_eq!(
            *name,
            AttachmentRecord::name(&request.container_id, &request.ifname)
        );
    }
    let [(_, memif), (_, tap)] = &all[..] else {
        panic!("two records: {all:?}")
    };
    assert_eq!((memif.mac.as_str(), memif.mtu), ("02:00:5e:10:00:01", 9000));
    assert_eq!(memif.request.netns.ino, 4_026_532_713);
    let Backend::Memif(backend) = &memif.request.backend else {
        panic!("a memif: {memif:?}")
    };
    assert_eq!((backend.role, backend.id), (MemifRole::Client, 7));
    assert!(matches!(&backend.socket, Some(MemifSocket::Path(path)) if path.is_absolute()));
    assert_eq!(tap.request.backend, Backend::Tap {});
    assert!(matches!(
        &tap.request.vlan,
        VlanRequest::Trunk {
            native: Some(native),
            ..
        } if native.get() == 100
    ));
}

#[test]
fn the_record_of_an_uplink() {
    let records = Records::open(uplinks_dir(&fixtures().join("state"))).unwrap();
    let record: UplinkRecord = records.get("wire0").unwrap().unwrap();
    let written = json_of(&records.path("wire0"));
    assert_eq!(serde_json::to_value(&record).unwrap(), written);
    assert_eq!((record.device.as_str(), record.was_up), ("enp2s0", true));
    assert_eq!(record.ipv6_addresses, [("fe80::1".parse().unwrap(), 64)]);
}

#[test]
fn the_lock_of_an_engine_that_died() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    std::fs::create_dir(&run).unwrap();
    let lock = fixtures().join("run/engine.lock");
    std::fs::copy(&lock, run.join("engine.lock")).unwrap();
    let taken = EngineLock::take(&run, &dir.path().join("state")).unwrap();
    assert_eq!(taken.took_over(), Some(14005));
}
