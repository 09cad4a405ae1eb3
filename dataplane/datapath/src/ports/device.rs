//! What control needs to know and change of a netdev in the calling thread's network namespace,
//! over rtnetlink: /sys/class/net would show the namespace in which it was mounted.

use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::OwnedFd;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::net::{
    AddressFamily as SocketFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send,
    socket_with,
};

/// A netdev as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Device {
    /// Its number in its namespace.
    pub(super) index: u32,
    /// The largest IP packet in bytes.
    pub(super) mtu: u32,
    /// Administratively up.
    pub(super) up: bool,
}

/// A conversation with the kernel about the netdevs of one network namespace: that of the thread
/// that opened it.
#[derive(Debug)]
pub(super) struct Devices {
    socket: OwnedFd,
}

impl Devices {
    /// Opens it.
    pub(super) fn open() -> io::Result<Devices> {
        // Protocol 0 is NETLINK_ROUTE.
        let kind = SocketType::RAW;
        let socket = socket_with(SocketFamily::NETLINK, kind, SocketFlags::CLOEXEC, None)?;
        Ok(Devices { socket })
    }

    /// The netdev of that name; `None` if there is none.
    pub(super) fn find(&self, name: &str) -> io::Result<Option<Device>> {
        let mut message = LinkMessage::default();
        message
            .attributes
            .push(LinkAttribute::IfName(name.to_owned()));
        let answer = match self.ask(RouteNetlinkMessage::GetLink(message), NLM_F_REQUEST) {
            Ok(answer) => answer,
            Err(error) if error.raw_os_error() == Some(ENODEV) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(RouteNetlinkMessage::NewLink(link)) = answer else {
            return Err(io::Error::other("the kernel did not describe the netdev"));
        };
        let mtu = link
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                LinkAttribute::Mtu(mtu) => Some(*mtu),
                _ => None,
            });
        Ok(Some(Device {
            index: link.header.index,
            mtu: mtu.ok_or_else(|| io::Error::other("the kernel did not tell the netdev's MTU"))?,
            up: link.header.flags.contains(LinkFlags::Up),
        }))
    }

    /// Sets a netdev administratively up or down.
    pub(super) fn set_up(&self, index: u32, up: bool) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.change_mask = LinkFlags::Up;
        message.header.flags = if up {
            LinkFlags::Up
        } else {
            LinkFlags::empty()
        };
        self.ask(
            RouteNetlinkMessage::SetLink(message),
            NLM_F_REQUEST | NLM_F_ACK,
        )
        .map(drop)
    }

    /// Gives a netdev an IPv6 address; one that it has already is no error.
    pub(super) fn add_ipv6(&self, index: u32, address: Ipv6Addr, prefix_len: u8) -> io::Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet6;
        message.header.prefix_len = prefix_len;
        message.header.index = index;
        message
            .attributes
            .push(AddressAttribute::Address(IpAddr::V6(address)));
        let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        match self.ask(RouteNetlinkMessage::NewAddress(message), flags) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            result => result.map(drop),
        }
    }

    /// Sends one request and takes the kernel's answer, `None` for a bare acknowledgement.
    fn ask(
        &self,
        request: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<Option<RouteNetlinkMessage>> {
        let mut message = NetlinkMessage::from(request);
        message.header.flags = flags;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        send(&self.socket, &bytes, SendFlags::empty())?;
        // More than any answer about one netdev takes, VF lists included.
        let mut answer = vec![0; 1 << 17];
        let (_, len) = recv(&self.socket, answer.as_mut_slice(), RecvFlags::empty())?;
        let answer = answer.get(..len).unwrap_or_default();
        let answer =
            NetlinkMessage::<RouteNetlinkMessage>::deserialize(answer).map_err(io::Error::other)?;
        match answer.payload {
            NetlinkPayload::InnerMessage(inner) => Ok(Some(inner)),
            NetlinkPayload::Error(error) if error.code.is_some() => Err(error.to_io()),
            _ => Ok(None),
        }
    }
}

/// `ENODEV`, by which rtnetlink says that there is no such netdev.
const ENODEV: i32 = rustix::io::Errno::NODEV.raw_os_error();

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_found_and_others_are_not() {
        let devices = Devices::open().unwrap();
        let loopback = devices.find("lo").unwrap().unwrap();
        assert!(loopback.index > 0 && loopback.mtu >= 1280);
        assert_eq!(devices.find("sg-none").unwrap(), None);
    }
}
