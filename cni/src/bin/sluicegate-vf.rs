// SPDX-License-Identifier: Apache-2.0
//! The interface plugin's program.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    sluicegate::spec::protocol::main(&sluicegate::sriov::SluicegateVf)
}
