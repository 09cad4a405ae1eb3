//! The meta plugin's program.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    sluicegate::protocol::main(&sluicegate::meta::Sluicegate)
}
