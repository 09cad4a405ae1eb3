// SPDX-License-Identifier: Apache-2.0
//! Headers of one port: a mempool of `rte_mbuf` without buffers, over mempool operations of our own.
//!
//! ```text
//! dequeue   a driver wants n mbufs ....... n free headers, a buffer of the engine's behind each
//! enqueue   a driver frees n mbufs ....... buffers go home to the worker's pools, headers are free
//! ```
//!
//! *Who may.* While a thread is in a call of the port's it owns the headers and lends them its [`Pools`]. DPDK's
//! drivers call back on that thread, and then everything is plain memory. A driver may also free mbufs on another
//! thread (net_memif does when its peer goes; net_ring when the other end of a ring belongs to another port): then
//! the buffer goes home as a stray, and the header through a lock-free queue. Nobody but the owner gets headers.
//!
//! *Trust.* DPDK's drivers are as trusted as the engine. A header that comes back with a handle that was not put
//! there would be a bug of DPDK's.
#![allow(unsafe_code, reason = "mempool operations, called by DPDK")]

use std::cell::UnsafeCell;
use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::num::NonZeroU64;
use std::ptr::{self, NonNull};
use std::sync::atomic::{
    AtomicU32, AtomicUsize,
    Ordering::{Relaxed, Release},
};

use dpdk_sys::{rte_mempool, rte_mempool_ops, sg_buffer};
use sluice_mem::{BURST, Burst, Mbuf, Mempool, Pools, Posted};
use sluice_ring::Mpmc;

/// Name of the mempool operations.
const OPS: &[u8] = b"sluicegate\0";
/// Errors of mempool operations, negative as DPDK wants them.
const NO_BUFFERS: c_int = -libc::ENOBUFS;

/// Buffer of nothing.
pub(crate) const NO_BUFFER: sg_buffer = sg_buffer {
    handle: 0,
    start: ptr::null_mut(),
    bytes: 0,
    len: 0,
    offset: 0,
    tci: 0,
    tagged: 0,
};

/// Headers of one port.
#[derive(Debug)]
pub(crate) struct Headers {
    pool: NonNull<rte_mempool>,
    state: NonNull<State>,
    count: usize,
}

// SAFETY: the state is on the heap and changed by the thread that owns it alone, or atomically; the pool is only
// handed to DPDK, whose mempools may be used from any thread.
unsafe impl Send for Headers {}

/// State that the operations work on.
struct State {
    /// [`this_thread`] of the thread that is in a call of the port's; 0: none is.
    owner: AtomicUsize,
    /// Touched by the owner alone.
    inner: UnsafeCell<Inner>,
    /// Number of headers in `inner.free`, for whoever asks.
    free: AtomicU32,
    /// Headers freed by others than the owner.
    returned: Mpmc<usize>,
}

struct Inner {
    /// Free headers, the last one freed on top. Never grows beyond what was reserved.
    free: Vec<*mut c_void>,
    /// Pools of the owner; null while there is none.
    pools: *mut Pools,
    /// Whether drivers get large buffers.
    large: bool,
}

thread_local! {
    static MARK: u8 = const { 0 };
}

/// Number of the calling thread, not 0: the address of a variable of its own.
#[inline(always)]
fn this_thread() -> usize {
    MARK.with(|mark| ptr::from_ref(mark).addr())
}

/// Makes the operations known to DPDK. Once, after EAL has started.
pub(crate) fn register_ops() -> Result<(), c_int> {
    let mut name = [0; 32];
    for (slot, &byte) in name.iter_mut().zip(OPS) {
        *slot = byte.cast_signed();
    }
    let ops = rte_mempool_ops {
        name,
        alloc: Some(on_alloc),
        free: Some(on_free),
        enqueue: Some(on_enqueue),
        dequeue: Some(on_dequeue),
        get_count: Some(on_count),
        calc_mem_size: None,
        populate: None,
        get_info: None,
        dequeue_contig_blocks: None,
    };
    // SAFETY: DPDK copies the structure.
    let result = unsafe { dpdk_sys::rte_mempool_register_ops(&raw const ops) };
    if result < 0 { Err(result) } else { Ok(()) }
}

impl Headers {
    /// Makes `count` headers, for buffers of the large pool or the small one of `pools`.
    ///
    /// # Errors
    /// Error number of DPDK, positive.
    pub(crate) fn new(count: u16, large: bool, pools: &mut Pools) -> Result<Headers, c_int> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("sluicegate{}", NUMBER.fetch_add(1, Relaxed));
        let name = CString::new(name).map_err(|_| libc::EINVAL)?;
        let wanted = usize::from(count);
        let returned = Mpmc::new(wanted.next_power_of_two()).map_err(|_| libc::EINVAL)?;
        let state = Box::new(State {
            owner: AtomicUsize::new(0),
            inner: UnsafeCell::new(Inner {
                free: Vec::with_capacity(wanted),
                pools: ptr::null_mut(),
                large,
            }),
            free: AtomicU32::new(0),
            returned,
        });
        let state = NonNull::from(Box::leak(state));
        let room = if large {
            sluice_mem::BufSize::Large
        } else {
            sluice_mem::BufSize::Small
        };
        let room = u16::try_from(sluice_mem::HEADROOM + room.data_bytes()).unwrap_or(u16::MAX);
        let create = || {
            // SAFETY: C strings, the number, and a state that outlives the pool. The functions of OPS are known.
            unsafe {
                dpdk_sys::sg_headers_create(
                    name.as_ptr(),
                    c_uint::from(count),
                    OPS.as_ptr().cast::<c_char>(),
                    state.as_ptr().cast(),
                    room,
                )
            }
        };
        // SAFETY: the state lives, and nobody else knows it.
        let made = unsafe { own(state, pools, create) };
        let Some(pool) = NonNull::new(made) else {
            // SAFETY: leaked above; the pool that would have used it does not exist.
            drop(unsafe { Box::from_raw(state.as_ptr()) });
            // SAFETY: reads a variable of this thread.
            return Err(unsafe { dpdk_sys::sg_errno() });
        };
        Ok(Headers {
            pool,
            state,
            count: wanted,
        })
    }

    /// The pool, for DPDK.
    pub(crate) fn pool(&self) -> *mut rte_mempool {
        self.pool.as_ptr()
    }

    /// Calls DPDK while this thread owns the headers, with `pools` to take buffers from and give them to.
    #[inline(always)]
    pub(crate) fn call<R>(&mut self, pools: &mut Pools, f: impl FnOnce() -> R) -> R {
        // SAFETY: the state lives as long as `self`, which is borrowed mutably: there is no other owner.
        unsafe { own(self.state, pools, f) }
    }

    /// Takes as many free headers as `into` has room for; says how many.
    #[inline]
    pub(crate) fn take(&mut self, into: &mut [*mut c_void]) -> usize {
        // SAFETY: the state lives as long as `self`.
        let state = unsafe { self.state.as_ref() };
        // SAFETY: `self` is borrowed mutably, so no thread is in a call: this one is the owner.
        let inner = unsafe { &mut *state.inner.get() };
        if inner.free.len() < into.len() {
            inner.collect(state);
        }
        let n = into.len().min(inner.free.len());
        for slot in into.iter_mut().take(n) {
            *slot = inner.free.pop().unwrap_or(ptr::null_mut());
        }
        state.note(inner);
        n
    }

    /// Takes free headers back. They have no buffers.
    #[inline]
    pub(crate) fn put(&mut self, headers: &[*mut c_void]) {
        // SAFETY: the state lives as long as `self`.
        let state = unsafe { self.state.as_ref() };
        // SAFETY: as in `take`.
        let inner = unsafe { &mut *state.inner.get() };
        inner.free.extend_from_slice(headers);
        state.note(inner);
    }

    /// Number of headers that are not home: behind each is a buffer that a driver has.
    pub(crate) fn away(&mut self) -> usize {
        // SAFETY: the state lives as long as `self`.
        let state = unsafe { self.state.as_ref() };
        // SAFETY: as in `take`.
        let inner = unsafe { &mut *state.inner.get() };
        inner.collect(state);
        state.note(inner);
        self.count.saturating_sub(inner.free.len())
    }

    /// Gives the memory back to DPDK, if all headers are home. The port must be closed. Else the headers are left
    /// for good, as whoever has one may still use it; their number is returned.
    pub(crate) fn end(mut self) -> Result<(), usize> {
        let away = self.away();
        if away > 0 {
            return Err(away);
        }
        // SAFETY: no driver has an mbuf of it, and the port whose queues knew the pool is closed.
        unsafe { dpdk_sys::rte_mempool_free(self.pool.as_ptr()) };
        // SAFETY: leaked in `new`; the pool that used it is gone.
        drop(unsafe { Box::from_raw(self.state.as_ptr()) });
        Ok(())
    }
}

/// Runs `f` while the calling thread owns the headers.
///
/// # Safety
/// The state lives, and no other thread owns it nor will until this returns.
#[inline(always)]
unsafe fn own<R>(state: NonNull<State>, pools: &mut Pools, f: impl FnOnce() -> R) -> R {
    struct Disown(NonNull<State>);
    impl Drop for Disown {
        #[inline(always)]
        fn drop(&mut self) {
            // SAFETY: the state lives, as the caller of `own` says.
            let state = unsafe { self.0.as_ref() };
            // SAFETY: this thread is the owner still.
            unsafe { (*state.inner.get()).pools = ptr::null_mut() };
            state.owner.store(0, Release);
        }
    }
    // SAFETY: the state lives.
    let shared = unsafe { state.as_ref() };
    // SAFETY: nobody else owns it.
    unsafe { (*shared.inner.get()).pools = pools };
    shared.owner.store(this_thread(), Relaxed);
    let _disown = Disown(state);
    f()
}

impl State {
    /// Part that the owner works on; `None` if the calling thread is not the owner.
    ///
    /// # Safety
    /// The caller lets go of it before another is asked for on this thread.
    #[inline(always)]
    #[allow(clippy::mut_from_ref, reason = "the owner is one thread")]
    unsafe fn owned(&self) -> Option<&mut Inner> {
        if self.owner.load(Relaxed) != this_thread() {
            return None;
        }
        // SAFETY: only this thread stores its own number, and it takes it back before it lets another own.
        Some(unsafe { &mut *self.inner.get() })
    }

    #[inline(always)]
    fn note(&self, inner: &Inner) {
        let free = u32::try_from(inner.free.len()).unwrap_or(u32::MAX);
        self.free.store(free, Relaxed);
    }
}

impl Inner {
    /// Collects the headers that others gave back.
    #[cold]
    #[inline(never)]
    fn collect(&mut self, state: &State) {
        while let Some(address) = state.returned.pop() {
            self.free.push(ptr::with_exposed_provenance_mut(address));
        }
    }

    /// Puts fresh buffers behind headers. False, and nothing changed, if there are too few.
    fn attach(&mut self, headers: &[*mut c_void]) -> bool {
        let mut burst = Burst::new();
        // SAFETY: the owner's pools, lent for the time of its call, in which this runs.
        let Some(pools) = (unsafe { self.pools.as_mut() }) else {
            return false;
        };
        let cache = if self.large {
            &mut pools.large
        } else {
            &mut pools.small
        };
        if cache.alloc_burst(&mut burst, headers.len()) < headers.len() {
            cache.free_burst(&mut burst);
            return false;
        }
        let mut buffers = [NO_BUFFER; BURST];
        let n = burst.len();
        for (buffer, mbuf) in buffers.iter_mut().zip(burst.drain_front(n)) {
            *buffer = posted(mbuf);
        }
        let count = c_uint::try_from(n).unwrap_or(0);
        // SAFETY: `n` headers that are free, and as many buffers whose handles were given up.
        unsafe { dpdk_sys::sg_attach(headers.as_ptr(), buffers.as_ptr(), count) };
        true
    }

    /// Takes the buffers from behind headers home.
    fn detach(&mut self, headers: &[*mut c_void]) {
        let mut burst = Burst::new();
        // SAFETY: the headers are freed ones.
        for mbuf in unsafe { detached(headers) } {
            // A burst of as many as there are headers.
            drop(burst.push(mbuf));
        }
        // SAFETY: as in `attach`. Without pools the burst's drop takes them home.
        if let Some(pools) = unsafe { self.pools.as_mut() } {
            pools.free_burst(&mut burst);
        }
    }
}

/// Gives an mbuf up to a driver.
#[inline(always)]
pub(crate) fn posted(mbuf: Mbuf) -> sg_buffer {
    let posted = mbuf.post();
    let (start, bytes) = posted.buffer();
    let narrow = |n: usize| u32::try_from(n).unwrap_or(0);
    sg_buffer {
        start: start.as_ptr().cast(),
        bytes: narrow(bytes),
        len: narrow(posted.len()),
        offset: narrow(posted.data_offset()),
        handle: posted.into_raw().get(),
        ..NO_BUFFER
    }
}

/// Takes the mbuf of a handle back from a driver; `None` for 0.
///
/// # Safety
/// The handle is of [`posted`], and is taken back once.
#[inline(always)]
pub(crate) unsafe fn taken_back(handle: u64) -> Option<Mbuf> {
    let handle = NonZeroU64::new(handle)?;
    // SAFETY: the caller says so.
    Some(unsafe { Posted::from_raw(handle) }.reclaim())
}

/// Mbufs from behind at most [`BURST`] headers, whose buffers no driver has any more.
///
/// # Safety
/// The headers are of pools of this module and free.
unsafe fn detached(headers: &[*mut c_void]) -> impl Iterator<Item = Mbuf> {
    let mut handles = [0; BURST];
    let n = headers.len().min(BURST);
    let count = c_uint::try_from(n).unwrap_or(0);
    // SAFETY: the caller says that they are headers; there are as many handles.
    unsafe { dpdk_sys::sg_detach(headers.as_ptr(), handles.as_mut_ptr(), count) };
    // SAFETY: the handle was put there by `attach` or by the port, and was taken out just now.
    (0..n).filter_map(move |at| unsafe { taken_back(handles[at]) })
}

unsafe extern "C" fn on_alloc(pool: *mut rte_mempool) -> c_int {
    // SAFETY: DPDK's pool, made by `Headers::new` with a state as its configuration.
    let state = unsafe { dpdk_sys::sg_pool_config(pool) };
    // SAFETY: as above.
    unsafe { dpdk_sys::sg_set_pool_data(pool, state) };
    0
}

/// The state belongs to [`Headers`].
unsafe extern "C" fn on_free(_pool: *mut rte_mempool) {}

/// State of a pool.
///
/// # Safety
/// A pool of [`Headers::new`], whose state outlives it.
unsafe fn state_of<'a>(pool: *const rte_mempool) -> Option<&'a State> {
    // SAFETY: DPDK's pool.
    let state = unsafe { dpdk_sys::sg_pool_data(pool) };
    // SAFETY: null, or what `on_alloc` put there.
    unsafe { state.cast::<State>().as_ref() }
}

unsafe extern "C" fn on_count(pool: *const rte_mempool) -> c_uint {
    // SAFETY: DPDK calls with a pool of these operations.
    let Some(state) = (unsafe { state_of(pool) }) else {
        return 0;
    };
    let returned = u32::try_from(state.returned.len()).unwrap_or(0);
    state.free.load(Relaxed) + returned
}

unsafe extern "C" fn on_dequeue(
    pool: *mut rte_mempool,
    table: *mut *mut c_void,
    n: c_uint,
) -> c_int {
    // SAFETY: DPDK calls with a pool of these operations.
    let Some(state) = (unsafe { state_of(pool) }) else {
        return NO_BUFFERS;
    };
    // SAFETY: it is let go of when this returns.
    let Some(inner) = (unsafe { state.owned() }) else {
        return NO_BUFFERS;
    };
    let n = n as usize;
    if inner.free.len() < n {
        inner.collect(state);
    }
    let Some(keep) = inner.free.len().checked_sub(n) else {
        return NO_BUFFERS;
    };
    // SAFETY: DPDK's table has room for `n` pointers; it is written before it is read.
    let table = unsafe { std::slice::from_raw_parts_mut(table, n) };
    table.copy_from_slice(&inner.free[keep..]);
    inner.free.truncate(keep);
    let mut attached = 0;
    for chunk in table.chunks(BURST) {
        if !inner.attach(chunk) {
            for chunk in table[..attached].chunks(BURST) {
                inner.detach(chunk);
            }
            inner.free.extend_from_slice(table);
            return NO_BUFFERS;
        }
        attached += chunk.len();
    }
    state.note(inner);
    0
}

unsafe extern "C" fn on_enqueue(
    pool: *mut rte_mempool,
    table: *const *mut c_void,
    n: c_uint,
) -> c_int {
    // SAFETY: DPDK calls with a pool of these operations.
    let Some(state) = (unsafe { state_of(pool) }) else {
        return NO_BUFFERS;
    };
    // SAFETY: DPDK's table has `n` pointers to headers of the pool that it frees.
    let table = unsafe { std::slice::from_raw_parts(table, n as usize) };
    // SAFETY: it is let go of when this returns.
    match unsafe { state.owned() } {
        Some(inner) => {
            for chunk in table.chunks(BURST) {
                inner.detach(chunk);
            }
            inner.free.extend_from_slice(table);
            state.note(inner);
        }
        None => {
            for chunk in table.chunks(BURST) {
                // SAFETY: they are freed headers. Dropping an mbuf takes it home from any thread.
                unsafe { detached(chunk) }.for_each(drop);
                for header in chunk {
                    // There is room for all headers of the pool.
                    let pushed = state.returned.push(header.expose_provenance());
                    debug_assert!(pushed.is_ok());
                }
            }
        }
    }
    0
}

/// Pools for opening and closing, when no worker lends its own.
pub(crate) fn own_pools(small: Mempool, large: Mempool) -> Pools {
    Pools::new(small, large, 2048)
}
