// SPDX-License-Identifier: Apache-2.0
//! Checks of the configuration's uplinks. There may be none: the pods of such a node have VFs.

use sluice_dpdk::Device;
use sluice_packet::Vid;
use sluice_yaml::{Location, Scalar, Spanned};

use super::super::raw::RawUplink;
use super::super::{NetdevConfig, NetdevDriver, PosingLimits, UplinkConfig, UplinkDriver};
use super::Check;
use super::dpdk::{DriverWord, Named};

/// TPIDs unless the configuration names others: 802.1Q and 802.1ad.
const DEFAULT_TPIDS: [u16; 2] = [0x8100, 0x88a8];

/// Frames of a netdev's receive and send ring unless the configuration says otherwise: a burst of a
/// thousand while a worker is kept off its core fits twice.
const DEFAULT_RING_FRAMES: u32 = 2048;

/// Lowest EtherType; values below are lengths (IEEE 802.3, clause 3.2.6).
const FIRST_ETHERTYPE: u16 = 0x0600;
/// EtherTypes that cannot be TPIDs: IPv4, ARP and IPv6.
const NO_TPIDS: [u16; 3] = [0x0800, 0x0806, 0x86dd];

impl Check<'_> {
    pub(super) fn uplinks(
        &mut self,
        raw: Option<Vec<Spanned<RawUplink>>>,
        workers: usize,
        posing: PosingLimits,
    ) -> Vec<UplinkConfig> {
        let raw = raw.unwrap_or_default();
        let mut uplinks: Vec<UplinkConfig> = Vec::new();
        for (index, raw) in raw.into_iter().enumerate() {
            let place = raw
                .value
                .name
                .as_ref()
                .map_or(raw.referenced, |name| name.referenced);
            let device = raw.value.device.as_ref().or(raw.value.vdev.as_ref());
            let device = device.or(raw.value.write.as_ref());
            let device = device.map(|device| device.referenced);
            let Some(uplink) = self.uplink(&format!("uplinks[{index}]"), raw, workers, posing)
            else {
                continue;
            };
            if uplinks.iter().any(|other| other.name == uplink.name) {
                let message = format!("there are two uplinks {}: names are unique", uplink.name);
                self.problem(Some(place), format!("uplinks[{index}].name"), message);
            }
            if let Some(other) = uplinks.iter().find(|other| same_device(other, &uplink)) {
                let message = format!(
                    "uplink {} has it already: a device is one uplink",
                    other.name
                );
                self.problem(device, format!("uplinks[{index}]"), message);
            }
            uplinks.push(uplink);
        }
        uplinks
    }

    fn uplink(
        &mut self,
        key: &str,
        raw: Spanned<RawUplink>,
        workers: usize,
        posing: PosingLimits,
    ) -> Option<UplinkConfig> {
        let place = raw.referenced;
        let mut raw = raw.value;
        let name = self.required(place, &format!("{key}.name"), raw.name.take(), "wire0");
        if let Some(name) = &name
            && !good_name(&name.value)
        {
            let message = format!(
                "\"{}\" cannot be a name: use 1 to 32 letters, digits, `-`, `_` or `.`, and begin \
                 with a letter or digit",
                name.value
            );
            self.problem(Some(name.referenced), format!("{key}.name"), message);
        }
        let word = self.word(
            &format!("{key}.driver"),
            raw.driver.as_ref(),
            &DriverWord::NAMES,
        );
        let driver = self.driver(key, place, word, &mut raw);
        let native = raw
            .native
            .and_then(|raw| self.vid(&format!("{key}.native"), &raw));
        let tpids = self.tpids(&format!("{key}.tpids"), raw.tpids);
        let last = workers.saturating_sub(1);
        let worker = raw
            .worker
            .map(|raw| self.number(&format!("{key}.worker"), Some(raw), 0, (0, last)));
        let own = raw.posing.unwrap_or_default();
        let posing = self.posing_limits(&format!("{key}.posing"), own, posing);
        let (driver, driver_reason) = driver?;
        Some(UplinkConfig {
            name: name?.value,
            driver,
            driver_reason,
            native,
            tpids,
            worker,
            posing,
        })
    }

    /// Checks the driver with its device and keys; returns also why it is this one.
    fn driver(
        &mut self,
        key: &str,
        place: Location,
        word: Option<DriverWord>,
        raw: &mut RawUplink,
    ) -> Option<(UplinkDriver, &'static str)> {
        let (named_by_word, word) = (word.is_some(), word.unwrap_or(DriverWord::Auto));
        let named = |name: &str| format!("{key}.{name}");
        let driver_place = raw
            .driver
            .as_ref()
            .map_or(place, |driver| driver.referenced);
        if !self.driver_is_possible(key, driver_place, word) {
            return None;
        }
        if word == DriverWord::Pcap {
            self.only("af_packet", &named("device"), raw.device.take());
            self.only("dpdk", &named("vdev"), raw.vdev.take());
            self.only("af_packet", &named("ring_frames"), raw.ring_frames.take());
            self.only(
                "af_xdp",
                &named("tags_in_frames"),
                raw.tags_in_frames.take(),
            );
            let files = (raw.read.take(), raw.write.take());
            let driver = self.pcap(key, place, files.0, files.1, raw.mtu.take())?;
            return Some((driver, "the configuration names it"));
        }
        self.only("pcap", &named("read"), raw.read.take());
        self.only("pcap", &named("write"), raw.write.take());
        let device = raw.device.as_ref().or(raw.vdev.as_ref());
        let device_place = device.map_or(place, |device| device.referenced);
        match (
            self.named(key, place, raw.device.take(), raw.vdev.take())?,
            word,
        ) {
            (Named::Dpdk(_), DriverWord::AfPacket | DriverWord::AfXdp) => {
                let message = "af_packet and af_xdp are for netdevs: name one as `device`, or write \
                               `driver: dpdk`";
                self.problem(Some(device_place), named("driver"), message);
                None
            }
            (Named::Netdev(netdev), DriverWord::Dpdk) => {
                let message = format!(
                    "\"{}\" is a netdev: DPDK takes a PCI address as `device`, or a software device as \
                     `vdev`, as in net_pcap0,iface=eth1",
                    netdev.value
                );
                self.problem(Some(netdev.referenced), named("device"), message);
                None
            }
            (Named::Dpdk(device), word) => {
                self.only("af_packet", &named("ring_frames"), raw.ring_frames.take());
                self.only(
                    "af_xdp",
                    &named("tags_in_frames"),
                    raw.tags_in_frames.take(),
                );
                let reason = match (word, &device) {
                    (DriverWord::Dpdk, _) => "the configuration names it",
                    (_, Device::Pci(_)) => {
                        "auto: the device is on the PCI bus, and native drivers are for VFs of pods' own"
                    }
                    (_, Device::Vdev(_)) => "auto: the device is DPDK's own",
                };
                let driver = self.dpdk_uplink(key, device_place, device, raw.mtu.take())?;
                Some((driver, reason))
            }
            (Named::Netdev(netdev), word) => {
                self.only("pcap` or `driver: dpdk", &named("mtu"), raw.mtu.take());
                let (driver, reason) = match word {
                    DriverWord::AfXdp => (NetdevDriver::AfXdp, "the configuration names it"),
                    DriverWord::AfPacket => (NetdevDriver::AfPacket, "the configuration names it"),
                    _ if named_by_word => (NetdevDriver::Auto, "auto: the device is a netdev"),
                    _ => (NetdevDriver::AfPacket, "the default for a netdev"),
                };
                if driver == NetdevDriver::AfPacket {
                    self.only(
                        "af_xdp",
                        &named("tags_in_frames"),
                        raw.tags_in_frames.take(),
                    );
                }
                let driver = self.netdev(key, &netdev, driver, raw);
                let driver = UplinkDriver::Netdev(driver);
                Some((driver, reason))
            }
        }
    }

    pub(super) fn required(
        &mut self,
        place: Location,
        key: &str,
        raw: Option<Scalar>,
        example: &str,
    ) -> Option<Scalar> {
        if raw.is_none() {
            self.problem(
                Some(place),
                key,
                format!("it is missing: write it, as in \"{example}\""),
            );
        }
        raw
    }

    /// Checks an uplink on a netdev.
    fn netdev(
        &mut self,
        key: &str,
        device: &Scalar,
        driver: NetdevDriver,
        raw: &mut RawUplink,
    ) -> NetdevConfig {
        let ring_frames = self.ring_frames(&format!("{key}.ring_frames"), raw.ring_frames.take());
        let tags_in_frames = self.word(
            &format!("{key}.tags_in_frames"),
            raw.tags_in_frames.as_ref(),
            &[("true", true), ("false", false)],
        );
        if let Some(netdevs) = &self.around.netdevs
            && !netdevs.contains(&device.value)
        {
            let message = format!(
                "there is no netdev \"{}\" here: there are {}",
                device.value,
                netdevs.join(", ")
            );
            self.problem(Some(device.referenced), format!("{key}.device"), message);
        } else if device.value == "lo" {
            let message = "the loopback is no wire: name another netdev";
            self.problem(Some(device.referenced), format!("{key}.device"), message);
        }
        NetdevConfig {
            device: device.value.clone(),
            driver,
            ring_frames,
            tags_in_frames: tags_in_frames.unwrap_or(false),
        }
    }

    fn ring_frames(&mut self, key: &str, raw: Option<Scalar>) -> u32 {
        let place = raw.as_ref().map(|raw| raw.referenced);
        let before = self.count();
        let frames = self.number(key, raw, DEFAULT_RING_FRAMES, (64, 16_384));
        if self.count() == before && !frames.is_power_of_two() {
            let message = format!(
                "{frames} is not a power of two: use {}, or {}",
                frames.next_power_of_two() / 2,
                frames.next_power_of_two()
            );
            self.problem(place, key, message);
        }
        frames
    }

    /// Reports a key that only another driver has.
    fn only(&mut self, driver: &str, key: &str, raw: Option<Scalar>) {
        if let Some(raw) = raw {
            let message = format!("only an uplink with `driver: {driver}` has it: leave it out");
            self.problem(Some(raw.referenced), key, message);
        }
    }

    fn pcap(
        &mut self,
        key: &str,
        place: Location,
        read: Option<Scalar>,
        write: Option<Scalar>,
        mtu: Option<Scalar>,
    ) -> Option<UplinkDriver> {
        if read.is_none() && write.is_none() {
            let message = "name the capture files: one to `read`, one to `write`, or both";
            self.problem(Some(place), key, message);
        }
        let mtu = self.number(&format!("{key}.mtu"), mtu, 1500, (68, 9216));
        let read = read.map(|raw| {
            let at = raw.referenced;
            let path = self.path(&format!("{key}.read"), Some(raw), "none");
            if path.is_absolute() && !path.is_file() {
                let message = format!("there is no file {}: name a capture file", path.display());
                self.problem(Some(at), format!("{key}.read"), message);
            }
            path
        });
        let write = write.map(|raw| self.path(&format!("{key}.write"), Some(raw), "none"));
        Some(UplinkDriver::Pcap { read, write, mtu })
    }

    fn vid(&mut self, key: &str, raw: &Scalar) -> Option<Vid> {
        match raw.value.parse::<Vid>() {
            Ok(vid) => Some(vid),
            Err(error) => {
                self.problem(Some(raw.referenced), key, error.to_string());
                None
            }
        }
    }

    fn tpids(&mut self, key: &str, raw: Option<Spanned<Vec<Scalar>>>) -> Vec<u16> {
        let Some(raw) = raw else {
            return DEFAULT_TPIDS.to_vec();
        };
        if raw.value.is_empty() || raw.value.len() > 8 {
            let message = "use 1 to 8 of them (default [0x8100, 0x88a8])";
            self.problem(Some(raw.referenced), key, message);
        }
        let mut tpids = Vec::new();
        for raw in raw.value {
            let parsed = match raw.value.strip_prefix("0x") {
                Some(digits) => u16::from_str_radix(digits, 16),
                None => raw.value.parse(),
            };
            match parsed {
                Ok(tpid)
                    if tpid >= FIRST_ETHERTYPE
                        && !NO_TPIDS.contains(&tpid)
                        && !tpids.contains(&tpid) =>
                {
                    tpids.push(tpid);
                }
                Ok(tpid) if tpids.contains(&tpid) => {
                    let message = format!("{tpid:#06x} is there twice: leave one out");
                    self.problem(Some(raw.referenced), key, message);
                }
                _ => {
                    let message = format!(
                        "\"{}\" is not a TPID: use 0x0600 to 0xffff but the EtherTypes of IP \
                         and ARP, as in 0x8100 (802.1Q) or 0x88a8 (802.1ad)",
                        raw.value
                    );
                    self.problem(Some(raw.referenced), key, message);
                }
            }
        }
        tpids
    }
}

fn same_device(one: &UplinkConfig, other: &UplinkConfig) -> bool {
    match (&one.driver, &other.driver) {
        (UplinkDriver::Netdev(a), UplinkDriver::Netdev(b)) => a.device == b.device,
        (UplinkDriver::Dpdk { device: a, .. }, UplinkDriver::Dpdk { device: b, .. }) => {
            a.name() == b.name()
        }
        (UplinkDriver::Pcap { write: Some(a), .. }, UplinkDriver::Pcap { write: Some(b), .. }) => {
            a == b
        }
        _ => false,
    }
}

/// Whether a name can stand in file names, policies and tables.
fn good_name(name: &str) -> bool {
    name.len() <= 32
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}
