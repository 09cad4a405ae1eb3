// SPDX-License-Identifier: Apache-2.0
//! Decision whether a rejected frame is answered, and how.

use std::net::IpAddr;

use super::buffer::HEADROOM;
use crate::key::FlowKey;
use crate::parse::Parsed;
use crate::proto::IpProto;
use crate::tcp::flag;
use crate::{icmp, icmpv6};

/// Kind of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// TCP RST (RFC 9293, 3.10.7.1).
    TcpReset,
    /// ICMP type 3 code 13 (RFC 1812, 5.2.7.1).
    Icmp,
    /// ICMPv6 type 1 code 1 (RFC 4443, 3.1).
    Icmpv6,
}

/// Reason why there is no answer: the frame is to be dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum NoAnswer {
    /// Frame that is not an IP packet.
    #[error("no answer: not an IP packet")]
    NonIp,
    /// Frame to a group or broadcast, of Ethernet or of IP (RFC 1122, 3.2.2; RFC 4443, 2.4 (e)).
    #[error("no answer: the frame went to a group or to all")]
    Group,
    /// Frame from or to an address that is not a single host's: unspecified, loopback, a group, class E, or a
    /// group or zero MAC as source.
    #[error("no answer: an address of the frame is not a single host's")]
    BadAddress,
    /// Fragment other than the first.
    #[error("no answer: a fragment other than the first")]
    LaterFragment,
    /// TCP RST.
    #[error("no answer: the frame is a TCP RST")]
    Reset,
    /// ICMP or ICMPv6 error, redirects included, or an ICMP type without a known meaning.
    #[error("no answer: the frame is an ICMP error")]
    IcmpError,
    /// Parse result that is not of this frame.
    #[error("no answer: the frame is not the one that was parsed")]
    Mismatch,
    /// Buffer with less than [`HEADROOM`] bytes free before the frame.
    #[error("no answer: no room before the frame; give buffers {HEADROOM} bytes of headroom")]
    NoRoom,
}

/// Says which answer a frame gets, without making it: to be called before a token is taken from a
/// bucket.
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
