// SPDX-License-Identifier: Apache-2.0
//! Flow cache as a hash table: insert, hit and miss. Keys are whole flow keys with their source, 64 bytes; an
//! insert into a full bucket evicts a flow.

use std::hint::black_box;
use std::time::Instant;

use anyhow::Result;
use sluice_benches::splitmix64;
use sluice_datapath::SteppedFlows;
use sluice_packet::{EtherType, FlowKey, IpProto};

use crate::Options;
use crate::report::figure;

const REPEATS: usize = 9;
/// Number of lookups in one repeat.
const LOOKUPS: usize = 1 << 20;

/// Measures and prints every figure of this section.
pub(crate) fn run(options: &Options) -> Result<()> {
    options.pin(1);
    table("64k_load50", 1 << 17, 1 << 16)?;
    table("64k_load90", 1 << 16, 58_982)?;
    table("1M_load50", 1 << 21, 1 << 20)
}

fn table(tag: &str, room: usize, flows: usize) -> Result<()> {
    let mut random = Random(7);
    let keys: Vec<FlowKey> = (0..flows).map(|_| random.key()).collect();
    let mut table = SteppedFlows::new(room)?;
    // It grows as flows come, empty each time.
    let mut before = 0;
    while before != table.capacity() {
        before = table.capacity();
        table.insert(&keys);
    }
    let mut rates: Vec<f64> = (0..5)
        .map(|_| {
            table.clear();
            let start = Instant::now();
            table.insert(&keys);
            millions(flows, start)
        })
        .collect();
    figure(&format!("hash_{tag}_insert"), &mut rates, "Minserts/s");
    let kept: usize = keys.chunks(64).map(|keys| table.hits(keys)).sum();
    println!("hash_{tag}_inserted {kept} entries");

    let any = |random: &mut Random| keys[random.below(flows)];
    let hot = |random: &mut Random| keys[random.below(1024)];
    let new = |random: &mut Random| {
        let mut key = random.key();
        key.src[12] ^= 0x80;
        key
    };
    let asked = |of: &dyn Fn(&mut Random) -> FlowKey| {
        let mut random = Random(99);
        (0..LOOKUPS).map(|_| of(&mut random)).collect::<Vec<_>>()
    };
    let hits = asked(&any);
    for burst in [32, 64, 1] {
        lookups(
            &mut table,
            &format!("hash_{tag}_hit_burst{burst}"),
            &hits,
            burst,
        );
    }
    lookups(
        &mut table,
        &format!("hash_{tag}_miss_burst32"),
        &asked(&new),
        32,
    );
    lookups(
        &mut table,
        &format!("hash_{tag}_hot1024_burst32"),
        &asked(&hot),
        32,
    );
    Ok(())
}

fn lookups(table: &mut SteppedFlows, name: &str, keys: &[FlowKey], burst: usize) {
    let mut known = 0;
    let mut rates: Vec<f64> = (0..REPEATS)
        .map(|_| {
            let start = Instant::now();
            known = keys
                .chunks(burst)
                .map(|keys| table.hits(black_box(keys)))
                .sum();
            millions(keys.len(), start)
        })
        .collect();
    figure(name, &mut rates, "Mlookups/s");
    println!("# {name}: {known} of {} known", keys.len());
}

#[allow(clippy::cast_precision_loss, reason = "a run has few lookups")]
fn millions(count: usize, since: Instant) -> f64 {
    count as f64 / since.elapsed().as_secs_f64() / 1e6
}

/// Random numbers from a fixed seed: every run has the same flows.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        splitmix64(&mut self.0)
    }

    fn below(&mut self, end: usize) -> usize {
        let end = end as u64;
        usize::try_from((self.next() >> 32) % end).unwrap_or(0)
    }

    /// Makes a TCP or UDP flow between two hosts of 10.0.0.0/8.
    fn key(&mut self) -> FlowKey {
        let [a, b, c, d, e, f, ..] = self.next().to_le_bytes();
        let [g, h, i, j, .., proto] = self.next().to_le_bytes();
        FlowKey {
            src: FlowKey::mapped([10, a, b, c]),
            dst: FlowKey::mapped([10, d, e, f]),
            src_port: u16::from_le_bytes([g, h]),
            dst_port: u16::from_le_bytes([i, j]),
            proto: if proto >= 0x80 {
                IpProto::TCP
            } else {
                IpProto::UDP
            },
            ethertype: EtherType::IPV4,
            flags: FlowKey::IPV4 | FlowKey::PORTS,
            ..FlowKey::default()
        }
    }
}
