// SPDX-License-Identifier: Apache-2.0
//! `sluicectl counters`: once, or again and again with rates.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use comfy_table::Cell;
use sluice_api::client::Client;
use sluice_api::{Counters, RuleCounter, Traffic};

use super::Failure;
use super::output::{Output, Style, render};
use super::tables::{reasons, section};

/// Home, and clear from there on (ECMA-48): the next showing covers the last without a flicker.
const FROM_THE_TOP: &str = "\x1b[H\x1b[J";

/// Shows the counters; every so often if `every` says so, until interrupted.
pub(super) fn run(
    client: &Client,
    every: Option<Duration>,
    all: bool,
    output: &mut Output,
) -> Result<(), Failure> {
    let mut before: Option<(Instant, Counters)> = None;
    loop {
        let now = Instant::now();
        let counters = client.counters()?;
        if every.is_some() && output.json() {
            output.json_line(&counters)?;
        } else if output.json() {
            output.show(&counters, |_, _| String::new())?;
        } else {
            let rates = before.as_ref().map(|(then, before)| Rates {
                before,
                seconds: now.duration_since(*then).as_secs_f64(),
            });
            let mut text = table(
                &counters,
                rates.as_ref(),
                every.is_some(),
                all,
                output.style(),
            );
            if every.is_some() {
                let clear = if output.terminal() { FROM_THE_TOP } else { "" };
                text = format!("{clear}{text}\n");
            }
            output.write(&text)?;
        }
        let Some(every) = every else { return Ok(()) };
        before = Some((now, counters));
        std::thread::sleep(every.saturating_sub(now.elapsed()));
    }
}

/// Earlier reading that rates are computed from.
struct Rates<'a> {
    before: &'a Counters,
    seconds: f64,
}

impl Rates<'_> {
    fn of(&self, before: Option<u64>, now: u64) -> String {
        // A counter that shrank is another one: the engine or the attachment started anew.
        match before.and_then(|before| now.checked_sub(before)) {
            Some(more) if self.seconds > 0.0 => per_second(more, self.seconds),
            _ => "-".to_owned(),
        }
    }
}

fn table(
    counters: &Counters,
    rates: Option<&Rates<'_>>,
    watching: bool,
    all: bool,
    style: Style,
) -> String {
    let mut text = String::new();
    let mut ports = style.table(&heading(
        &[
            "PORT",
            "RX FRAMES",
            "RX BYTES",
            "TX FRAMES",
            "TX BYTES",
            "DROPPED",
        ],
        watching,
        &["RX/S", "TX/S", "RX BIT/S", "TX BIT/S"],
    ));
    let mut drops = style.table(&["DROPPED AT", "REASONS"]);
    for (name, uplink) in &counters.uplinks {
        let before = rates.map(|rates| rates.before.uplinks.get(name).map(|port| port.counters));
        let port = Port {
            name,
            counters: &uplink.counters,
            dropped: &[&uplink.drops],
        };
        port.add(
            &mut ports,
            &mut drops,
            &["uplink"],
            rates.zip(before),
            watching,
            style,
        );
    }
    for (name, attachment) in &counters.attachments {
        let before = rates.map(|rates| rates.before.attachments.get(name).map(|port| port.port));
        let short = shorten(name);
        let port = Port {
            name: &short,
            counters: &attachment.port,
            dropped: &[&attachment.ingress_drops, &attachment.egress_drops],
        };
        port.add(
            &mut ports,
            &mut drops,
            &["to", "from"],
            rates.zip(before),
            watching,
            style,
        );
    }
    for worker in &counters.workers {
        if !worker.drops.is_empty() {
            let at = format!("worker {}", worker.id);
            drops.add_row(vec![at, reasons(&worker.drops)]);
        }
    }
    section(&mut text, &render(ports));
    if drops.row_count() > 0 {
        section(&mut text, &render(drops));
    }
    section(&mut text, &rules(counters, rates, watching, all, style));
    let lost: u64 = counters
        .workers
        .iter()
        .map(|one| one.lost_log_records)
        .sum();
    if lost > 0 {
        section(
            &mut text,
            &format!("{lost} records of rules with `log` were lost: over the limit\n"),
        );
    }
    text
}

/// A line of the table of ports, and its drops.
struct Port<'a> {
    name: &'a str,
    counters: &'a Traffic,
    dropped: &'a [&'a BTreeMap<String, u64>],
}

impl Port<'_> {
    fn add(
        &self,
        ports: &mut comfy_table::Table,
        drops: &mut comfy_table::Table,
        ways: &[&str],
        rates: Option<(&Rates<'_>, Option<Traffic>)>,
        watching: bool,
        style: Style,
    ) {
        let now = self.counters;
        let dropped: u64 = self.dropped.iter().flat_map(|drops| drops.values()).sum();
        let figures = [
            now.rx_frames,
            now.rx_bytes,
            now.tx_frames,
            now.tx_bytes,
            dropped,
        ];
        let mut row = vec![Cell::new(self.name)];
        row.extend(figures.map(|figure| style.number(figure)));
        if watching {
            let rate = |of: fn(&Traffic) -> u64, times: u64| {
                let Some((rates, before)) = &rates else {
                    return style.number("-");
                };
                let before = before.map(|before| of(&before) * times);
                style.number(rates.of(before, of(now) * times))
            };
            row.push(rate(|port| port.rx_frames, 1));
            row.push(rate(|port| port.tx_frames, 1));
            row.push(rate(|port| port.rx_bytes, 8));
            row.push(rate(|port| port.tx_bytes, 8));
        }
        ports.add_row(row);
        for (way, reasons_of) in ways.iter().zip(self.dropped) {
            if !reasons_of.is_empty() {
                drops.add_row(vec![format!("{way} {}", self.name), reasons(reasons_of)]);
            }
        }
    }
}

fn rules(
    counters: &Counters,
    rates: Option<&Rates<'_>>,
    watching: bool,
    all: bool,
    style: Style,
) -> String {
    let key = |rule: &RuleCounter| {
        (
            rule.policy.clone(),
            rule.direction.clone(),
            rule.rule.clone(),
            rule.line,
        )
    };
    let before: Option<BTreeMap<_, u64>> = rates.map(|rates| {
        rates
            .before
            .rules
            .iter()
            .map(|rule| (key(rule), rule.frames))
            .collect()
    });
    let mut table = style.table(&heading(
        &[
            "POLICY",
            "DIRECTION",
            "RULE",
            "LINE",
            "VERDICT",
            "FRAMES",
            "BYTES",
        ],
        watching,
        &["FRAMES/S"],
    ));
    let mut silent = 0;
    for rule in &counters.rules {
        if rule.frames == 0 && !all {
            silent += 1;
            continue;
        }
        let line = if rule.line == 0 {
            "-".to_owned()
        } else {
            rule.line.to_string()
        };
        let verdict = match rule.verdict.as_str() {
            "accept" => style.good("accept"),
            other => style.bad(other),
        };
        let mut row = vec![
            Cell::new(&rule.policy),
            Cell::new(&rule.direction),
            Cell::new(&rule.rule),
            style.number(line),
            verdict,
            style.number(rule.frames),
            style.number(rule.bytes),
        ];
        if watching {
            let before = before
                .as_ref()
                .and_then(|before| before.get(&key(rule)).copied());
            let rate = rates.map_or("-".to_owned(), |rates| rates.of(before, rule.frames));
            row.push(style.number(rate));
        }
        table.add_row(row);
    }
    let mut text = if table.row_count() > 0 {
        render(table)
    } else {
        String::new()
    };
    if silent > 0 {
        text.push_str(&format!(
            "{silent} rules decided on nothing yet (--all shows them)\n"
        ));
    }
    text
}

fn heading<'a>(always: &[&'a str], watching: bool, rates: &[&'a str]) -> Vec<&'a str> {
    let rates = if watching { rates } else { &[] };
    always.iter().chain(rates).copied().collect()
}

/// Container ids to as much as container tools show.
fn shorten(name: &str) -> String {
    match name.split_once('/') {
        Some((container, ifname)) => {
            format!(
                "{}/{ifname}",
                container.chars().take(12).collect::<String>()
            )
        }
        None => name.to_owned(),
    }
}

/// A rate in three digits or so: `0`, `812`, `14.9k`, `2.07M`.
#[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
fn per_second(more: u64, seconds: f64) -> String {
    let rate = more as f64 / seconds;
    let (scaled, unit) = match rate {
        rate if rate < 999.5 => return format!("{rate:.0}"),
        rate if rate < 999.5e3 => (rate / 1e3, "k"),
        rate if rate < 999.5e6 => (rate / 1e6, "M"),
        rate => (rate / 1e9, "G"),
    };
    let digits = if scaled < 9.995 {
        2
    } else {
        usize::from(scaled < 99.95)
    };
    format!("{scaled:.digits$}{unit}")
}

#[cfg(test)]
#[path = "counters_tests.rs"]
mod tests;
