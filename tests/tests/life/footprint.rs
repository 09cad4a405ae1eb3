// SPDX-License-Identifier: Apache-2.0
//! Files, threads and memory that an engine holds.

use std::fs;

use sluice_tests::wait_for;

use crate::engine_rig::{Node, PATIENCE};

/// Kibibytes by which resident memory may have grown: allocators keep some.
const ROOM_KIB: u64 = 64 << 10;

/// Files, threads and memory of an engine without attachments.
#[derive(Debug)]
pub(super) struct Footprint {
    files: usize,
    /// Names of the threads, sorted.
    threads: Vec<String>,
    resident_kib: u64,
    mbufs: u64,
}

impl Footprint {
    /// Measures the engine once its threads and files do not change any more.
    pub(super) fn when_calm(node: &Node, pid: u32) -> Footprint {
        let mut last = (0, Vec::new());
        let mut same = 0;
        // Threads that answered requests end a second after the last one.
        wait_for("the engine to be calm", PATIENCE, || {
            std::thread::sleep(std::time::Duration::from_millis(100));
            let now = (files(pid), threads(pid));
            same = if now == last { same + 1 } else { 0 };
            last = now;
            (same >= 30).then_some(())
        })
        .unwrap();
        let memory = node.client().status().unwrap().memory;
        Footprint {
            files: last.0,
            threads: last.1,
            resident_kib: resident_kib(pid),
            mbufs: memory.small.in_flight + memory.large.in_flight,
        }
    }

    /// Checks that it has no more than another; resident memory may vary a little.
    pub(super) fn assert_no_more_than(&self, fresh: &Footprint) {
        assert!(self.files <= fresh.files, "files");
        assert!(self.threads.len() <= fresh.threads.len(), "threads");
        assert!(self.mbufs <= fresh.mbufs, "mbufs");
        assert!(
            self.resident_kib <= fresh.resident_kib + ROOM_KIB,
            "resident memory"
        );
    }
}

fn files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

fn threads(pid: u32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    // One that has ended since has no name.
    let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).ok();
    let names = tasks.filter_map(|task| name(task.unwrap()));
    let mut names: Vec<String> = names.map(|name| name.trim_end().to_owned()).collect();
    names.sort();
    names
}

fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let words = line.unwrap().split_whitespace().nth(1).unwrap();
    words.parse().unwrap()
}
