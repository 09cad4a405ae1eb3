// SPDX-License-Identifier: Apache-2.0
//! Judging by header fields that are no part of a flow's key: TCP flags, DSCP, TTL, options, ARP operation, tags.
//!
//! Tables judge by key first. Only where the rule found has a condition on such a field are the fields read.
//! What is decided then holds for this frame alone: it goes into no cache.

use sluice_firewall::{Hit, Table};
use sluice_mem::Mbuf;
use sluice_packet::tcp::flag;
use sluice_packet::{FlowKey, Headers};

use crate::frame::FrameInfo;

/// Bits of a TCI below its priority.
const PRIORITY_SHIFT: u32 = 13;

/// Returns the hit of `table` on a frame whose hit by key is `by_key`; `None` if that is final.
#[inline]
pub(super) fn complete(table: &Table, by_key: Hit, mbuf: &Mbuf) -> Option<Hit> {
    if !table.needs_headers(by_key) {
        return None;
    }
    Some(with_headers(table, &FrameInfo::of(mbuf).key, mbuf))
}

/// Judges a frame by all that its policy reads of it.
pub(super) fn judge(table: &Table, mbuf: &Mbuf) -> Hit {
    let by_key = table.judge(&FrameInfo::of(mbuf).key);
    complete(table, by_key, mbuf).unwrap_or(by_key)
}

/// Judges the first frame of a connection, of which `mbuf` is a frame and `key` its first frame's key: header
/// fields count as in `mbuf`, but TCP flags as in a SYN.
pub(super) fn judge_as_first(table: &Table, key: &FlowKey, mbuf: &Mbuf) -> Hit {
    let by_key = table.judge(key);
    if !table.needs_headers(by_key) {
        return by_key;
    }
    let mut headers = read(mbuf);
    headers.tcp_flags = headers.tcp_flags.map(|_| flag::SYN);
    table.judge_with(key, &headers)
}

#[cold]
fn with_headers(table: &Table, key: &FlowKey, mbuf: &Mbuf) -> Hit {
    table.judge_with(key, &read(mbuf))
}

fn read(mbuf: &Mbuf) -> Headers {
    let info = FrameInfo::of(mbuf);
    let mut headers = Headers::read(mbuf.data(), &info.key);
    headers.priority = (info.priority_bits() >> PRIORITY_SHIFT) as u8;
    headers
}
