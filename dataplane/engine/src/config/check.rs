// SPDX-License-Identifier: Apache-2.0
//! Checks of the configuration's values. All problems are collected.

mod dpdk;
mod limits;
mod posing;
mod uplinks;

use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sluice_datapath::LeastMbufs;
use sluice_log::LogFormat;
use sluice_yaml::{Checker, Problems, Scalar};

use super::cores::{self, CoreRequest};
use super::raw::{RawConfig, RawIdle, RawMemory, RawWorkers};
use super::{Config, IdleConfig, MemoryConfig, Surroundings};

/// Checks every value.
pub(super) fn check(
    file: &Path,
    raw: RawConfig,
    around: &Surroundings,
) -> Result<Config, Problems> {
    let mut check = Check {
        checker: Checker::new(file),
        around,
    };
    let workers = check.workers(raw.workers.unwrap_or_default());
    let posing = check.posing(raw.posing.unwrap_or_default());
    let uplinks = check.uplinks(raw.uplinks, workers.len(), posing.all);
    let memory = check.memory(raw.memory.unwrap_or_default(), workers.len());
    let dpdk = check.dpdk(raw.dpdk.unwrap_or_default());
    let idle = check.idle(raw.idle.unwrap_or_default());
    let limits = check.limits(raw.limits.unwrap_or_default());
    let policies = check.path("policies", raw.policies, "/etc/sluicegate/policies");
    let state_dir = check.path("state_dir", raw.state_dir, sluice_api::DEFAULT_STATE_DIR);
    let run_dir = check.path("run_dir", raw.run_dir, "/run/sluicegate");
    let socket = check.socket(raw.socket, &run_dir);
    let log = check.log(raw.log);
    let log_format = check.word("log_format", raw.log_format.as_ref(), &LogFormat::NAMES);
    check.checker.finish(Config {
        file: file.to_owned(),
        uplinks,
        workers,
        memory,
        dpdk,
        idle,
        limits,
        posing,
        policies,
        vfs: file.with_file_name(sluice_sriov::create::FILE_NAME),
        state_dir,
        run_dir,
        socket,
        log,
        log_format: log_format.unwrap_or_default(),
    })
}

struct Check<'a> {
    checker: Checker<'a>,
    around: &'a Surroundings,
}

impl<'a> Deref for Check<'a> {
    type Target = Checker<'a>;

    fn deref(&self) -> &Checker<'a> {
        &self.checker
    }
}

impl<'a> DerefMut for Check<'a> {
    fn deref_mut(&mut self) -> &mut Checker<'a> {
        &mut self.checker
    }
}

impl Check<'_> {
    fn workers(&mut self, raw: RawWorkers) -> Vec<Option<usize>> {
        let before = self.count();
        let place = raw.cores.as_ref().map(|cores| cores.referenced);
        let place = place.or(raw.count.as_ref().map(|count| count.referenced));
        let has_count = raw.count.is_some();
        let count = self.number("workers.count", raw.count, 1, (1, cores::MAX_WORKERS));
        let pin = self.word(
            "workers.pin",
            raw.pin.as_ref(),
            &[("true", true), ("false", false)],
        );
        let cores = raw.cores.map(|list| {
            if list.value.is_empty() {
                let message = "no core is named: name some, or leave the key out";
                self.problem(Some(list.referenced), "workers.cores", message);
            }
            let text: Vec<&str> = list.value.iter().map(|core| core.value.as_str()).collect();
            cores::parse_list(&text.join(",")).unwrap_or_else(|error| {
                self.problem(Some(list.referenced), "workers.cores", error.to_string());
                Vec::new()
            })
        });
        if self.count() > before {
            // What follows from a wrong value would only repeat the complaint.
            return vec![None; cores::MAX_WORKERS];
        }
        let request = CoreRequest {
            count: has_count.then_some(count),
            cores,
            pin: pin.unwrap_or(true),
            cmk: self.around.cmk.clone(),
            allowed: self.around.cores.clone(),
            siblings: self.around.siblings.clone(),
        };
        match cores::assign(&request) {
            Ok(workers) if (1..=cores::MAX_WORKERS).contains(&workers.len()) => return workers,
            Ok(workers) => {
                let message = format!(
                    "that makes {} workers: use 1 to {}",
                    workers.len(),
                    cores::MAX_WORKERS
                );
                self.problem(place, "workers", message);
            }
            Err(error) => self.problem(place, "workers", error.to_string()),
        }
        vec![None; cores::MAX_WORKERS]
    }

    /// Checks the mempools. Their sizes, where none are given, are enough for so many workers.
    fn memory(&mut self, raw: RawMemory, workers: usize) -> MemoryConfig {
        let least = LeastMbufs::new(workers, 0);
        let huge = self.word(
            "memory.huge_pages",
            raw.huge_pages.as_ref(),
            &[("auto", true), ("off", false)],
        );
        MemoryConfig {
            small_mbufs: self.number(
                "memory.small_mbufs",
                raw.small_mbufs,
                least.small.max(16_384),
                (1024, 16_777_216),
            ),
            large_mbufs: self.number(
                "memory.large_mbufs",
                raw.large_mbufs,
                least.large.max(1024),
                (256, 4_194_304),
            ),
            flow_cache: self.number(
                "memory.flow_cache",
                raw.flow_cache,
                131_072,
                (0, 16_777_216),
            ),
            huge_pages: huge.unwrap_or(true),
        }
    }

    fn idle(&mut self, raw: RawIdle) -> IdleConfig {
        let never = raw
            .sleep_after
            .as_ref()
            .is_some_and(|raw| raw.value == "never");
        let top = 1_000_000_000;
        let pause_after = self.number("idle.pause_after", raw.pause_after, 64, (0, top));
        let place = raw.sleep_after.as_ref().map(|raw| raw.referenced);
        let sleep_after = if never {
            None
        } else {
            // Its own message, since a word is allowed too.
            let value = match &raw.sleep_after {
                None => Some(2048),
                Some(raw) => raw.value.parse::<u32>().ok().filter(|&loops| loops <= top),
            };
            if value.is_none() {
                let message = format!(
                    "it must be a number of empty loops from 0 to {top}, or `never` (default 2048)"
                );
                self.problem(place, "idle.sleep_after", message);
            }
            value
        };
        if let Some(sleep_after) = sleep_after
            && sleep_after < pause_after
        {
            let message = format!(
                "{sleep_after} is below pause_after ({pause_after}): a worker pauses before it \
                 sleeps"
            );
            self.problem(place, "idle.sleep_after", message);
        }
        let cap = self.number("idle.sleep_cap_us", raw.sleep_cap_us, 1000, (50, 1_000_000));
        IdleConfig {
            pause_after,
            sleep_after,
            sleep_cap: Duration::from_micros(cap),
        }
    }

    fn socket(&mut self, raw: Option<Scalar>, run_dir: &Path) -> PathBuf {
        // sun_path less its NUL (unix(7)).
        const MAX_BYTES: usize = 107;
        let place = raw.as_ref().map(|raw| raw.referenced);
        let default = run_dir.join("control/sluiced.sock");
        let socket = self.path("socket", raw, &default.to_string_lossy());
        if socket.as_os_str().len() > MAX_BYTES {
            let message = format!(
                "{} is {} bytes long, and the path of a socket has at most {MAX_BYTES}",
                socket.display(),
                socket.as_os_str().len()
            );
            self.problem(place, "socket", message);
        }
        if socket.file_name().is_none() || socket.parent().is_none_or(|dir| dir.parent().is_none())
        {
            let message = "its folder must be one of its own, with mode 0700: name a file in one";
            self.problem(place, "socket", message);
        }
        socket
    }

    fn log(&mut self, raw: Option<Scalar>) -> String {
        let Some(raw) = raw else {
            return "info".to_owned();
        };
        if let Err(error) = sluice_log::check_filter(&raw.value) {
            self.problem(Some(raw.referenced), "log", error.to_string());
        }
        raw.value
    }
}
