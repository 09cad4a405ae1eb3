// SPDX-License-Identifier: Apache-2.0
//! The demo, as a person would run it: it proves the whole path or explains why not.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

use serde_json::Value;
use sluice_tests::{bin, program_or_skip, root_or_skip, skip};

#[test]
fn the_demo_proves_the_whole_path() {
    let name = "the_demo_proves_the_whole_path";
    if !root_or_skip(name) || !program_or_skip(name, "nft") {
        return;
    }
    if !std::path::Path::new("/usr/lib/cni/bridge").exists() {
        return skip(
            name,
            "needs the reference plugins in /usr/lib/cni (containernetworking-plugins)",
        );
    }
    let output = Command::new(bin("sluicectl"))
        .args(["demo", "--json"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let said = format!("{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(last["ok"], true, "{said}");
}
