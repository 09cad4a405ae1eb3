// SPDX-License-Identifier: Apache-2.0
//! Counting allocations: the datapath makes none per packet, and a bench that sees one fails.
#![allow(
    unsafe_code,
    reason = "a global allocator is an unsafe trait; this one passes every call on"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

static COUNT: AtomicU64 = AtomicU64::new(0);
/// Allocations and frees of the threads that are counted apart.
static ELSEWHERE: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Whether this thread may allocate: its calls are not counted apart.
    static MAY_ALLOCATE: Cell<bool> = const { Cell::new(false) };
}

fn count_apart() {
    // Without a destructor it is there as long as the thread is.
    if MAY_ALLOCATE.try_with(|may| !may.get()).unwrap_or(false) {
        ELSEWHERE.fetch_add(1, Ordering::Relaxed);
    }
}

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        count_apart();
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count_apart();
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        count_apart();
        // SAFETY: the caller's promise, passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Returns the number of allocations of this process so far.
pub fn allocations() -> u64 {
    COUNT.load(Ordering::Relaxed)
}

/// Exempts the calling thread from [`allocations_elsewhere`].
pub fn may_allocate_here() {
    MAY_ALLOCATE.with(|may| may.set(true));
}

/// Returns the number of allocations and frees so far of all threads but those that called
/// [`may_allocate_here`].
pub fn allocations_elsewhere() -> u64 {
    ELSEWHERE.load(Ordering::Relaxed)
}

/// Asserts that `work`, run a thousand times after a warm-up, allocates nothing.
///
/// # Panics
/// It allocated.
pub fn none_allocated(name: &str, mut work: impl FnMut()) {
    for _ in 0..100 {
        work();
    }
    let before = allocations();
    for _ in 0..1000 {
        work();
    }
    let made = allocations() - before;
    println!("{name}: {made} allocations in 1000 bursts");
    assert_eq!(made, 0, "{name} allocates in the datapath");
}
