// SPDX-License-Identifier: Apache-2.0
//! `sluicectl counters --check`: whether every frame is accounted for.

use std::fmt::Write as _;

use comfy_table::Cell;
use sluice_api::client::Client;
use sluice_api::{Balance, BalanceSums};

use super::Failure;
use super::output::{Output, Style, render};
use super::tables::{reasons, section};

/// Shows the balance of the counters; one that does not hold is a failure.
pub(super) fn run(client: &Client, output: &mut Output) -> Result<(), Failure> {
    let balance = client.balance()?;
    output.show(&balance, text)?;
    if balance.balanced {
        Ok(())
    } else {
        Err(Failure::Shown)
    }
}

fn text(balance: &Balance, style: Style) -> String {
    let sums = &balance.total;
    let went_in = sums.received + sums.copied + sums.answered;
    let mut table = style.table(&[]);
    let mut row = |name: &str, count: String| {
        table.add_row(vec![Cell::new(name), style.number(count)]);
    };
    row("received", sums.received.to_string());
    row("+ copies that flooding made", sums.copied.to_string());
    row("+ answers to rejected frames", sums.answered.to_string());
    row("= in", went_in.to_string());
    row("sent", sums.sent.to_string());
    row("+ frames that copies went on for", sums.flooded.to_string());
    row("+ dropped", sums.dropped.to_string());
    row("+ in flight", sums.in_flight.to_string());
    row("+ difference", sums.difference.to_string());
    let mut text = render(table);
    if !balance.drops.is_empty() {
        section(
            &mut text,
            &format!("dropped: {}\n", reasons(&balance.drops)),
        );
    }
    let verdict = verdict(sums);
    section(&mut text, &format!("{verdict}\n"));
    for (id, worker) in balance.workers.iter().enumerate() {
        if worker.difference != 0 {
            let _ = writeln!(text, "worker {id}: {}", self::verdict(worker));
        }
    }
    text
}

fn verdict(sums: &BalanceSums) -> String {
    let count = sums.difference.unsigned_abs();
    match sums.difference {
        0 => "balanced".to_owned(),
        1.. => format!("not balanced: {count} frames came in and are nowhere; report it"),
        _ => format!("not balanced: {count} frames were counted twice; report it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn balance(difference: i64) -> Balance {
        let sums = BalanceSums {
            received: 100,
            copied: 20,
            answered: 3,
            sent: 80,
            flooded: 10,
            dropped: 33 - difference.unsigned_abs(),
            in_flight: 0,
            difference,
        };
        Balance {
            balanced: difference == 0,
            total: sums,
            workers: vec![BalanceSums::default(), sums],
            drops: [("denied".to_owned(), 33)].into(),
        }
    }

    #[test]
    fn a_balance_is_said_to_hold_or_by_how_much_not() {
        let shown = text(&balance(0), Style::plain());
        assert!(shown.ends_with("\nbalanced\n"), "{shown}");
        assert!(shown.contains("= in") && shown.contains("123"), "{shown}");
        assert!(shown.contains("dropped: denied 33"), "{shown}");
        let shown = text(&balance(4), Style::plain());
        assert!(shown.contains("not balanced: 4 frames came in"), "{shown}");
        assert!(shown.contains("\nworker 1: not balanced"), "{shown}");
        assert!(!shown.contains("worker 0"), "{shown}");
        let shown = text(&balance(-4), Style::plain());
        assert!(shown.contains("4 frames were counted twice"), "{shown}");
    }
}
