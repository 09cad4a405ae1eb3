// SPDX-License-Identifier: Apache-2.0
//! The operator's tool; see [`sluicectl`].
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    sluicectl::main()
}
