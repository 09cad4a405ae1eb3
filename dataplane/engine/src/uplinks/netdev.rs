// SPDX-License-Identifier: Apache-2.0
//! Netdevs of the calling thread's network namespace, through rtnetlink.
//!
//! /sys/class/net is no source for this: it shows the namespace in which it was mounted.

use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::pin;

use futures_util::TryStreamExt;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rtnetlink::{Handle, LinkGetRequest, LinkUnspec};
use rustix::io::Errno;
use sluice_packet::Mac;

/// Facts about one netdev, as the kernel reports them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Netdev {
    /// Interface index in its network namespace.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Largest IP packet in bytes.
    pub mtu: u32,
    /// Whether the netdev is administratively up.
    pub up: bool,
    /// Whether it has a carrier: what it is connected to is there and up.
    pub carrier: bool,
    /// MAC address; `None` where it has none of six bytes.
    pub mac: Option<Mac>,
    /// Kind of a netdev that is made by software, such as `veth` or `vlan`; `None` for a NIC.
    pub kind: Option<String>,
    /// Index of the netdev that it is tied to, if that is in the same network namespace: a veth's other
    /// end, a VLAN's lower netdev.
    pub tied_to: Option<u32>,
    /// Number of receive queues that it was made with.
    pub rx_queues: u32,
}

impl Netdev {
    /// Returns why no frame passes, and what to do; `None` if frames pass.
    pub fn trouble(&self) -> Option<String> {
        let name = &self.name;
        if !self.up {
            Some(format!(
                "netdev {name} is set down: `ip link set {name} up` sets it up"
            ))
        } else if !self.carrier {
            Some(format!(
                "netdev {name} has no carrier: look at its cable, at the switch's port, or at the \
                 other end of a veth"
            ))
        } else {
            None
        }
    }
}

/// Looks up a netdev by name; `None` if the namespace has none of that name.
///
/// Must not be called from asynchronous code: it waits for the kernel.
///
/// # Errors
/// The netlink socket cannot be opened, or the kernel refuses the request.
pub fn find(name: &str) -> io::Result<Option<Netdev>> {
    let name = name.to_owned();
    get(|request| request.match_name(name))
}

/// Looks up a netdev by its index, as [`find`] does by name: it may have another name by now.
///
/// # Errors
/// As of [`find`].
pub fn find_index(index: u32) -> io::Result<Option<Netdev>> {
    get(|request| request.match_index(index))
}

fn get(matching: impl FnOnce(LinkGetRequest) -> LinkGetRequest) -> io::Result<Option<Netdev>> {
    talk(async |handle| {
        let mut links = pin!(matching(handle.link().get()).execute());
        match links.try_next().await {
            Err(rtnetlink::Error::NetlinkError(error)) if is(&error, Errno::NODEV) => Ok(None),
            other => other,
        }
    })?
    .map(|link| describe(&link))
    .transpose()
}

/// Lists the names of the namespace's netdevs, the loopback among them.
///
/// # Errors
/// As of [`find`].
pub fn names() -> io::Result<Vec<String>> {
    let links = talk(async |handle| {
        let links = handle.link().get().execute();
        links.try_collect::<Vec<LinkMessage>>().await
    })?;
    Ok(links.iter().filter_map(name).map(str::to_owned).collect())
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
    let unreported =
        |what| io::Error::other(format!("the kernel did not report the netdev's {what}"));
    let mtu = link
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::Mtu(mtu) => Some(*mtu),
            _ => None,
        });
    let mac = link
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::Address(bytes) => <[u8; 6]>::try_from(bytes.as_slice()).ok(),
            _ => None,
        });
    let flags = link.header.flags;
    let (mut kind, mut tied_to, mut elsewhere, mut rx_queues) = (None, None, false, 1);
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::LinkInfo(infos) => {
                kind = infos.iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind.to_string()),
                    _ => None,
                });
            }
            LinkAttribute::Link(index) => tied_to = Some(*index),
            LinkAttribute::LinkNetNsId(_) => elsewhere = true,
            LinkAttribute::NumRxQueues(count) => rx_queues = *count,
            _ => {}
        }
    }
    Ok(Netdev {
        index: link.header.index,
        name: name(link).ok_or_else(|| unreported("name"))?.to_owned(),
        mtu: mtu.ok_or_else(|| unreported("MTU"))?,
        up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::LowerUp) && !flags.contains(LinkFlags::Dormant),
        mac: mac.map(Mac::new),
        kind,
        tied_to: tied_to.filter(|_| !elsewhere),
        rx_queues,
    })
}

fn name(link: &LinkMessage) -> Option<&str> {
    link.attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name.as_str()),
            _ => None,
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
        assert_eq!(find_index(loopback.index).unwrap(), Some(loopback));
        assert!(names().unwrap().contains(&"lo".to_owned()));
        assert_eq!(find_index(0x7fff_fff0).unwrap(), None);
        assert_eq!(find("sg-none").unwrap(), None);
    }
}
