// SPDX-License-Identifier: Apache-2.0
//! Report of the cases' results, for people.

use crate::run::{Outcome, Ran};

/// Prints the table of results and, as the last line, the totals.
pub(crate) fn print(results: &[Ran], vm: bool) {
    println!();
    let on = if vm {
        "emulated 82576 in a virtual machine"
    } else {
        "the hardware of this machine"
    };
    println!("SR-IOV cases on {on}");
    println!("{:<28} {:>7}  result", "case", "seconds");
    for one in results {
        let result = match one.outcome {
            Outcome::Passed if one.begun > 1 => {
                format!("passed, begun {} times: a machine was lost", one.begun)
            }
            Outcome::Passed => "passed".to_owned(),
            Outcome::Failed | Outcome::Lost => format!("FAILED: {}", one.why),
            Outcome::Skipped => format!("skipped: {}", one.why),
        };
        println!("{:<28} {:>7.1}  {result}", one.case, one.seconds);
    }
    for note in results.iter().flat_map(|one| &one.notes) {
        println!("{note}");
    }
    let count = |outcome| results.iter().filter(|one| one.outcome == outcome).count();
    println!(
        "{} passed, {} failed, {} skipped",
        count(Outcome::Passed),
        count(Outcome::Failed) + count(Outcome::Lost),
        count(Outcome::Skipped)
    );
}
