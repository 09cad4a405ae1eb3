//! The interface plugin's program.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    sluicegate::protocol::main(&sluicegate::vf::SluicegateVf)
}
