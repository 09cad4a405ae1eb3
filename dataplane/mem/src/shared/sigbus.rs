// SPDX-License-Identifier: Apache-2.0
//! The last line against a peer that shrinks memory it shares: a SIGBUS action that puts a page of
//! zeros where the fault was and marks the region dead.
//!
//! Seals prevent the fault where they are required; this is for regions of trusted pods without
//! them, and for what nobody thought of. The action is async-signal-safe: it reads a fixed table
//! of atomics and makes one mmap call.
#![allow(unsafe_code, reason = "a signal action, and the memory it replaces")]

use std::cell::UnsafeCell;
use std::ffi::{c_int, c_void};
use std::io;
use std::mem::{self, MaybeUninit};
use std::ptr;
use std::sync::Once;
use std::sync::atomic::{
    AtomicBool, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
    fence,
};

use crate::error::Error;

/// Most shared regions of one process.
pub(crate) const MAX_REGIONS: usize = 4096;

/// Registered range. The sequence is odd while the range is being written, so that the action
/// never combines the start of one region with the end of another.
#[derive(Debug)]
pub(crate) struct Slot {
    taken: AtomicBool,
    dead: AtomicBool,
    sequence: AtomicUsize,
    start: AtomicUsize,
    end: AtomicUsize,
    /// Size of its pages in bytes; a huge page can only be replaced as a whole.
    page_bytes: AtomicUsize,
}

static TABLE: [Slot; MAX_REGIONS] = [const {
    Slot {
        taken: AtomicBool::new(false),
        dead: AtomicBool::new(false),
        sequence: AtomicUsize::new(0),
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        page_bytes: AtomicUsize::new(0),
    }
}; MAX_REGIONS];

impl Slot {
    fn write(&self, start: usize, end: usize, page_bytes: usize) {
        self.sequence.fetch_add(1, AcqRel);
        fence(Release);
        self.start.store(start, Relaxed);
        self.end.store(end, Relaxed);
        self.page_bytes.store(page_bytes, Relaxed);
        self.sequence.fetch_add(1, Release);
    }

    fn contains(&self, address: usize) -> bool {
        let before = self.sequence.load(Acquire);
        let inside = self.start.load(Relaxed) <= address && address < self.end.load(Relaxed);
        fence(Acquire);
        inside && before.is_multiple_of(2) && self.sequence.load(Relaxed) == before
    }
}

/// A range in the table, for as long as it is mapped.
#[derive(Debug)]
pub(crate) struct Registration {
    slot: &'static Slot,
}

impl Registration {
    /// Enters a range of pages of `page_bytes`, a power of two; `None` if the table is full.
    pub(crate) fn new(start: usize, len: usize, page_bytes: usize) -> Option<Registration> {
        let slot = TABLE.iter().find(|slot| {
            slot.taken
                .compare_exchange(false, true, AcqRel, Relaxed)
                .is_ok()
        })?;
        slot.dead.store(false, Relaxed);
        slot.write(start, start + len, page_bytes);
        Some(Registration { slot })
    }

    /// Flag that becomes true when a page of the range faulted.
    pub(crate) fn dead(&self) -> &'static AtomicBool {
        &self.slot.dead
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.slot.write(0, 0, 0);
        self.slot.taken.store(false, Release);
    }
}

/// The action that was there before. Written once, before ours is installed.
struct Previous(UnsafeCell<MaybeUninit<libc::sigaction>>);

// SAFETY: written in `install` under `Once` before the action that reads it exists.
unsafe impl Sync for Previous {}

static PREVIOUS: Previous = Previous(UnsafeCell::new(MaybeUninit::uninit()));
static PAGE_BYTES: AtomicUsize = AtomicUsize::new(4096);

/// Installs the action; a second call does nothing. A SIGBUS outside every
/// [`SharedRegion`](crate::SharedRegion) goes to the action that was installed before.
///
/// # Errors
/// [`Error::Sigbus`] if the kernel refuses.
pub fn install() -> Result<(), Error> {
    static ONCE: Once = Once::new();
    let mut result = Ok(());
    ONCE.call_once(|| result = install_once());
    result.map_err(|source| Error::Sigbus { source })
}

fn install_once() -> io::Result<()> {
    PAGE_BYTES.store(rustix::param::page_size(), Relaxed);
    // SAFETY: a zeroed sigaction is a valid one (default action, empty mask).
    let mut ours: libc::sigaction = unsafe { mem::zeroed() };
    ours.sa_sigaction = on_sigbus as *const () as usize;
    // On the alternate stack, as std's own action (stack overflow) needs when we pass on to it.
    ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: the pointer is valid; PREVIOUS is written before the call below makes anyone read it.
    let mut result = unsafe { libc::sigaction(libc::SIGBUS, ptr::null(), PREVIOUS.0.get().cast()) };
    if result == 0 {
        // SAFETY: the pointer is valid; the action is async-signal-safe.
        result = unsafe { libc::sigaction(libc::SIGBUS, &raw const ours, ptr::null_mut()) };
    }
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

extern "C" fn on_sigbus(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes a valid siginfo (SA_SIGINFO).
    let info_ref = unsafe { &*info };
    let code = info_ref.si_code;
    // SAFETY: of a fault, which is the only kind looked at, it has an address; of others these bytes
    // are initialised.
    let address = unsafe { info_ref.si_addr() }.addr();
    // A fault has a positive code; a signal that somebody sent has not, and no address.
    if code > 0 && bury(address) {
        return;
    }
    pass_on(signal, info, context);
}

/// Replaces the page at a faulting address of a registered region; false if it is in none.
fn bury(address: usize) -> bool {
    let Some(slot) = TABLE.iter().find(|slot| slot.contains(address)) else {
        return false;
    };
    slot.dead.store(true, Release);
    // The range stays as it is while the faulting access borrows its region.
    let page_bytes = PAGE_BYTES.load(Relaxed).max(slot.page_bytes.load(Relaxed));
    let page = address & !(page_bytes - 1);
    // SAFETY: no arguments.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: errno is this thread's own.
    let saved = unsafe { errno.read() };
    // SAFETY: the page belongs to a mapping that stays until its Registration is dropped, which the
    // faulting access prevents by borrowing the region; no reference into it exists. A raw mmap is
    // async-signal-safe.
    let mapped = unsafe {
        libc::mmap(
            ptr::without_provenance_mut(page),
            page_bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_FIXED | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    // SAFETY: as above.
    unsafe { errno.write(saved) };
    mapped != libc::MAP_FAILED
}

/// Does what would have been done without us.
fn pass_on(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: PREVIOUS was written before this action was installed, and never again.
    let previous = unsafe { &*PREVIOUS.0.get().cast::<libc::sigaction>() };
    match previous.sa_sigaction {
        libc::SIG_IGN => {}
        libc::SIG_DFL => {
            // A fault comes again on return and then ends the process; one that was sent is sent
            // again.
            // SAFETY: the pointer is valid.
            unsafe { libc::sigaction(libc::SIGBUS, previous, ptr::null_mut()) };
            // SAFETY: the kernel passes a valid siginfo (SA_SIGINFO).
            if unsafe { (*info).si_code } <= 0 {
                // SAFETY: no pointers.
                unsafe { libc::raise(libc::SIGBUS) };
            }
        }
        action if previous.sa_flags & libc::SA_SIGINFO != 0 => {
            // SAFETY: an action with SA_SIGINFO is a function of this type.
            let action: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) =
                unsafe { mem::transmute(action) };
            action(signal, info, context);
        }
        action => {
            // SAFETY: an action without SA_SIGINFO is a function of this type.
            let action: extern "C" fn(c_int) = unsafe { mem::transmute(action) };
            action(signal);
        }
    }
}
