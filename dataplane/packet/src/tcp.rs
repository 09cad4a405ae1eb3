// SPDX-License-Identifier: Apache-2.0
//! TCP (RFC 9293, 3.1).

use crate::bytes::{be16, be32, put};
use crate::error::ParseError;
use crate::ipv4::Options;

/// Bytes of a header without options.
pub const MIN_HEADER_LEN: usize = 20;
/// Bytes of a header with all the options that fit.
pub const MAX_HEADER_LEN: usize = 60;

/// Flag bits, as in byte 13 of the header.
pub mod flag {
    /// FIN: no more data from the sender.
    pub const FIN: u8 = 0x01;
    /// SYN: synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// RST: reset the connection.
    pub const RST: u8 = 0x04;
    /// PSH: push data to the receiver.
    pub const PSH: u8 = 0x08;
    /// ACK: the acknowledgement number is valid.
    pub const ACK: u8 = 0x10;
    /// URG: the urgent pointer is valid.
    pub const URG: u8 = 0x20;
    /// ECE: ECN echo (RFC 3168).
    pub const ECE: u8 = 0x40;
    /// CWR: congestion window reduced (RFC 3168).
    pub const CWR: u8 = 0x80;
}

/// View of a TCP segment.
#[derive(Debug, Clone, Copy)]
pub struct Tcp<'a> {
    head: &'a [u8; MIN_HEADER_LEN],
    options: &'a [u8],
    payload: &'a [u8],
}

impl<'a> Tcp<'a> {
    /// Checks the data offset and makes the view; `bytes` is the IP payload.
    ///
    /// # Errors
    /// `BadHeader` if the data offset is below 20 bytes; `Truncated` if it goes past `bytes`.
    pub fn new(bytes: &'a [u8]) -> Result<Tcp<'a>, ParseError> {
        let head: &[u8; MIN_HEADER_LEN] = bytes.first_chunk().ok_or(ParseError::Truncated)?;
        let header_len = usize::from(head[12] >> 4) * 4;
        if header_len < MIN_HEADER_LEN {
            return Err(ParseError::BadHeader);
        }
        let (header, payload) = bytes
            .split_at_checked(header_len)
            .ok_or(ParseError::Truncated)?;
        let options = header.get(MIN_HEADER_LEN..).ok_or(ParseError::Truncated)?;
        Ok(Tcp {
            head,
            options,
            payload,
        })
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

    /// Sequence number.
    #[must_use]
    pub fn seq(&self) -> u32 {
        be32::<4, _>(self.head)
    }

    /// Acknowledgement number.
    #[must_use]
    pub fn ack(&self) -> u32 {
        be32::<8, _>(self.head)
    }

    /// Header length in bytes, 20 to 60.
    #[must_use]
    pub fn header_len(&self) -> usize {
        MIN_HEADER_LEN + self.options.len()
    }

    /// Flags: see [`flag`].
    #[must_use]
    pub fn flags(&self) -> u8 {
        self.head[13]
    }

    /// Window, unscaled.
    #[must_use]
    pub fn window(&self) -> u16 {
        be16::<14, _>(self.head)
    }

    /// Checksum as written.
    #[must_use]
    pub fn checksum(&self) -> u16 {
        be16::<16, _>(self.head)
    }

    /// Urgent pointer.
    #[must_use]
    pub fn urgent(&self) -> u16 {
        be16::<18, _>(self.head)
    }

    /// Iterates over the options.
    #[must_use]
    pub fn options(&self) -> Options<'a> {
        Options { rest: self.options }
    }

    /// Data of the segment.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

/// Fields of a header without options.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TcpFields {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Flags: see [`flag`].
    pub flags: u8,
    /// Window, unscaled.
    pub window: u16,
}

impl TcpFields {
    /// Encodes the header with a checksum of 0, to be filled in over pseudo header and data.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; MIN_HEADER_LEN] {
        let mut out = [0; MIN_HEADER_LEN];
        put::<0, 2, _>(&mut out, self.src_port.to_be_bytes());
        put::<2, 2, _>(&mut out, self.dst_port.to_be_bytes());
        put::<4, 4, _>(&mut out, self.seq.to_be_bytes());
        put::<8, 4, _>(&mut out, self.ack.to_be_bytes());
        put::<12, 2, _>(&mut out, [5 << 4, self.flags]);
        put::<14, 2, _>(&mut out, self.window.to_be_bytes());
        out
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn fields_there_and_back() {
        let fields = TcpFields {
            src_port: 40_000,
            dst_port: 443,
            seq: 0x0102_0304,
            ack: 0xfffe_fdfc,
            flags: flag::SYN | flag::ACK,
            window: 512,
        };
        let mut bytes = fields.to_bytes().to_vec();
        bytes.extend_from_slice(&[2, 4, 0x05, 0xb4, 0xaa]);
        bytes[12] = 6 << 4;
        let tcp = Tcp::new(&bytes).unwrap();
        let read = TcpFields {
            src_port: tcp.src_port(),
            dst_port: tcp.dst_port(),
            seq: tcp.seq(),
            ack: tcp.ack(),
            flags: tcp.flags(),
            window: tcp.window(),
        };
        assert_eq!(read, fields);
        let mss = tcp.options().next().unwrap().unwrap();
        assert_eq!((mss.kind, mss.data), (2, &[0x05, 0xb4][..]));
        assert_eq!(tcp.payload(), [0xaa]);
    }

    #[test]
    fn data_offsets_that_lie() {
        let mut bytes = TcpFields::default().to_bytes();
        assert!(Tcp::new(&bytes).is_ok());
        bytes[12] = 4 << 4;
        assert_eq!(Tcp::new(&bytes).err(), Some(ParseError::BadHeader));
        bytes[12] = 6 << 4;
        assert_eq!(Tcp::new(&bytes).err(), Some(ParseError::Truncated));
        assert_eq!(Tcp::new(&bytes[..19]).err(), Some(ParseError::Truncated));
    }
}
