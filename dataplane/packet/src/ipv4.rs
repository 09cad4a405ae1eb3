// SPDX-License-Identifier: Apache-2.0
//! IPv4 (RFC 791).

use std::net::Ipv4Addr;

use crate::bytes::{be16, part, put};
use crate::checksum;
use crate::error::ParseError;

/// Bytes of a header without options.
pub const MIN_HEADER_LEN: usize = 20;
/// Bytes of a header with all the options that fit.
pub const MAX_HEADER_LEN: usize = 60;
/// Kinds of the options that route a packet through other hosts: loose and strict source route.
pub const SOURCE_ROUTES: [u8; 2] = [131, 137];

/// View of an IPv4 packet.
#[derive(Debug, Clone, Copy)]
pub struct Ipv4<'a> {
    head: &'a [u8; MIN_HEADER_LEN],
    options: &'a [u8],
    payload: &'a [u8],
}

impl<'a> Ipv4<'a> {
    /// Checks the lengths and makes the view. `bytes` begins at the header; bytes behind the total
    /// length are Ethernet padding and left out. The checksum is not checked.
    ///
    /// # Errors
    /// `BadHeader` if the version is not 4, the header length is below 20 or the total length below
    /// the header length; `Truncated` if either goes past `bytes`.
    pub fn new(bytes: &'a [u8]) -> Result<Ipv4<'a>, ParseError> {
        let head: &[u8; MIN_HEADER_LEN] = bytes.first_chunk().ok_or(ParseError::Truncated)?;
        let header_len = usize::from(head[0] & 0x0f) * 4;
        let total_len = usize::from(be16::<2, _>(head));
        if head[0] >> 4 != 4 || header_len < MIN_HEADER_LEN || total_len < header_len {
            return Err(ParseError::BadHeader);
        }
        let packet = bytes.get(..total_len).ok_or(ParseError::Truncated)?;
        let (header, payload) = packet
            .split_at_checked(header_len)
            .ok_or(ParseError::Truncated)?;
        let options = header.get(MIN_HEADER_LEN..).ok_or(ParseError::Truncated)?;
        Ok(Ipv4 {
            head,
            options,
            payload,
        })
    }

    /// Header length in bytes, 20 to 60.
    #[must_use]
    pub fn header_len(&self) -> usize {
        MIN_HEADER_LEN + self.options.len()
    }

    /// Type of service: DSCP and ECN.
    #[must_use]
    pub fn tos(&self) -> u8 {
        self.head[1]
    }

    /// Bytes of header and payload.
    #[must_use]
    pub fn total_len(&self) -> u16 {
        be16::<2, _>(self.head)
    }

    /// Identification.
    #[must_use]
    pub fn id(&self) -> u16 {
        be16::<4, _>(self.head)
    }

    /// Whether DF (don't fragment) is set.
    #[must_use]
    pub fn dont_fragment(&self) -> bool {
        self.head[6] & 0x40 != 0
    }

    /// Whether MF (more fragments) is set.
    #[must_use]
    pub fn more_fragments(&self) -> bool {
        self.head[6] & 0x20 != 0
    }

    /// Offset of this piece in the whole packet's payload, in bytes.
    #[must_use]
    pub fn fragment_offset(&self) -> u16 {
        // 13 bits of 8 bytes each: at most 65,528.
        (be16::<6, _>(self.head) & 0x1fff) << 3
    }

    /// Whether the packet is one piece of several.
    #[must_use]
    pub fn is_fragment(&self) -> bool {
        be16::<6, _>(self.head) & 0x3fff != 0
    }

    /// Time to live.
    #[must_use]
    pub fn ttl(&self) -> u8 {
        self.head[8]
    }

    /// Protocol of the payload.
    #[must_use]
    pub fn proto(&self) -> u8 {
        self.head[9]
    }

    /// Header checksum as written.
    #[must_use]
    pub fn checksum(&self) -> u16 {
        be16::<10, _>(self.head)
    }

    /// Whether the header's checksum is right.
    #[must_use]
    pub fn checksum_ok(&self) -> bool {
        let sum = checksum::Sum::new().with(self.head).with(self.options);
        sum.finish() == 0
    }

    /// Source address.
    #[must_use]
    pub fn src(&self) -> Ipv4Addr {
        part::<12, 4, _>(self.head).into()
    }

    /// Destination address.
    #[must_use]
    pub fn dst(&self) -> Ipv4Addr {
        part::<16, 4, _>(self.head).into()
    }

    /// Iterates over the options.
    #[must_use]
    pub fn options(&self) -> Options<'a> {
        Options { rest: self.options }
    }

    /// Payload, without padding.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Checks the rules of RFC 791 on fragments and options beyond lengths.
    ///
    /// # Errors
    /// `BadHeader` if the pieces would make more than 65,535 bytes, if a piece that is not the last
    /// is empty or not a multiple of 8 bytes long, or if an option's length is wrong. `HiddenAddress`
    /// if an option asks for a source route (RFC 7126, 4.3 and 4.4: such a packet's destination is
    /// not where it goes, so no rule about its destination would mean anything).
    pub(crate) fn check_rest(&self) -> Result<(), ParseError> {
        let len = self.payload.len();
        let whole = usize::from(self.fragment_offset()) + len + self.header_len();
        if whole > usize::from(u16::MAX) {
            return Err(ParseError::BadHeader);
        }
        if self.more_fragments() && (len == 0 || !len.is_multiple_of(8)) {
            return Err(ParseError::BadHeader);
        }
        for option in self.options() {
            if SOURCE_ROUTES.contains(&option?.kind) {
                return Err(ParseError::HiddenAddress);
            }
        }
        Ok(())
    }
}

/// Option of a header; padding (kinds 0 and 1) is not reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderOption<'a> {
    /// Kind.
    pub kind: u8,
    /// Bytes behind kind and length.
    pub data: &'a [u8],
}

/// Iterator over the options of an IPv4 or TCP header, which have one format (RFC 791, 3.1; RFC 9293, 3.2).
///
/// A wrong length is reported once, as `BadHeader`, and ends the iteration.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    pub(crate) rest: &'a [u8],
}

impl<'a> Iterator for Options<'a> {
    type Item = Result<HeaderOption<'a>, ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (&kind, rest) = self.rest.split_first()?;
            match kind {
                0 => {
                    self.rest = &[];
                    return None;
                }
                1 => self.rest = rest,
                _ => {
                    let option = rest.first().and_then(|&len| {
                        let data_len = usize::from(len).checked_sub(2)?;
                        rest.get(1..)?.split_at_checked(data_len)
                    });
                    let Some((data, rest)) = option else {
                        self.rest = &[];
                        return Some(Err(ParseError::BadHeader));
                    };
                    self.rest = rest;
                    return Some(Ok(HeaderOption { kind, data }));
                }
            }
        }
    }
}

/// Fields of a header without options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv4Fields {
    /// Type of service.
    pub tos: u8,
    /// Bytes of header and payload.
    pub total_len: u16,
    /// Identification.
    pub id: u16,
    /// Flags and fragment offset as on the wire: 0x4000 is DF, 0x2000 is MF, then units of 8 bytes.
    pub fragment: u16,
    /// Time to live.
    pub ttl: u8,
    /// Protocol of the payload.
    pub proto: u8,
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
}

impl Ipv4Fields {
    /// Encodes the header, with its checksum.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; MIN_HEADER_LEN] {
        let mut out = [0; MIN_HEADER_LEN];
        put::<0, 2, _>(&mut out, [0x45, self.tos]);
        put::<2, 2, _>(&mut out, self.total_len.to_be_bytes());
        put::<4, 2, _>(&mut out, self.id.to_be_bytes());
        put::<6, 2, _>(&mut out, self.fragment.to_be_bytes());
        put::<8, 2, _>(&mut out, [self.ttl, self.proto]);
        put::<12, 4, _>(&mut out, self.src.octets());
        put::<16, 4, _>(&mut out, self.dst.octets());
        let sum = checksum::of(&out);
        put::<10, 2, _>(&mut out, sum.to_be_bytes());
        out
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    /// A header whose checksum, 0xb861, is worked out in many textbooks.
    const TEXTBOOK: [u8; 20] = [
        0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0x00,
        0x01, 0xc0, 0xa8, 0x00, 0xc7,
    ];

    #[test]
    fn textbook_header() {
        let mut bytes = [0; 0x73];
        bytes[..20].copy_from_slice(&TEXTBOOK);
        let ip = Ipv4::new(&bytes).unwrap();
        assert!(ip.checksum_ok() && ip.dont_fragment() && !ip.is_fragment());
        assert_eq!((ip.header_len(), ip.payload().len()), (20, 0x73 - 20));
        let fields = Ipv4Fields {
            tos: 0,
            total_len: 0x73,
            id: 0,
            fragment: 0x4000,
            ttl: 64,
            proto: 17,
            src: Ipv4Addr::new(192, 168, 0, 1),
            dst: Ipv4Addr::new(192, 168, 0, 199),
        };
        assert_eq!(fields.to_bytes(), TEXTBOOK);
        bytes[8] = 63;
        assert!(!Ipv4::new(&bytes).unwrap().checksum_ok());
    }

    #[test]
    fn lengths_that_lie() {
        let mut bytes = [0; 40];
        bytes[..20].copy_from_slice(&TEXTBOOK);
        let with = |at: usize, value: u8, bytes: &[u8; 40]| {
            let mut bytes = *bytes;
            bytes[at] = value;
            Ipv4::new(&bytes).map(|ip| ip.payload().len())
        };
        assert_eq!(with(3, 0x73, &bytes), Err(ParseError::Truncated));
        assert_eq!(with(3, 40, &bytes), Ok(20));
        assert_eq!(with(3, 30, &bytes), Ok(10), "padding is cut off");
        assert_eq!(with(3, 20, &bytes), Ok(0));
        assert_eq!(with(3, 19, &bytes), Err(ParseError::BadHeader));
        bytes[3] = 40;
        assert_eq!(with(0, 0x44, &bytes), Err(ParseError::BadHeader));
        assert_eq!(with(0, 0x65, &bytes), Err(ParseError::BadHeader));
        assert_eq!(with(0, 0x4a, &bytes), Ok(0), "all options");
        assert_eq!(with(0, 0x4b, &bytes), Err(ParseError::BadHeader));
        assert_eq!(Ipv4::new(&bytes[..19]).err(), Some(ParseError::Truncated));
    }

    #[test]
    fn options_one_by_one() {
        let read = |bytes| Options { rest: bytes }.collect::<Result<Vec<_>, _>>();
        let router_alert = HeaderOption {
            kind: 148,
            data: &[0, 0],
        };
        assert_eq!(read(&[148, 4, 0, 0]), Ok(vec![router_alert]));
        assert_eq!(read(&[1, 1, 148, 4, 0, 0, 0, 99]), Ok(vec![router_alert]));
        assert_eq!(read(&[0, 148, 4]), Ok(vec![]));
        for bad in [&[7][..], &[7, 0], &[7, 1], &[7, 3], &[1, 7, 255, 0]] {
            assert_eq!(read(bad), Err(ParseError::BadHeader), "{bad:?}");
        }
    }
}
