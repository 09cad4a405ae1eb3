// SPDX-License-Identifier: Apache-2.0
//! Process for this side of a memif, with ours or any other peer at the other end.

mod measure;

use std::path::PathBuf;
use std::sync::mpsc::channel;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use sluice_benches::pools;
use sluice_benches::scene::{many_connections, pod, policies, stateful_policies, wire};
use sluice_datapath::ports::memif::MemifPort;
use sluice_datapath::{AttachmentId, DropCounts, Limits, PodPort, PortContext, SteppedWorker};
use sluice_mem::Burst;
use sluice_memif::{
    Address, Connection, EndpointConfig, EndpointHandle, Event, Role, RxQueue, TxQueue, endpoint,
};

use crate::frames::{BURST, Checked, Source};
use crate::pin;
use crate::probe::Probe;

/// Traffic that a side makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Sends only.
    Tx,
    /// Receives only.
    Rx,
    /// Sends and receives in turn on every link, and checks the frames that come back.
    Gen,
    /// Runs the engine: two pods in one VLAN, every frame judged on egress and on ingress.
    Io,
}

/// Role of this side on each link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Connects, and owns the memory.
    Client,
    /// Listens.
    Server,
}

/// Command line of one side.
#[derive(Debug, Clone, Args)]
pub(crate) struct Side {
    /// Traffic that it makes
    pub(crate) mode: Mode,
    /// The memif's socket: a path, or @name for an abstract one. With one for each link, each has id
    /// 0 there; with one for both, ids 0 and 1 (as client only)
    #[arg(long = "socket", required = true)]
    pub(crate) sockets: Vec<String>,
    /// Role of this side
    #[arg(long, value_enum, default_value_t = Part::Client)]
    pub(crate) role: Part,
    /// Bytes of a frame
    #[arg(long, default_value_t = 64)]
    pub(crate) size: usize,
    /// Flows in each direction; 0: every frame begins one
    #[arg(long, default_value_t = 1024)]
    pub(crate) flows: u32,
    /// Rules of the policy, one UDP port each
    #[arg(long, default_value_t = 100)]
    pub(crate) rules: u16,
    /// Whether that is stateful
    #[arg(long)]
    pub(crate) stateful: bool,
    /// Entries of the engine's flow cache; 0: none
    #[arg(long, default_value_t = 131_072)]
    pub(crate) flow_cache: usize,
    /// Name of its figures
    #[arg(long, default_value = "memif")]
    pub(crate) tag: String,
    /// The page through which both sides tell near windows from far ones
    #[arg(long)]
    pub(crate) probe: Option<PathBuf>,
    /// Core to run on
    #[arg(long)]
    pub(crate) core: Option<usize>,
    /// Seconds to measure
    #[arg(long, default_value_t = 2.0)]
    pub(crate) seconds: f64,
}

/// Memif of one queue pair.
struct Link {
    rx: RxQueue,
    tx: TxQueue,
    _handle: EndpointHandle,
}

impl Side {
    fn links(&self) -> usize {
        match self.mode {
            Mode::Tx | Mode::Rx => 1,
            Mode::Gen | Mode::Io => 2,
        }
    }

    /// Connects every link, which both sides do at once.
    fn connect(&self) -> Result<Vec<(Connection, EndpointHandle)>> {
        let role = match self.role {
            Part::Client => Role::Client,
            Part::Server => Role::Server,
        };
        let links = self.links();
        let apart = self.sockets.len() >= links;
        ensure!(
            apart || self.role == Part::Client,
            "a server listens for one memif on each socket: give {links} with --socket"
        );
        let mut waiting = Vec::new();
        for link in 0..links {
            let (sender, receiver) = channel();
            let (socket, id) = if apart { (link, 0) } else { (0, link) };
            let address: Address = self.sockets[socket].parse()?;
            let config = EndpointConfig {
                id: u32::try_from(id)?,
                ..EndpointConfig::new(role, "bench")
            };
            let handle = endpoint::spawn(config, address, move |event| {
                if let Event::Connected(connection) = event {
                    let _ = sender.send(connection);
                }
            })?;
            waiting.push((handle, receiver));
        }
        waiting
            .into_iter()
            .map(|(handle, receiver)| {
                let connection = receiver
                    .recv_timeout(Duration::from_secs(20))
                    .context("nobody came to the other end of the memif")?;
                Ok((connection, handle))
            })
            .collect()
    }
}

impl Side {
    /// Runs to the end.
    pub(crate) fn run(&self) -> Result<()> {
        if let Some(core) = self.core {
            pin(core);
        }
        let probe = self.probe.as_deref().map(Probe::open).transpose()?;
        let probe = probe.as_ref();
        match self.mode {
            Mode::Tx => self.tx(probe),
            Mode::Rx => self.rx(probe),
            Mode::Gen => self.generate(probe),
            Mode::Io => self.io(probe),
        }
    }

    /// Connects the links of the mode and returns their queues.
    fn queues(&self) -> Result<Vec<Link>> {
        let link = |(connection, handle): (Connection, EndpointHandle)| {
            let Connection { rx, tx, .. } = connection;
            let (rx, tx) = (rx.into_iter().next(), tx.into_iter().next());
            Some(Link {
                rx: rx?,
                tx: tx?,
                _handle: handle,
            })
        };
        let links: Option<Vec<Link>> = self.connect()?.into_iter().map(link).collect();
        links.context("a memif without queues")
    }

    fn tx(&self, probe: Option<&Probe>) -> Result<()> {
        let mut links = self.queues()?;
        let mut source = Source::new(0, self.size, self.flows, self.rules)?;
        let mut sent = 0;
        let Some(link) = links.first_mut() else {
            return Ok(());
        };
        self.until_quit(probe, &mut || {
            // The buffers come while there is nothing else to do: the receiver had them last.
            link.tx.prepare()?;
            sent += send(&mut link.tx, &mut source)?;
            Ok(sent)
        })
    }

    fn generate(&self, probe: Option<&Probe>) -> Result<()> {
        let mut links = self.queues()?;
        let mut sources = Vec::new();
        for pod in 0..links.len() {
            sources.push(Source::new(pod, self.size, self.flows, self.rules)?);
        }
        let mut sinks = [Checked::default(), Checked::default()];
        self.until_quit(probe, &mut || {
            let mut taken = 0;
            for ((link, source), sink) in links.iter_mut().zip(&mut sources).zip(&mut sinks) {
                send(&mut link.tx, source)?;
                link.rx.recv(BURST, sink)?;
                sink.check();
                taken += sink.taken;
            }
            Ok(taken)
        })?;
        let total = |count: fn(&Checked) -> u64| sinks.iter().map(count).sum::<u64>();
        let sent: u64 = sources.iter().map(|source| source.number).sum();
        let (taken, wrong) = (total(|s| s.taken), total(|s| s.out_of_order));
        let lost = total(Checked::lost);
        let tag = &self.tag;
        println!(
            "# {tag}: sent {sent}, came back {taken}, passed over {lost}, doubled or overtaken {wrong}"
        );
        ensure!(wrong == 0, "{wrong} frames came twice or out of order");
        Ok(())
    }

    fn rx(&self, probe: Option<&Probe>) -> Result<()> {
        let (connection, _handle) = self.connect()?.pop().context("no link")?;
        let mut port = MemifPort::new(connection);
        let mut pools = pools();
        let drops = DropCounts::default();
        let mut burst = Burst::new();
        self.measure(probe, &mut || {
            let mut context = PortContext {
                pools: &mut pools,
                drops: &drops,
            };
            port.rx_burst(&mut context, &mut burst)?;
            let frames = burst.len();
            pools.free_burst(&mut burst);
            Ok((frames, frames))
        })
    }

    /// Measures the engine between two pods. A frame counts when it has been delivered to the other pod.
    fn io(&self, probe: Option<&Probe>) -> Result<()> {
        let policies = match self.stateful {
            true => stateful_policies(self.rules),
            false => policies(self.rules),
        };
        let cache = self.flow_cache;
        let limits = match self.stateful {
            true => many_connections(),
            false => Limits::default(),
        };
        let mut worker = SteppedWorker::with_limits(pools(), policies, cache, limits)?;
        let uplink = worker.add_uplink(wire())?;
        let mut handles = Vec::new();
        let mut ids: Vec<AttachmentId> = Vec::new();
        for (number, (connection, handle)) in self.connect()?.into_iter().enumerate() {
            let port = Box::new(MemifPort::new(connection));
            ids.push(worker.attach(pod(uplink, number, 0), port)?);
            handles.push(handle);
        }
        let mut delivered = 0;
        self.measure(probe, &mut || {
            let received = worker.round();
            let now = if received > 0 {
                ids.iter().map(|&id| worker.delivered(id)).sum()
            } else {
                delivered
            };
            let sent = usize::try_from(now - delivered)?;
            delivered = now;
            Ok((received, sent))
        })
    }
}

/// Sends one burst, or as much of it as there is room for, and returns the number of frames.
#[inline]
fn send(queue: &mut TxQueue, source: &mut Source) -> Result<u64> {
    let room = queue.room()?.min(BURST);
    for _ in 0..room {
        queue.push(&[source.next_frame()])?;
    }
    if queue.publish()? {
        queue.kick();
    }
    Ok(room as u64)
}
