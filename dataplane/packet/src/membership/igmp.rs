// SPDX-License-Identifier: Apache-2.0
//! IGMP, versions 1 to 3.

use super::{Form, Message, QUERY_INTERVAL_S, Query, ROBUSTNESS, RecordKind, Records};
use crate::bytes::{be16, part};
use crate::checksum;
use crate::error::ParseError;
use crate::ipv4::Ipv4;
use crate::key::FlowKey;

/// Membership query, of any version.
pub(super) const QUERY: u8 = 0x11;
/// Membership report of version 1.
const REPORT_V1: u8 = 0x12;
/// Membership report of version 2.
const REPORT_V2: u8 = 0x16;
/// Leave group, of version 2.
const LEAVE: u8 = 0x17;
/// Membership report of version 3.
const REPORT_V3: u8 = 0x22;

/// Bytes that every message has.
const HEADER_LEN: usize = 8;
/// Time to answer a query of version 1, which names none (RFC 2236, 4), in tenths of a second.
const V1_RESPONSE: u8 = 100;

/// Reads the message of an IPv4 packet.
pub(super) fn read(packet: &[u8]) -> Result<Message<'_>, ParseError> {
    let ip = Ipv4::new(packet)?;
    if ip.is_fragment() || ip.ttl() != 1 {
        return Err(ParseError::BadHeader);
    }
    let message = ip.payload();
    let (head, rest) = message
        .split_first_chunk::<HEADER_LEN>()
        .ok_or(ParseError::Truncated)?;
    if checksum::of(message) != 0 {
        return Err(ParseError::BadHeader);
    }
    let group = part::<4, 4, _>(head);
    let single = |kind| {
        let records = Records::single(FlowKey::mapped(group), kind, Form::V4);
        Ok(Message::Report(records))
    };
    match head[0] {
        QUERY => query(head, rest),
        REPORT_V1 | REPORT_V2 => single(RecordKind::Exclude),
        LEAVE => single(RecordKind::Include),
        REPORT_V3 => Records::list(Form::V4, be16::<6, _>(head), rest).map(Message::Report),
        _ => Ok(Message::Other),
    }
}

/// Reads a query, whose length and response time say of which version it is (RFC 3376, 7.1).
fn query<'a>(head: &[u8; HEADER_LEN], rest: &[u8]) -> Result<Message<'a>, ParseError> {
    let is_general = part::<4, 4, _>(head) == [0; 4];
    let (tenths, robustness, interval_s) = match (head[1], rest) {
        (0, []) => (V1_RESPONSE.into(), ROBUSTNESS, QUERY_INTERVAL_S),
        (code, []) => (code.into(), ROBUSTNESS, QUERY_INTERVAL_S),
        (code, [flags, interval, _, _, ..]) => {
            let (robustness, interval_s) = super::querier_times(*flags, *interval);
            (super::floating(code), robustness, interval_s)
        }
        _ => return Err(ParseError::BadHeader),
    };
    Ok(Message::Query(Query {
        is_general,
        max_response_ms: tenths * 100,
        robustness,
        interval_s,
    }))
}
