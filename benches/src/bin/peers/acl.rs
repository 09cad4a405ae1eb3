// SPDX-License-Identifier: Apache-2.0
//! The compiled table against rule sets and traces in files: `rules_N.txt`
//! (`src/len dst/len sport_lo:hi dport_lo:hi proto/mask action`, the first that matches wins),
//! `trace_N.bin` (records of 16 bytes: protocol, three zeros, addresses, ports, big-endian) and
//! `expect_N.txt` (what a linear scan says: `index action`, or `-1 miss`).
//!
//! Times are of this thread on a core, so that a busy machine disturbs less. A record becomes a key within
//! the time measured, burst by burst, as a parser would make it: a trace of a million keys would measure
//! how fast memory is read.

use std::fs;
use std::hint::black_box;
use std::path::Path;

use anyhow::{Context, Result, bail};
use rustix::time::{ClockId, clock_gettime};
use sluice_firewall::{
    Defaults, Direction, Directions, Hit, Match, Policy, Position, Rule, Simd, States, Table,
    Verdict,
};
use sluice_packet::{EtherType, FlowKey};

use crate::Options;
use crate::report::figure;

const RULES: [usize; 5] = [16, 256, 1000, 10_000, 100_000];
const REPEATS: usize = 15;
/// Records looked up for one figure at least.
const LOOKUPS: usize = 1 << 20;
const LARGEST_BURST: usize = 256;

type Record = [u8; 16];

/// Measures and prints every figure of this section, for each rule set that the folder has.
pub(crate) fn run(options: &Options) -> Result<()> {
    let Some(dir) = &options.acl_data else {
        println!("# acl: no rules and traces: give their folder with --acl-data");
        return Ok(());
    };
    options.pin(1);
    for rules in RULES {
        if dir.join(format!("rules_{rules}.txt")).exists() {
            of(dir, rules)?;
        }
    }
    Ok(())
}

fn of(dir: &Path, rules: usize) -> Result<()> {
    let policy = policy(&dir.join(format!("rules_{rules}.txt")))?;
    let bytes = fs::read(dir.join(format!("trace_{rules}.bin"))).context("the trace")?;
    let (trace, _) = bytes.as_chunks::<16>();
    let mut built: Vec<f64> = (0..5)
        .map(|_| {
            let start = now();
            black_box(Table::compile(black_box(&policy), Direction::Ingress));
            (now() - start) * 1e3
        })
        .collect();
    figure(&format!("acl_{rules}_build"), &mut built, "ms");
    for simd in Simd::available() {
        let table = Table::compile_for(&policy, Direction::Ingress, simd);
        let name = format!("acl_{rules}_{}", simd.name());
        println!("{name}_memory {} KiB", table.bytes() / 1024);
        let expect = dir.join(format!("expect_{rules}.txt"));
        println!(
            "{name}_mismatches {} packets",
            mismatches(&expect, &table, trace)?
        );
        for burst in [1, 8, 32, LARGEST_BURST] {
            rate(&format!("{name}_burst{burst}"), &table, trace, burst);
        }
        let hot = &trace[..trace.len().min(1024)];
        rate(&format!("{name}_burst32_1024_hot_flows"), &table, hot, 32);
    }
    Ok(())
}

/// Time that this thread had a core, in seconds.
#[allow(clippy::cast_precision_loss, reason = "nanoseconds of a short run")]
fn now() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Measures millions of records a second, over the whole of `trace` and as often as it takes.
#[allow(clippy::cast_precision_loss, reason = "a million lookups")]
fn rate(name: &str, table: &Table, trace: &[Record], burst: usize) {
    let mut values: Vec<f64> = (0..REPEATS)
        .map(|_| {
            let start = now();
            let mut done = 0;
            while done < LOOKUPS {
                judge(table, trace, burst, |hits| {
                    black_box(hits);
                });
                done += trace.len();
            }
            done as f64 / (now() - start) / 1e6
        })
        .collect();
    figure(name, &mut values, "Mlookups/s");
}

/// Judges a trace burst by burst.
fn judge(table: &Table, trace: &[Record], burst: usize, mut seen: impl FnMut(&[Hit])) {
    let mut keys = [FlowKey::default(); LARGEST_BURST];
    let mut hits = [Hit {
        rule: 0,
        verdict: Verdict::Drop,
        log: false,
    }; LARGEST_BURST];
    for records in trace.chunks(burst) {
        for (key, record) in keys.iter_mut().zip(records) {
            *key = key_of(record);
        }
        let judged = table.judge_burst(black_box(&keys[..records.len()]), &mut hits);
        seen(&hits[..judged]);
    }
}

fn key_of(record: &Record) -> FlowKey {
    let &[proto, _, _, _, a, b, c, d, e, f, g, h, i, j, k, l] = record;
    FlowKey {
        src: FlowKey::mapped([a, b, c, d]),
        dst: FlowKey::mapped([e, f, g, h]),
        src_port: u16::from_be_bytes([i, j]),
        dst_port: u16::from_be_bytes([k, l]),
        ethertype: EtherType::IPV4,
        proto,
        flags: FlowKey::IPV4 | FlowKey::PORTS,
        ..FlowKey::default()
    }
}

fn policy(file: &Path) -> Result<Policy> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let rules = text
        .lines()
        .map(|line| rule(line).with_context(|| format!("{}: {line:?} is no rule", file.display())));
    Ok(Policy {
        name: "acl".to_owned(),
        comment: None,
        audit: false,
        stateful: false,
        file: file.display().to_string(),
        uplink: None,
        vlans: Vec::new(),
        default: Defaults {
            ingress: Verdict::Drop,
            egress: Verdict::Drop,
        },
        log_default: None,
        rules: rules.collect::<Result<_>>()?,
        sets: Vec::new(),
    })
}

fn rule(line: &str) -> Result<Rule> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [from, to, source_ports, ports, protocol, action] = fields[..] else {
        bail!("not six fields");
    };
    // Every record of the trace is IPv4, and so is every rule.
    let net = |net: &str| -> Result<_> { Ok(net.parse::<ipnet::IpNet>()?.trunc()) };
    let in_range = |range: &str| -> Result<_> {
        let (first, last) = range.split_once(':').context("no range")?;
        let range = first.parse()?..=last.parse()?;
        Ok(if range == (0..=u16::MAX) {
            vec![]
        } else {
            vec![range]
        })
    };
    let protocols = match protocol.strip_suffix("/0xff") {
        Some(number) => vec![u8::from_str_radix(number.trim_start_matches("0x"), 16)?],
        None => Vec::new(),
    };
    Ok(Rule {
        name: None,
        comment: None,
        at: Position::default(),
        directions: Directions::Ingress,
        matches: Match {
            from: vec![net(from)?],
            to: vec![net(to)?],
            protocols,
            source_ports: in_range(source_ports)?,
            ports: in_range(ports)?,
            ..Match::default()
        },
        verdict: match action {
            "permit" | "accept" | "allow" => Verdict::Accept,
            _ => Verdict::Drop,
        },
        log: false,
        log_sample: 1,
        states: States::NEW,
        limit: None,
    })
}

fn mismatches(file: &Path, table: &Table, trace: &[Record]) -> Result<usize> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let mut wanted = text
        .lines()
        .map(|line| line.split(' ').next().and_then(|n| n.parse::<i64>().ok()));
    let mut wrong = 0;
    judge(table, trace, 32, |hits| {
        for hit in hits {
            let missed = hit.rule == table.default_slot();
            let found = if missed { -1 } else { i64::from(hit.rule) };
            wrong += usize::from(wanted.next().flatten() != Some(found));
        }
    });
    Ok(wrong)
}
