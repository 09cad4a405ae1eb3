// SPDX-License-Identifier: Apache-2.0
//! MLD, versions 1 and 2.

use super::{Form, Message, QUERY_INTERVAL_S, Query, ROBUSTNESS, RecordKind, Records};
use crate::bytes::{be16, part};
use crate::checksum;
use crate::error::ParseError;
use crate::ipv6::Ipv6;
use crate::proto::IpProto;

/// Multicast listener query, of either version.
pub(super) const QUERY: u8 = 130;
/// Multicast listener report of version 1.
const REPORT_V1: u8 = 131;
/// Multicast listener done, of version 1.
const DONE: u8 = 132;
/// Multicast listener report of version 2.
const REPORT_V2: u8 = 143;
/// ICMPv6 types of all messages.
pub(super) const TYPES: [u8; 4] = [QUERY, REPORT_V1, DONE, REPORT_V2];

/// Bytes of a message of version 1.
const V1_LEN: usize = 24;
/// Kind of the Router Alert option (RFC 2711).
const ROUTER_ALERT: u8 = 5;

/// Reads the message of an IPv6 packet.
pub(super) fn read(packet: &[u8]) -> Result<Message<'_>, ParseError> {
    let ip = Ipv6::new(packet)?;
    let upper = ip.upper()?;
    let src = ip.src();
    let is_link_local = src.segments()[0] & 0xffc0 == 0xfe80;
    let is_alerting = has_router_alert(&ip);
    if upper.fragment.is_some() || ip.hop_limit() != 1 || !is_alerting {
        return Err(ParseError::BadHeader);
    }
    let message = upper.payload;
    let head = message.first_chunk::<8>().ok_or(ParseError::Truncated)?;
    // A host that has no address yet reports from `::` (RFC 3810, 5.2.13); a router never asks so.
    let is_allowed = is_link_local || src.is_unspecified() && head[0] != QUERY;
    let len_bytes = u32::try_from(message.len()).map_err(|_| ParseError::BadHeader)?;
    let (from, to) = (src.octets(), ip.dst().octets());
    let sum = checksum::pseudo_v6(&from, &to, IpProto::ICMPV6, len_bytes).with(message);
    if !is_allowed || sum.finish() != 0 {
        return Err(ParseError::BadHeader);
    }
    if head[0] == REPORT_V2 {
        let rest = message.get(8..).ok_or(ParseError::Truncated)?;
        return Records::list(Form::V6, be16::<6, _>(head), rest).map(Message::Report);
    }
    let (head, rest) = message
        .split_first_chunk::<V1_LEN>()
        .ok_or(ParseError::Truncated)?;
    let group = part::<8, 16, _>(head);
    let single = |kind| Ok(Message::Report(Records::single(group, kind, Form::V6)));
    match head[0] {
        QUERY => query(head, rest),
        REPORT_V1 => single(RecordKind::Exclude),
        DONE => single(RecordKind::Include),
        _ => Ok(Message::Other),
    }
}

/// Reads a query, whose length says of which version it is (RFC 3810, 8.1).
fn query<'a>(head: &[u8; V1_LEN], rest: &[u8]) -> Result<Message<'a>, ParseError> {
    let code = be16::<4, _>(head);
    let (max_response_ms, robustness, interval_s) = match rest {
        [] => (code.into(), ROBUSTNESS, QUERY_INTERVAL_S),
        [flags, interval, _, _, ..] => {
            let (robustness, interval_s) = super::querier_times(*flags, *interval);
            (floating16(code), robustness, interval_s)
        }
        _ => return Err(ParseError::BadHeader),
    };
    Ok(Message::Query(Query {
        is_general: part::<8, 16, _>(head) == [0; 16],
        max_response_ms,
        robustness,
        interval_s,
    }))
}

/// Decodes the floating point form of a response time (RFC 3810, 5.1.3): an exponent of three bits
/// and a mantissa of twelve above 32,767.
fn floating16(code: u16) -> u32 {
    let code = u32::from(code);
    if code < 0x8000 {
        code
    } else {
        (code & 0x0fff | 0x1000) << ((code >> 12 & 7) + 3)
    }
}

/// Whether the first extension header is of hop-by-hop options with a Router Alert for MLD.
fn has_router_alert(ip: &Ipv6<'_>) -> bool {
    let Some(Ok(first)) = ip.extensions().next() else {
        return false;
    };
    if first.kind != IpProto::HOP_BY_HOP {
        return false;
    }
    let mut rest = first.bytes.get(2..).unwrap_or_default();
    // Kind 0 is one byte of padding here; every other option has a length.
    while let Some((&kind, behind)) = rest.split_first() {
        if kind == 0 {
            rest = behind;
            continue;
        }
        let Some((&len, behind)) = behind.split_first() else {
            return false;
        };
        let Some((data, behind)) = behind.split_at_checked(len.into()) else {
            return false;
        };
        if kind == ROUTER_ALERT && data == [0, 0] {
            return true;
        }
        rest = behind;
    }
    false
}
