// SPDX-License-Identifier: Apache-2.0
//! [`PciAddr`]: where a function is on the PCI buses.

use std::fmt;
use std::str::FromStr;

/// The address of one PCI function: domain, bus, device, function (PCI Local Bus Specification,
/// section 3.2.2.3), as Linux writes it: `0000:01:10.0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "String", into = "String"))]
pub struct PciAddr {
    /// PCI domain; VMs of some clouds have 32-bit ones.
    domain: u32,
    bus: u8,
    /// 0 to 31.
    device: u8,
    /// 0 to 7.
    function: u8,
}

/// Text that is not a PCI address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a PCI address: \"{0}\"; write it as lspci -D does, domain:bus:device.function, as in 0000:01:10.0"
)]
pub struct BadPciAddr(pub String);

impl PciAddr {
    /// The address made of its parts; `None` if device is above 31 or function above 7.
    pub fn new(domain: u32, bus: u8, device: u8, function: u8) -> Option<PciAddr> {
        (device < 32 && function < 8).then_some(PciAddr {
            domain,
            bus,
            device,
            function,
        })
    }
}

impl fmt::Display for PciAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PciAddr {
            domain,
            bus,
            device,
            function,
        } = self;
        write!(f, "{domain:04x}:{bus:02x}:{device:02x}.{function:x}")
    }
}

impl FromStr for PciAddr {
    type Err = BadPciAddr;

    /// Takes `0000:01:10.0`, and `01:10.0` for domain 0.
    fn from_str(text: &str) -> Result<PciAddr, BadPciAddr> {
        parse(text).ok_or_else(|| BadPciAddr(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<PciAddr> {
    let (rest, function) = text.rsplit_once('.')?;
    let (rest, device) = rest.rsplit_once(':')?;
    let (domain, bus) = rest.rsplit_once(':').unwrap_or(("0", rest));
    let hex = |text: &str, most: usize| {
        let digits =
            (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
        digits.then(|| u32::from_str_radix(text, 16).ok()).flatten()
    };
    PciAddr::new(
        hex(domain, 8)?,
        u8::try_from(hex(bus, 2)?).ok()?,
        u8::try_from(hex(device, 2)?).ok()?,
        u8::try_from(hex(function, 1)?).ok()?,
    )
}

impl TryFrom<String> for PciAddr {
    type Error = BadPciAddr;

    fn try_from(text: String) -> Result<PciAddr, BadPciAddr> {
        text.parse()
    }
}

impl From<PciAddr> for String {
    fn from(addr: PciAddr) -> String {
        addr.to_string()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn both_ways() {
        for text in ["0000:01:10.0", "10000:ff:1f.7", "0000:00:00.0"] {
            assert_eq!(text.parse::<PciAddr>().unwrap().to_string(), text);
        }
        assert_eq!(
            "01:10.4".parse::<PciAddr>().unwrap().to_string(),
            "0000:01:10.4"
        );
        assert_eq!(
            "0000:AF:1f.0".parse::<PciAddr>().unwrap().to_string(),
            "0000:af:1f.0"
        );
    }

    #[test]
    fn what_is_none() {
        for text in [
            "",
            "0000:01:20.0",
            "0000:01:10.8",
            "0000:01:10",
            "1:2:3:4.5",
            "0000:+1:10.0",
            "0000:01:10.0 ",
            "../0000:01:10.0",
            "0000:001:10.0",
        ] {
            assert!(text.parse::<PciAddr>().is_err(), "{text} was taken");
        }
    }
}
