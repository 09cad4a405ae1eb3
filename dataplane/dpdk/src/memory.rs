// SPDX-License-Identifier: Apache-2.0
//! The engine's mempools as DPDK knows them: external memory, which devices on a bus must be given access to.
#![allow(unsafe_code, reason = "vouches for the pools' memory towards DPDK")]

use std::ffi::c_void;
use std::ptr;

use sluice_mem::{Backing, DmaMemory, Mempool};

use crate::error::Error;
use crate::log::Since;

/// Bytes of an ordinary and of a huge page.
const PAGE: usize = 4096;
const HUGE_PAGE: usize = 2 << 20;

/// Memory that DPDK knows.
#[derive(Debug, Default)]
pub(crate) struct Registered {
    /// First addresses of the pools.
    known: Vec<usize>,
}

impl Registered {
    /// Registers those pools that are not registered yet. They live as long as the process.
    pub(crate) fn register(&mut self, pools: &[Mempool]) -> Result<(), Error> {
        for pool in pools {
            let (start, bytes) = pool.range();
            let address = start.as_ptr().addr();
            if self.known.contains(&address) {
                continue;
            }
            let page = match pool.backing() {
                Backing::Ordinary => PAGE,
                Backing::Huge => HUGE_PAGE,
            };
            let since = Since::now();
            // SAFETY: the range is of whole pages, mapped as long as the process lives.
            let result = unsafe {
                dpdk_sys::rte_extmem_register(
                    start.as_ptr().cast(),
                    bytes,
                    ptr::null_mut(),
                    0,
                    page,
                )
            };
            if result != 0 {
                // SAFETY: reads a variable of this thread.
                let code = unsafe { dpdk_sys::sg_errno() };
                return Err(Error::device(
                    "packet memory",
                    "rte_extmem_register",
                    code,
                    &since,
                ));
            }
            self.known.push(address);
        }
        Ok(())
    }

    /// Gives a device access to the pools, at their virtual addresses. It is never taken away: devices share it
    /// where they share an IOMMU container, and it ends with the last of them.
    ///
    /// # Safety
    /// `device` is a device that was probed and not removed since.
    pub(crate) unsafe fn map_for(
        &self,
        name: &str,
        device: *mut dpdk_sys::rte_device,
        pools: &[Mempool],
    ) -> Result<(), Error> {
        for pool in pools {
            let (start, bytes) = pool.range();
            let start: *mut c_void = start.as_ptr().cast();
            let since = Since::now();
            // SAFETY: registered above; the device is there.
            let result =
                unsafe { dpdk_sys::rte_dev_dma_map(device, start, start.addr() as u64, bytes) };
            if result != 0 {
                // SAFETY: reads a variable of this thread.
                let code = unsafe { dpdk_sys::sg_errno() };
                return Err(Error::device(name, "rte_dev_dma_map", code, &since));
            }
        }
        Ok(())
    }
}
