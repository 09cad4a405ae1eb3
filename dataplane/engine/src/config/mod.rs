// SPDX-License-Identifier: Apache-2.0
//! Configuration of the engine: one YAML file, checked as a whole before anything is touched.
//!
//! `raw` knows its keys, `check` their values, [`cores`] how workers get theirs. Every problem
//! names file, line, column and key, and says what is allowed; all are reported at once.

mod check;
pub mod cores;
mod posing;
mod raw;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sluice_datapath::{LeastMbufs, Limits};
use sluice_host::topology::Topology;
use sluice_log::LogFormat;
use sluice_packet::Vid;

pub use posing::{PosingConfig, PosingLimits};
pub use sluice_yaml::{Problem, Problems};

/// Default path of the configuration file; `--config` names another.
pub const DEFAULT_FILE: &str = "/etc/sluicegate/sluiced.yaml";

/// Configuration that passed all checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// File that it was read from, for messages.
    pub file: PathBuf,
    /// Uplinks, names unique; there may be none.
    pub uplinks: Vec<UplinkConfig>,
    /// Core of each worker, 1 to 64 of them; `None`: wherever the kernel puts it.
    pub workers: Vec<Option<usize>>,
    /// Sizes of the mempools.
    pub memory: MemoryConfig,
    /// Settings of DPDK, if an uplink is a device of its.
    pub dpdk: DpdkConfig,
    /// Thresholds at which idle workers pause and sleep.
    pub idle: IdleConfig,
    /// Limits of what one source may cause others to receive.
    pub limits: Limits,
    /// Limits of what pods on VFs may pose as.
    pub posing: PosingConfig,
    /// Folder of the policies, one `*.yaml` each.
    pub policies: PathBuf,
    /// File beside this one that says which PF is to have how many VFs; it need not be there.
    pub vfs: PathBuf,
    /// Folder of records that outlive the engine.
    pub state_dir: PathBuf,
    /// Folder of the lock, and of the socket unless `socket` names another.
    pub run_dir: PathBuf,
    /// Path of the control socket; its folder is the engine's alone.
    pub socket: PathBuf,
    /// Log filter, in the syntax of `tracing_subscriber::EnvFilter`.
    pub log: String,
    /// Form of the log's lines.
    pub log_format: LogFormat,
}

/// Configuration of one uplink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UplinkConfig {
    /// Name by which policies and attachments refer to the uplink.
    pub name: String,
    /// Driver, with the settings that only it has.
    pub driver: UplinkDriver,
    /// Reason for which it is this driver, for the status.
    pub driver_reason: &'static str,
    /// Segment of untagged frames; `None`: the untagged segment.
    pub native: Option<Vid>,
    /// TPIDs that make an outermost tag here; the first is put on frames sent.
    pub tpids: Vec<u16>,
    /// Number of the worker that polls it; `None`: the engine chooses.
    pub worker: Option<usize>,
    /// Limits of what its attachments may pose as.
    pub posing: PosingLimits,
}

/// Driver of an uplink and the device or files it reads and writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UplinkDriver {
    /// Kernel netdev.
    Netdev(NetdevConfig),
    /// Device of DPDK's, by DPDK's driver for it.
    Dpdk {
        /// PCI address or vdev.
        device: sluice_dpdk::Device,
        /// MTU: largest IP packet in bytes.
        mtu: u32,
    },
    /// Capture files.
    Pcap {
        /// File with the frames to receive, once; `None`: none come.
        read: Option<PathBuf>,
        /// File for frames that are sent; `None`: they are discarded.
        write: Option<PathBuf>,
        /// MTU: largest IP packet in bytes.
        mtu: u32,
    },
}

/// Netdev of an uplink and the way to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetdevConfig {
    /// Name of the netdev.
    pub device: String,
    /// Driver that has it.
    pub driver: NetdevDriver,
    /// Frames of its receive and of its send ring, a power of two from 64 to 16384; with AF_XDP of each
    /// receive queue.
    pub ring_frames: u32,
    /// Whether all that sends towards the netdev keeps VLAN tags in the frames' bytes, which AF_XDP
    /// needs and the engine cannot always find out.
    pub tags_in_frames: bool,
}

/// Driver of a netdev.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetdevDriver {
    /// AF_XDP where it is possible and safe, else AF_PACKET.
    Auto,
    /// AF_XDP, or no uplink.
    AfXdp,
    /// AF_PACKET.
    AfPacket,
}

impl NetdevDriver {
    /// Name, as in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            NetdevDriver::Auto => "auto",
            NetdevDriver::AfXdp => "af_xdp",
            NetdevDriver::AfPacket => "af_packet",
        }
    }
}

/// Sizes of the mempools, over all workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryConfig {
    /// Number of mbufs with 2 KiB of data.
    pub small_mbufs: u32,
    /// Number of mbufs with 10 KiB of data.
    pub large_mbufs: u32,
    /// Entries of each worker's flow cache; 0: off.
    pub flow_cache: u32,
    /// Whether huge pages may be used.
    pub huge_pages: bool,
}

/// Settings of DPDK's EAL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DpdkConfig {
    /// Memory for queues and headers in MiB, on each NUMA node; all of it is taken at the start.
    pub memory_mib: u32,
    /// Cores of EAL's thread; `None`: those of control.
    pub cores: Option<Vec<usize>>,
}

/// Thresholds of an idle worker, counted in empty loops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdleConfig {
    /// Empty loops before a worker pauses between loops.
    pub pause_after: u32,
    /// Empty loops before it sleeps; `None`: never.
    pub sleep_after: Option<u32>,
    /// Longest sleep while a wake-up can be lost.
    pub sleep_cap: Duration,
}

impl IdleConfig {
    /// Returns the thresholds as the workers take them.
    pub fn for_workers(self) -> sluice_datapath::IdleConfig {
        sluice_datapath::IdleConfig {
            pause_after: self.pause_after,
            sleep_after: self.sleep_after,
            sleep_cap: self.sleep_cap,
        }
    }
}

impl Config {
    /// Reads and checks a configuration file. A netdev that is not there is no problem: it may be made
    /// later.
    ///
    /// # Errors
    /// Every problem of the file.
    pub fn load(file: &Path) -> Result<Config, Problems> {
        let around = Surroundings {
            netdevs: None,
            ..Surroundings::of_this_process()
        };
        Config::load_in(file, &around)
    }

    /// Reads and checks a configuration file against the surroundings.
    ///
    /// # Errors
    /// Every problem of the file.
    pub fn load_in(file: &Path, around: &Surroundings) -> Result<Config, Problems> {
        let text = std::fs::read_to_string(file).map_err(|error| {
            Problems(vec![Problem {
                file: file.to_owned(),
                line: 0,
                column: 0,
                key: String::new(),
                message: format!("it cannot be read: {error}; name the file by --config FILE"),
            }])
        })?;
        Config::parse(file, &text, around)
    }

    /// Returns what is allowed and not wise: mempools in which one attachment can take another's mbufs.
    pub fn warnings(&self) -> Vec<String> {
        let workers = self.workers.len();
        // Of AF_XDP at least one receive queue, and what is being sent.
        let in_rings = self.uplinks.iter().map(|uplink| match &uplink.driver {
            UplinkDriver::Netdev(netdev) if netdev.driver != NetdevDriver::AfPacket => {
                2 * netdev.ring_frames as usize
            }
            _ => 0,
        });
        let least = LeastMbufs::new(workers, in_rings.sum());
        let MemoryConfig {
            small_mbufs,
            large_mbufs,
            ..
        } = self.memory;
        [
            ("memory.small_mbufs", small_mbufs, least.small),
            ("memory.large_mbufs", large_mbufs, least.large),
        ]
        .into_iter()
        .filter(|(_, mbufs, least)| mbufs < least)
        .map(|(key, mbufs, least)| {
            format!(
                "{key} is {mbufs}, and {workers} workers can have {least} in use at once: with fewer, \
                 frames of one pod can cost another pod its own; set it to {least} or more, or leave \
                 it out"
            )
        })
        .collect()
    }

    /// Checks the text of a configuration file.
    ///
    /// # Errors
    /// Every problem of the file.
    pub fn parse(file: &Path, text: &str, around: &Surroundings) -> Result<Config, Problems> {
        let raw = raw::parse(file, text).map_err(|problem| Problems(vec![problem]))?;
        check::check(file, raw, around)
    }
}

/// Facts about the machine and the process that a configuration is checked against.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// Cores that the process may run on.
    pub cores: Vec<usize>,
    /// Cores that are threads of one physical core, a set for each.
    pub siblings: Vec<BTreeSet<usize>>,
    /// Cores that CMK assigned, as it writes them.
    pub cmk: Option<String>,
    /// Netdevs in the process's network namespace; `None`: not to be checked.
    pub netdevs: Option<Vec<String>>,
}

impl Surroundings {
    /// Reads the facts of this process.
    pub fn of_this_process() -> Surroundings {
        // Without a mask nothing can be pinned; the check then says so.
        let cores = cores::allowed().unwrap_or_default();
        let topology = Topology::default();
        let siblings: BTreeSet<_> = cores.iter().map(|&core| topology.siblings(core)).collect();
        Surroundings {
            siblings: siblings.into_iter().collect(),
            cores,
            cmk: std::env::var(cores::CMK_VARIABLE)
                .ok()
                .filter(|value| !value.trim().is_empty()),
            netdevs: netdevs().ok(),
        }
    }
}

/// Lists the netdevs of this process's network namespace. `/proc/net` follows the process, which `/sys`
/// does not.
fn netdevs() -> std::io::Result<Vec<String>> {
    let text = std::fs::read_to_string("/proc/thread-self/net/dev")?;
    let names = text
        .lines()
        .skip(2)
        .filter_map(|line| line.rsplit_once(':'));
    // `name: figures`; a name holds no colon.
    Ok(names.map(|(name, _)| name.trim().to_owned()).collect())
}
