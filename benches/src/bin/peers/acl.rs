// SPDX-License-Identifier: Apache-2.0
//! The compiled table against a rule set and a trace in files: `rules_N.txt`
//! (`src/len dst/len sport_lo:hi dport_lo:hi proto/mask action`, the first that matches wins),
//! `trace_N.bin` (records of 16 bytes: protocol, three zeros, addresses, ports, big-endian) and
//! `expect_N.txt` (what a linear scan says: `index action`, or `-1 miss`).

use std::fmt::Write;
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use sluice_firewall::{Direction, Hit, Policy, Table, Verdict};
use sluice_packet::{EtherType, FlowKey};

use crate::Options;
use crate::report::figure;

const RULES: [usize; 4] = [16, 256, 1000, 10_000];
const REPEATS: usize = 9;

/// Measures and prints every figure of this section.
pub(crate) fn run(options: &Options) -> Result<()> {
    let Some(dir) = &options.acl_data else {
        println!("# acl: no rules and traces: give their folder with --acl-data");
        return Ok(());
    };
    options.pin(1);
    for rules in RULES {
        of(dir, rules)?;
    }
    Ok(())
}

fn of(dir: &Path, rules: usize) -> Result<()> {
    let policy = policy(dir, rules)?;
    let mut built = Vec::new();
    let mut table = Table::compile(&policy, Direction::Ingress);
    for _ in 0..5 {
        let start = Instant::now();
        table = Table::compile(black_box(&policy), Direction::Ingress);
        built.push(start.elapsed().as_secs_f64() * 1e3);
    }
    figure(&format!("acl_{rules}_build"), &mut built, "ms");

    let keys = trace(&dir.join(format!("trace_{rules}.bin")))?;
    let mut hits = vec![
        Hit {
            rule: 0,
            verdict: Verdict::Drop,
            log: false
        };
        keys.len()
    ];
    table.judge_burst(&keys, &mut hits);
    let wrong = mismatches(&dir.join(format!("expect_{rules}.txt")), &table, &hits)?;
    println!("acl_{rules}_default_mismatches {wrong} packets");

    for burst in [1, 8, 32, 256, keys.len()] {
        let name = format!("acl_{rules}_default_burst{burst}");
        rate(&name, &table, &keys, &mut hits, burst, keys.len());
    }
    let name = format!("acl_{rules}_default_burst32_1024_hot_flows");
    rate(&name, &table, &keys, &mut hits, 32, 1024);
    Ok(())
}

/// Measures millions of keys a second, repeating the first `hot` of `keys`.
#[allow(clippy::cast_precision_loss, reason = "half a million lookups")]
fn rate(name: &str, table: &Table, keys: &[FlowKey], hits: &mut [Hit], burst: usize, hot: usize) {
    let total = keys.len() * 8;
    let mut values: Vec<f64> = (0..REPEATS)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..total / hot {
                for (keys, hits) in keys[..hot].chunks(burst).zip(hits.chunks_mut(burst)) {
                    table.judge_burst(black_box(keys), hits);
                }
            }
            total as f64 / start.elapsed().as_secs_f64() / 1e6
        })
        .collect();
    figure(name, &mut values, "Mlookups/s");
}

fn policy(dir: &Path, rules: usize) -> Result<Policy> {
    let file = dir.join(format!("rules_{rules}.txt"));
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let mut yaml = String::from("name: acl\ndefault: {ingress: drop, egress: drop}\nrules:\n");
    for line in text.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [from, to, source_ports, ports, protocol, action] = fields[..] else {
            bail!("{}: {line:?} is no rule", file.display());
        };
        let verdict = match action {
            "permit" | "accept" | "allow" => "accept",
            _ => "drop",
        };
        let _ = write!(yaml, "  - {{direction: ingress, verdict: {verdict}");
        // Every record of the trace is IPv4, and so is every rule.
        for (key, prefix) in [("from", from), ("to", to)] {
            let _ = write!(yaml, ", {key}: {}", without_host_bits(prefix)?);
        }
        if let Some(number) = protocol.strip_suffix("/0xff").map(|hex| {
            let hex = hex.trim_start_matches("0x");
            u8::from_str_radix(hex, 16)
        }) {
            let _ = write!(yaml, ", protocol: {}", number?);
            for (key, range) in [("source-ports", source_ports), ("ports", ports)] {
                if range != "0:65535" {
                    let _ = write!(yaml, ", {key}: \"{}\"", range.replace(':', "-"));
                }
            }
        } else if source_ports != "0:65535" || ports != "0:65535" {
            bail!("{}: {line:?} has ports and any protocol", file.display());
        }
        yaml.push_str("}\n");
    }
    Policy::parse("acl.yaml", &yaml)
        .map_err(|problems| anyhow::anyhow!("{}: {:?}", file.display(), problems.first()))
}

fn without_host_bits(prefix: &str) -> Result<String> {
    let (address, bits) = prefix.split_once('/').context("no prefix")?;
    let address: std::net::Ipv4Addr = address.parse()?;
    let bits: u32 = bits.parse()?;
    let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
    let address = std::net::Ipv4Addr::from(u32::from(address) & mask);
    Ok(format!("{address}/{bits}"))
}

fn trace(file: &Path) -> Result<Vec<FlowKey>> {
    let bytes = fs::read(file).with_context(|| file.display().to_string())?;
    let (records, _) = bytes.as_chunks::<16>();
    let key = |record: &[u8; 16]| {
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
    };
    Ok(records.iter().map(key).collect())
}

fn mismatches(file: &Path, table: &Table, hits: &[Hit]) -> Result<usize> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let wanted = text
        .lines()
        .map(|line| line.split(' ').next().and_then(|n| n.parse::<i64>().ok()));
    let wrong = wanted.zip(hits).filter(|(wanted, hit)| {
        let missed = hit.rule == table.default_slot();
        let found = if missed { -1 } else { i64::from(hit.rule) };
        *wanted != Some(found)
    });
    Ok(wrong.count())
}
