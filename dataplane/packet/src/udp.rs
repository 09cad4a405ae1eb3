// SPDX-License-Identifier: Apache-2.0
//! UDP (RFC 768).

use crate::bytes::{be16, put};
use crate::error::ParseError;

/// Bytes of the header.
pub const HEADER_LEN: usize = 8;

/// View of a UDP datagram.
#[derive(Debug, Clone, Copy)]
pub struct Udp<'a> {
    head: &'a [u8; HEADER_LEN],
    payload: &'a [u8],
}

impl<'a> Udp<'a> {
    /// Checks the length and makes the view. `bytes` is the IP payload of an unfragmented packet; bytes
    /// behind the stated length are not part of the datagram (RFC 9868 puts options there).
    ///
    /// # Errors
    /// `BadHeader` if that length is below 8, `Truncated` if it goes past `bytes`.
    pub fn new(bytes: &'a [u8]) -> Result<Udp<'a>, ParseError> {
        let (head, _) = bytes
            .split_first_chunk::<HEADER_LEN>()
            .ok_or(ParseError::Truncated)?;
        let len = usize::from(be16::<4, _>(head));
        if len < HEADER_LEN {
            return Err(ParseError::BadHeader);
        }
        let payload = bytes.get(HEADER_LEN..len).ok_or(ParseError::Truncated)?;
        Ok(Udp { head, payload })
    }

    /// Source port.
    #[must_use]
    pub fn src_port(&self) -> u16 {
        be16::<0, _>(self.head)
    }

    /// Destination port.
    #[must_use]
    pub fn dst_port(&self) -> u16 {
        be16::<2, _>(self.head)
    }

    /// Bytes of header and payload.
    #[must_use]
    pub fn length(&self) -> u16 {
        be16::<4, _>(self.head)
    }

    /// Checksum as written; 0 means none was computed, which only IPv4 allows.
    #[must_use]
    pub fn checksum(&self) -> u16 {
        be16::<6, _>(self.head)
    }

    /// Data of the datagram.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

/// Builds a header with a checksum of 0, to be filled in over pseudo header and data. `len_bytes` is
/// the length of header and payload.
#[must_use]
pub fn header(src_port: u16, dst_port: u16, len_bytes: u16) -> [u8; HEADER_LEN] {
    let mut out = [0; HEADER_LEN];
    put::<0, 2, _>(&mut out, src_port.to_be_bytes());
    put::<2, 2, _>(&mut out, dst_port.to_be_bytes());
    put::<4, 2, _>(&mut out, len_bytes.to_be_bytes());
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn lengths() {
        let mut bytes = header(53, 1024, 10).to_vec();
        bytes.extend_from_slice(b"ok+");
        let udp = Udp::new(&bytes).unwrap();
        assert_eq!(
            (udp.src_port(), udp.dst_port(), udp.length(), udp.payload()),
            (53, 1024, 10, &b"ok"[..])
        );
        bytes[5] = 7;
        assert_eq!(Udp::new(&bytes).err(), Some(ParseError::BadHeader));
        bytes[5] = 12;
        assert_eq!(Udp::new(&bytes).err(), Some(ParseError::Truncated));
        assert_eq!(Udp::new(&bytes[..7]).err(), Some(ParseError::Truncated));
    }
}
