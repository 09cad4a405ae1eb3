// SPDX-License-Identifier: Apache-2.0
//! IPv6 and its extension headers (RFC 8200).

use std::net::Ipv6Addr;

use crate::bytes::{be16, be32, part, put};
use crate::error::ParseError;
use crate::proto::IpProto;

/// Bytes of the fixed header.
pub const HEADER_LEN: usize = 40;
/// Most extension headers of a packet that is not refused. RFC 8200 knows seven places for one; a
/// longer chain is an attempt to make somebody walk it (RFC 8504, 5.3 allows a limit of eight).
pub const MAX_EXTENSIONS: usize = 8;

/// Most options of one header, padding left out, and most bytes of padding in a row (RFC 8504, 5.3;
/// nobody needs more than 7 to align what follows). Linux has the same two limits.
const MAX_OPTIONS: usize = 8;
const MAX_PADDING: usize = 7;

/// Option types of one byte of padding, and of several.
const PAD_1: u8 = 0;
const PAD_N: u8 = 1;
/// Jumbo payload (RFC 2675): a length beside the header's own. No Ethernet frame is so long.
const JUMBO_PAYLOAD: u8 = 0xc2;
/// Home address (RFC 6275, 6.3): the source that the receiver is to take in place of the header's.
const HOME_ADDRESS: u8 = 0xc9;

/// View of an IPv6 packet.
#[derive(Debug, Clone, Copy)]
pub struct Ipv6<'a> {
    head: &'a [u8; HEADER_LEN],
    payload: &'a [u8],
}

impl<'a> Ipv6<'a> {
    /// Checks version and length and makes the view. `bytes` begins at the fixed header; bytes behind
    /// the stated payload are padding. A payload length of 0 means an empty payload: jumbograms (RFC
    /// 2675) do not fit an Ethernet frame.
    ///
    /// # Errors
    /// `BadHeader` if the version is not 6; `Truncated` if the payload goes past `bytes`.
    pub fn new(bytes: &'a [u8]) -> Result<Ipv6<'a>, ParseError> {
        let (head, rest) = bytes
            .split_first_chunk::<HEADER_LEN>()
            .ok_or(ParseError::Truncated)?;
        if head[0] >> 4 != 6 {
            return Err(ParseError::BadHeader);
        }
        let payload = rest
            .get(..usize::from(be16::<4, _>(head)))
            .ok_or(ParseError::Truncated)?;
        Ok(Ipv6 { head, payload })
    }

    /// Traffic class.
    #[must_use]
    pub fn traffic_class(&self) -> u8 {
        self.head[0] << 4 | self.head[1] >> 4
    }

    /// Flow label, 20 bits.
    #[must_use]
    pub fn flow_label(&self) -> u32 {
        be32::<0, _>(self.head) & 0x000f_ffff
    }

    /// Bytes behind the fixed header.
    #[must_use]
    pub fn payload_len(&self) -> u16 {
        be16::<4, _>(self.head)
    }

    /// Protocol of what follows the fixed header, perhaps an extension header's.
    #[must_use]
    pub fn next_header(&self) -> u8 {
        self.head[6]
    }

    /// Hop limit.
    #[must_use]
    pub fn hop_limit(&self) -> u8 {
        self.head[7]
    }

    /// Source address.
    #[must_use]
    pub fn src(&self) -> Ipv6Addr {
        part::<8, 16, _>(self.head).into()
    }

    /// Destination address.
    #[must_use]
    pub fn dst(&self) -> Ipv6Addr {
        part::<24, 16, _>(self.head).into()
    }

    /// Bytes behind the fixed header, extension headers included, padding left out.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Iterates over the extension headers.
    #[must_use]
    pub fn extensions(&self) -> Extensions<'a> {
        Extensions {
            rest: self.payload,
            next: self.next_header(),
            seen: 0,
            fragment: None,
        }
    }

    /// Finds the upper-layer packet behind all extension headers.
    ///
    /// # Errors
    /// As for [`Extensions`].
    pub fn upper(&self) -> Result<Upper<'a>, ParseError> {
        let mut walk = self.extensions();
        for extension in walk.by_ref() {
            extension?;
        }
        Ok(Upper {
            proto: walk.next,
            offset: HEADER_LEN + self.payload.len() - walk.rest.len(),
            payload: walk.rest,
            fragment: walk.fragment,
        })
    }

    /// Whether an address of the header is `::ffff:a.b.c.d`. Such a packet must not be on a wire
    /// (RFC 4291, 2.5.5.2 has the form for nodes' own use), and a rule about IPv4 addresses could
    /// take it for what it is not.
    pub(crate) fn has_mapped_address(&self) -> bool {
        const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
        part::<8, 12, _>(self.head) == MAPPED || part::<24, 12, _>(self.head) == MAPPED
    }
}

/// Upper-layer packet behind the extension headers.
#[derive(Debug, Clone, Copy)]
pub struct Upper<'a> {
    /// Protocol number. Of a later fragment: the whole packet's next header as its fragment header
    /// names it, which may be that of a further extension header.
    pub proto: u8,
    /// Offset from the start of the fixed header, in bytes.
    pub offset: usize,
    /// Bytes of the packet.
    pub payload: &'a [u8],
    /// Fragment header, if there was one.
    pub fragment: Option<Fragment>,
}

/// Fragment header (RFC 8200, 4.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    /// Offset of this piece in the whole packet, in bytes.
    pub offset: u16,
    /// Whether more pieces follow.
    pub more: bool,
    /// Identification.
    pub id: u32,
}

impl Fragment {
    /// Whether the packet is one piece of several. A fragment header alone does not make a fragment: offset 0 with nothing
    /// to follow is an atomic fragment, which is a whole packet (RFC 6946).
    #[must_use]
    pub fn is_piece(self) -> bool {
        self.more || self.offset != 0
    }
}

/// Extension header.
#[derive(Debug, Clone, Copy)]
pub struct Extension<'a> {
    /// Protocol number of the header.
    pub kind: u8,
    /// Bytes of the header, the next-header byte first; at least 8.
    pub bytes: &'a [u8],
}

/// Iterator over the extension headers: hop-by-hop, routing, fragment, destination options, authentication
/// and Shim6. ESP, mobility and HIP end it, as an upper-layer protocol does: bytes behind ESP cannot
/// be read, and the other two have nothing behind them (RFC 6275, 6.1.1; RFC 7401, 5.1). It also ends
/// at a later fragment, whose bytes do not begin with a header.
///
/// An error is reported once and ends it. `Truncated`: a header is not all there (nor may it be in
/// another fragment: RFC 7112). `BadHeader`: hop-by-hop that is not first, a second fragment header,
/// options that do not fill their header, more than 8 of them or more than 7 bytes of padding in a
/// row, a jumbo payload, a piece that makes the packet longer than 65,535 bytes or that is not the last and no
/// multiple of 8 bytes, or more than [`MAX_EXTENSIONS`] headers. `HiddenAddress`: a routing header of
/// any type with segments left (RFC 8200, 4.4: the packet's destination is not where it goes), or a
/// home address option.
#[derive(Debug, Clone, Copy)]
pub struct Extensions<'a> {
    rest: &'a [u8],
    next: u8,
    seen: usize,
    fragment: Option<Fragment>,
}

impl<'a> Extensions<'a> {
    fn step(&mut self) -> Result<Extension<'a>, ParseError> {
        let kind = self.next;
        let head: &[u8; 8] = self.rest.first_chunk().ok_or(ParseError::Truncated)?;
        let units = usize::from(head[1]);
        let len = match kind {
            IpProto::FRAGMENT => 8,
            IpProto::AH => (units + 2) * 4,
            _ => (units + 1) * 8,
        };
        let (bytes, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(ParseError::Truncated)?;
        let first = self.seen == 0;
        let bad = match kind {
            IpProto::HOP_BY_HOP => !first,
            IpProto::ROUTING if head[3] != 0 => return Err(ParseError::HiddenAddress),
            // Longer than 8 bytes, so that what was read above is its own; RFC 4302 has 12.
            IpProto::AH => len < 12,
            IpProto::FRAGMENT => self.fragment.is_some(),
            _ => false,
        };
        if bad || self.seen == MAX_EXTENSIONS {
            return Err(ParseError::BadHeader);
        }
        if matches!(kind, IpProto::HOP_BY_HOP | IpProto::DEST_OPTIONS) {
            check_options(bytes.get(2..).unwrap_or_default())?;
        }
        if kind == IpProto::FRAGMENT {
            let word = be16::<2, _>(head);
            let fragment = Fragment {
                offset: word & 0xfff8,
                more: word & 1 != 0,
                id: be32::<4, _>(head),
            };
            if usize::from(fragment.offset) + rest.len() > usize::from(u16::MAX)
                || fragment.more && (rest.is_empty() || !rest.len().is_multiple_of(8))
            {
                return Err(ParseError::BadHeader);
            }
            self.fragment = Some(fragment);
        }
        self.seen += 1;
        self.rest = rest;
        self.next = head[0];
        Ok(Extension { kind, bytes })
    }
}

impl<'a> Iterator for Extensions<'a> {
    type Item = Result<Extension<'a>, ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        let walked = matches!(
            self.next,
            IpProto::HOP_BY_HOP
                | IpProto::ROUTING
                | IpProto::FRAGMENT
                | IpProto::DEST_OPTIONS
                | IpProto::AH
                | IpProto::SHIM6
        );
        if !walked || self.fragment.is_some_and(|piece| piece.offset != 0) {
            return None;
        }
        let step = self.step();
        if step.is_err() {
            self.next = IpProto::NO_NEXT;
        }
        Some(step)
    }
}

/// Checks the options of one header; `rest` begins behind its length.
fn check_options(mut rest: &[u8]) -> Result<(), ParseError> {
    let (mut options, mut padding) = (0, 0);
    while let Some((&kind, behind)) = rest.split_first() {
        let bytes = match kind {
            PAD_1 => 1,
            _ => 2 + usize::from(*behind.first().ok_or(ParseError::BadHeader)?),
        };
        match kind {
            PAD_1 | PAD_N => padding += bytes,
            JUMBO_PAYLOAD => return Err(ParseError::BadHeader),
            HOME_ADDRESS => return Err(ParseError::HiddenAddress),
            _ => (options, padding) = (options + 1, 0),
        }
        if options > MAX_OPTIONS || padding > MAX_PADDING {
            return Err(ParseError::BadHeader);
        }
        rest = rest.get(bytes..).ok_or(ParseError::BadHeader)?;
    }
    Ok(())
}

/// Fields of a fixed header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv6Fields {
    /// Traffic class.
    pub traffic_class: u8,
    /// Flow label; the lower 20 bits are written.
    pub flow_label: u32,
    /// Bytes behind the fixed header.
    pub payload_len: u16,
    /// Protocol of what follows.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub src: Ipv6Addr,
    /// Destination address.
    pub dst: Ipv6Addr,
}

impl Ipv6Fields {
    /// Encodes the header.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        let word = 6 << 28 | u32::from(self.traffic_class) << 20 | (self.flow_label & 0x000f_ffff);
        put::<0, 4, _>(&mut out, word.to_be_bytes());
        put::<4, 2, _>(&mut out, self.payload_len.to_be_bytes());
        put::<6, 2, _>(&mut out, [self.next_header, self.hop_limit]);
        put::<8, 16, _>(&mut out, self.src.octets());
        put::<24, 16, _>(&mut out, self.dst.octets());
        out
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    /// A packet with `next` behind its fixed header and these bytes as its payload.
    fn packet(next: u8, payload: &[u8]) -> Vec<u8> {
        let fields = Ipv6Fields {
            traffic_class: 0xb8,
            flow_label: 0x12345,
            payload_len: u16::try_from(payload.len()).unwrap(),
            next_header: next,
            hop_limit: 64,
            src: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1),
            dst: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2),
        };
        let mut bytes = fields.to_bytes().to_vec();
        bytes.extend_from_slice(payload);
        bytes
    }

    fn upper(next: u8, payload: &[u8]) -> Result<(u8, usize, usize), ParseError> {
        let bytes = packet(next, payload);
        let upper = Ipv6::new(&bytes)?.upper()?;
        Ok((upper.proto, upper.offset, upper.payload.len()))
    }

    #[test]
    fn fixed_header() {
        let mut bytes = packet(17, &[1, 2, 3]);
        bytes.push(0);
        let ip = Ipv6::new(&bytes).unwrap();
        assert_eq!((ip.traffic_class(), ip.flow_label()), (0xb8, 0x12345));
        assert_eq!((ip.payload(), ip.hop_limit()), (&[1, 2, 3][..], 64));
        assert_eq!(Ipv6::new(&bytes[..42]).err(), Some(ParseError::Truncated));
        assert_eq!(Ipv6::new(&bytes[..39]).err(), Some(ParseError::Truncated));
        bytes[0] = 0x45;
        assert_eq!(Ipv6::new(&bytes).err(), Some(ParseError::BadHeader));
    }

    #[test]
    fn extension_headers_in_a_row() {
        let mut chain = vec![43, 0, 0, 0, 0, 0, 0, 0]; // hop-by-hop, then routing
        chain.extend_from_slice(&[60, 1, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]); // 16 bytes
        chain.extend_from_slice(&[51, 0, 0, 0, 0, 0, 0, 0]); // options, then AH
        chain.extend_from_slice(&[17, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]); // AH of 12 bytes
        chain.extend_from_slice(&[0xaa; 9]);
        assert_eq!(upper(0, &chain), Ok((17, 40 + 8 + 16 + 8 + 12, 9)));
        let bytes = packet(0, &chain);
        let ip = Ipv6::new(&bytes).unwrap();
        let kinds: Vec<_> = ip.extensions().map(|e| e.unwrap().kind).collect();
        assert_eq!(kinds, [0, 43, 60, 51]);
        for len in 0..chain.len() - 9 {
            assert_eq!(upper(0, &chain[..len]), Err(ParseError::Truncated), "{len}");
        }
    }

    #[test]
    fn chains_that_are_refused() {
        let bad = Err(ParseError::BadHeader);
        // Hop-by-hop behind destination options, and twice.
        assert_eq!(
            upper(60, &[0, 0, 0, 0, 0, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0, 0]),
            bad
        );
        assert_eq!(
            upper(0, &[0, 0, 0, 0, 0, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0, 0]),
            bad
        );
        // Routing of any type with a segment left; without one it has done its work.
        for kind in [0, 1, 2, 3, 4, 5, 253, 255] {
            let hidden = Err(ParseError::HiddenAddress);
            assert_eq!(upper(43, &[17, 0, kind, 1, 0, 0, 0, 0]), hidden, "{kind}");
            assert_eq!(upper(43, &[17, 0, kind, 255, 0, 0, 0, 0]), hidden, "{kind}");
            assert_eq!(upper(43, &[17, 0, kind, 0, 0, 0, 0, 0]), Ok((17, 48, 0)));
        }
        // AH shorter than its fixed part.
        assert_eq!(upper(51, &[17, 0, 0, 0, 0, 0, 0, 0]), bad);
        // Two fragment headers.
        assert_eq!(
            upper(44, &[44, 0, 0, 0, 0, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0, 0]),
            bad
        );
        // Destination options for ever.
        let chain = |n| [60, 0, 0, 0, 0, 0, 0, 0].repeat(n);
        assert_eq!(upper(60, &chain(9)), bad);
        let mut eight = chain(8);
        eight[56] = 17;
        assert_eq!(upper(60, &eight), Ok((17, 40 + 64, 0)));
        assert_eq!(upper(60, &chain(8)), Err(ParseError::Truncated));
    }

    #[test]
    fn options_that_are_refused() {
        let with = |next: u8, options: &[u8]| {
            let units = u8::try_from((2 + options.len()) / 8 - 1).unwrap();
            upper(next, &[&[17, units][..], options].concat()).map(|(proto, ..)| proto)
        };
        let home = [&[0xc9, 16][..], &[0xfd; 16], &[1, 2, 0, 0]].concat();
        let (bad, hidden) = (ParseError::BadHeader, ParseError::HiddenAddress);
        for next in [0, 60] {
            // Router alert, and padding on either side.
            assert_eq!(with(next, &[5, 2, 0, 0, 1, 0]), Ok(17));
            assert_eq!(with(next, &[0, 0, 0, 0, 0, 0]), Ok(17));
            assert_eq!(with(next, &[1, 4, 9, 9, 9, 9]), Ok(17));
            assert_eq!(with(next, &home), Err(hidden), "home address");
            assert_eq!(
                with(next, &[0xc2, 4, 0, 1, 0, 0]),
                Err(bad),
                "jumbo payload"
            );
            assert_eq!(with(next, &[5, 3, 0, 0, 1, 0]), Ok(17));
            assert_eq!(
                with(next, &[5, 5, 0, 0, 1, 0]),
                Err(bad),
                "beyond its header"
            );
            assert_eq!(
                with(next, &[1, 3, 0, 0, 0, 5]),
                Err(bad),
                "without a length"
            );
            assert_eq!(with(next, &[0; 14]), Err(bad), "14 bytes of padding");
            assert_eq!(with(next, &[30, 0].repeat(7)), Ok(17));
            assert_eq!(with(next, &[30, 0].repeat(11)), Err(bad), "11 options");
        }
        // A home address is one wherever it comes.
        let chain = [&[60, 0, 0, 0, 0, 0, 0, 0][..], &[17, 2], &home].concat();
        assert_eq!(upper(0, &chain), Err(hidden));
    }

    #[test]
    fn fragments() {
        let piece = |word: u16, len: usize| {
            let mut payload = vec![17, 0];
            payload.extend_from_slice(&word.to_be_bytes());
            payload.extend_from_slice(&[0, 0, 0, 9]);
            payload.resize(8 + len, 0);
            let bytes = packet(44, &payload);
            Ipv6::new(&bytes)
                .unwrap()
                .upper()
                .map(|upper| upper.fragment.unwrap())
        };
        let first = piece(1, 16).unwrap();
        assert_eq!((first.offset, first.more, first.id), (0, true, 9));
        assert!(first.is_piece());
        let last = piece(16, 5).unwrap();
        assert_eq!((last.offset, last.more), (16, false));
        assert!(!piece(0, 5).unwrap().is_piece(), "an atomic fragment");
        assert_eq!(piece(1, 15), Err(ParseError::BadHeader));
        assert_eq!(piece(1, 0), Err(ParseError::BadHeader));
        assert_eq!(
            piece(0xfff8, 16),
            Err(ParseError::BadHeader),
            "beyond 65,535"
        );
        assert!(piece(0xfff8, 7).is_ok());
    }

    #[test]
    fn walk_ends_at_a_later_fragment_and_where_nothing_can_be_read() {
        // What the fragment header names is destination options, but these bytes are from the middle.
        let later = [60, 0, 0, 8, 0, 0, 0, 9, 0xff, 0xff, 0xff];
        assert_eq!(upper(44, &later), Ok((60, 48, 3)));
        for proto in [50, 59, 135, 139, 254] {
            assert_eq!(upper(proto, &[0xff; 4]), Ok((proto, 40, 4)));
        }
    }
}
