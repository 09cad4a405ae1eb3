// SPDX-License-Identifier: Apache-2.0
//! Ethernet II (IEEE 802.3-2022, 3.1.1).

use crate::bytes::{be16, part};
use crate::error::ParseError;
use crate::mac::Mac;

/// Bytes of the two MACs and the EtherType.
pub const HEADER_LEN: usize = 14;
/// Bytes of the shortest frame on a wire, without its frame check sequence.
pub const MIN_FRAME_LEN: usize = 60;

/// View of a frame from its destination MAC on.
#[derive(Debug, Clone, Copy)]
pub struct Ethernet<'a> {
    head: &'a [u8; HEADER_LEN],
    payload: &'a [u8],
}

impl<'a> Ethernet<'a> {
    /// Checks the length and makes the view.
    ///
    /// # Errors
    /// `Truncated` below 14 bytes.
    pub fn new(frame: &'a [u8]) -> Result<Ethernet<'a>, ParseError> {
        let (head, payload) = frame.split_first_chunk().ok_or(ParseError::Truncated)?;
        Ok(Ethernet { head, payload })
    }

    /// Destination MAC.
    #[must_use]
    pub fn dst(&self) -> Mac {
        Mac(part::<0, 6, _>(self.head))
    }

    /// Source MAC.
    #[must_use]
    pub fn src(&self) -> Mac {
        Mac(part::<6, 6, _>(self.head))
    }

    /// Value of the 16 bits behind the MACs: an EtherType, a TPID, or below 0x0600 an 802.3 length.
    #[must_use]
    pub fn ethertype(&self) -> u16 {
        be16::<12, _>(self.head)
    }

    /// Bytes behind the header, padding included.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

/// Builds the 14 bytes of an Ethernet header.
#[must_use]
pub fn header(dst: Mac, src: Mac, ethertype: u16) -> [u8; HEADER_LEN] {
    let mut head = [0; HEADER_LEN];
    head[..6].copy_from_slice(&dst.0);
    head[6..12].copy_from_slice(&src.0);
    head[12..].copy_from_slice(&ethertype.to_be_bytes());
    head
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::EtherType;

    #[test]
    fn fields() {
        let (dst, src) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
        let mut frame = header(dst, src, EtherType::IPV6).to_vec();
        frame.push(0x60);
        let eth = Ethernet::new(&frame).unwrap();
        assert_eq!(
            (eth.dst(), eth.src(), eth.ethertype(), eth.payload()),
            (dst, src, 0x86dd, &[0x60][..])
        );
        assert_eq!(
            Ethernet::new(&frame[..13]).err(),
            Some(ParseError::Truncated)
        );
    }
}
