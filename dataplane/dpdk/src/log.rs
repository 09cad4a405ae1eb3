// SPDX-License-Identifier: Apache-2.0
//! DPDK's log as lines of the engine's, and the last of them for error messages: the number that a function
//! returns often says less than the line that its driver wrote.
#![allow(unsafe_code, reason = "DPDK calls back with its text")]

use std::collections::VecDeque;
use std::ffi::{CStr, c_char};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Most lines that are kept.
const KEPT: usize = 64;
/// Most lines of one error message.
const IN_MESSAGE: usize = 4;

/// The last lines, and the number of all that there ever were.
struct Lines {
    last: VecDeque<String>,
    count: u64,
}

static LINES: Mutex<Lines> = Mutex::new(Lines {
    last: VecDeque::new(),
    count: 0,
});

fn lines() -> MutexGuard<'static, Lines> {
    LINES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Moment in the log: what is written from then on.
#[derive(Debug)]
pub(crate) struct Since(u64);

impl Since {
    /// Returns the present moment.
    pub(crate) fn now() -> Since {
        Since(lines().count)
    }

    /// Last lines written since then, the oldest first.
    pub(crate) fn lines(&self) -> Vec<String> {
        let lines = lines();
        let new = usize::try_from(lines.count.saturating_sub(self.0)).unwrap_or(usize::MAX);
        let new = new.min(IN_MESSAGE).min(lines.last.len());
        lines
            .last
            .range(lines.last.len() - new..)
            .cloned()
            .collect()
    }
}

/// Sends DPDK's log here. Before EAL starts, which logs.
pub(crate) fn take_over() -> Result<(), i32> {
    // SAFETY: `on_line` may be called from any thread at any time, and lives as long as the process.
    let error = unsafe { dpdk_sys::sg_log_to(Some(on_line)) };
    // SAFETY: takes a number.
    unsafe { dpdk_sys::rte_log_set_global_level(dpdk_sys::RTE_LOG_NOTICE) };
    if error == 0 { Ok(()) } else { Err(error) }
}

/// Text of DPDK for an error number.
pub(crate) fn text_of(number: i32) -> String {
    // SAFETY: returns a string of its own thread's, or a constant, for any number.
    let text = unsafe { dpdk_sys::rte_strerror(number) };
    if text.is_null() {
        return "unknown error".to_owned();
    }
    // SAFETY: not null, and a C string.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_string_lossy().into_owned()
}

unsafe extern "C" fn on_line(text: *const c_char, len: usize) {
    if text.is_null() || len == 0 {
        return;
    }
    // SAFETY: the stream hands out `len` bytes, which are its own until this returns.
    let bytes = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), len) };
    for line in String::from_utf8_lossy(bytes).lines() {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        tracing::info!("DPDK: {line}");
        let mut lines = lines();
        if lines.last.len() == KEPT {
            lines.last.pop_front();
        }
        lines.last.push_back(line.to_owned());
        lines.count += 1;
    }
}
