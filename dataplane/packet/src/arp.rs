// SPDX-License-Identifier: Apache-2.0
//! ARP for IPv4 over Ethernet (RFC 826).

use std::net::Ipv4Addr;

use crate::bytes::{be16, part, put};
use crate::error::ParseError;
use crate::ethertype::EtherType;
use crate::mac::Mac;

/// Bytes of an ARP packet for IPv4 over Ethernet.
pub const LEN: usize = 28;
/// Operation of a request: who has the target address?
pub const REQUEST: u16 = 1;
/// Operation of a reply: the sender has it.
pub const REPLY: u16 = 2;

/// View of an ARP packet.
#[derive(Debug, Clone, Copy)]
pub struct Arp<'a> {
    head: &'a [u8; LEN],
}

impl<'a> Arp<'a> {
    /// Checks the fixed fields and makes the view. Padding behind the packet is allowed.
    ///
    /// # Errors
    /// `Truncated` below 28 bytes; `BadHeader` if it is not about IPv4 over Ethernet (hardware type
    /// 1, protocol 0x0800, lengths 6 and 4).
    pub fn new(bytes: &'a [u8]) -> Result<Arp<'a>, ParseError> {
        let head: &[u8; LEN] = bytes.first_chunk().ok_or(ParseError::Truncated)?;
        let about = part::<0, 6, _>(head);
        if about != [0, 1, 8, 0, 6, 4] {
            return Err(ParseError::BadHeader);
        }
        Ok(Arp { head })
    }

    /// Operation as written: [`REQUEST`], [`REPLY`], or any other number.
    #[must_use]
    pub fn operation(&self) -> u16 {
        be16::<6, _>(self.head)
    }

    /// MAC that the sender claims.
    #[must_use]
    pub fn sender_mac(&self) -> Mac {
        Mac(part::<8, 6, _>(self.head))
    }

    /// IPv4 address that the sender claims; 0.0.0.0 in a probe (RFC 5227).
    #[must_use]
    pub fn sender_ip(&self) -> Ipv4Addr {
        part::<14, 4, _>(self.head).into()
    }

    /// MAC of the target; meaningless in a request.
    #[must_use]
    pub fn target_mac(&self) -> Mac {
        Mac(part::<18, 6, _>(self.head))
    }

    /// IPv4 address of the target: asked for, or answered to.
    #[must_use]
    pub fn target_ip(&self) -> Ipv4Addr {
        part::<24, 4, _>(self.head).into()
    }
}

/// Fields of an ARP packet to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArpFields {
    /// Operation: [`REQUEST`] or [`REPLY`].
    pub operation: u16,
    /// MAC of the sender.
    pub sender_mac: Mac,
    /// IPv4 address of the sender.
    pub sender_ip: Ipv4Addr,
    /// MAC of the target; zero in a request.
    pub target_mac: Mac,
    /// IPv4 address of the target.
    pub target_ip: Ipv4Addr,
}

impl ArpFields {
    /// Encodes the packet.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; LEN] {
        let mut out = [0; LEN];
        put::<0, 2, _>(&mut out, [0, 1]);
        put::<2, 2, _>(&mut out, EtherType::IPV4.to_be_bytes());
        put::<4, 2, _>(&mut out, [6, 4]);
        put::<6, 2, _>(&mut out, self.operation.to_be_bytes());
        put::<8, 6, _>(&mut out, self.sender_mac.0);
        put::<14, 4, _>(&mut out, self.sender_ip.octets());
        put::<18, 6, _>(&mut out, self.target_mac.0);
        put::<24, 4, _>(&mut out, self.target_ip.octets());
        out
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn a_request_byte_by_byte() {
        let bytes = [
            0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2,
        ];
        let fields = ArpFields {
            operation: REQUEST,
            sender_mac: Mac([2, 0, 0, 0, 0, 1]),
            sender_ip: Ipv4Addr::new(10, 0, 0, 1),
            target_mac: Mac::ZERO,
            target_ip: Ipv4Addr::new(10, 0, 0, 2),
        };
        assert_eq!(fields.to_bytes(), bytes);
        let arp = Arp::new(&bytes).unwrap();
        let read = ArpFields {
            operation: arp.operation(),
            sender_mac: arp.sender_mac(),
            sender_ip: arp.sender_ip(),
            target_mac: arp.target_mac(),
            target_ip: arp.target_ip(),
        };
        assert_eq!(read, fields);
        assert_eq!(Arp::new(&bytes[..27]).err(), Some(ParseError::Truncated));
    }

    #[test]
    fn other_hardware_and_lengths_are_refused() {
        let mut bytes = [0; LEN];
        bytes[..8].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 1]);
        assert!(Arp::new(&bytes).is_ok());
        for at in 0..6 {
            let mut bad = bytes;
            bad[at] ^= 0x10;
            assert_eq!(Arp::new(&bad).err(), Some(ParseError::BadHeader));
        }
    }
}
