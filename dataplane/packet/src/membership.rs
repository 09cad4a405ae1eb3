// SPDX-License-Identifier: Apache-2.0
//! Group membership messages: IGMP (RFC 1112, 2236, 3376) and MLD (RFC 2710, 3810), as one type that a
//! snooping switch (RFC 4541) learns from.
//!
//! | file | holds |
//! |---|---|
//! | `membership.rs` | messages, records, and which groups are worth knowing |
//! | `membership/igmp.rs`, `membership/mld.rs` | the two wire formats |

mod igmp;
mod mld;
#[cfg(test)]
mod tests;

use crate::error::ParseError;
use crate::key::FlowKey;
use crate::mac::Mac;
use crate::proto::IpProto;

/// Records that are read of one report: as many as fit a frame of 1,500 bytes. Further ones are left
/// out, so that no frame takes more work than that.
pub const MAX_RECORDS: usize = 184;
/// Robustness that a query which names none stands for (RFC 3376, 8.1).
const ROBUSTNESS: u8 = 2;
/// Query interval in seconds that a query which names none stands for (RFC 3376, 8.2).
const QUERY_INTERVAL_S: u32 = 125;

/// Message of IGMP or MLD.
#[derive(Debug, Clone)]
pub enum Message<'a> {
    /// Query of a router.
    Query(Query),
    /// Report of a host: what it wants from now on, or no longer.
    Report(Records<'a>),
    /// Message of another type, such as DVMRP's.
    Other,
}

/// Query of a router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query {
    /// Whether it asks for all groups and not for one.
    pub is_general: bool,
    /// Time that hosts may take to answer, in milliseconds.
    pub max_response_ms: u32,
    /// Number of messages that may be lost in a row, at least 1.
    pub robustness: u8,
    /// Time between two general queries, in seconds.
    pub interval_s: u32,
}

impl Query {
    /// Returns how long a membership lives that no report renews, in milliseconds: the group
    /// membership interval (RFC 3376, 8.4; RFC 3810, 9.4).
    #[must_use]
    pub fn membership_ms(&self) -> u64 {
        self.queries_ms() + u64::from(self.max_response_ms)
    }

    /// Returns how long after its last query a querier counts as being there, in milliseconds: the
    /// other querier present interval (RFC 3376, 8.5; RFC 3810, 9.5).
    #[must_use]
    pub fn present_ms(&self) -> u64 {
        self.queries_ms() + u64::from(self.max_response_ms / 2)
    }

    fn queries_ms(&self) -> u64 {
        u64::from(self.robustness) * u64::from(self.interval_s) * 1000
    }
}

/// Kind of a record (RFC 3376, 4.2.12; RFC 3810, 5.2.12).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordKind {
    /// The host wants these sources and no other.
    Include,
    /// The host wants all sources but these.
    Exclude,
    /// The host wants these sources as well.
    Allow,
    /// The host wants these sources no longer.
    Block,
}

impl RecordKind {
    /// Returns the kind of a record type; `None` for one that is not known, which is to be ignored.
    fn of(record_type: u8) -> Option<RecordKind> {
        match record_type {
            1 | 3 => Some(RecordKind::Include),
            2 | 4 => Some(RecordKind::Exclude),
            5 => Some(RecordKind::Allow),
            6 => Some(RecordKind::Block),
            _ => None,
        }
    }
}

/// Statement of a host about one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Group address, as in [`FlowKey::dst`].
    pub group: [u8; 16],
    /// Kind.
    pub kind: RecordKind,
    /// Sources, of [`Record::source_len`] bytes each.
    sources: &'a [u8],
    source_len: usize,
}

impl<'a> Record<'a> {
    /// Iterates over the source addresses, as they are written.
    pub fn sources(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.sources.chunks_exact(self.source_len)
    }

    /// Whether there is no source.
    #[must_use]
    pub fn has_no_sources(&self) -> bool {
        self.sources.is_empty()
    }

    /// Length of a source address: 4 or 16.
    #[must_use]
    pub fn source_len(&self) -> usize {
        self.source_len
    }
}

/// Iterator over the records of a report, at most [`MAX_RECORDS`]. Their lengths are checked.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    form: Form,
    /// Records to come, or the single record of an older version.
    left: usize,
    single: Option<Record<'a>>,
    rest: &'a [u8],
}

/// Layout of the records, which differs by the length of an address alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    V4,
    V6,
}

impl Form {
    fn address_len(self) -> usize {
        match self {
            Form::V4 => 4,
            Form::V6 => 16,
        }
    }
}

impl<'a> Records<'a> {
    /// Single record, of a version that has one group a message.
    fn single(group: [u8; 16], kind: RecordKind, form: Form) -> Records<'a> {
        let single = Record {
            group,
            kind,
            sources: &[],
            source_len: form.address_len(),
        };
        Records {
            form,
            left: 0,
            single: Some(single),
            rest: &[],
        }
    }

    /// The records of a report that has a list of them.
    fn list(form: Form, count: u16, bytes: &'a [u8]) -> Result<Records<'a>, ParseError> {
        let records = Records {
            form,
            left: usize::from(count).min(MAX_RECORDS),
            single: None,
            rest: bytes,
        };
        let mut checked = records.clone();
        while checked.left > 0 {
            checked.step().ok_or(ParseError::Truncated)?;
        }
        Ok(records)
    }

    /// Reads the next record, whose kind may be unknown; `None` if it is not all there.
    fn step(&mut self) -> Option<(u8, Record<'a>)> {
        let address_len = self.form.address_len();
        let (&[record_type, aux_words, high, low], rest) = self.rest.split_first_chunk::<4>()?;
        let sources_len = usize::from(u16::from_be_bytes([high, low])) * address_len;
        let (group, rest) = rest.split_at_checked(address_len)?;
        let (sources, rest) = rest.split_at_checked(sources_len)?;
        let (_, rest) = rest.split_at_checked(usize::from(aux_words) * 4)?;
        let group = match *group {
            [a, b, c, d] => FlowKey::mapped([a, b, c, d]),
            _ => group.try_into().ok()?,
        };
        (self.rest, self.left) = (rest, self.left - 1);
        let record = Record {
            group,
            kind: RecordKind::Block,
            sources,
            source_len: address_len,
        };
        Some((record_type, record))
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        if let Some(single) = self.single.take() {
            return Some(single);
        }
        while self.left > 0 {
            let (record_type, record) = self.step()?;
            if let Some(kind) = RecordKind::of(record_type) {
                return Some(Record { kind, ..record });
            }
        }
        None
    }
}

/// Reads the membership message of a frame that was parsed into `key`, with its network header at
/// `l3`; `None` if it is neither IGMP nor one of MLD's types.
///
/// # Errors
/// `Truncated` or `BadHeader` for what no router accepts: fragments, a TTL or hop limit other than 1
/// (so that none can come from beyond the link), a wrong checksum, lengths that lie; of MLD also a
/// source that is not link-local, and no Router Alert option (RFC 2710, 3; RFC 3810, 5).
pub fn read<'a>(
    frame: &'a [u8],
    key: &FlowKey,
    l3: u16,
) -> Option<Result<Message<'a>, ParseError>> {
    let is_igmp = key.has(FlowKey::IPV4) && key.proto == IpProto::IGMP;
    let is_mld = key.has(FlowKey::ICMP)
        && key.proto == IpProto::ICMPV6
        && mld::TYPES.contains(&key.icmp_type);
    if !is_igmp && !is_mld {
        return None;
    }
    let Some(packet) = frame.get(usize::from(l3)..) else {
        return Some(Err(ParseError::Truncated));
    };
    Some(if is_igmp {
        igmp::read(packet)
    } else {
        mld::read(packet)
    })
}

/// Whether membership of a group decides who gets its frames. It does not for addresses that are no
/// group's, and for groups that reach no further than the link (224.0.0.0/24; ff00::/16 to
/// ff02::/16), which hosts need whether or not they report them (RFC 4541, 2.1.2 (2) and 3).
#[must_use]
pub fn is_snooped(group: &[u8; 16]) -> bool {
    if let [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, _] = *group {
        return a & 0xf0 == 0xe0 && [a, b, c] != [224, 0, 0];
    }
    group[0] == 0xff && group[1] & 0x0f > 2
}

/// Returns the MAC address that frames to a group have (RFC 1112, 6.4; RFC 2464, 7).
#[must_use]
pub fn mac_of(group: &[u8; 16]) -> Mac {
    let [.., a, b, c, d] = *group;
    if group[0] == 0xff {
        Mac([0x33, 0x33, a, b, c, d])
    } else {
        Mac([1, 0, 0x5e, b & 0x7f, c, d])
    }
}

/// Decodes the floating point form of a time (RFC 3376, 4.1.1 and 4.1.7): one byte, an exponent of
/// three bits and a mantissa of four above 127.
fn floating(code: u8) -> u32 {
    let code = u32::from(code);
    if code < 128 {
        code
    } else {
        (code & 0x0f | 0x10) << ((code >> 4 & 7) + 3)
    }
}

/// Returns the robustness and the query interval in seconds that a query names, or the defaults.
fn querier_times(flags: u8, interval_code: u8) -> (u8, u32) {
    let robustness = match flags & 7 {
        0 => ROBUSTNESS,
        some => some,
    };
    let interval_s = match floating(interval_code) {
        0 => QUERY_INTERVAL_S,
        some => some,
    };
    (robustness, interval_s)
}
