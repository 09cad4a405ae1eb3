// SPDX-License-Identifier: Apache-2.0
//! A network function in a pod: answers ARP, ping, and UDP and TCP echo on one or more memifs,
//! with smoltcp as its stack. No privilege, no device, no mount: the memif is reached by an
//! abstract socket in the pod's network namespace.

mod device;
mod stack;

use std::time::Instant;

use anyhow::Result;
use clap::Parser;
use sluice_pod::{MEMIF_HELP, MemifArg, Signals, Wait, output};
use stack::Stack;

const VNF_HELP: &str = "
For this program besides:
  ip=          address with prefix length (10.21.0.5/24, fd00::5/64); may be given several times
  mac=         MAC address; needed, and the one the attachment was given
  gateway=     where packets to other networks go; one for each IP version
  mtu=         largest IP packet, default 1500

Example, in the pod's network namespace:
  vnf --memif socket=@sluicegate/net1,ip=10.21.0.5/24,mac=02:00:5e:10:00:01 \\
      --memif socket=@sluicegate/net2,ip=10.22.0.5/24,mac=02:00:5e:10:00:02
Each memif has a stack of its own; nothing is forwarded between them. SIGTERM ends it.";

/// Answers ARP, neighbour discovery, ping, and UDP and TCP echo on memifs.
#[derive(Debug, Parser)]
#[command(after_help = format!("{MEMIF_HELP}{VNF_HELP}"))]
struct Args {
    /// A memif and the addresses on it; see below. May be given several times.
    #[arg(long = "memif", required = true, value_name = "KEY=VALUE,...")]
    memifs: Vec<MemifArg>,
    /// UDP and TCP port of the echo service.
    #[arg(long, default_value_t = 7)]
    port: u16,
    /// TCP connections at once, for each memif.
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Behaviour while idle.
    #[arg(long, value_enum, default_value_t = Wait::Interrupt)]
    wait: Wait,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let signals = Signals::catch()?;
    // A server truncates its memory, or the node runs out of it: an error, not our end.
    sluice_mem::sigbus::install()?;
    let start = Instant::now();
    let mut stacks = args
        .memifs
        .iter()
        .map(|memif| Stack::open(memif, args.port, args.connections))
        .collect::<Result<Vec<_>>>()?;
    for turn in 0_u32.. {
        let mut busy = false;
        for stack in &mut stacks {
            busy |= stack.turn(start.elapsed());
        }
        // When busy, a look at the signals now and then is enough.
        if (!busy || turn % 256 == 0) && signals.came() {
            break;
        }
        if !busy {
            let delay = stacks
                .iter_mut()
                .filter_map(|s| s.delay(start.elapsed()))
                .min();
            args.wait
                .wait(stacks.iter_mut().map(Stack::memif), &signals, delay);
        }
    }
    for stack in &stacks {
        output!("{stack}");
    }
    Ok(())
}
