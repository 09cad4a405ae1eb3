// SPDX-License-Identifier: Apache-2.0
//! The program `vfirewall`: a virtual firewall in a pod.

use std::process::ExitCode;

use clap::Parser;
use sluice_vfirewall::args::Args;
use sluice_vfirewall::control;

fn main() -> ExitCode {
    let args = Args::parse();
    match control::run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vfirewall: {error:#}");
            ExitCode::FAILURE
        }
    }
}
