// SPDX-License-Identifier: Apache-2.0
//! Parser: one pass from a frame to its flow key.
//!
//! Decisions and their reasons:
//!
//! * Every length that a header states must fit the bytes. Bytes behind the stated end of the packet
//!   are Ethernet padding up to the 46 that a frame's payload has at least; what is behind that is no
//!   part of the packet, and [`Layout::end`] says where it begins. A header length below its minimum is [`ParseError::BadHeader`],
//!   a length beyond the bytes is [`ParseError::Truncated`].
//! * A frame whose transport header is incomplete is refused, in a first fragment as well: its
//!   ports could not be judged (RFC 1858, RFC 7112). Later fragments have no ports; a later fragment of
//!   TCP that begins inside the TCP header is refused (RFC 3128).
//! * Source routes (IPv4 options, an IPv6 routing header of any type with segments left) and home
//!   address options are refused: the packet would not go to the destination that rules see, or
//!   would not be from the source. What a tunnel carries (IP in IP, GRE, ESP) is payload.
//! * IPv4-mapped addresses in an IPv6 header are refused: rules could take them for IPv4.
//! * Checksums are left to the receiver, which has to check them anyway.
//! * Non-IP frames have a key of MACs and EtherType alone. ARP that is not about IPv4 over Ethernet
//!   is refused.
//! * 802.3 frames that carry IP, ARP or a tag behind an LLC/SNAP header (RFC 1042) are refused: some
//!   receivers would take them for what they carry, past every rule about it (CVE-2021-27853, -27861).

use crate::arp::Arp;
use crate::bytes::{be16, be32, part};
use crate::error::ParseError;
use crate::ethertype::EtherType;
use crate::ipv4::Ipv4;
use crate::ipv6::Ipv6;
use crate::key::FlowKey;
use crate::proto::IpProto;
use crate::vlan::VlanTag;
use crate::{eth, icmp, tcp, udp};

/// Treatment of a tag in the bytes: a second one, since the outer tag is removed before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InnerTag {
    /// A tag in the bytes is [`ParseError::InnerTag`].
    Refuse,
    /// A tag is read and the key is of the packet behind it; two tags are [`ParseError::ThirdTag`].
    Allow,
}

/// Result of [`parse()`].
// In this order the error of a `Result<Parsed, ParseError>` lies over `inner` and not over the key,
// whose copy would otherwise be shifted by bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Parsed {
    /// Tag in the bytes, if one was allowed and there.
    pub inner: Option<VlanTag>,
    /// Offset of the IP or ARP header, or of the bytes behind the EtherType.
    pub l3: u16,
    /// Offset of the transport header or other IP payload; 0 if there is none to read (non-IP, later
    /// fragments, IPv6 "no next header").
    pub l4: u16,
    /// Flow key; `vid` is 0, the caller fills it.
    pub key: FlowKey,
}

/// Offsets of the layers of a frame, without its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Offset as in [`Parsed::l3`].
    pub l3: u16,
    /// Offset as in [`Parsed::l4`].
    pub l4: u16,
    /// Tag as in [`Parsed::inner`].
    pub inner: Option<VlanTag>,
    /// Bytes of the frame that count: up to the end that its packet states, and at least up to the
    /// least payload of a frame. Not more than there are. Bytes behind it are to be cut off.
    pub end: usize,
}

impl Layout {
    /// Joins layout and key.
    #[inline]
    #[must_use]
    pub const fn with(self, key: FlowKey) -> Parsed {
        Parsed {
            key,
            l3: self.l3,
            l4: self.l4,
            inner: self.inner,
        }
    }
}

/// Least bytes of a frame behind its EtherType (IEEE 802.3, 4.4.2); shorter packets are padded.
const MIN_PAYLOAD: usize = 46;
/// Bytes of an ARP packet about IPv4 over Ethernet.
const ARP_LEN: usize = 28;

/// Bytes of the headers of plain TCP over IPv4, which one length check makes safe to read.
const PLAIN: usize = eth::HEADER_LEN + 20 + tcp::MIN_HEADER_LEN;

/// Parses `frame`, whose outer tag is already removed, into its key and the offsets of its layers.
///
/// TCP and UDP over IPv4 without options, fragments or inner tag take a fast path of one length check
/// and hardly any branches; all other frames, and all wrong ones, take the general path.
#[inline]
pub fn parse(frame: &[u8], inner: InnerTag) -> Result<Parsed, ParseError> {
    let mut key = FlowKey::default();
    match parse_into(frame, inner, &mut key) {
        Ok(layout) => Ok(layout.with(key)),
        Err(why) => Err(why),
    }
}

/// Parses like [`parse()`], with the key written where it is to stay: returned by value, most of the
/// fast path's instructions are copies of it. On `Err` the content of the key is unspecified.
#[inline]
pub fn parse_into(frame: &[u8], inner: InnerTag, key: &mut FlowKey) -> Result<Layout, ParseError> {
    if parse_plain(frame, 0, key) {
        return Ok(Layout {
            l3: 14,
            l4: 34,
            inner: None,
            end: frame.len(),
        });
    }
    general(frame, inner, key)
}

/// Fast path of [`parse_into`] alone: writes the key of TCP or UDP over IPv4 without tags,
/// options or fragments, with `vid` as its VID. `false`, with the key unchanged, if the frame is
/// of another kind or wrong, or has bytes behind its packet that are no padding.
#[inline(always)]
#[must_use]
pub fn parse_plain(frame: &[u8], vid: u16, key: &mut FlowKey) -> bool {
    let Some(head) = frame.first_chunk::<PLAIN>() else {
        return false;
    };
    let is_plain = is_plain(head, frame.len());
    if is_plain {
        *key = zerocopy::transmute!(plain_words(head, vid));
    }
    is_plain
}

/// Whether this is valid plain TCP or UDP over IPv4.
#[inline(always)]
fn is_plain(head: &[u8; PLAIN], frame_len: usize) -> bool {
    let version_ihl = be32::<12, _>(head) & 0xffff_ff00;
    let unfragmented = be16::<20, _>(head) & 0x3fff == 0;
    if version_ihl != 0x0800_4500 || !unfragmented {
        return false;
    }
    let total_len = usize::from(be16::<16, _>(head));
    let (l4_len, l4_min) = match head[23] {
        IpProto::TCP => (usize::from(head[46] >> 4) * 4, tcp::MIN_HEADER_LEN),
        IpProto::UDP => (usize::from(be16::<38, _>(head)), udp::HEADER_LEN),
        _ => return false,
    };
    let end = 14 + total_len;
    let padded_end = end.max(14 + MIN_PAYLOAD);
    l4_len >= l4_min && 20 + l4_len <= total_len && end <= frame_len && frame_len <= padded_end
}

const _: () = assert!(
    cfg!(target_endian = "little"),
    "plain_words puts a key's bytes together in little-endian words"
);

/// Builds a plain frame's [`FlowKey`] in words: field by field it takes three times as many stores,
/// which is most of the cost of parsing, and code that compares or hashes the words finds them in
/// registers.
#[inline(always)]
fn plain_words(head: &[u8; PLAIN], vid: u16) -> [u64; 7] {
    /// `::ffff:0:0`, up to the address.
    const MAPPED: u64 = 0xffff_0000;
    const FLAGS: u64 = (FlowKey::IPV4 | FlowKey::PORTS) as u64;
    let word = u64::from_le_bytes;
    let half = |bytes: [u8; 4]| u64::from(u32::from_le_bytes(bytes));
    let ports = be32::<34, _>(head).rotate_left(16);
    let destination = word(part::<0, 8, _>(head));
    let source = word(part::<6, 8, _>(head)) & 0xffff_ffff_ffff;
    [
        0,
        MAPPED | half(part::<26, 4, _>(head)) << 32,
        0,
        MAPPED | half(part::<30, 4, _>(head)) << 32,
        u64::from(ports) | u64::from(EtherType::IPV4) << 32 | u64::from(vid) << 48,
        source | destination << 48,
        destination >> 16 & 0xffff_ffff | u64::from(head[23]) << 32 | FLAGS << 40,
    ]
}

#[inline(never)]
fn general(frame: &[u8], allowed: InnerTag, key: &mut FlowKey) -> Result<Layout, ParseError> {
    let (head, mut payload) = frame
        .split_first_chunk::<{ eth::HEADER_LEN }>()
        .ok_or(ParseError::Truncated)?;
    let mut ethertype = be16::<12, _>(head);
    let mut layout = Layout {
        l3: 14,
        l4: 0,
        inner: None,
        end: frame.len(),
    };
    if EtherType::is_tag(ethertype) {
        if allowed == InnerTag::Refuse {
            return Err(ParseError::InnerTag);
        }
        let (&[a, b, c, d], rest) = payload
            .split_first_chunk::<4>()
            .ok_or(ParseError::Truncated)?;
        layout.inner = Some(VlanTag {
            tpid: ethertype,
            tci: u16::from_be_bytes([a, b]),
        });
        ethertype = u16::from_be_bytes([c, d]);
        if EtherType::is_tag(ethertype) {
            return Err(ParseError::ThirdTag);
        }
        layout.l3 = 18;
        payload = rest;
    }
    *key = FlowKey {
        src_mac: part::<6, 6, _>(head),
        dst_mac: part::<0, 6, _>(head),
        ..FlowKey::default()
    };
    let offset = network(payload, ethertype, key)?;
    if let Some(len) = stated_len(payload, ethertype) {
        let end = usize::from(layout.l3) + len.max(MIN_PAYLOAD);
        layout.end = end.min(frame.len());
    }
    if offset != 0 {
        // At most 40 bytes and 8 extension headers of 2,048.
        let offset = u16::try_from(offset).map_err(|_| ParseError::BadHeader)?;
        layout.l4 = layout.l3 + offset;
    }
    Ok(layout)
}

/// Bytes of the packet that `ethertype` announces, as it states them itself; `None` if it does not.
/// [`network`] has found that they are there.
fn stated_len(bytes: &[u8], ethertype: u16) -> Option<usize> {
    /// Largest value that is an 802.3 length.
    const MAX_8023_LEN: u16 = 1500;
    match ethertype {
        EtherType::IPV4 => Some(usize::from(be16::<2, _>(bytes.first_chunk::<4>()?))),
        EtherType::IPV6 => Some(40 + usize::from(be16::<4, _>(bytes.first_chunk::<6>()?))),
        EtherType::ARP => Some(ARP_LEN),
        0..=MAX_8023_LEN => Some(usize::from(ethertype)),
        _ => None,
    }
}

/// Parses the packet that `ethertype` announces into `key`; returns the offset of the transport header
/// in `bytes`, 0 if there is none.
pub(crate) fn network(
    bytes: &[u8],
    ethertype: u16,
    key: &mut FlowKey,
) -> Result<usize, ParseError> {
    match ethertype {
        EtherType::IPV4 => {
            key.ethertype = ethertype;
            ipv4(bytes, key)
        }
        EtherType::IPV6 => {
            key.ethertype = ethertype;
            ipv6(bytes, key)
        }
        EtherType::ARP => {
            key.ethertype = ethertype;
            let arp = Arp::new(bytes)?;
            key.flags = FlowKey::ARP;
            key.src = FlowKey::mapped(arp.sender_ip().octets());
            key.dst = FlowKey::mapped(arp.target_ip().octets());
            Ok(0)
        }
        other if other >= EtherType::FIRST => {
            key.ethertype = other;
            Ok(0)
        }
        _ if hides_ip(bytes) => Err(ParseError::BadHeader),
        _ => Ok(0),
    }
}

/// Whether `bytes`, which follow an 802.3 length, are an LLC/SNAP header (organisation 0 or that of
/// 802.1H) with an EtherType that [`network`] parses, or with that of a tag.
fn hides_ip(bytes: &[u8]) -> bool {
    let Some(&[0xaa, _, _, 0, 0, 0 | 0xf8, a, b]) = bytes.first_chunk::<8>() else {
        return false;
    };
    let ethertype = u16::from_be_bytes([a, b]);
    EtherType::is_tag(ethertype)
        || matches!(
            ethertype,
            EtherType::IPV4 | EtherType::IPV6 | EtherType::ARP
        )
}

fn ipv4(bytes: &[u8], key: &mut FlowKey) -> Result<usize, ParseError> {
    let ip = Ipv4::new(bytes)?;
    ip.check_rest()?;
    key.flags = FlowKey::IPV4;
    key.src = FlowKey::mapped(ip.src().octets());
    key.dst = FlowKey::mapped(ip.dst().octets());
    key.proto = ip.proto();
    if ip.is_fragment() {
        key.flags |= FlowKey::FRAGMENT;
    }
    if ip.fragment_offset() != 0 {
        key.flags |= FlowKey::LATER_FRAGMENT;
        return later_fragment(key.proto, ip.fragment_offset());
    }
    if key.proto == IpProto::ICMP {
        icmp_fields(ip.payload(), key)?;
    } else {
        ports(ip.payload(), key)?;
    }
    Ok(ip.header_len())
}

fn ipv6(bytes: &[u8], key: &mut FlowKey) -> Result<usize, ParseError> {
    let ip = Ipv6::new(bytes)?;
    if ip.has_mapped_address() {
        return Err(ParseError::BadHeader);
    }
    let upper = ip.upper()?;
    key.flags = FlowKey::IPV6;
    key.src = ip.src().octets();
    key.dst = ip.dst().octets();
    key.proto = upper.proto;
    if let Some(fragment) = upper.fragment
        && fragment.is_piece()
    {
        key.flags |= FlowKey::FRAGMENT;
        if fragment.offset != 0 {
            key.flags |= FlowKey::LATER_FRAGMENT;
            return later_fragment(key.proto, fragment.offset);
        }
    }
    match key.proto {
        IpProto::NO_NEXT => return Ok(0),
        IpProto::ICMPV6 => icmp_fields(upper.payload, key)?,
        _ => ports(upper.payload, key)?,
    }
    Ok(upper.offset)
}

/// Refuses a later fragment of TCP that begins inside the TCP header: it would overwrite flags by
/// which the first fragment was judged (RFC 3128).
fn later_fragment(proto: u8, offset: u16) -> Result<usize, ParseError> {
    if proto == IpProto::TCP && usize::from(offset) < tcp::MIN_HEADER_LEN {
        return Err(ParseError::BadHeader);
    }
    Ok(0)
}

fn icmp_fields(payload: &[u8], key: &mut FlowKey) -> Result<(), ParseError> {
    let head: &[u8; icmp::HEADER_LEN] = payload.first_chunk().ok_or(ParseError::Truncated)?;
    key.flags |= FlowKey::ICMP;
    key.icmp_type = head[0];
    key.icmp_code = head[1];
    Ok(())
}

/// Reads the ports of the protocols that have them in their first four bytes.
fn ports(payload: &[u8], key: &mut FlowKey) -> Result<(), ParseError> {
    let whole = !key.has(FlowKey::FRAGMENT);
    match key.proto {
        IpProto::TCP => {
            tcp::Tcp::new(payload)?;
        }
        // The stated length is the whole datagram's, of which a first fragment has only a part.
        IpProto::UDP if whole => {
            udp::Udp::new(payload)?;
        }
        IpProto::UDP | IpProto::UDP_LITE => {
            payload.get(..8).ok_or(ParseError::Truncated)?;
        }
        IpProto::SCTP | IpProto::DCCP => {
            payload.get(..12).ok_or(ParseError::Truncated)?;
        }
        _ => return Ok(()),
    }
    let head: &[u8; 4] = payload.first_chunk().ok_or(ParseError::Truncated)?;
    key.flags |= FlowKey::PORTS;
    key.src_port = be16::<0, _>(head);
    key.dst_port = be16::<2, _>(head);
    Ok(())
}

#[cfg(test)]
mod tests;
