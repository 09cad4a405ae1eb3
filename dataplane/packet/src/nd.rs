// SPDX-License-Identifier: Apache-2.0
//! IPv6 neighbour discovery (RFC 4861, section 4).

use std::net::Ipv6Addr;

use crate::bytes::part;
use crate::error::ParseError;
use crate::icmpv6::Icmpv6;
pub use crate::icmpv6::REDIRECT;
use crate::mac::Mac;

/// Router solicitation.
pub const ROUTER_SOLICIT: u8 = 133;
/// Router advertisement.
pub const ROUTER_ADVERT: u8 = 134;
/// Neighbour solicitation.
pub const NEIGHBOUR_SOLICIT: u8 = 135;
/// Neighbour advertisement.
pub const NEIGHBOUR_ADVERT: u8 = 136;
/// Option with the sender's MAC.
pub const OPTION_SOURCE_MAC: u8 = 1;
/// Option with the target's MAC.
pub const OPTION_TARGET_MAC: u8 = 2;

/// Kind of a message, with its fixed fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Router solicitation, type 133.
    RouterSolicit,
    /// Router advertisement, type 134.
    RouterAdvert,
    /// Neighbour solicitation, type 135.
    NeighbourSolicit {
        /// Address asked for.
        target: Ipv6Addr,
    },
    /// Neighbour advertisement, type 136.
    NeighbourAdvert {
        /// Address that the sender claims.
        target: Ipv6Addr,
    },
    /// Redirect, type 137.
    Redirect {
        /// Better first hop.
        target: Ipv6Addr,
        /// Destination of the packets to be redirected.
        destination: Ipv6Addr,
    },
}

/// View of a neighbour discovery message whose fixed part and options are complete.
#[derive(Debug, Clone, Copy)]
pub struct Nd<'a> {
    kind: Kind,
    options: &'a [u8],
}

impl<'a> Nd<'a> {
    /// Checks the message and makes the view; `None` if it is of another type.
    ///
    /// # Errors
    /// `Truncated` if the fixed part or an option is not complete; `BadHeader` if its code is not 0 or an option's length is (RFC 4861, 4.6 and 6.1).
    pub fn new(icmp: &Icmpv6<'a>) -> Option<Result<Nd<'a>, ParseError>> {
        let body = icmp.payload();
        let split = match icmp.icmp_type() {
            ROUTER_SOLICIT => Some((Kind::RouterSolicit, body)),
            // Reachable time and retransmission timer are behind the header.
            ROUTER_ADVERT => body.get(8..).map(|rest| (Kind::RouterAdvert, rest)),
            NEIGHBOUR_SOLICIT => body.split_first_chunk::<16>().map(|(target, rest)| {
                let target = (*target).into();
                (Kind::NeighbourSolicit { target }, rest)
            }),
            NEIGHBOUR_ADVERT => body.split_first_chunk::<16>().map(|(target, rest)| {
                let target = (*target).into();
                (Kind::NeighbourAdvert { target }, rest)
            }),
            REDIRECT => body.split_first_chunk::<32>().map(|(both, rest)| {
                let target = part::<0, 16, _>(both).into();
                let destination = part::<16, 16, _>(both).into();
                let kind = Kind::Redirect {
                    target,
                    destination,
                };
                (kind, rest)
            }),
            _ => return None,
        };
        Some(Nd::checked(icmp, split))
    }

    fn checked(icmp: &Icmpv6<'a>, split: Option<(Kind, &'a [u8])>) -> Result<Nd<'a>, ParseError> {
        let (kind, options) = split.ok_or(ParseError::Truncated)?;
        if icmp.code() != 0 {
            return Err(ParseError::BadHeader);
        }
        let nd = Nd { kind, options };
        for option in nd.options() {
            option?;
        }
        Ok(nd)
    }

    /// Kind and fixed fields.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Iterates over the options, which [`Nd::new`] has checked: no error is among them.
    #[must_use]
    pub fn options(&self) -> NdOptions<'a> {
        NdOptions { rest: self.options }
    }

    /// Reads the MAC of the option `kind` ([`OPTION_SOURCE_MAC`] or [`OPTION_TARGET_MAC`]), if there is
    /// one.
    ///
    /// # Errors
    /// `BadHeader` if it has another length than Ethernet's, or if several of them differ: receivers
    /// do not agree on which one counts.
    pub fn mac_option(&self, kind: u8) -> Result<Option<Mac>, ParseError> {
        let mut found = None;
        for option in self.options() {
            let option = option?;
            if option.kind != kind {
                continue;
            }
            let octets: [u8; 6] = option.data.try_into().map_err(|_| ParseError::BadHeader)?;
            if found.is_some_and(|before| before != Mac(octets)) {
                return Err(ParseError::BadHeader);
            }
            found = Some(Mac(octets));
        }
        Ok(found)
    }
}

/// Option of a message (RFC 4861, 4.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NdOption<'a> {
    /// Type.
    pub kind: u8,
    /// Bytes behind type and length: 6, 14, 22, ...
    pub data: &'a [u8],
}

/// Iterator over the options of a message. An error is reported once and ends it.
#[derive(Debug, Clone, Copy)]
pub struct NdOptions<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for NdOptions<'a> {
    type Item = Result<NdOption<'a>, ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let rest = std::mem::take(&mut self.rest);
        let Some((&[kind, units], _)) = rest.split_first_chunk::<2>() else {
            return Some(Err(ParseError::Truncated));
        };
        if units == 0 {
            return Some(Err(ParseError::BadHeader));
        }
        let Some((option, rest)) = rest.split_at_checked(usize::from(units) * 8) else {
            return Some(Err(ParseError::Truncated));
        };
        self.rest = rest;
        let data = option.get(2..).unwrap_or_default();
        Some(Ok(NdOption { kind, data }))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::icmpv6;

    const TARGET: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 7);

    fn advert(options: &[u8]) -> Vec<u8> {
        let mut bytes = icmpv6::header(NEIGHBOUR_ADVERT, 0, [0x60, 0, 0, 0]).to_vec();
        bytes.extend_from_slice(&TARGET.octets());
        bytes.extend_from_slice(options);
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Nd<'_>, ParseError> {
        Nd::new(&Icmpv6::new(bytes).unwrap()).unwrap()
    }

    #[test]
    fn advert_with_target_mac() {
        let bytes = advert(&[2, 1, 2, 0, 0, 0, 0, 9]);
        let nd = read(&bytes).unwrap();
        assert_eq!(nd.kind(), Kind::NeighbourAdvert { target: TARGET });
        assert_eq!(
            nd.mac_option(OPTION_TARGET_MAC),
            Ok(Some(Mac([2, 0, 0, 0, 0, 9])))
        );
        assert_eq!(nd.mac_option(OPTION_SOURCE_MAC), Ok(None));
    }

    #[test]
    fn options_that_lie() {
        assert_eq!(
            read(&advert(&[2, 0, 0, 0, 0, 0, 0, 0])).err(),
            Some(ParseError::BadHeader)
        );
        assert_eq!(
            read(&advert(&[2, 2, 0, 0, 0, 0, 0, 0])).err(),
            Some(ParseError::Truncated)
        );
        assert_eq!(read(&advert(&[2])).err(), Some(ParseError::Truncated));
        assert_eq!(read(&advert(&[])[..23]).err(), Some(ParseError::Truncated));
        let mut code = advert(&[]);
        code[1] = 1;
        assert_eq!(read(&code).err(), Some(ParseError::BadHeader));
    }

    #[test]
    fn two_macs_that_differ_are_no_mac() {
        let same = advert(&[2, 1, 2, 0, 0, 0, 0, 9, 2, 1, 2, 0, 0, 0, 0, 9]);
        assert!(read(&same).unwrap().mac_option(OPTION_TARGET_MAC).is_ok());
        let differ = advert(&[2, 1, 2, 0, 0, 0, 0, 9, 2, 1, 2, 0, 0, 0, 0, 8]);
        assert_eq!(
            read(&differ).unwrap().mac_option(OPTION_TARGET_MAC),
            Err(ParseError::BadHeader)
        );
        let mut long = advert(&[2, 2]);
        long.extend_from_slice(&[0; 14]);
        assert_eq!(
            read(&long).unwrap().mac_option(OPTION_TARGET_MAC),
            Err(ParseError::BadHeader)
        );
    }

    #[test]
    fn every_kind() {
        let mut bytes = vec![0; 8 + 32];
        for (icmp_type, fixed) in [(133, 0), (134, 8), (135, 16), (136, 16), (137, 32)] {
            bytes[0] = icmp_type;
            assert!(read(&bytes[..8 + fixed]).is_ok(), "{icmp_type}");
            if fixed > 0 {
                assert_eq!(read(&bytes[..7 + fixed]).err(), Some(ParseError::Truncated));
            }
        }
        bytes[0] = icmpv6::ECHO_REQUEST;
        assert!(Nd::new(&Icmpv6::new(&bytes).unwrap()).is_none());
    }
}
