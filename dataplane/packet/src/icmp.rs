// SPDX-License-Identifier: Apache-2.0
//! ICMP for IPv4 (RFC 792).

use crate::bytes::{be16, part};
use crate::error::ParseError;

/// Bytes of the header that all messages have.
pub const HEADER_LEN: usize = 8;
/// Echo reply.
pub const ECHO_REPLY: u8 = 0;
/// Destination unreachable.
pub const UNREACHABLE: u8 = 3;
/// Echo request.
pub const ECHO_REQUEST: u8 = 8;
/// Code of [`UNREACHABLE`]: communication administratively prohibited (RFC 1812, 5.2.7.1).
pub const CODE_ADMIN_PROHIBITED: u8 = 13;

/// View of an ICMP message.
#[derive(Debug, Clone, Copy)]
pub struct Icmp<'a> {
    head: &'a [u8; HEADER_LEN],
    payload: &'a [u8],
}

impl<'a> Icmp<'a> {
    /// Makes the view; `bytes` is the IP payload.
    ///
    /// # Errors
    /// `Truncated` below 8 bytes.
    pub fn new(bytes: &'a [u8]) -> Result<Icmp<'a>, ParseError> {
        let (head, payload) = bytes.split_first_chunk().ok_or(ParseError::Truncated)?;
        Ok(Icmp { head, payload })
    }

    /// Type.
    #[must_use]
    pub fn icmp_type(&self) -> u8 {
        self.head[0]
    }

    /// Code.
    #[must_use]
    pub fn code(&self) -> u8 {
        self.head[1]
    }

    /// Checksum as written.
    #[must_use]
    pub fn checksum(&self) -> u16 {
        be16::<2, _>(self.head)
    }

    /// Four bytes whose meaning depends on the type: of an echo, identifier and sequence number.
    #[must_use]
    pub fn rest(&self) -> [u8; 4] {
        part::<4, 4, _>(self.head)
    }

    /// Bytes behind the header: of an error, the packet that it is about.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

/// Whether a message of this type reports an error, or has no known meaning and so might: no error
/// may be sent in answer (RFC 1122, 3.2.2).
#[must_use]
pub const fn is_error(icmp_type: u8) -> bool {
    !matches!(icmp_type, 0 | 8 | 9 | 10 | 13..=18)
}

/// Builds a header with a checksum of 0, to be filled in over the message.
#[must_use]
pub const fn header(icmp_type: u8, code: u8, rest: [u8; 4]) -> [u8; HEADER_LEN] {
    let [a, b, c, d] = rest;
    [icmp_type, code, 0, 0, a, b, c, d]
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        let mut bytes = header(ECHO_REQUEST, 0, [0x12, 0x34, 0, 1]).to_vec();
        bytes.push(0xaa);
        let icmp = Icmp::new(&bytes).unwrap();
        assert_eq!((icmp.icmp_type(), icmp.code(), icmp.checksum()), (8, 0, 0));
        assert_eq!(
            (icmp.rest(), icmp.payload()),
            ([0x12, 0x34, 0, 1], &[0xaa][..])
        );
        assert_eq!(Icmp::new(&bytes[..7]).err(), Some(ParseError::Truncated));
    }

    #[test]
    fn errors() {
        for icmp_type in [3, 4, 5, 11, 12, 1, 2, 19, 40, 255] {
            assert!(is_error(icmp_type), "{icmp_type}");
        }
        for icmp_type in [ECHO_REPLY, ECHO_REQUEST, 13, 17] {
            assert!(!is_error(icmp_type), "{icmp_type}");
        }
    }
}
