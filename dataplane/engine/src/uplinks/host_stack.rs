// SPDX-License-Identifier: Apache-2.0
//! Guard that keeps the host's own stack off a netdev while it is an uplink, and gives it back.
//!
//! An AF_PACKET socket sees copies: the host's stack would still take every frame too, answer ARP
//! and ping for addresses the host has on the device, and send of its own accord what no policy ever
//! saw. While guarded
//! - an nftables table in the `netdev` family, `sluicegate_DEVICE`, drops everything that comes in
//!   on the device. AF_PACKET sees frames before that hook: `__netif_receive_skb_core` calls the
//!   packet taps, then `nf_ingress`;
//! - the same table drops what leaves by the device unless it bears the mark that
//!   [`AfPacket`](sluice_datapath::ports::af_packet::AfPacket) sets on its socket. Kernels before 5.16 lack the hook for this:
//!   see [`HostStackGuard::sending_blocked`];
//! - IPv6 is disabled on the device, so that the kernel does not retry router solicitations and
//!   address detection into the void;
//! - the device is up.
//!
//! Everything here happens in the network namespace of the calling thread, which must be the one
//! that the device is in. It is for control: it runs `nft` and waits for it.
//!
//! To survive the engine's death, what has to be put back is noted first: [`HostStackRecord::take`]
//! only looks; the caller writes the record to disk; [`HostStackGuard::engage`] changes things. An
//! engine that finds a record hands it to `engage` again, or to [`HostStackRecord::restore`].
//! Both may be repeated at any time, from any state in between.
//!
//! What does not come back: static IPv6 *routes* by the device, which the kernel drops when IPv6 is
//! disabled on it. Addresses are put back, and with them their prefix routes.

mod error;
mod ipv6;
mod nft;

use std::net::Ipv6Addr;

use sluice_mem::offloads::{Offloads, RX_VLAN};

pub use self::error::HostStackError;
use super::netdev::{self, Netdev};

/// Settings of a device before the engine took it: all that is needed to give it back, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostStackRecord {
    /// Name of the netdev.
    pub device: String,
    /// Whether the netdev was administratively up.
    pub was_up: bool,
    /// Value of `net.ipv6.conf.DEVICE.disable_ipv6`; `None` on a kernel without IPv6.
    pub ipv6_disabled: Option<bool>,
    /// Permanent IPv6 addresses with their prefix lengths: disabling IPv6 takes them away.
    pub ipv6_addresses: Vec<(Ipv6Addr, u8)>,
    /// Offloads that take VLAN tags out of received frames and were on: AF_XDP has them switched off.
    pub vlan_offloads: Vec<String>,
}

/// Guard of a device that the host's stack is kept off.
#[derive(Debug)]
#[must_use = "the device stays guarded until release is called"]
pub struct HostStackGuard {
    record: HostStackRecord,
    netdev: Netdev,
    sending_blocked: bool,
}

impl HostStackRecord {
    /// Reads the settings of `device` and changes nothing.
    ///
    /// # Errors
    /// There is no such device, its name cannot be used in a ruleset, or the kernel does not report its settings.
    pub fn take(device: &str) -> Result<HostStackRecord, HostStackError> {
        check_name(device)?;
        let found = find(device)?.ok_or_else(|| HostStackError::NoDevice {
            device: device.to_owned(),
        })?;
        let refused = |what| HostStackError::kernel(what, device);
        Ok(HostStackRecord {
            device: device.to_owned(),
            was_up: found.up,
            ipv6_disabled: ipv6::disabled(device).map_err(refused("read the IPv6 setting of"))?,
            ipv6_addresses: ipv6::addresses(found.index)
                .map_err(refused("list the IPv6 addresses of"))?,
            vlan_offloads: vlan_offloads(device).map_err(refused("read the offloads of"))?,
        })
    }

    /// Puts everything back as the record says, whatever has been changed since and by whom. A
    /// device that is gone needs nothing put back.
    ///
    /// # Errors
    /// Settings that could not be put back; all others were.
    pub fn restore(&self) -> Result<(), HostStackError> {
        check_name(&self.device)?;
        let found = find(&self.device)?;
        let mut errors = Vec::new();
        if let Some(found) = found.as_ref().filter(|found| found.up && !self.was_up) {
            let down = netdev::set_up(found.index, false);
            errors.extend(down.map_err(self.refused("set down")).err());
        }
        // Before IPv6 comes back: its duplicate address detection must be heard, and must hear.
        errors.extend(nft::unblock(&self.device).err());
        if let Some(found) = &found {
            self.restore_offloads(&mut errors);
            self.restore_ipv6(found, &mut errors);
        }
        if errors.is_empty() {
            Ok(())
        } else {
            Err(HostStackError::joined(errors))
        }
    }

    /// Puts everything back on a netdev that is called `now` by now.
    ///
    /// # Errors
    /// Settings that could not be put back; all others were.
    pub fn restore_renamed(&self, now: &str) -> Result<(), HostStackError> {
        let renamed = HostStackRecord {
            device: now.to_owned(),
            ..self.clone()
        };
        let mut errors: Vec<_> = nft::unblock(&self.device).err().into_iter().collect();
        errors.extend(renamed.restore().err());
        if errors.is_empty() {
            Ok(())
        } else {
            Err(HostStackError::joined(errors))
        }
    }

    fn restore_offloads(&self, errors: &mut Vec<HostStackError>) {
        let set = |name: &String| {
            let offloads = Offloads::open(&self.device)?;
            match offloads.get(name)? {
                Some(offload) if !offload.active => offloads.set(name, true).map(drop),
                _ => Ok(()),
            }
        };
        let refused = self.vlan_offloads.iter().filter_map(|name| set(name).err());
        errors.extend(refused.map(self.refused_again("put back the VLAN offloads of")));
    }

    fn restore_ipv6(&self, found: &Netdev, errors: &mut Vec<HostStackError>) {
        let Some(disabled) = self.ipv6_disabled else {
            return;
        };
        let set = ipv6::set_disabled(&self.device, disabled);
        let there = matches!(set, Ok(true));
        errors.extend(
            set.map_err(HostStackError::setting(
                "put back the IPv6 setting of",
                &self.device,
            ))
            .err(),
        );
        if disabled || !there {
            return;
        }
        for &(address, prefix_len) in &self.ipv6_addresses {
            let added = netdev::add_ipv6(found.index, address, prefix_len);
            errors.extend(
                added
                    .map_err(self.refused("put back an IPv6 address of"))
                    .err(),
            );
        }
    }

    /// Does what [`HostStackGuard::engage`] promises. Returns the netdev, and whether sending is
    /// blocked too.
    fn apply(&self) -> Result<(Netdev, bool), HostStackError> {
        check_name(&self.device)?;
        let found = find(&self.device)?.ok_or_else(|| HostStackError::NoDevice {
            device: self.device.clone(),
        })?;
        let sending_blocked = match nft::block(&self.device, true) {
            Err(HostStackError::Nft { .. }) => nft::block(&self.device, false).map(|()| false),
            result => result.map(|()| true),
        }?;
        if self.ipv6_disabled.is_some() {
            let refused = HostStackError::setting("disable IPv6 on", &self.device);
            ipv6::set_disabled(&self.device, true).map_err(refused)?;
        }
        if !found.up {
            netdev::set_up(found.index, true).map_err(self.refused("set up"))?;
        }
        Ok((found, sending_blocked))
    }

    fn refused_again(&self, what: &'static str) -> impl FnMut(std::io::Error) -> HostStackError {
        move |error| HostStackError::kernel(what, &self.device)(error)
    }

    fn refused(&self, what: &'static str) -> impl FnOnce(std::io::Error) -> HostStackError {
        HostStackError::kernel(what, &self.device)
    }
}

impl HostStackGuard {
    /// Keeps the host's stack off the record's device. The record must be on disk by now.
    ///
    /// # Errors
    /// The first step that failed; earlier changes have been undone as far as possible.
    pub fn engage(record: HostStackRecord) -> Result<HostStackGuard, HostStackError> {
        match record.apply() {
            Ok((netdev, sending_blocked)) => Ok(HostStackGuard {
                record,
                netdev,
                sending_blocked,
            }),
            Err(error) => {
                let mut errors = vec![error];
                errors.extend(record.restore().err());
                Err(HostStackError::joined(errors))
            }
        }
    }

    /// Returns the settings that will be put back.
    pub fn record(&self) -> &HostStackRecord {
        &self.record
    }

    /// The device as it was when the guard was engaged.
    pub fn netdev(&self) -> &Netdev {
        &self.netdev
    }

    /// Whether the host's stack can no longer send by the device either. False on kernels before
    /// 5.16, which drop only what comes in; then take the host's addresses off the device.
    pub fn sending_blocked(&self) -> bool {
        self.sending_blocked
    }

    /// Keeps the host's stack off once more where somebody has let it on: `nft flush ruleset` takes the
    /// table away, and daemons of the network enable IPv6. `thorough` looks for the table too, for which
    /// `nft` has to be run. A netdev that was set down stays down.
    ///
    /// # Errors
    /// The kernel or `nft` refused.
    pub fn renew(&self, thorough: bool) -> Result<(), HostStackError> {
        let device = &self.record.device;
        let refused = |what| HostStackError::kernel(what, device);
        let enabled = ipv6::disabled(device).map_err(refused("read the IPv6 setting of"))?;
        if self.record.ipv6_disabled.is_some() && enabled == Some(false) {
            let refused = HostStackError::setting("disable IPv6 on", device);
            ipv6::set_disabled(device, true).map_err(refused)?;
            tracing::warn!("IPv6 was enabled on netdev {device}: it is disabled again");
        }
        if thorough && !nft::is_blocked(device)? {
            nft::block(device, self.sending_blocked)?;
            tracing::warn!(
                "somebody removed the nftables table that keeps the host's stack off netdev {device}: \
                 it is there again"
            );
        }
        Ok(())
    }

    /// Gives the device back: [`HostStackRecord::restore`]. The record on disk can go after that.
    ///
    /// # Errors
    /// Settings that could not be put back; all others were. Keep the record and try again.
    pub fn release(self) -> Result<(), HostStackError> {
        self.record.restore()
    }
}

/// Offloads of a netdev that take VLAN tags out of received frames, and are on. A kernel without a netdev's
/// offloads has none.
fn vlan_offloads(device: &str) -> std::io::Result<Vec<String>> {
    let offloads = match Offloads::open(device) {
        Ok(offloads) => offloads,
        Err(error) if error.kind() == std::io::ErrorKind::Unsupported => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut on = Vec::new();
    for name in RX_VLAN {
        if offloads
            .get(name)?
            .is_some_and(|offload| offload.active && offload.changeable)
        {
            on.push(name.to_owned());
        }
    }
    Ok(on)
}

fn check_name(device: &str) -> Result<(), HostStackError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    // "." and ".." are no netdevs, and would lead out of the sysctl's directory.
    let usable = !device.is_empty() && device.bytes().all(plain) && !device.starts_with('.');
    if usable {
        Ok(())
    } else {
        Err(HostStackError::Name {
            device: device.to_owned(),
        })
    }
}

fn find(device: &str) -> Result<Option<Netdev>, HostStackError> {
    netdev::find(device).map_err(HostStackError::kernel("find", device))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_change_the_ruleset_are_refused() {
        for name in ["", "..", "a b", "a\"b", "eth*", "a/b", "a;b", "a{b"] {
            let error = HostStackRecord::take(name).unwrap_err();
            assert!(
                matches!(error, HostStackError::Name { .. }),
                "{name}: {error}"
            );
        }
        assert!(check_name("enp3s0f1np1.210").is_ok());
    }

    #[test]
    fn a_missing_device_is_named() {
        let error = HostStackRecord::take("sg-none").unwrap_err().to_string();
        assert!(error.contains("no netdev sg-none"), "{error}");
    }
}
