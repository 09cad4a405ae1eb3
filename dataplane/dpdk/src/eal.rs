// SPDX-License-Identifier: Apache-2.0
//! EAL, DPDK's environment: started once in the life of a process, on a thread of its own, with all memory that
//! it will ever have.
//!
//! *Memory.* For each huge page that it takes EAL puts a SIGBUS action of its own in place of the process's for a
//! moment. A pod that truncates its memory in that moment would end the engine. So all pages are taken here, before
//! the first pod is attached, and a limit of the same size keeps EAL from taking more.
//!
//! *Affinity.* EAL pins the thread that starts it to its main lcore, and threads started from there inherit that.
//! It has a thread of its own here, whose lcore is all cores of control; no other thread moves.
//!
//! *Files.* None: no shared configuration, no telemetry socket, huge pages by memfd.
#![allow(unsafe_code, reason = "starts EAL")]

use std::ffi::{CStr, CString, c_char, c_int};
use std::fs;
use std::sync::mpsc;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use sluice_mem::Mempool;

use crate::error::Error;
use crate::{headers, log, memory, watch};

/// Address of no device: EAL looks at the PCI bus, and takes nothing there until it is told.
const NO_DEVICE: &str = "ffff:ff:1f.7";
/// Bytes of a huge page.
const HUGE_PAGE: u64 = 2 << 20;

/// Settings of EAL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EalConfig {
    /// Memory in MiB for queues and headers of all ports, on each NUMA node; at least 16. Packets are not in it.
    pub memory_mib: u32,
    /// Cores of EAL's own thread, at least one: those of control. Below 128.
    pub cores: Vec<usize>,
    /// Whether to use huge pages where enough are free.
    pub huge_pages: bool,
}

/// EAL that runs.
#[derive(Debug)]
pub struct Eal {
    config: EalConfig,
    huge_pages: bool,
    version: String,
    /// Held by whoever adds, changes or removes a device: DPDK's control calls are not made for two at once.
    control: Mutex<memory::Registered>,
}

/// EAL or the reason why there is none; a second try in one process is always refused.
static EAL: OnceLock<Result<Eal, StartError>> = OnceLock::new();

#[derive(Debug, Clone)]
struct StartError {
    text: String,
    lines: String,
}

impl Eal {
    /// Starts EAL, or returns the one that runs. Call it before a pod is attached.
    ///
    /// # Errors
    /// DPDK refuses, or it runs already with other settings. After the former every further call fails.
    pub fn start(config: &EalConfig) -> Result<&'static Eal, Error> {
        let started = EAL.get_or_init(|| start_once(config.clone()));
        match started {
            Ok(eal) if eal.config == *config => Ok(eal),
            Ok(_) => Err(Error::OtherSettings),
            Err(error) => Err(Error::Eal {
                text: error.text.clone(),
                lines: error.lines.clone(),
            }),
        }
    }

    /// EAL, if it runs.
    pub fn running() -> Option<&'static Eal> {
        EAL.get()?.as_ref().ok()
    }

    /// Version of DPDK, as in `DPDK 22.11.11`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Whether its memory is on huge pages.
    pub fn huge_pages(&self) -> bool {
        self.huge_pages
    }

    /// The right to change devices.
    pub(crate) fn control(&self) -> MutexGuard<'_, memory::Registered> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers mempools with DPDK, so that devices may be given access to them.
    ///
    /// # Errors
    /// DPDK refuses the memory.
    pub fn register(&self, pools: &[Mempool]) -> Result<(), Error> {
        self.control().register(pools)
    }
}

fn start_once(config: EalConfig) -> Result<Eal, StartError> {
    let huge_pages = config.huge_pages && enough_huge_pages(&config);
    if !huge_pages {
        tracing::warn!(
            "DPDK's own memory, {} MiB, is on ordinary pages, with which devices on the PCI bus cannot be used: \
             for them add {} to /proc/sys/vm/nr_hugepages",
            config.memory_mib,
            pages(&config)
        );
    }
    let arguments = arguments(&config, huge_pages);
    let (send, receive) = mpsc::channel();
    let thread = std::thread::Builder::new().name("dpdk".into());
    let spawned = thread.spawn(move || {
        let result = init(arguments);
        let started = result.is_ok();
        // Nobody waits any more only if the process ends.
        let _ = send.send(result);
        drop(send);
        if started {
            watch::run();
        }
    });
    if let Err(error) = spawned {
        return Err(StartError {
            text: error.to_string(),
            lines: "its thread cannot be started".to_owned(),
        });
    }
    let version = receive.recv().unwrap_or_else(|_| {
        Err(StartError {
            text: "its thread ended".to_owned(),
            lines: String::new(),
        })
    })?;
    tracing::info!(
        "{version} runs with {} MiB of {} pages",
        config.memory_mib,
        if huge_pages { "huge" } else { "ordinary" }
    );
    Ok(Eal {
        config,
        huge_pages,
        version,
        control: Mutex::default(),
    })
}

/// Runs on the thread that becomes EAL's main one. Returns the version.
fn init(arguments: Vec<String>) -> Result<String, StartError> {
    let since = log::Since::now();
    let failed = |number: c_int| StartError {
        text: log::text_of(number.saturating_abs()),
        lines: since.lines().join("; "),
    };
    log::take_over().map_err(failed)?;
    let arguments: Vec<CString> = arguments
        .into_iter()
        .filter_map(|argument| CString::new(argument).ok())
        .collect();
    // getopt changes the order of the pointers. EAL keeps some of them: they are never freed.
    let mut pointers: Vec<*mut c_char> = arguments.into_iter().map(CString::into_raw).collect();
    let count = c_int::try_from(pointers.len()).unwrap_or(0);
    pointers.push(std::ptr::null_mut());
    let pointers = Vec::leak(pointers);
    // SAFETY: `count` C strings that live as long as the process, and a null pointer after them.
    let result = unsafe { dpdk_sys::rte_eal_init(count, pointers.as_mut_ptr()) };
    if result < 0 {
        // SAFETY: reads a variable of this thread.
        return Err(failed(unsafe { dpdk_sys::sg_errno() }));
    }
    headers::register_ops().map_err(failed)?;
    // SAFETY: takes nothing.
    let version = unsafe { dpdk_sys::rte_version() };
    // SAFETY: a constant C string.
    let version = unsafe { CStr::from_ptr(version) };
    Ok(version.to_string_lossy().into_owned())
}

/// EAL's command line. Every word is made here: nothing that a user wrote is ever among them.
fn arguments(config: &EalConfig, huge_pages: bool) -> Vec<String> {
    let cores: Vec<String> = config.cores.iter().map(usize::to_string).collect();
    let lcores = format!("0@({})", cores.join(","));
    let memory = config.memory_mib.to_string();
    let mut words = vec!["sluiced", "--lcores", &lcores];
    words.extend(["--no-telemetry", "--iova-mode=va", "-a", NO_DEVICE]);
    let prefix = format!("--file-prefix=sluicegate-{}", std::process::id());
    words.push(&prefix);
    let nodes = vec![memory.as_str(); nodes()].join(",");
    let limit = format!("--socket-limit={nodes}");
    let each = format!("--socket-mem={nodes}");
    if huge_pages {
        words.extend(["--in-memory", "--single-file-segments", &each, &limit]);
    } else {
        words.extend(["--no-huge", "--no-shconf", "-m", &memory]);
    }
    words.into_iter().map(str::to_owned).collect()
}

/// Number of NUMA nodes.
fn nodes() -> usize {
    let online = fs::read_to_string("/sys/devices/system/node/online").unwrap_or_default();
    let last = online.trim().rsplit(['-', ',']).next();
    last.and_then(|last| last.parse::<usize>().ok())
        .map_or(1, |last| last + 1)
        .min(8)
}

/// Number of huge pages that EAL takes in all.
fn pages(config: &EalConfig) -> u64 {
    (u64::from(config.memory_mib) << 20).div_ceil(HUGE_PAGE) * nodes() as u64
}

fn enough_huge_pages(config: &EalConfig) -> bool {
    let free = fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
    let free = free.ok().and_then(|text| text.trim().parse::<u64>().ok());
    free.is_some_and(|free| free >= pages(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_memory_is_had_at_once_and_never_grows() {
        let config = EalConfig {
            memory_mib: 64,
            cores: vec![0, 3],
            huge_pages: true,
        };
        let words = arguments(&config, true).join(" ");
        assert!(words.contains("--lcores 0@(0,3)"), "{words}");
        assert!(words.contains("--socket-mem=64"), "{words}");
        assert!(words.contains("--socket-limit=64"), "{words}");
        let words = arguments(&config, false).join(" ");
        assert!(
            words.contains("--no-huge") && !words.contains("--in-memory"),
            "{words}"
        );
    }
}
