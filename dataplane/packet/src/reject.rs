//! The answer to a rejected frame, made in the buffer that the frame is in.
//!
//! TCP is answered with RST, anything else with ICMP "administratively prohibited". The answer goes
//! back where the frame came from: MACs swapped, from the original destination to the original source,
//! with the inner tag if there is one.

mod write;

use std::net::IpAddr;

use crate::tcp::flag;
use crate::{FlowKey, IpProto, Parsed, icmp, icmpv6, ipv6};

/// Bytes that must be free before the frame for every answer to be possible: an IPv6 and an ICMPv6
/// header.
pub const HEADROOM: usize = ipv6::HEADER_LEN + icmpv6::HEADER_LEN;

/// The buffer of a frame, as far as an answer needs it. Implemented for an mbuf by the datapath, and
/// here for `Vec<u8>` for tests and tools.
pub trait RejectBuffer {
    /// The frame.
    fn frame(&self) -> &[u8];
    /// The frame, to write.
    fn frame_mut(&mut self) -> &mut [u8];
    /// Makes the frame `len_bytes` longer at its front (what is there is overwritten); `false`, with
    /// nothing changed, if there is no room.
    fn prepend(&mut self, len_bytes: usize) -> bool;
    /// Cuts the frame at its end to `len_bytes`, which is at most its length.
    fn truncate(&mut self, len_bytes: usize);
}

impl RejectBuffer for Vec<u8> {
    fn frame(&self) -> &[u8] {
        self
    }

    fn frame_mut(&mut self) -> &mut [u8] {
        self
    }

    fn prepend(&mut self, len_bytes: usize) -> bool {
        self.splice(..0, std::iter::repeat_n(0, len_bytes));
        true
    }

    fn truncate(&mut self, len_bytes: usize) {
        Vec::truncate(self, len_bytes);
    }
}

/// What the answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// TCP RST (RFC 9293, 3.10.7.1).
    TcpReset,
    /// ICMP type 3 code 13 (RFC 1812, 5.2.7.1).
    Icmp,
    /// ICMPv6 type 1 code 1 (RFC 4443, 3.1).
    Icmpv6,
}

/// Why there is no answer: the frame is to be dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum NoAnswer {
    /// Not an IP packet.
    #[error("no answer: not an IP packet")]
    NonIp,
    /// To a group or broadcast, of Ethernet or of IP (RFC 1122, 3.2.2; RFC 4443, 2.4 (e)).
    #[error("no answer: the frame went to a group or to all")]
    Group,
    /// From or to an address that is no single host's: unspecified, loopback, a group, class E, or a
    /// group or zero MAC as source.
    #[error("no answer: an address of the frame is no single host's")]
    BadAddress,
    /// A fragment other than the first.
    #[error("no answer: a fragment other than the first")]
    LaterFragment,
    /// TCP RST.
    #[error("no answer: the frame is a TCP RST")]
    Reset,
    /// An ICMP or ICMPv6 error, redirects included, or an ICMP type without a known meaning.
    #[error("no answer: the frame is an ICMP error")]
    IcmpError,
    /// `parsed` is not of this frame.
    #[error("no answer: the frame is not the one that was parsed")]
    Mismatch,
    /// The buffer has less than [`HEADROOM`] bytes free before the frame.
    #[error("no answer: no room before the frame; give buffers {HEADROOM} bytes of headroom")]
    NoRoom,
}

/// Which answer a frame gets, without making it: ask this before taking a token from a bucket.
pub fn answer(frame: &[u8], parsed: &Parsed) -> Result<Answer, NoAnswer> {
    let key = &parsed.key;
    if !key.is_ip() {
        return Err(NoAnswer::NonIp);
    }
    if key.dst_mac().is_multicast() {
        return Err(NoAnswer::Group);
    }
    if !key.src_mac().is_unicast() {
        return Err(NoAnswer::BadAddress);
    }
    if key.has(FlowKey::LATER_FRAGMENT) {
        return Err(NoAnswer::LaterFragment);
    }
    addresses(key)?;
    match key.proto {
        IpProto::TCP => {
            let flags = parsed.l4 as usize + 13;
            let flags = frame.get(flags).ok_or(NoAnswer::Mismatch)?;
            if flags & flag::RST != 0 {
                return Err(NoAnswer::Reset);
            }
            return Ok(Answer::TcpReset);
        }
        IpProto::ICMP if key.has(FlowKey::ICMP) && icmp::is_error(key.icmp_type) => {
            return Err(NoAnswer::IcmpError);
        }
        IpProto::ICMPV6 if key.has(FlowKey::ICMP) && icmpv6::is_error(key.icmp_type) => {
            return Err(NoAnswer::IcmpError);
        }
        _ => {}
    }
    Ok(if key.has(FlowKey::IPV4) {
        Answer::Icmp
    } else {
        Answer::Icmpv6
    })
}

fn addresses(key: &FlowKey) -> Result<(), NoAnswer> {
    let (Some(src), Some(dst)) = (key.src_ip(), key.dst_ip()) else {
        return Err(NoAnswer::NonIp);
    };
    let to_group = match dst {
        IpAddr::V4(v4) => v4.is_multicast() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_multicast(),
    };
    if to_group {
        return Err(NoAnswer::Group);
    }
    let nobody = |ip: IpAddr| match ip {
        // 0/8, 127/8, and class D and E with the limited broadcast (RFC 1122, 3.2.1.3).
        IpAddr::V4(v4) => matches!(v4.octets()[0], 0 | 127 | 224..),
        IpAddr::V6(v6) => v6.is_unspecified() || v6.is_loopback() || v6.is_multicast(),
    };
    if nobody(src) || nobody(dst) {
        return Err(NoAnswer::BadAddress);
    }
    Ok(())
}

/// Turns the frame in `buf` into its answer. On `Err` the frame is as it was.
///
/// `parsed` must be what `parse` made of this very frame.
pub fn build(buf: &mut impl RejectBuffer, parsed: &Parsed) -> Result<Answer, NoAnswer> {
    let answer = answer(buf.frame(), parsed)?;
    match answer {
        Answer::TcpReset => write::reset(buf, parsed)?,
        Answer::Icmp | Answer::Icmpv6 => write::prohibited(buf, parsed)?,
    }
    swap_macs(buf.frame_mut());
    Ok(answer)
}

fn swap_macs(frame: &mut [u8]) {
    if let Some(macs) = frame.first_chunk_mut::<12>() {
        macs.rotate_left(6);
    }
}

#[cfg(test)]
mod tests;
