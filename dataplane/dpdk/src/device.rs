// SPDX-License-Identifier: Apache-2.0
//! [`Device`]: name of a device as DPDK takes it. It is checked here first: DPDK's drivers pass over arguments
//! that they do not know, and name what is wrong in their log only.

use std::fmt;
use std::str::FromStr;

/// Drivers of vdevs that ports can have, each with its arguments.
///
/// `net_virtio_user` and `net_af_xdp` are not among them: both demand that packet memory be DPDK's own.
const VDEVS: [(&str, &[&str]); 6] = [
    ("net_null", &["size", "copy", "no-rx"]),
    ("net_ring", &["nodeaction"]),
    ("net_tap", &["iface", "mac", "persist", "remote"]),
    (
        "net_pcap",
        &[
            "rx_pcap",
            "tx_pcap",
            "rx_iface",
            "rx_iface_in",
            "tx_iface",
            "iface",
            "phy_mac",
            "infinite_rx",
        ],
    ),
    (
        "net_memif",
        &[
            "id",
            "role",
            "bsize",
            "rsize",
            "socket",
            "owner-uid",
            "owner-gid",
            "socket-abstract",
            "mac",
            "secret",
            "zero-copy",
        ],
    ),
    (
        "net_af_packet",
        &[
            "iface",
            "qpairs",
            "qdisc_bypass",
            "blocksz",
            "framesz",
            "framecnt",
        ],
    ),
];

/// Drivers of vdevs that are refused, each with the reason.
const REFUSED: [(&str, &str); 2] = [
    (
        "net_virtio_user",
        "its driver takes packets in DPDK's own memory only",
    ),
    (
        "net_af_xdp",
        "its driver takes packets in DPDK's own memory only",
    ),
];

/// Most bytes of a vdev's name and arguments.
const LONGEST: usize = 256;

/// Device that DPDK drives.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Device {
    /// Device on the PCI bus, by its address: `0000:01:10.0`.
    Pci(String),
    /// Software device, by driver, number and arguments: `net_tap0,iface=dtap0`.
    Vdev(String),
}

/// Error of a name that is not a device's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// Neither a PCI address nor a vdev.
    #[error(
        "\"{0}\" is not a device of DPDK: write a PCI address as in 0000:01:10.0, or a vdev as in net_tap0,iface=tap0"
    )]
    Form(String),
    /// Driver that ports cannot have.
    #[error(
        "vdev \"{name}\": {reason}; use one of net_null, net_ring, net_tap, net_pcap, net_memif, net_af_packet"
    )]
    Driver {
        /// Name of the vdev.
        name: String,
        /// Reason for the refusal.
        reason: &'static str,
    },
    /// Argument that the driver does not have.
    #[error("vdev \"{name}\" has no argument \"{argument}\": its driver has {known}")]
    Argument {
        /// Name of the vdev.
        name: String,
        /// The argument, as it was written.
        argument: String,
        /// Arguments of the driver.
        known: String,
    },
}

impl Device {
    /// Name by which DPDK knows the device: without its arguments.
    pub fn name(&self) -> &str {
        match self {
            Device::Pci(address) => address,
            Device::Vdev(text) => text.split_once(',').map_or(text, |(name, _)| name),
        }
    }

    /// Name and arguments, as DPDK takes them.
    pub fn devargs(&self) -> &str {
        match self {
            Device::Pci(text) | Device::Vdev(text) => text,
        }
    }

    /// Reads a PCI address, with or without its domain.
    ///
    /// # Errors
    /// It is none.
    pub fn pci(text: &str) -> Result<Device, DeviceError> {
        let form = || DeviceError::Form(text.to_owned());
        let (rest, function) = text.rsplit_once('.').ok_or_else(form)?;
        let parts: Vec<&str> = rest.split(':').collect();
        let (domain, bus, slot) = match parts[..] {
            [bus, slot] => ("0000", bus, slot),
            [domain, bus, slot] => (domain, bus, slot),
            _ => return Err(form()),
        };
        let hex = |digits: &str, len| {
            digits.len() == len && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        let good = hex(domain, 4) && hex(bus, 2) && hex(slot, 2) && function.len() == 1;
        let slot_fits = u8::from_str_radix(slot, 16).is_ok_and(|slot| slot < 32);
        if !good || !slot_fits || !matches!(function.as_bytes(), [b'0'..=b'7']) {
            return Err(form());
        }
        Ok(Device::Pci(
            format!("{domain}:{bus}:{slot}.{function}").to_lowercase(),
        ))
    }

    /// Reads a vdev: driver, number, and arguments that the driver has.
    ///
    /// # Errors
    /// It is none, or its driver is not one that ports can have.
    pub fn vdev(text: &str) -> Result<Device, DeviceError> {
        let form = || DeviceError::Form(text.to_owned());
        let printable = text.bytes().all(|byte| byte.is_ascii_graphic());
        if text.len() > LONGEST || !printable {
            return Err(form());
        }
        let mut parts = text.split(',');
        let name = parts.next().unwrap_or_default();
        let driver = name.trim_end_matches(|last: char| last.is_ascii_digit());
        if !driver.starts_with("net_") || driver.len() == name.len() || name.len() > 32 {
            return Err(form());
        }
        let refused = |reason| {
            Err(DeviceError::Driver {
                name: name.to_owned(),
                reason,
            })
        };
        if let Some((_, reason)) = REFUSED.iter().find(|(refused, _)| *refused == driver) {
            return refused(reason);
        }
        let Some((_, known)) = VDEVS.iter().find(|(known, _)| *known == driver) else {
            return refused("there is no such driver, or it was never tried here");
        };
        for argument in parts {
            let key = argument.split_once('=').map(|(key, _)| key);
            if !key.is_some_and(|key| known.contains(&key)) {
                return Err(DeviceError::Argument {
                    name: name.to_owned(),
                    argument: argument.to_owned(),
                    known: known.join(", "),
                });
            }
        }
        Ok(Device::Vdev(text.to_owned()))
    }
}

impl FromStr for Device {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Device, DeviceError> {
        if text.starts_with("net_") {
            Device::vdev(text)
        } else {
            Device::pci(text)
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.devargs())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn pci_addresses_have_their_domain() {
        assert_eq!(
            "01:10.0".parse::<Device>().unwrap(),
            Device::Pci("0000:01:10.0".into())
        );
        let upper: Device = "0000:AB:1F.7".parse().unwrap();
        assert_eq!(upper.name(), "0000:ab:1f.7");
        for wrong in [
            "",
            "01:10",
            "0000:01:20.0",
            "0000:01:10.8",
            "1:10.0",
            "eth0",
            "0:0:0:0.0",
        ] {
            assert!(wrong.parse::<Device>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn vdevs_have_a_driver_a_number_and_its_arguments() {
        let tap: Device = "net_tap0,iface=dtap0".parse().unwrap();
        assert_eq!(
            (tap.name(), tap.devargs()),
            ("net_tap0", "net_tap0,iface=dtap0")
        );
        for wrong in [
            "net_tap",
            "net_tap0,iface",
            "net_tap0,name=x",
            "net_nothing0",
            "net_virtio_user0,path=/x",
            "net_null0 --foo",
            "net_null0,",
            "--vdev=net_null0",
        ] {
            assert!(wrong.parse::<Device>().is_err(), "{wrong}");
        }
        let error = "net_ring8,foo=1".parse::<Device>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "vdev \"net_ring8\" has no argument \"foo=1\": its driver has nodeaction"
        );
    }
}
