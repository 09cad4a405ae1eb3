// SPDX-License-Identifier: Apache-2.0
//! IPv6 of one device of the calling thread's network namespace.

use std::io;
use std::net::Ipv6Addr;
use std::path::PathBuf;

use crate::sysctl::{self, SysctlError};

/// Whether IPv6 is disabled on `device`; `None` if the kernel has no IPv6, or none there.
pub(super) fn disabled(device: &str) -> io::Result<Option<bool>> {
    match std::fs::read_to_string(PathBuf::from("/proc/sys/net").join(setting(device))) {
        Ok(text) => Ok(Some(text.trim() != "0")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Disables IPv6 on `device`, which takes its addresses away, or enables it. Returns whether there is IPv6 at
/// all: below an MTU of 1280 bytes the kernel takes it off a netdev.
pub(super) fn set_disabled(device: &str, disabled: bool) -> Result<bool, SysctlError> {
    sysctl::write(&setting(device), if disabled { "1" } else { "0" })
}

/// Path of the setting below /proc/sys/net.
fn setting(device: &str) -> PathBuf {
    PathBuf::from("ipv6/conf").join(device).join("disable_ipv6")
}

/// The permanent addresses of device number `index`, with their prefix lengths.
pub(super) fn addresses(index: u32) -> io::Result<Vec<(Ipv6Addr, u8)>> {
    match std::fs::read_to_string("/proc/thread-self/net/if_inet6") {
        Ok(text) => Ok(text
            .lines()
            .filter_map(|line| permanent(line, index))
            .collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// A line of if_inet6: address, device, prefix length, scope, flags, name; all but the last in hex.
fn permanent(line: &str, index: u32) -> Option<(Ipv6Addr, u8)> {
    const IFA_F_PERMANENT: u128 = 0x80;
    let mut fields = line.split_whitespace();
    let mut hex = || {
        fields
            .next()
            .and_then(|field| u128::from_str_radix(field, 16).ok())
    };
    let (address, device, prefix_len, _scope, flags) = (hex()?, hex()?, hex()?, hex()?, hex()?);
    let wanted = device == u128::from(index) && flags & IFA_F_PERMANENT != 0;
    wanted.then_some((Ipv6Addr::from_bits(address), u8::try_from(prefix_len).ok()?))
}

#[cfg(test)]
mod tests {
    use super::permanent;

    #[test]
    fn permanent_addresses_of_the_device_are_found() {
        let line = "fd000000000000000000000000000001 1f 40 00 80     eth0";
        let found = permanent(line, 0x1f);
        assert_eq!(
            found.map(|(a, len)| (a.to_string(), len)),
            Some(("fd00::1".to_owned(), 64))
        );
        assert_eq!(permanent(line, 2), None);
        assert_eq!(permanent(&line.replace(" 80 ", " 00 "), 0x1f), None);
        assert_eq!(permanent("nonsense", 2), None);
    }
}
