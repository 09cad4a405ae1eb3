// SPDX-License-Identifier: Apache-2.0
//! The VF journal that version 0.1 wrote is read, every field of it.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::Path;

use serde_json::Value;
use sluice_sriov::claim::{Entry, Journal};

#[test]
fn the_journal_s_entries() {
    let state = Path::new(env!("CARGO_MANIFEST_DIR")).join("../host/tests/fixtures/0.1/state");
    let journal = Journal::below(&state);
    let vfs = journal.vfs().unwrap();
    assert_eq!(vfs.len(), 2);
    for vf in vfs {
        let Entry::Whole(record) = journal.read(vf).unwrap() else {
            panic!("{vf} is not whole")
        };
        let file = state.join(format!("vfs/{vf}.json"));
        let written: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        assert_eq!(serde_json::to_value(&*record).unwrap(), written, "{vf}");
    }
}
