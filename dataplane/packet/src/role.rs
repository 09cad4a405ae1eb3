// SPDX-License-Identifier: Apache-2.0
//! Roles: what only a router, a DHCP server or a multicast querier sends. Others believe it without
//! asking, so a host may send it only where it was given the role.

use std::fmt;
use std::str::FromStr;

use crate::icmpv6;
use crate::ipv4::Ipv4;
use crate::ipv6::Ipv6;
use crate::key::FlowKey;
use crate::nd;
use crate::proto::IpProto;

/// Role that others take a sender's word for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Router: advertisements and redirects of IPv6 (RFC 4861) and of IPv4 (RFC 1256, RFC 792), and what makes a
    /// snooping switch send every group (multicast router discovery, RFC 4286; PIM; DVMRP).
    Router,
    /// DHCP server, of either version: everything that goes to a client, and answers to a relay.
    DhcpServer,
    /// Querier: queries of IGMP and MLD.
    Querier,
}

impl Role {
    /// All of them.
    pub const ALL: [Role; 3] = [Role::Router, Role::DhcpServer, Role::Querier];

    /// The name it is asked for by.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Role::Router => "router",
            Role::DhcpServer => "dhcp-server",
            Role::Querier => "querier",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Text that names no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a role: the roles are router, dhcp-server and querier")]
pub struct NoSuchRole(String);

impl FromStr for Role {
    type Err = NoSuchRole;

    fn from_str(text: &str) -> Result<Role, NoSuchRole> {
        let found = Role::ALL.into_iter().find(|role| role.name() == text);
        found.ok_or_else(|| NoSuchRole(text.to_owned()))
    }
}

/// Roles are text in files and in messages of the control socket.
#[cfg(feature = "serde")]
mod text_form {
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::{Serialize, Serializer};

    use super::Role;

    impl Serialize for Role {
        fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
            to.serialize_str(self.name())
        }
    }

    impl<'de> Deserialize<'de> for Role {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Role, D::Error> {
            let text = String::deserialize(from)?;
            text.parse().map_err(D::Error::custom)
        }
    }
}

/// Set of roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Roles(u8);

impl Roles {
    /// Whether `role` is among them.
    #[must_use]
    pub const fn has(self, role: Role) -> bool {
        self.0 & 1 << role as u8 != 0
    }
}

impl FromIterator<Role> for Roles {
    fn from_iter<I: IntoIterator<Item = Role>>(roles: I) -> Roles {
        let bits = roles.into_iter().map(|role| 1 << role as u8);
        Roles(bits.fold(0, |all, bit| all | bit))
    }
}

/// ICMP types of IPv4: redirect (RFC 792) and router advertisement (RFC 1256).
const ICMP_REDIRECT: u8 = 5;
const ICMP_ROUTER_ADVERT: u8 = 9;
/// ICMPv6 types: listener query (RFC 9777), multicast router advertisement and termination (RFC 4286).
const MLD_QUERY: u8 = 130;
const MULTICAST_ROUTER_ADVERT: u8 = 151;
const MULTICAST_ROUTER_END: u8 = 153;
/// IGMP types: membership query, DVMRP, multicast router advertisement and termination.
const IGMP_QUERY: u8 = 0x11;
const IGMP_DVMRP: u8 = 0x13;
const IGMP_ROUTER_ADVERT: u8 = 0x30;
const IGMP_ROUTER_END: u8 = 0x32;
/// UDP ports of DHCP (RFC 2131, RFC 8415).
const SERVER_V4: u16 = 67;
const CLIENT_V4: u16 = 68;
const CLIENT_V6: u16 = 546;
const SERVER_V6: u16 = 547;

/// Returns the role that the sender of a frame plays, of which the parser made `key`; `l3` is the
/// offset of its IP header.
#[must_use]
pub fn role_of(frame: &[u8], key: &FlowKey, l3: u16) -> Option<Role> {
    let body = || payload(frame, key, l3);
    match key.proto {
        _ if !key.is_ip() => None,
        IpProto::ICMPV6 if key.has(FlowKey::ICMP) => match key.icmp_type {
            nd::ROUTER_ADVERT
            | icmpv6::REDIRECT
            | MULTICAST_ROUTER_ADVERT
            | MULTICAST_ROUTER_END => Some(Role::Router),
            MLD_QUERY => Some(Role::Querier),
            _ => None,
        },
        IpProto::ICMP if key.has(FlowKey::ICMP) => {
            let is_router = matches!(key.icmp_type, ICMP_REDIRECT | ICMP_ROUTER_ADVERT);
            is_router.then_some(Role::Router)
        }
        IpProto::PIM => Some(Role::Router),
        IpProto::IGMP if key.has(FlowKey::IPV4) => match *body()?.first()? {
            IGMP_QUERY => Some(Role::Querier),
            IGMP_DVMRP | IGMP_ROUTER_ADVERT | IGMP_ROUTER_END => Some(Role::Router),
            _ => None,
        },
        IpProto::UDP if key.has(FlowKey::PORTS) => {
            let message_type = || dhcp_type(body()?, key.has(FlowKey::FRAGMENT));
            let serves = match (key.has(FlowKey::IPV4), key.dst_port) {
                // Whatever port they come from: clients do not look at it.
                (true, CLIENT_V4) | (false, CLIENT_V6) => true,
                // BOOTREPLY, which a relay takes to the client.
                (true, SERVER_V4) => message_type().is_none_or(|op| op == 2),
                // ADVERTISE, REPLY, RECONFIGURE and RELAY-REPL.
                (false, SERVER_V6) => message_type().is_none_or(|ty| matches!(ty, 2 | 7 | 10 | 13)),
                _ => false,
            };
            serves.then_some(Role::DhcpServer)
        }
        _ => None,
    }
}

/// Whether [`role_of`] reads more of a frame than its key.
#[must_use]
pub const fn reads_body(key: &FlowKey) -> bool {
    match key.proto {
        IpProto::IGMP => true,
        IpProto::UDP => matches!(key.dst_port, SERVER_V4 | SERVER_V6),
        _ => false,
    }
}

/// Whether [`role_of`] finds no role in a frame of this key, whatever else is in it.
#[inline]
#[must_use]
pub const fn plays_none(key: &FlowKey) -> bool {
    match key.proto {
        IpProto::ICMP | IpProto::ICMPV6 | IpProto::IGMP | IpProto::PIM => false,
        IpProto::UDP => !matches!(key.dst_port, SERVER_V4 | CLIENT_V4 | CLIENT_V6 | SERVER_V6),
        _ => true,
    }
}

/// Type of the DHCP message in UDP; 0 if there is none. `None` of a piece that does not have it:
/// the other pieces can make it anything.
fn dhcp_type(udp: &[u8], is_piece: bool) -> Option<u8> {
    match udp.get(8) {
        None if !is_piece => Some(0),
        shown => shown.copied(),
    }
}

/// Bytes behind the IP header and its extension headers; `None` of a later fragment.
fn payload<'f>(frame: &'f [u8], key: &FlowKey, l3: u16) -> Option<&'f [u8]> {
    let bytes = frame.get(usize::from(l3)..)?;
    if key.has(FlowKey::LATER_FRAGMENT) {
        None
    } else if key.has(FlowKey::IPV4) {
        Some(Ipv4::new(bytes).ok()?.payload())
    } else {
        Some(Ipv6::new(bytes).ok()?.upper().ok()?.payload)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::build::FrameBuilder;
    use crate::mac::Mac;
    use crate::{InnerTag, parse};

    fn eth() -> FrameBuilder<'static> {
        FrameBuilder::new(Mac::BROADCAST, Mac([2, 0, 0, 0, 0, 1]))
    }

    fn v4() -> FrameBuilder<'static> {
        eth().ipv4([10, 0, 0, 1].into(), [10, 0, 0, 2].into())
    }

    fn v6() -> FrameBuilder<'static> {
        eth().ipv6("fe80::1".parse().unwrap(), "ff02::1".parse().unwrap())
    }

    fn read(builder: FrameBuilder<'_>) -> Option<Role> {
        let frame = builder.build();
        let parsed = parse(&frame, InnerTag::Allow).unwrap();
        role_of(&frame, &parsed.key, parsed.l3)
    }

    #[test]
    fn names() {
        for role in Role::ALL {
            assert_eq!(role.name().parse(), Ok(role));
            let alone: Roles = [role].into_iter().collect();
            for other in Role::ALL {
                assert_eq!(alone.has(other), other == role);
            }
        }
        let wrong = "dhcp".parse::<Role>().unwrap_err().to_string();
        assert!(wrong.contains("\"dhcp\"") && wrong.contains("dhcp-server"));
    }

    #[test]
    fn icmp_of_every_type() {
        for icmp_type in 0..=255u8 {
            let expected = match icmp_type {
                134 | 137 | 151 | 153 => Some(Role::Router),
                130 => Some(Role::Querier),
                _ => None,
            };
            let message = v6().icmp(icmp_type, 0, [0; 4]).payload(&[0; 32]);
            assert_eq!(read(message), expected, "ICMPv6 {icmp_type}");
            let expected = matches!(icmp_type, 5 | 9).then_some(Role::Router);
            let message = v4().icmp(icmp_type, 0, [0; 4]);
            assert_eq!(read(message), expected, "ICMP {icmp_type}");
        }
    }

    #[test]
    fn igmp_of_every_type() {
        for igmp_type in 0..=255u8 {
            let expected = match igmp_type {
                0x11 => Some(Role::Querier),
                0x13 | 0x30 | 0x32 => Some(Role::Router),
                _ => None,
            };
            let body = [igmp_type, 0, 0, 0, 0, 0, 0, 0];
            let message = v4().ip_options(&[148, 4, 0, 0]).proto(2).payload(&body);
            assert_eq!(read(message), expected, "IGMP {igmp_type:#x}");
        }
        assert_eq!(read(v4().proto(2)), None);
        assert_eq!(read(v4().proto(103).payload(&[0x20])), Some(Role::Router));
        assert_eq!(read(v6().proto(103).payload(&[0x20])), Some(Role::Router));
    }

    #[test]
    fn dhcp() {
        let server = Some(Role::DhcpServer);
        let udp4 = |from, to, op| read(v4().udp(from, to).payload(&[op, 1, 6, 0]));
        let udp6 = |from, to, kind| read(v6().udp(from, to).payload(&[kind, 0, 0, 1]));
        assert_eq!(udp4(68, 67, 1), None, "a client asks");
        assert_eq!(udp4(67, 68, 2), server);
        assert_eq!(udp4(1000, 68, 2), server, "from any port");
        assert_eq!(udp4(67, 67, 1), None, "a relay asks");
        assert_eq!(udp4(68, 67, 2), server, "by way of a relay");
        assert_eq!(read(v4().udp(68, 67)), None);
        assert_eq!(udp4(53, 1068, 2), None);
        assert_eq!(udp6(546, 547, 1), None, "a client asks");
        assert_eq!(udp6(546, 547, 12), None, "a relay asks");
        for kind in [2, 7, 10, 13] {
            assert_eq!(udp6(546, 547, kind), server);
        }
        assert_eq!(udp6(1000, 546, 2), server);
        assert_eq!(udp6(68, 68, 2), None, "ports of the other version");
        assert_eq!(udp4(546, 546, 2), None);
        let first = v4().udp(67, 68).payload(&[2; 24]).fragment(0, true);
        assert_eq!(read(first), server);
    }

    #[test]
    fn a_piece_that_does_not_show_its_dhcp_message_is_a_servers() {
        for (ip, port) in [(v4(), 67), (v6(), 547)] {
            let piece = |offset, bytes: usize, more| {
                let udp = ip.clone().udp(68, port).payload(&[1; 24][..bytes]);
                let frame = udp.fragment(offset, more).build();
                let parsed = parse(&frame, InnerTag::Allow).unwrap();
                let mut key = parsed.key;
                // As the datagram's first piece has it.
                key.flags |= FlowKey::PORTS;
                (key.proto, key.dst_port) = (IpProto::UDP, port);
                role_of(&frame, &key, parsed.l3)
            };
            let server = Some(Role::DhcpServer);
            assert_eq!(piece(0, 0, true), server, "the UDP header alone");
            assert_eq!(piece(0, 8, true), None, "a client's");
            assert_eq!(piece(8, 24, false), server);
            assert_eq!(piece(16, 24, true), server);
        }
        let unknown = v4().udp(68, 67).payload(&[2; 24]).fragment(16, false);
        assert_eq!(read(unknown), None, "the first piece was not seen");
    }

    #[test]
    fn what_the_key_does_not_tell() {
        let key = |builder: FrameBuilder<'_>| parse(&builder.build(), InnerTag::Allow).unwrap().key;
        assert!(reads_body(&key(v4().proto(2).payload(&[0x11]))));
        assert!(reads_body(&key(v4().udp(68, 67))) && reads_body(&key(v6().udp(546, 547))));
        assert!(!reads_body(&key(v4().udp(67, 68))) && !reads_body(&key(v4().udp(1, 2))));
    }
}
