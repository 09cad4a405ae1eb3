// SPDX-License-Identifier: Apache-2.0
//! Netdevs of the calling thread's network namespace, through rtnetlink.
//!
//! /sys/class/net is no source for this: it shows the namespace in which it was mounted.

use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::pin;

use futures_util::TryStreamExt;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::{Handle, LinkUnspec};
use rustix::io::Errno;

/// Facts about one netdev, as the kernel reports them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Netdev {
    /// Interface index in its network namespace.
    pub index: u32,
    /// Largest IP packet in bytes.
    pub mtu: u32,
    /// Whether the netdev is administratively up.
    pub up: bool,
}

/// Looks up a netdev by name; `None` if the namespace has none of that name.
///
/// Must not be called from asynchronous code: it waits for the kernel.
///
/// # Errors
/// The netlink socket cannot be opened, or the kernel refuses the request.
pub fn find(name: &str) -> io::Result<Option<Netdev>> {
    talk(async |handle| {
        let mut links = pin!(handle.link().get().match_name(name.to_owned()).execute());
        match links.try_next().await {
            Err(rtnetlink::Error::NetlinkError(error)) if is(&error, Errno::NODEV) => Ok(None),
            other => other,
        }
    })?
    .map(|link| describe(&link))
    .transpose()
}

/// Sets a netdev administratively up or down.
pub(super) fn set_up(index: u32, up: bool) -> io::Result<()> {
    let link = LinkUnspec::new_with_index(index);
    let link = if up { link.up() } else { link.down() };
    talk(async |handle| handle.link().set(link.build()).execute().await)
}

/// Adds an IPv6 address to a netdev; one that it has already is no error.
pub(super) fn add_ipv6(index: u32, address: Ipv6Addr, prefix_len: u8) -> io::Result<()> {
    talk(async |handle| {
        let address = IpAddr::V6(address);
        let request = handle.address().add(index, address, prefix_len);
        match request.execute().await {
            Err(rtnetlink::Error::NetlinkError(error)) if is(&error, Errno::EXIST) => Ok(()),
            other => other,
        }
    })
}

fn describe(link: &LinkMessage) -> io::Result<Netdev> {
    let mtu = link
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::Mtu(mtu) => Some(*mtu),
            _ => None,
        });
    Ok(Netdev {
        index: link.header.index,
        mtu: mtu.ok_or_else(|| io::Error::other("the kernel did not report the netdev's MTU"))?,
        up: link.header.flags.contains(LinkFlags::Up),
    })
}

fn is(error: &rtnetlink::packet_core::ErrorMessage, errno: Errno) -> bool {
    error.raw_code() == -errno.raw_os_error()
}

/// Runs one netlink conversation to its end on the calling thread, whose namespace it is about.
fn talk<T>(conversation: impl AsyncFnOnce(Handle) -> Result<T, rtnetlink::Error>) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        conversation(handle).await.map_err(|error| match error {
            rtnetlink::Error::NetlinkError(error) => error.to_io(),
            error => io::Error::other(error),
        })
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_found_and_others_are_not() {
        let loopback = find("lo").unwrap().unwrap();
        assert!(loopback.index > 0 && loopback.mtu >= 1280);
        assert_eq!(find("sg-none").unwrap(), None);
    }
}
