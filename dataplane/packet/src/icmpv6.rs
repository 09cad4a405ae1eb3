// SPDX-License-Identifier: Apache-2.0
//! ICMP for IPv6 (RFC 4443). Neighbour discovery is in [`crate::nd`].

use crate::bytes::{be16, part};
use crate::error::ParseError;

/// Bytes of the header that all messages have.
pub const HEADER_LEN: usize = 8;
/// Destination unreachable.
pub const UNREACHABLE: u8 = 1;
/// Echo request.
pub const ECHO_REQUEST: u8 = 128;
/// Echo reply.
pub const ECHO_REPLY: u8 = 129;
/// Redirect, the one neighbour discovery message that no error may answer.
pub const REDIRECT: u8 = 137;
/// Code of [`UNREACHABLE`]: communication administratively prohibited (RFC 4443, 3.1).
pub const CODE_ADMIN_PROHIBITED: u8 = 1;

/// View of an ICMPv6 message.
#[derive(Debug, Clone, Copy)]
pub struct Icmpv6<'a> {
    head: &'a [u8; HEADER_LEN],
    payload: &'a [u8],
}

impl<'a> Icmpv6<'a> {
    /// Makes the view; `bytes` begins behind the extension headers.
    ///
    /// # Errors
    /// `Truncated` below 8 bytes.
    pub fn new(bytes: &'a [u8]) -> Result<Icmpv6<'a>, ParseError> {
        let (head, payload) = bytes.split_first_chunk().ok_or(ParseError::Truncated)?;
        Ok(Icmpv6 { head, payload })
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

/// Whether no error may be sent in answer to a message of this type (RFC 4443, 2.4 (e)): the errors,
/// which are all types below 128, and redirects.
#[must_use]
pub const fn is_error(icmp_type: u8) -> bool {
    icmp_type < 128 || icmp_type == REDIRECT
}

/// Builds a header with a checksum of 0, to be filled in over pseudo header and message.
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
        let bytes = header(ECHO_REPLY, 0, [1, 2, 3, 4]);
        let icmp = Icmpv6::new(&bytes).unwrap();
        assert_eq!((icmp.icmp_type(), icmp.code()), (129, 0));
        assert_eq!((icmp.rest(), icmp.payload().len()), ([1, 2, 3, 4], 0));
        assert_eq!(Icmpv6::new(&bytes[..7]).err(), Some(ParseError::Truncated));
    }

    #[test]
    fn errors() {
        assert!(is_error(1) && is_error(127) && is_error(137));
        assert!(!is_error(128) && !is_error(135) && !is_error(255));
    }
}
