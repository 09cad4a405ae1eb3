// SPDX-License-Identifier: Apache-2.0
//! [`Port`]: one device of DPDK's with one queue each way.
#![allow(unsafe_code, reason = "calls DPDK")]

use std::ffi::{CStr, CString, c_void};
use std::ptr;
use std::sync::Arc;

use dpdk_sys::{rte_ether_addr, sg_buffer};
use sluice_mem::{BURST, BufSize, Burst, Mbuf, Mempool, Pools};
use sluice_stats::{LinkState, NicCounters};

use crate::device::Device;
use crate::eal::Eal;
use crate::error::Error;
use crate::headers::{self, Headers, NO_BUFFER};
use crate::log::Since;
use crate::watch::Watched;

/// The one queue.
const QUEUE: u16 = 0;
/// Headers beyond one for each descriptor: those of frames in a driver's own rings and bursts.
const SPARE_HEADERS: u16 = 2048;
/// Bytes of an Ethernet header and two tags.
const ETH_AND_TAGS: usize = 22;
/// MTU that every device has.
const USUAL_MTU: u32 = 1500;
/// The device's NUMA node, wherever that is.
const ANY_NODE: u32 = u32::MAX;
/// Bytes that an Ethernet frame has at least, without its frame check sequence.
const SHORTEST: usize = 60;

/// Settings of a port.
#[derive(Debug, Clone)]
pub struct PortConfig {
    /// The device.
    pub device: Device,
    /// MAC address that it is to have; `None`: its own.
    pub mac: Option<[u8; 6]>,
    /// Further unicast MAC addresses that it is to receive.
    pub macs: Vec<[u8; 6]>,
    /// Multicast addresses that it is to receive.
    pub groups: Vec<[u8; 6]>,
    /// Whether it is to receive frames for every MAC address.
    pub promiscuous: bool,
    /// Largest IP packet in bytes.
    pub mtu: u32,
    /// VLANs that it is to receive, if it filters VLANs: 1 to 4094.
    pub vlans: Vec<u16>,
    /// The engine's pool of small mbufs.
    pub small: Mempool,
    /// The engine's pool of large mbufs.
    pub large: Mempool,
    /// Descriptors of the receive queue: adjusted to what the driver can.
    pub rx_descriptors: u16,
    /// Descriptors of the transmit queue: adjusted to what the driver can.
    pub tx_descriptors: u16,
}

/// Result of sending a burst.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Transmitted {
    /// Frames taken.
    pub frames: usize,
    /// Bytes of these frames.
    pub bytes: usize,
}

/// A port of DPDK's. Dropping it stops and closes the device and takes it out of DPDK.
#[derive(Debug)]
pub struct Port {
    eal: &'static Eal,
    device: Device,
    /// Number of the port in DPDK.
    id: u16,
    /// None only while this is dropped.
    headers: Option<Headers>,
    watched: Option<Arc<Watched>>,
    driver: String,
    mac: [u8; 6],
    mtu: u32,
    warnings: Vec<String>,
    pools: (Mempool, Mempool),
    /// Headers of frames that were taken and that the driver has not taken yet: the first `unsent_len` after
    /// `unsent_from`.
    unsent: [*mut c_void; BURST],
    unsent_from: usize,
    unsent_len: usize,
    /// Frames received that were in pieces or in memory that is not the engine's.
    unfit: u64,
}

// SAFETY: the pointers are to headers of this port, which only its owner uses; DPDK's ports may be used from any
// thread, one at a time for each queue.
unsafe impl Send for Port {}

/// Device that was probed; it is taken out again if the port is not opened.
struct Probed<'a> {
    name: &'a str,
    device: *mut dpdk_sys::rte_device,
    id: u16,
    keep: bool,
}

impl Drop for Probed<'_> {
    fn drop(&mut self) {
        if !self.keep {
            close(self.name, self.id, self.device);
        }
    }
}

impl Port {
    /// Opens a device and starts it.
    ///
    /// # Errors
    /// DPDK does not find, configure or start the device, and says why; the device is taken out of DPDK then.
    pub fn open(eal: &'static Eal, config: PortConfig) -> Result<Port, Error> {
        let pools = [config.small, config.large];
        let device = config.device;
        let name = device.name().to_owned();
        let mut control = eal.control();
        control.register(&pools)?;
        let (id, facts) = probe(&device)?;
        let mut probed = Probed {
            name: &name,
            device: facts.device,
            id,
            keep: false,
        };
        if matches!(device, Device::Pci(_)) {
            // SAFETY: takes nothing.
            if unsafe { dpdk_sys::rte_eal_iova_mode() } != dpdk_sys::rte_iova_mode::RTE_IOVA_VA {
                return Err(Error::NoIommu {
                    device: name.clone(),
                });
            }
            // SAFETY: the device was probed just now and is removed by `probed` alone.
            unsafe { control.map_for(&name, facts.device, &pools) }?;
        }
        let step = Steps { name: &name, id };
        step.configure(&facts, config.mtu, !config.vlans.is_empty())?;
        let (mut rx, mut tx) = (config.rx_descriptors, config.tx_descriptors);
        step.run("rte_eth_dev_adjust_nb_rx_tx_desc", || {
            // SAFETY: a port and two numbers.
            unsafe { dpdk_sys::rte_eth_dev_adjust_nb_rx_tx_desc(id, &raw mut rx, &raw mut tx) }
        })?;
        let large = config.mtu as usize + ETH_AND_TAGS > BufSize::Small.data_bytes();
        let mut own_pools = headers::own_pools(config.small, config.large);
        let count = rx.saturating_add(tx).saturating_add(SPARE_HEADERS);
        let since = Since::now();
        let mut headers = Headers::new(count, large, &mut own_pools)
            .map_err(|number| Error::device(&name, "making its headers", number, &since))?;
        let started = headers_call(&mut headers, &mut own_pools, |pool| {
            step.queues(rx, tx, pool)?;
            let mut warnings = step.addresses(config.mac, &config.macs, &config.groups)?;
            warnings.extend(step.vlans(&facts, &config.vlans));
            step.run("rte_eth_dev_start", || {
                // SAFETY: a configured port.
                unsafe { dpdk_sys::rte_eth_dev_start(id) }
            })?;
            if config.promiscuous {
                warnings.extend(step.promiscuous());
            }
            Ok(warnings)
        });
        let warnings = match started {
            Ok(warnings) => warnings,
            Err(error) => {
                // The driver gives back the buffers that it has.
                headers.call(&mut own_pools, || drop(probed));
                end_headers(&name, headers);
                return Err(error);
            }
        };
        probed.keep = true;
        drop(probed);
        drop(control);
        Ok(Port {
            eal,
            id,
            headers: Some(headers),
            watched: Some(Watched::begin(id)),
            driver: driver_name(&facts),
            mac: mac_of(id),
            mtu: config.mtu,
            warnings,
            pools: (config.small, config.large),
            device,
            unsent: [ptr::null_mut(); BURST],
            unsent_from: 0,
            unsent_len: 0,
            unfit: 0,
        })
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Name of DPDK's driver, as in `net_tap`.
    pub fn driver(&self) -> &str {
        &self.driver
    }

    /// MAC address of the device.
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// Largest IP packet in bytes.
    pub fn mtu(&self) -> u32 {
        self.mtu
    }

    /// Refusals of the device when it was opened, for an operator.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// State of the link, as of the last look, a tenth of a second ago at most.
    pub fn link(&self) -> LinkState {
        self.watched
            .as_ref()
            .map_or(LinkState::Gone, |watched| watched.link())
    }

    /// Counters of the device, as of the last look.
    pub fn counters(&self) -> NicCounters {
        self.watched
            .as_ref()
            .map_or_else(NicCounters::default, |watched| watched.counters())
    }

    /// Frames that the device lost because no buffer was free, as of the last look.
    pub fn missed(&self) -> u64 {
        self.watched.as_ref().map_or(0, |watched| watched.missed())
    }

    /// Frames received that were dropped here, as they were in several pieces; counted since the last call.
    pub fn take_unfit(&mut self) -> u64 {
        std::mem::take(&mut self.unfit)
    }

    /// Receives at most `most` frames, at most [`BURST`]: calls `sink` with each, and with the tag that the device
    /// took off it, if any (TCI).
    #[inline]
    pub fn rx_burst(
        &mut self,
        pools: &mut Pools,
        most: usize,
        mut sink: impl FnMut(Mbuf, Option<u16>),
    ) {
        let Some(headers) = &mut self.headers else {
            return;
        };
        let most = u16::try_from(most.min(BURST)).unwrap_or(0);
        if most == 0 {
            return;
        }
        let mut heads = [ptr::null_mut(); BURST];
        let mut buffers = [NO_BUFFER; BURST];
        let (id, pool) = (self.id, headers.pool());
        let mut own = 0;
        let got = headers.call(pools, || {
            // SAFETY: a started port; room for `most` headers and buffers; this thread has the queue and the pool.
            unsafe {
                dpdk_sys::sg_rx_burst(
                    id,
                    QUEUE,
                    pool,
                    heads.as_mut_ptr(),
                    buffers.as_mut_ptr(),
                    most,
                    &raw mut own,
                )
            }
        });
        headers.put(heads.get(..usize::from(own)).unwrap_or(&[]));
        for buffer in buffers.iter().take(usize::from(got)) {
            match received(buffer) {
                Ok(mbuf) => {
                    let tci = (buffer.tagged != 0).then_some((buffer.tci & 0xffff) as u16);
                    sink(mbuf, tci);
                }
                Err(mbuf) => {
                    self.unfit += 1;
                    mbuf.into_iter().for_each(|mbuf| pools.free(mbuf));
                }
            }
        }
    }

    /// Returns the number of frames that [`Port::tx_burst`] takes now: none while frames of the last burst wait.
    #[inline]
    pub fn tx_room(&mut self, pools: &mut Pools) -> usize {
        self.send_waiting(pools);
        if self.unsent_len == 0 { BURST } else { 0 }
    }

    /// Sends from the front of `burst`; what remains in it did not fit. Frames that are shorter than Ethernet has
    /// them are padded.
    #[inline]
    pub fn tx_burst(&mut self, pools: &mut Pools, burst: &mut Burst) -> Transmitted {
        let mut done = Transmitted::default();
        self.send_waiting(pools);
        if self.unsent_len > 0 || burst.is_empty() {
            return done;
        }
        let Some(headers) = &mut self.headers else {
            return done;
        };
        let wanted = burst.len().min(BURST);
        let n = headers.take(self.unsent.get_mut(..wanted).unwrap_or(&mut []));
        let mut buffers = [NO_BUFFER; BURST];
        for (buffer, mut mbuf) in buffers.iter_mut().zip(burst.drain_front(n)) {
            const ZEROS: [u8; SHORTEST] = [0; SHORTEST];
            let short = SHORTEST.saturating_sub(mbuf.len());
            // There is room: a buffer has 2 KiB, and a frame begins in its first 128 bytes.
            let _ = mbuf.append(ZEROS.get(..short).unwrap_or(&[]));
            done.frames += 1;
            done.bytes += mbuf.len();
            *buffer = headers::posted(mbuf);
        }
        let count = u32::try_from(n).unwrap_or(0);
        // SAFETY: `n` free headers, and as many buffers whose handles were given up.
        unsafe { dpdk_sys::sg_describe(self.unsent.as_ptr(), buffers.as_ptr(), count) };
        (self.unsent_from, self.unsent_len) = (0, n);
        self.send_waiting(pools);
        done
    }

    /// Number of frames that were taken and that the driver does not take.
    pub fn waiting(&self) -> usize {
        self.unsent_len
    }

    /// Drops the frames that the driver does not take; says how many.
    pub fn drop_waiting(&mut self, pools: &mut Pools) -> usize {
        let end = self.unsent_from + self.unsent_len;
        let waiting = self.unsent.get(self.unsent_from..end).unwrap_or(&[]);
        let n = waiting.len();
        let mut handles = [0; BURST];
        // SAFETY: headers of this port with buffers that no driver has.
        unsafe {
            dpdk_sys::sg_detach(
                waiting.as_ptr(),
                handles.as_mut_ptr(),
                u32::try_from(n).unwrap_or(0),
            )
        };
        for handle in handles.iter().take(n) {
            // SAFETY: put there by `tx_burst`, and taken out just now.
            if let Some(mbuf) = unsafe { headers::taken_back(*handle) } {
                pools.free(mbuf);
            }
        }
        if let Some(headers) = &mut self.headers {
            headers.put(waiting);
        }
        self.unsent_len = 0;
        n
    }

    /// Empties the ring of net_ring, which forgets what is in it when it is closed.
    fn drain_ring(&mut self, pools: &mut Pools) {
        if self.driver != "net_ring" {
            return;
        }
        loop {
            let mut burst = Burst::new();
            self.rx_burst(pools, BURST, |mbuf, _| drop(burst.push(mbuf)));
            if burst.is_empty() {
                return;
            }
            pools.free_burst(&mut burst);
        }
    }

    /// Offers the driver again what it did not take.
    #[inline]
    fn send_waiting(&mut self, pools: &mut Pools) {
        if self.unsent_len == 0 {
            return;
        }
        let Some(headers) = &mut self.headers else {
            return;
        };
        let end = self.unsent_from + self.unsent_len;
        let waiting = self
            .unsent
            .get_mut(self.unsent_from..end)
            .unwrap_or(&mut []);
        let n = u16::try_from(waiting.len()).unwrap_or(0);
        let (id, first) = (self.id, waiting.as_mut_ptr());
        let sent = headers.call(pools, || {
            // SAFETY: a started port, and `n` headers that describe a frame each; this thread has the queue.
            unsafe { dpdk_sys::rte_eth_tx_burst(id, QUEUE, first.cast(), n) }
        });
        let sent = usize::from(sent).min(self.unsent_len);
        self.unsent_from += sent;
        self.unsent_len -= sent;
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        if let Some(watched) = self.watched.take() {
            watched.end();
        }
        let mut pools = headers::own_pools(self.pools.0, self.pools.1);
        self.drop_waiting(&mut pools);
        self.drain_ring(&mut pools);
        let Some(mut headers) = self.headers.take() else {
            return;
        };
        let control = self.eal.control();
        let (name, id) = (self.device.name(), self.id);
        let device = facts_of(id).map_or(ptr::null_mut(), |facts| facts.device);
        headers.call(&mut pools, || close(name, id, device));
        drop(control);
        end_headers(name, headers);
    }
}

/// Mbuf of a received frame; the mbuf, if there is one, of a frame that is not fit.
#[inline(always)]
fn received(buffer: &sg_buffer) -> Result<Mbuf, Option<Mbuf>> {
    // SAFETY: the handle comes from a header whose buffer was received into, and is taken once.
    let Some(mut mbuf) = (unsafe { headers::taken_back(buffer.handle) }) else {
        return Err(None);
    };
    mbuf.reset();
    let (offset, len) = (buffer.offset as usize, buffer.len as usize);
    let fits = match offset.checked_sub(sluice_mem::HEADROOM) {
        Some(gap) => mbuf.set_len(gap + len) && mbuf.trim_front(gap),
        // net_af_packet puts the tag that the kernel took off back in front.
        None => mbuf.prepend(sluice_mem::HEADROOM - offset) && mbuf.set_len(len),
    };
    if fits { Ok(mbuf) } else { Err(Some(mbuf)) }
}

fn headers_call<R>(
    headers: &mut Headers,
    pools: &mut Pools,
    f: impl FnOnce(*mut dpdk_sys::rte_mempool) -> R,
) -> R {
    let pool = headers.pool();
    headers.call(pools, || f(pool))
}

fn end_headers(name: &str, headers: Headers) {
    if let Err(away) = headers.end() {
        tracing::error!(
            "{name}: its driver kept {away} buffers after it was closed; they are lost until the engine restarts"
        );
    }
}

/// Has DPDK take up a device; returns the number of its port, and facts.
fn probe(device: &Device) -> Result<(u16, dpdk_sys::sg_facts), Error> {
    let name = device.name();
    let since = Since::now();
    let failed = |step, code| Error::device(name, step, code, &since);
    let invalid = |_| failed("reading its name", libc::EINVAL);
    let devargs = CString::new(device.devargs()).map_err(invalid)?;
    let c_name = CString::new(name).map_err(invalid)?;
    // SAFETY: a C string.
    let result = unsafe { dpdk_sys::rte_dev_probe(devargs.as_ptr()) };
    if result < 0 {
        return Err(failed("rte_dev_probe", result));
    }
    let mut id = 0;
    // SAFETY: a C string and a number.
    let result = unsafe { dpdk_sys::rte_eth_dev_get_port_by_name(c_name.as_ptr(), &raw mut id) };
    if result < 0 {
        return Err(failed("rte_eth_dev_get_port_by_name", result));
    }
    facts_of(id)
        .map(|facts| (id, facts))
        .map_err(|code| failed("rte_eth_dev_info_get", code))
}

fn facts_of(id: u16) -> Result<dpdk_sys::sg_facts, i32> {
    let mut facts = dpdk_sys::sg_facts {
        driver: ptr::null(),
        device: ptr::null_mut(),
        vlan_filter: 0,
        min_mtu: 0,
        max_mtu: 0,
        max_macs: 0,
    };
    // SAFETY: DPDK fills the structure.
    let result = unsafe { dpdk_sys::sg_facts(id, &raw mut facts) };
    if result < 0 { Err(result) } else { Ok(facts) }
}

fn driver_name(facts: &dpdk_sys::sg_facts) -> String {
    if facts.driver.is_null() {
        return "unknown".to_owned();
    }
    // SAFETY: a constant of the driver.
    let name = unsafe { CStr::from_ptr(facts.driver) };
    name.to_string_lossy().into_owned()
}

fn mac_of(id: u16) -> [u8; 6] {
    let mut mac = rte_ether_addr { addr_bytes: [0; 6] };
    // SAFETY: DPDK fills the address, which is zero otherwise.
    let _ = unsafe { dpdk_sys::rte_eth_macaddr_get(id, &raw mut mac) };
    mac.addr_bytes
}

/// Stops and closes a port and takes its device out of DPDK. What fails is logged by DPDK.
fn close(name: &str, id: u16, device: *mut dpdk_sys::rte_device) {
    // SAFETY: a port of ours, which nobody uses any more.
    unsafe { dpdk_sys::rte_eth_dev_stop(id) };
    // SAFETY: as above.
    unsafe { dpdk_sys::rte_eth_dev_close(id) };
    if device.is_null() {
        return;
    }
    // SAFETY: the device of the port, which was probed and is removed once.
    let result = unsafe { dpdk_sys::rte_dev_remove(device) };
    if result < 0 {
        tracing::error!(
            "{name}: DPDK cannot remove the device: it stays probed until the engine restarts"
        );
    }
}

/// Steps of setting a port up.
struct Steps<'a> {
    name: &'a str,
    id: u16,
}

impl Steps<'_> {
    fn run(&self, step: &'static str, f: impl FnOnce() -> i32) -> Result<(), Error> {
        let since = Since::now();
        match f() {
            code if code < 0 => Err(Error::device(self.name, step, code, &since)),
            _ => Ok(()),
        }
    }

    fn configure(&self, facts: &dpdk_sys::sg_facts, mtu: u32, vlans: bool) -> Result<(), Error> {
        let (least, most) = (u32::from(facts.min_mtu), u32::from(facts.max_mtu));
        if mtu < least || mtu > most {
            return Err(Error::Mtu {
                device: self.name.to_owned(),
                mtu,
                least,
                most,
            });
        }
        let filter = i32::from(vlans && facts.vlan_filter != 0);
        self.run("rte_eth_dev_configure", || {
            // SAFETY: a port that was probed and is not started.
            unsafe { dpdk_sys::sg_configure(self.id, mtu, filter) }
        })?;
        let narrow = u16::try_from(mtu).unwrap_or(u16::MAX);
        let set = self.run("rte_eth_dev_set_mtu", || {
            // SAFETY: a configured port.
            unsafe { dpdk_sys::rte_eth_dev_set_mtu(self.id, narrow) }
        });
        match set {
            // Drivers of vdevs have none to set.
            Err(Error::Device {
                number: libc::EOPNOTSUPP,
                ..
            }) if mtu <= USUAL_MTU => Ok(()),
            set => set,
        }
    }

    fn queues(&self, rx: u16, tx: u16, pool: *mut dpdk_sys::rte_mempool) -> Result<(), Error> {
        self.run("rte_eth_rx_queue_setup", || {
            // SAFETY: a configured port, and a pool that outlives it.
            unsafe {
                dpdk_sys::rte_eth_rx_queue_setup(self.id, QUEUE, rx, ANY_NODE, ptr::null(), pool)
            }
        })?;
        self.run("rte_eth_tx_queue_setup", || {
            // SAFETY: a configured port.
            unsafe { dpdk_sys::rte_eth_tx_queue_setup(self.id, QUEUE, tx, ANY_NODE, ptr::null()) }
        })
    }

    /// Sets the MAC address, without which the port is not opened, and further ones; returns warnings.
    fn addresses(
        &self,
        mac: Option<[u8; 6]>,
        macs: &[[u8; 6]],
        groups: &[[u8; 6]],
    ) -> Result<Vec<String>, Error> {
        if let Some(mac) = mac
            && mac != mac_of(self.id)
        {
            let mut address = rte_ether_addr { addr_bytes: mac };
            self.run("rte_eth_dev_default_mac_addr_set", || {
                // SAFETY: a configured port, and an address that is copied.
                unsafe { dpdk_sys::rte_eth_dev_default_mac_addr_set(self.id, &raw mut address) }
            })?;
        }
        let mut warnings = Vec::new();
        for &mac in macs {
            let mut address = rte_ether_addr { addr_bytes: mac };
            let added = self.run("rte_eth_dev_mac_addr_add", || {
                // SAFETY: as above.
                unsafe { dpdk_sys::rte_eth_dev_mac_addr_add(self.id, &raw mut address, 0) }
            });
            warnings.extend(added.err().map(|error| error.to_string()));
        }
        if !groups.is_empty() {
            let mut list: Vec<_> = groups
                .iter()
                .map(|&addr_bytes| rte_ether_addr { addr_bytes })
                .collect();
            let count = u32::try_from(list.len()).unwrap_or(0);
            let set = self.run("rte_eth_dev_set_mc_addr_list", || {
                // SAFETY: as above, `count` addresses.
                unsafe { dpdk_sys::rte_eth_dev_set_mc_addr_list(self.id, list.as_mut_ptr(), count) }
            });
            warnings.extend(set.err().map(|error| error.to_string()));
        }
        Ok(warnings)
    }

    /// Asks for the VLANs, where the device filters; returns warnings.
    fn vlans(&self, facts: &dpdk_sys::sg_facts, vlans: &[u16]) -> Vec<String> {
        if facts.vlan_filter == 0 {
            return Vec::new();
        }
        let asked = vlans.iter().map(|&vlan| {
            self.run("rte_eth_dev_vlan_filter", || {
                // SAFETY: a configured port.
                unsafe { dpdk_sys::rte_eth_dev_vlan_filter(self.id, vlan, 1) }
            })
        });
        asked
            .filter_map(|asked| asked.err().map(|error| error.to_string()))
            .collect()
    }

    /// Asks for frames to every MAC address; returns a warning if the device does not give them.
    fn promiscuous(&self) -> Option<String> {
        let all = self.run("rte_eth_promiscuous_enable", || {
            // SAFETY: a started port.
            unsafe { dpdk_sys::rte_eth_promiscuous_enable(self.id) }
        });
        all.err().map(|error| {
            // SAFETY: a started port. Without it multicast does not come, and the warning says enough.
            let _ = unsafe { dpdk_sys::rte_eth_allmulticast_enable(self.id) };
            format!("{error}: frames for attachments' own MAC addresses may not come")
        })
    }
}
