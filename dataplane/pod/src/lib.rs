// SPDX-License-Identifier: Apache-2.0
//! Parts that programs in a pod share: memif arguments, signals, sleeping.
//!
//! Used by the examples of `sluice-memif` and by the virtual firewall. Like them it is not for the
//! datapath: errors are for people.
#![forbid(unsafe_code)]

mod arg;
mod sleep;

pub use arg::{MEMIF_HELP, MemifArg};
pub use sleep::{Signals, Wait};

use sluice_memif::{LinkChange, Memif};

/// Prints a line like `println!`, but ignores a closed standard output: frames still have to flow.
#[macro_export]
macro_rules! output {
    ($($text:tt)*) => {{
        use ::std::io::Write as _;
        let _ = writeln!(::std::io::stdout(), $($text)*);
    }};
}

/// Prints the changes of a link to standard output, a line each. Returns whether there were any.
pub fn print_events(name: &str, memif: &mut Memif) -> bool {
    let mut any = false;
    while let Some(change) = memif.change() {
        any = true;
        output!("{name}: {}", describe(&change));
    }
    any
}

/// Describes a change of a link, for people.
pub fn describe(change: &LinkChange) -> String {
    match change {
        LinkChange::Up {
            peer,
            queues: (rx, tx),
            shared_bytes,
        } => {
            let mib = shared_bytes.div_ceil(1 << 20);
            format!("link up, peer {peer}, {rx}+{tx} queues, {mib} MiB shared")
        }
        LinkChange::Down { reason } => format!("link down: {reason}"),
        LinkChange::Notice { what } => what.clone(),
    }
}
