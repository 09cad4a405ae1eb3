// SPDX-License-Identifier: Apache-2.0
//! Drives a VF of an 82576 that is bound to vfio-pci, without an engine around it:
//!
//! ```text
//! igbvf_forward ADDRESS MAC [--mode io|macswap|generate=MAC] [--trunk VID,VID] [--port VID]
//!               [--seconds N] [--count]
//! ```
//!
//! `io` sends every frame back as it is, `macswap` with its MAC addresses changed over, `generate` sends
//! frames of 64 bytes (frame check sequence counted) to MAC as fast as they go. Prints a line of JSON at
//! the end: frames, seconds, rate, and with `--count` what crossed the seam per frame.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, process};

use sluice_datapath::ports::igbvf::{IgbVf, IgbVfConfig, RDT, TDT, VfVlans};
use sluice_datapath::{DropCounts, FrameInfo, PortContext, Uplink};
use sluice_mem::{BURST, BufSize, Burst, HugePages, Mempool, PoolConfig, Pools};
use sluice_packet::{Mac, Vid};
use sluice_vfio::{Counted, Counts, Device, Iommu, IommuKind, VfioDevice};

/// Loops between two looks at the clock.
const LOOPS: u32 = 256;

enum Mode {
    Io,
    MacSwap,
    Generate(Mac),
}

struct Arguments {
    address: String,
    mac: Mac,
    mode: Mode,
    vlans: VfVlans,
    seconds: u64,
    count: bool,
}

fn main() {
    let words: Vec<String> = env::args().skip(1).collect();
    let Some(arguments) = arguments(&words) else {
        eprintln!(
            "usage: igbvf_forward ADDRESS MAC [--mode io|macswap|generate=MAC] [--trunk VID,VID] \
             [--port VID] [--seconds N] [--count]"
        );
        process::exit(2);
    };
    if let Err(error) = open(&arguments) {
        eprintln!("igbvf_forward: {error}");
        process::exit(1);
    }
}

fn arguments(words: &[String]) -> Option<Arguments> {
    let mut rest = words.iter().map(String::as_str);
    let mut read = Arguments {
        address: rest.next()?.to_owned(),
        mac: mac(rest.next()?)?,
        mode: Mode::Io,
        vlans: VfVlans::Untagged,
        seconds: 5,
        count: false,
    };
    while let Some(word) = rest.next() {
        match word {
            "--count" => read.count = true,
            "--seconds" => read.seconds = rest.next()?.parse().ok()?,
            "--port" => read.vlans = VfVlans::Port(vid(rest.next()?)?),
            "--trunk" => {
                let vids = rest.next()?.split(',').map(vid).collect::<Option<_>>()?;
                read.vlans = VfVlans::Trunk(vids);
            }
            "--mode" => {
                read.mode = match rest.next()? {
                    "io" => Mode::Io,
                    "macswap" => Mode::MacSwap,
                    other => Mode::Generate(mac(other.strip_prefix("generate=")?)?),
                }
            }
            _ => return None,
        }
    }
    Some(read)
}

fn mac(text: &str) -> Option<Mac> {
    let bytes: Option<Vec<u8>> = text
        .split(':')
        .map(|pair| u8::from_str_radix(pair, 16).ok())
        .collect();
    Some(Mac(bytes?.try_into().ok()?))
}

fn vid(text: &str) -> Option<Vid> {
    Vid::new(text.parse().ok()?)
}

fn open(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let pool = |buffers, size| {
        Mempool::new(PoolConfig {
            buffers,
            size,
            numa_node: None,
            huge_pages: HugePages::Auto,
        })
    };
    let config = IgbVfConfig {
        mac: arguments.mac,
        mtu: 1500,
        vlans: arguments.vlans.clone(),
        groups: Vec::new(),
        macs: Vec::new(),
        small: pool(8192, BufSize::Small)?,
        large: pool(256, BufSize::Large)?,
        rx_descriptors: 512,
        tx_descriptors: 512,
    };
    let pools = Pools::new(config.small, config.large, 512);
    let iommu = Iommu::open(IommuKind::Auto)?;
    let device = VfioDevice::open(arguments.address.parse()?, &iommu)?;
    if arguments.count {
        let (device, counts) = Counted::new(device);
        run(
            IgbVf::open(device, config)?,
            pools,
            arguments,
            Some(&counts),
        );
    } else {
        run(IgbVf::open(device, config)?, pools, arguments, None);
    }
    Ok(())
}

#[allow(clippy::disallowed_methods, reason = "this loop is its own clock")]
fn run<D: Device>(
    mut port: IgbVf<D>,
    mut pools: Pools,
    arguments: &Arguments,
    counts: Option<&Arc<Counts>>,
) {
    let drops = DropCounts::new();
    let mut burst = Burst::new();
    let frame = match arguments.mode {
        Mode::Generate(to) => frame(to, arguments.mac),
        Mode::Io | Mode::MacSwap => Vec::new(),
    };
    println!("{} is {:?}", arguments.address, port.report().link);
    let before = counts.map(|counts| (counts.tally(), bells(counts)));
    let (mut received, mut sent, mut unsent) = (0, 0, 0);
    let start = Instant::now();
    let end = Duration::from_secs(arguments.seconds);
    let mut now = Duration::ZERO;
    while now < end {
        for _ in 0..LOOPS {
            let mut context = PortContext {
                pools: &mut pools,
                drops: &drops,
            };
            if frame.is_empty() {
                port.rx_burst(&mut context, &mut burst);
            } else {
                context.pools.small.alloc_burst(&mut burst, BURST);
                for mbuf in burst.iter_mut() {
                    let _ = mbuf.copy_from(&frame);
                    FrameInfo::begin(mbuf, None);
                }
            }
            if burst.is_empty() {
                continue;
            }
            received += burst.len();
            if matches!(arguments.mode, Mode::MacSwap) {
                burst.iter_mut().for_each(|mbuf| swap(mbuf.data_mut()));
            }
            sent += port.tx_burst(&mut context, &mut burst).frames;
            unsent += burst.len();
            pools.free_burst(&mut burst);
        }
        now = start.elapsed();
        let mut context = PortContext {
            pools: &mut pools,
            drops: &drops,
        };
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        port.housekeeping(&mut context, now_ms);
    }
    let seconds = now.as_secs_f64();
    #[allow(clippy::cast_precision_loss, reason = "for people")]
    let rate = sent as f64 / seconds;
    print!(
        "{{\"received\": {received}, \"sent\": {sent}, \"unsent\": {unsent}, \"seconds\": {seconds:.3}, \
         \"frames_per_second\": {rate:.0}"
    );
    if let (Some(counts), Some((before, [rdt, tdt]))) = (counts, before) {
        let tally = counts.tally().since(before);
        let [rdt_now, tdt_now] = bells(counts);
        #[allow(clippy::cast_precision_loss, reason = "for people")]
        let each = |count: u64| count as f64 / (sent as f64).max(1.0);
        print!(
            ", \"per_frame\": {{\"receive_doorbells\": {:.4}, \"transmit_doorbells\": {:.4}, \
             \"register_reads\": {:.5}, \"descriptor_stores\": {:.3}, \"descriptor_loads\": {:.3}}}",
            each(rdt_now - rdt),
            each(tdt_now - tdt),
            each(tally.register_reads),
            each(tally.descriptor_stores),
            each(tally.descriptor_loads),
        );
    }
    println!("}}");
}

fn bells(counts: &Counts) -> [u64; 2] {
    [RDT, TDT].map(|register| counts.writes_at(register))
}

/// 60 bytes, to which the NIC adds four.
fn frame(to: Mac, from: Mac) -> Vec<u8> {
    let mut frame = vec![0; 60];
    frame[..6].copy_from_slice(&to.0);
    frame[6..12].copy_from_slice(&from.0);
    frame[12..14].copy_from_slice(&[0x88, 0xb5]);
    frame
}

fn swap(frame: &mut [u8]) {
    if let Some((to, rest)) = frame.split_first_chunk_mut::<6>()
        && let Some(from) = rest.first_chunk_mut::<6>()
    {
        std::mem::swap(to, from);
    }
}
