// SPDX-License-Identifier: Apache-2.0
//! Parts that both examples share: memif arguments, signals, sleeping.

mod arg;
mod sleep;

pub(crate) use arg::{MEMIF_HELP, MemifArg};
pub(crate) use sleep::{Signals, Wait};

use sluice_memif::{LinkChange, Memif};

/// `println!` that ignores a closed standard output: frames still have to flow.
macro_rules! output {
    ($($text:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stdout(), $($text)*);
    }};
}
pub(crate) use output;

/// Prints the changes of a link to standard output, a line each. Returns whether there were any.
pub(crate) fn print_events(name: &str, memif: &mut Memif) -> bool {
    let mut any = false;
    while let Some(change) = memif.change() {
        any = true;
        match change {
            LinkChange::Up {
                peer,
                queues: (rx, tx),
                shared_bytes,
            } => {
                let mib = shared_bytes.div_ceil(1 << 20);
                output!("{name}: link up, peer {peer}, {rx}+{tx} queues, {mib} MiB shared");
            }
            LinkChange::Down { reason } => output!("{name}: link down: {reason}"),
            LinkChange::Notice { what } => output!("{name}: {what}"),
        }
    }
    any
}
