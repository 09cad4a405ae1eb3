// SPDX-License-Identifier: Apache-2.0
//! The meta plugin's program.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    sluicegate::spec::protocol::main(&sluicegate::multus::Sluicegate)
}
