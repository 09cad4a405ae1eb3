// SPDX-License-Identifier: Apache-2.0
//! Rule for licences: every source file names its own in one of its first three lines.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;

use sluice_sources::rust_files;

#[test]
fn every_source_file_names_its_licence() {
    let mut without = Vec::new();
    for file in rust_files().unwrap() {
        let source = fs::read_to_string(&file).unwrap();
        let named = source
            .lines()
            .take(3)
            .any(|line| line == "// SPDX-License-Identifier: Apache-2.0");
        if !named {
            without.push(file.display().to_string());
        }
    }
    assert!(without.is_empty(), "no SPDX line:\n{}", without.join("\n"));
}
