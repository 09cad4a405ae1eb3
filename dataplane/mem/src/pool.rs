//! [`Mempool`]: equal buffers in one mapping that lives as long as the process.
#![allow(
    unsafe_code,
    reason = "address arithmetic over the pools' mappings; registered pools are never unmapped"
)]

use std::fmt;
use std::num::NonZeroU64;
use std::ptr;
use std::sync::atomic::{
    AtomicPtr, AtomicU32, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};

use crate::backing::{self, Backing, HugePages};
use crate::cache::Cache;
use crate::depot::Depot;
use crate::error::Error;
use crate::mbuf::{HEADROOM, INDEX_BITS, Mbuf, POOL_BITS, SCRATCH_BYTES, Scratch};

/// Most buffers of one pool.
const MAX_BUFFERS: u32 = 1 << INDEX_BITS;
/// Most pools of one process, and one more: number 0 is never given out.
const MAX_POOLS: usize = 1 << POOL_BITS;
pub(crate) const CACHE_LINE: usize = 64;

/// How much data a buffer holds, [`HEADROOM`] not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BufSize {
    /// 2048 bytes: any frame of a network with an MTU of 1500.
    Small,
    /// 10240 bytes: jumbo frames.
    Large,
}

impl BufSize {
    /// Bytes of data that a fresh mbuf has room for.
    pub const fn data_bytes(self) -> usize {
        match self {
            BufSize::Small => 2048,
            BufSize::Large => 10240,
        }
    }

    /// Bytes of a buffer: headroom and data.
    pub(crate) const fn buffer_bytes(self) -> usize {
        HEADROOM + self.data_bytes()
    }

    /// Bytes from one buffer to the next: an odd number of cache lines, so that the first lines of
    /// consecutive frames spread over all sets of a cache and not over a few of them.
    const fn stride(self) -> usize {
        let lines = self.buffer_bytes().div_ceil(CACHE_LINE);
        (lines | 1) * CACHE_LINE
    }
}

/// What a pool is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolConfig {
    /// Number of buffers, 1 to 8,388,608.
    pub buffers: u32,
    /// Size of each.
    pub size: BufSize,
    /// NUMA node that the memory shall lie on; `None`: wherever the creating thread runs.
    pub numa_node: Option<u32>,
    /// Whether to use huge pages.
    pub huge_pages: HugePages,
}

/// Where all buffers of a pool are: `all == free + in_flight`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conservation {
    /// Buffers of the pool.
    pub all: u32,
    /// Buffers found free: in the depot and in caches.
    pub free: u32,
    /// Mbufs handed out and not yet given back, by the caches' books.
    pub in_flight: u32,
    /// Mbufs that came back by being dropped rather than freed, so far. They are free now; the
    /// number says how often a path forgot [`Cache::free`].
    pub strays: u64,
}

impl Conservation {
    /// Whether every buffer is accounted for. `free` and `in_flight` come from different books, so
    /// this is a check and not a tautology.
    pub fn holds(&self) -> bool {
        u64::from(self.all) == u64::from(self.free) + u64::from(self.in_flight)
    }
}

/// A pool of equal buffers. The handle is `Copy`; the memory lives as long as the process, which is
/// what makes an [`Mbuf`] sound without a lifetime or a reference count.
#[derive(Clone, Copy)]
pub struct Mempool {
    inner: &'static Inner,
}

struct Inner {
    id: u32,
    config: PoolConfig,
    backing: Backing,
    /// Length of the mapping, whole pages.
    mapped_bytes: usize,
    depot: Depot,
}

const _: () = assert!(usize::BITS == 64, "a pool's bytes are counted in usize");

impl Mempool {
    /// Makes a pool and touches all its memory once, so that no worker takes a page fault on it.
    ///
    /// # Errors
    /// [`Error`] if the number of buffers is out of range, the node does not exist or the kernel
    /// refuses the memory. Missing huge pages are no error: see [`HugePages::Auto`].
    pub fn new(config: PoolConfig) -> Result<Mempool, Error> {
        let PoolConfig {
            buffers,
            size,
            numa_node,
            huge_pages,
        } = config;
        if buffers == 0 || buffers > MAX_BUFFERS {
            return Err(Error::BufferCount {
                buffers,
                max: MAX_BUFFERS,
            });
        }
        let stride = size.stride();
        let buffers_bytes = stride * buffers as usize;
        let bytes = buffers_bytes + SCRATCH_BYTES * buffers as usize;
        let id = next_id()?;
        let (base, backing) = backing::map(bytes, numa_node, huge_pages)?;
        let inner: &'static Inner = Box::leak(Box::new(Inner {
            id,
            config,
            backing,
            mapped_bytes: backing::mapped_bytes(bytes, backing),
            depot: Depot::new(buffers),
        }));
        let entry = entry(id as usize);
        entry.stride.store(narrow(stride), Relaxed);
        entry
            .buffer_bytes
            .store(narrow(size.buffer_bytes()), Relaxed);
        // SAFETY: the mapping is `bytes` long, the scratch begins behind the last buffer.
        entry
            .scratch
            .store(unsafe { base.add(buffers_bytes) }.cast(), Relaxed);
        entry.base.store(base, Relaxed);
        entry.inner.store(ptr::from_ref(inner).cast_mut(), Release);
        Ok(Mempool { inner })
    }

    /// A cache of this pool's buffers for one worker. `capacity` is the number of free buffers it
    /// may hold back; it is raised to at least [`Cache::MIN_CAPACITY`].
    pub fn cache(self, capacity: usize) -> Cache {
        Cache::new(self, capacity)
    }

    /// Where all buffers are, at this moment, while workers go on.
    pub fn conservation(self) -> Conservation {
        self.inner.depot.conservation(self.inner.config.buffers)
    }

    /// What the pool was asked to be.
    pub fn config(self) -> PoolConfig {
        self.inner.config
    }

    /// What kind of pages it lies on.
    pub fn backing(self) -> Backing {
        self.inner.backing
    }

    /// The mapping: its first byte and its length.
    pub(crate) fn mapping(self) -> (*mut u8, usize) {
        let base = entry(self.inner.id as usize).base.load(Relaxed);
        (base, self.inner.mapped_bytes)
    }

    /// Its number.
    pub(crate) fn id(self) -> usize {
        self.inner.id as usize
    }

    pub(crate) fn depot(self) -> &'static Depot {
        &self.inner.depot
    }

    /// What `Mbuf::from_free` needs besides an index.
    pub(crate) fn fresh(self) -> NonZeroU64 {
        Mbuf::fresh(self.inner.id)
    }
}

impl fmt::Debug for Mempool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mempool")
            .field("id", &self.inner.id)
            .field("config", &self.inner.config)
            .field("backing", &self.inner.backing)
            .finish()
    }
}

/// Sizes of buffers and strides: at most 10 KiB and some.
#[allow(
    clippy::cast_possible_truncation,
    reason = "sizes of BufSize are far below 2^32"
)]
const fn narrow(bytes: usize) -> u32 {
    bytes as u32
}

/// Where a pool's buffers are. Read for every access to an mbuf's bytes, written once.
#[derive(Debug)]
pub(crate) struct Entry {
    base: AtomicPtr<u8>,
    scratch: AtomicPtr<Scratch>,
    stride: AtomicU32,
    buffer_bytes: AtomicU32,
    inner: AtomicPtr<Inner>,
}

/// All pools by number. Untouched entries cost no memory. Whoever holds an mbuf got it through
/// something that orders it after the entry was written, so the loads may be relaxed.
static ENTRIES: [Entry; MAX_POOLS] = [const {
    Entry {
        base: AtomicPtr::new(ptr::null_mut()),
        scratch: AtomicPtr::new(ptr::null_mut()),
        stride: AtomicU32::new(0),
        buffer_bytes: AtomicU32::new(0),
        inner: AtomicPtr::new(ptr::null_mut()),
    }
}; MAX_POOLS];

static NEXT_ID: AtomicU32 = AtomicU32::new(1);

fn next_id() -> Result<u32, Error> {
    NEXT_ID
        .fetch_update(Relaxed, Relaxed, |id| {
            ((id as usize) < MAX_POOLS).then_some(id + 1)
        })
        .map_err(|_| Error::TooManyPools {
            max: narrow(MAX_POOLS - 1),
        })
}

/// The entry of a pool's number; out-of-range bits are ignored.
#[inline(always)]
pub(crate) fn entry(pool_id: usize) -> &'static Entry {
    &ENTRIES[pool_id & (MAX_POOLS - 1)]
}

/// The entry of the pool of a handle, of which these are the bits.
#[inline(always)]
pub(crate) fn entry_of(bits: u64) -> &'static Entry {
    // The pool's number times the size of an entry, in one shift. That is worth a line here: every
    // stage asks for it for every frame.
    const SIZE_BITS: u32 = size_of::<Entry>().ilog2();
    const { assert!(size_of::<Entry>().is_power_of_two() && MAX_POOLS == 1 << POOL_BITS) };
    #[allow(clippy::cast_possible_truncation, reason = "masked to a table's bytes")]
    let at = (bits >> (INDEX_BITS - SIZE_BITS)) as usize & ((MAX_POOLS - 1) << SIZE_BITS);
    // SAFETY: `at` is where one of the entries begins.
    unsafe { &*ENTRIES.as_ptr().byte_add(at) }
}

impl Entry {
    /// Bytes of each buffer, headroom and data.
    #[inline(always)]
    pub(crate) fn buffer_bytes(&self) -> usize {
        self.buffer_bytes.load(Relaxed) as usize
    }

    /// The first byte of a buffer's headroom.
    #[inline(always)]
    pub(crate) fn buffer(&self, index: u32) -> *mut u8 {
        let offset = index as usize * self.stride.load(Relaxed) as usize;
        self.base.load(Relaxed).wrapping_add(offset)
    }

    /// Where a buffer's headroom begins, in bytes from the start of the mapping.
    #[inline(always)]
    pub(crate) fn offset(&self, index: u32) -> usize {
        index as usize * self.stride.load(Relaxed) as usize
    }

    /// A buffer's scratch.
    #[inline(always)]
    pub(crate) fn scratch(&self, index: u32) -> *mut Scratch {
        self.scratch.load(Relaxed).wrapping_add(index as usize)
    }
}

/// Puts a dropped mbuf back among the free buffers of its pool.
pub(crate) fn take_stray(pool_id: usize, index: u32) {
    let inner = entry(pool_id).inner.load(Acquire);
    // SAFETY: either null or set by `Mempool::new` to a leaked `Inner`.
    if let Some(inner) = unsafe { inner.as_ref() } {
        inner.depot.put_stray(index);
    }
}
