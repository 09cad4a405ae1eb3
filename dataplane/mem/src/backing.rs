// SPDX-License-Identifier: Apache-2.0
//! The memory below a mempool: huge pages where they are configured, else ordinary pages.
#![allow(
    unsafe_code,
    reason = "maps anonymous and hugetlb memory and binds it to a node"
)]

use std::ffi::c_void;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::ptr;
use std::sync::Once;

use rustix::fs::{FallocateFlags, MemfdFlags};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags};

use crate::error::Error;

/// Bytes of the smallest page that any machine has.
const PAGE: usize = 4096;
/// Bytes of a huge page.
pub(crate) const HUGE_PAGE: usize = 2 << 20;
/// Most NUMA nodes that a mask names.
const MAX_NODES: u32 = 1024;

/// Whether a pool tries to use huge pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HugePages {
    /// Huge pages of 2 MiB if the host has enough of them free, else ordinary pages and, once per
    /// process, a warning that says how to configure them.
    #[default]
    Auto,
    /// Ordinary pages, without a warning.
    Off,
}

/// Kind of pages that a pool lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backing {
    /// Huge pages of 2 MiB from the hugetlb pool.
    Huge,
    /// Ordinary pages (transparent huge pages where the kernel has them to give).
    Ordinary,
}

/// Bytes that [`map`] has mapped where `bytes` were asked for: whole pages.
pub(crate) fn mapped_bytes(bytes: usize, backing: Backing) -> usize {
    if backing == Backing::Ordinary && bytes < HUGE_PAGE {
        bytes.next_multiple_of(PAGE)
    } else {
        bytes.next_multiple_of(HUGE_PAGE)
    }
}

/// Maps `bytes` of zeroed, writable, private memory, every page of it present.
pub(crate) fn map(
    bytes: usize,
    node: Option<u32>,
    huge_pages: HugePages,
) -> Result<(*mut u8, Backing), Error> {
    if let Some(node) = node {
        let known = Path::new("/sys/devices/system/node")
            .join(format!("node{node}"))
            .exists();
        // Kernels without NUMA have node 0 only, and no directory for it.
        if node >= MAX_NODES || !known && node != 0 {
            return Err(Error::NoSuchNode { node });
        }
    }
    if huge_pages == HugePages::Auto {
        match map_huge(bytes, node) {
            Ok(base) => return Ok((base, Backing::Huge)),
            Err(source) => warn_once(bytes, node, &source),
        }
    }
    match map_ordinary(bytes, node) {
        Ok(base) => Ok((base, Backing::Ordinary)),
        Err(source) => Err(Error::Map { bytes, source }),
    }
}

/// Shared, not private, and by an fd: that is what a device driver or another process can map.
fn map_huge(bytes: usize, node: Option<u32>) -> io::Result<*mut u8> {
    let bytes = bytes.next_multiple_of(HUGE_PAGE);
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB;
    let fd: OwnedFd = rustix::fs::memfd_create("sluice-mempool", flags)?;
    rustix::fs::ftruncate(&fd, bytes as u64)?;
    // SAFETY: a new mapping at an address that the kernel chooses. Nobody else has the memfd.
    let base = unsafe {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        rustix::mm::mmap(ptr::null_mut(), bytes, protection, MapFlags::SHARED, &fd, 0)?
    };
    bind(base, bytes, node);
    // mmap only reserves; this takes the pages by the mapping's policy, or says that there are too
    // few, where a first touch would be a SIGBUS. fallocate, for Linux before 5.14, does not know
    // the mapping's node.
    // SAFETY: the range was mapped above, and populating it changes no content.
    let taken = match unsafe { rustix::mm::madvise(base, bytes, Advice::LinuxPopulateWrite) } {
        Err(Errno::INVAL) => rustix::fs::fallocate(&fd, FallocateFlags::empty(), 0, bytes as u64),
        result => result,
    };
    match taken {
        Ok(()) => Ok(base.cast()),
        Err(errno) => {
            // SAFETY: exactly what was mapped above; no pointer into it has left.
            unsafe { rustix::mm::munmap(base, bytes)? };
            Err(errno.into())
        }
    }
}

/// As [`map`], on ordinary pages.
pub(crate) fn map_ordinary(bytes: usize, node: Option<u32>) -> io::Result<*mut u8> {
    // What is large lies on a huge page's boundary, so that transparent huge pages can be used.
    let slack = if bytes < HUGE_PAGE { 0 } else { HUGE_PAGE };
    let bytes = mapped_bytes(bytes, Backing::Ordinary);
    // SAFETY: a new private mapping at an address that the kernel chooses.
    let mapping = unsafe {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        rustix::mm::mmap_anonymous(
            ptr::null_mut(),
            bytes + slack,
            protection,
            MapFlags::PRIVATE,
        )?
    };
    let base = mapping.cast::<u8>();
    let base = base.wrapping_add(if slack == 0 {
        0
    } else {
        base.align_offset(HUGE_PAGE)
    });
    let before = base.addr() - mapping.addr();
    if before > 0 {
        // SAFETY: the front of what was mapped above, of which nobody knows.
        unsafe { rustix::mm::munmap(mapping, before)? };
    }
    if slack > before {
        let end = base.wrapping_add(bytes);
        // SAFETY: the rest of what was mapped above, of which nobody knows.
        unsafe { rustix::mm::munmap(end.cast(), slack - before)? };
    }
    bind(base.cast(), bytes, node);
    // SAFETY: the range was mapped above, and the advice changes no content. Kernels without
    // transparent huge pages refuse it.
    let _ = unsafe { rustix::mm::madvise(base.cast(), bytes, Advice::LinuxHugepage) };
    // SAFETY: as above.
    match unsafe { rustix::mm::madvise(base.cast(), bytes, Advice::LinuxPopulateWrite) } {
        Ok(()) => Ok(base),
        // Before Linux 5.14.
        Err(Errno::INVAL) => {
            for page in (0..bytes).step_by(PAGE) {
                let first = base.wrapping_add(page);
                // SAFETY: within the mapping, of which nobody else knows yet.
                unsafe { first.write_volatile(0) };
            }
            Ok(base)
        }
        Err(errno) => {
            // SAFETY: exactly what was mapped above; no pointer into it has left.
            unsafe { rustix::mm::munmap(base.cast(), bytes)? };
            Err(errno.into())
        }
    }
}

/// Gives back what [`map_ordinary`] mapped for `bytes`.
///
/// # Safety
/// `base` is what that returned, for as many bytes; nobody uses the memory any more.
pub(crate) unsafe fn unmap_ordinary(base: *mut u8, bytes: usize) {
    // SAFETY: the caller says that it is a whole mapping and unused. Unmapping a whole mapping does not fail.
    let _ = unsafe { rustix::mm::munmap(base.cast(), mapped_bytes(bytes, Backing::Ordinary)) };
}

/// Binds a mapping to a node before its pages exist. A refusal (seccomp profiles of containers
/// refuse mbind without CAP_SYS_NICE) costs speed only, so it is said and not failed on.
fn bind(base: *mut c_void, bytes: usize, node: Option<u32>) {
    let Some(node) = node else { return };
    let mut mask = [0u64; MAX_NODES as usize / 64];
    mask[node as usize / 64] |= 1 << (node % 64);
    // SAFETY: mbind reads MAX_NODES bits of the mask and changes no memory content.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mbind,
            base,
            bytes,
            libc::MPOL_BIND,
            mask.as_ptr(),
            // The kernel reads one bit less than it is told.
            u64::from(MAX_NODES) + 1,
            0,
        )
    };
    if result != 0 {
        let error = io::Error::last_os_error();
        tracing::warn!(
            node,
            %error,
            "packet memory could not be bound to its NUMA node and may lie on another, which costs \
             speed; give the process CAP_SYS_NICE"
        );
    }
}

fn warn_once(bytes: usize, node: Option<u32>, source: &io::Error) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let pages = bytes.div_ceil(HUGE_PAGE);
        let file = match node {
            Some(node) => format!(
                "/sys/devices/system/node/node{node}/hugepages/hugepages-2048kB/nr_hugepages"
            ),
            None => "/proc/sys/vm/nr_hugepages".to_owned(),
        };
        let configured = fs::read_to_string(&file);
        let configured = configured.as_deref().map_or("unknown", str::trim);
        tracing::warn!(
            %source,
            pages_needed = pages,
            pages_configured = configured,
            "packet memory uses ordinary pages, which costs speed; for huge pages add {pages} to \
             {file} (and hugepages=N to the kernel's command line to keep them), and in Kubernetes \
             give the engine's container a hugepages-2Mi limit; {pages} are for this mempool, \
             others need their own"
        );
    });
}
