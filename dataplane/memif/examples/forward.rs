// SPDX-License-Identifier: Apache-2.0
//! A two-legged forwarder in a pod: what comes in on one memif goes out on the other, unchanged and
//! in order. A full ring on one side holds back the other, and so does a link that has not come up
//! yet; nothing is dropped but what is on its way when a link goes down.

use std::time::Duration;

use anyhow::{Result, bail};
use clap::Parser;
use sluice_memif::{BURST, FrameList, Memif};
use sluice_pod::{MEMIF_HELP, MemifArg, Signals, Wait, output, print_events};

const FORWARD_HELP: &str = "

Example, in the pod's network namespace:
  forward --memif socket=@sluicegate/net1 --memif socket=@sluicegate/net2 --json
SIGTERM ends it and has it print what it counted.";

/// Wait before another try on a ring that was full.
const FULL: Duration = Duration::from_micros(50);

/// Forwards frames between two memifs, both ways.
#[derive(Debug, Parser)]
#[command(after_help = format!("{MEMIF_HELP}{FORWARD_HELP}"))]
struct Args {
    /// Memif of one leg; exactly two are needed. See below.
    #[arg(long = "memif", required = true, value_name = "KEY=VALUE,...")]
    memifs: Vec<MemifArg>,
    /// Behaviour while idle.
    #[arg(long, value_enum, default_value_t = Wait::Interrupt)]
    wait: Wait,
    /// Print the counters as JSON.
    #[arg(long)]
    json: bool,
}

/// Memif, and the frames it received that the other has not taken yet.
struct Leg {
    name: String,
    memif: Memif,
    /// Whether its link was ever up.
    was_up: bool,
    /// The frame that found no room, and those behind it: which queue they came on is the same
    /// for all, since no further queue is read until they are gone.
    held: Option<Vec<u8>>,
    waiting: FrameList,
    queue: usize,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Counters {
    rx_packets: u64,
    rx_bytes: u64,
    tx_packets: u64,
    tx_bytes: u64,
    /// Received here, but the other side was down.
    dropped: u64,
}

impl Leg {
    fn open(arg: &MemifArg) -> Result<Leg> {
        if let Some((key, _)) = arg.rest.first() {
            bail!("memif {}: there is no key {key}; see --help", arg.name);
        }
        Ok(Leg {
            name: arg.name.clone(),
            memif: arg.open()?,
            was_up: false,
            held: None,
            waiting: FrameList::default(),
            queue: 0,
            counters: Counters::default(),
        })
    }

    /// Moves frames to the other leg. Whether any moved.
    fn pass(&mut self, to: &mut Leg) -> bool {
        to.was_up |= to.memif.is_up();
        if !to.was_up {
            return false;
        }
        let mut moved = self.pass_on(to);
        for queue in 0..self.memif.queues().0 {
            if self.held.is_some() {
                break;
            }
            self.queue = queue;
            moved |= self.memif.recv(queue, BURST, &mut self.waiting) > 0;
            moved |= self.pass_on(to);
        }
        to.memif.flush();
        moved
    }

    fn pass_on(&mut self, to: &mut Leg) -> bool {
        let mut moved = false;
        loop {
            let frame = match self.held.take() {
                Some(frame) => frame,
                None => match self.waiting.pop() {
                    Some(frame) => {
                        self.counters.rx_packets += 1;
                        self.counters.rx_bytes += frame.len() as u64;
                        frame
                    }
                    None => return moved,
                },
            };
            if !to.memif.is_up() {
                self.counters.dropped += 1;
            } else if to.memif.send(self.queue, &[&frame]) {
                to.counters.tx_packets += 1;
                to.counters.tx_bytes += frame.len() as u64;
            } else {
                self.held = Some(frame);
                return moved;
            }
            moved = true;
            self.waiting.recycle(frame);
        }
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    let [first, second] = args.memifs.as_slice() else {
        bail!("{} memifs given, two are needed", args.memifs.len());
    };
    let signals = Signals::catch()?;
    sluice_mem::sigbus::install()?;
    let mut a = Leg::open(first)?;
    let mut b = Leg::open(second)?;
    for turn in 0_u32.. {
        let mut busy = print_events(&a.name, &mut a.memif);
        busy |= print_events(&b.name, &mut b.memif);
        busy |= a.pass(&mut b);
        busy |= b.pass(&mut a);
        if (!busy || turn % 256 == 0) && signals.came() {
            break;
        }
        if busy {
            continue;
        }
        if args.wait == Wait::Interrupt && (a.held.is_some() || b.held.is_some()) {
            // A full ring empties without an interrupt: look again soon.
            std::thread::sleep(FULL);
        } else {
            args.wait
                .wait([&mut a.memif, &mut b.memif].into_iter(), &signals, None);
        }
    }
    report(&a, &b, args.json);
    Ok(())
}

fn report(a: &Leg, b: &Leg, json: bool) {
    let legs = [a, b];
    if json {
        let legs: Vec<_> = legs
            .iter()
            .map(|leg| {
                let Counters {
                    rx_packets,
                    rx_bytes,
                    tx_packets,
                    tx_bytes,
                    dropped,
                } = leg.counters;
                serde_json::json!({
                    "name": leg.name, "rx_packets": rx_packets, "rx_bytes": rx_bytes,
                    "tx_packets": tx_packets, "tx_bytes": tx_bytes, "dropped": dropped,
                })
            })
            .collect();
        output!("{}", serde_json::json!({ "legs": legs }));
        return;
    }
    for Leg { name, counters, .. } in legs {
        output!(
            "{name}: received {} packets ({} bytes), sent {} ({}), dropped {}",
            counters.rx_packets,
            counters.rx_bytes,
            counters.tx_packets,
            counters.tx_bytes,
            counters.dropped
        );
    }
}
