// SPDX-License-Identifier: Apache-2.0
//! Conditions of a rule on header fields that differ within a flow: how they are read, and which can hold for no
//! frame.

use sluice_packet::tcp::flag;
use sluice_packet::{EtherType, IpProto};

use super::addresses::VidKind;
use super::header_kinds::{
    ArpOperationKind, DscpKind, ExtensionKind, FLAGS, HopLimitKind, IpOptionKind, PriorityKind,
    TcpFlagKind, flag_name,
};
use super::reader::{Fields, Reader};
use super::rule::pair;
use super::words::TcpFlagWord;
use crate::header_match::{HeaderMatch, TcpFlags};
use crate::matches::Match;

/// Keys of conditions that only IP meets.
pub(super) const OF_IP: &[&str] = &[
    "tcp-flags",
    "not-tcp-flags",
    "dscp",
    "not-dscp",
    "ttl",
    "not-ttl",
    "ip-options",
    "not-ip-options",
    "extension-headers",
    "not-extension-headers",
];

/// Reads the conditions. Sets `never` if one has values and none of them stands for anything.
pub(super) fn conditions(
    reader: &mut Reader<'_>,
    fields: &Fields<'_, '_>,
    never: &mut bool,
) -> HeaderMatch {
    let mut headers = HeaderMatch {
        tcp_flags: tcp_flags(reader, fields),
        ..HeaderMatch::default()
    };
    (headers.arp_operations, headers.not_arp_operations) =
        pair::<ArpOperationKind>(reader, fields, "arp-operation", never);
    (headers.dscp, headers.not_dscp) = pair::<DscpKind>(reader, fields, "dscp", never);
    (headers.hop_limits, headers.not_hop_limits) =
        pair::<HopLimitKind>(reader, fields, "ttl", never);
    (headers.ip_options, headers.not_ip_options) =
        pair::<IpOptionKind>(reader, fields, "ip-options", never);
    (headers.extensions, headers.not_extensions) =
        pair::<ExtensionKind>(reader, fields, "extension-headers", never);
    (headers.priorities, headers.not_priorities) =
        pair::<PriorityKind>(reader, fields, "pcp", never);
    (headers.inner_vids, headers.not_inner_vids) =
        pair::<VidKind>(reader, fields, "inner-vlan", never);
    headers
}

/// Reads `tcp-flags`, all of which are set, and `not-tcp-flags`, none of which is: a set for each way to meet
/// both.
fn tcp_flags(reader: &mut Reader<'_>, fields: &Fields<'_, '_>) -> Vec<TcpFlags> {
    let words = flag_words(reader, fields, "tcp-flags");
    let not = flag_words(reader, fields, "not-tcp-flags");
    if words.is_empty() && not.is_empty() {
        return Vec::new();
    }
    let one = |set: u8, clear: u8| TcpFlags { set, clear };
    let wanted = match words[..] {
        [TcpFlagWord::Initial] => vec![one(flag::SYN, flag::ACK)],
        [TcpFlagWord::Established] => vec![one(flag::ACK, 0), one(flag::RST, 0)],
        _ => vec![one(flags(&words), 0)],
    };
    let unwanted = match not[..] {
        [TcpFlagWord::Initial] => vec![one(flag::ACK, 0), one(0, flag::SYN)],
        [TcpFlagWord::Established] => vec![one(0, flag::ACK | flag::RST)],
        _ => vec![one(0, flags(&not))],
    };
    let ways = wanted.iter().flat_map(|a| {
        let with = |b: &TcpFlags| one(a.set | b.set, a.clear | b.clear);
        unwanted.iter().map(with)
    });
    let ways: Vec<TcpFlags> = ways.collect();
    let possible = |one: &TcpFlags| one.set & one.clear == 0;
    let sets: Vec<TcpFlags> = ways.iter().copied().filter(possible).collect();
    if let (true, Some(way)) = (sets.is_empty(), ways.first()) {
        let both = way.set & way.clear;
        let flag = FLAGS.into_iter().find(|flag| both & flag != 0);
        let message = format!(
            "`{}` would have to be set and clear at once: no segment is both; take it out of one of the two",
            flag.map_or("?", flag_name)
        );
        reader.problem(fields.at("not-tcp-flags"), message);
    }
    sets
}

/// Reads the words of one of the two keys: flags, or one of the words for several alone.
fn flag_words(reader: &mut Reader<'_>, fields: &Fields<'_, '_>, key: &str) -> Vec<TcpFlagWord> {
    let words = reader.negated::<TcpFlagKind>(fields, key);
    let is_flag = |word: &TcpFlagWord| matches!(word, TcpFlagWord::Flag(_));
    if words.len() > 1 && !words.iter().all(is_flag) {
        let message = format!(
            "`{key}` has `initial` or `established` beside other values; these stand alone"
        );
        reader.problem(fields.at(key), message);
    }
    words
}

/// Bits of all flags among the words.
fn flags(words: &[TcpFlagWord]) -> u8 {
    words.iter().fold(0, |all, word| match word {
        TcpFlagWord::Flag(flag) => all | flag,
        TcpFlagWord::Initial | TcpFlagWord::Established => all,
    })
}

/// Refuses conditions on header fields that no frame can meet beside the others.
pub(super) fn check(reader: &mut Reader<'_>, fields: &Fields<'_, '_>, matches: &Match) {
    for key in ["tcp-flags", "not-tcp-flags"] {
        if fields.has(key) && matches.protocols[..] != [IpProto::TCP] {
            let message = format!("`{key}` needs `protocol: tcp`, and no other protocol beside it");
            reader.problem(fields.at(key), message);
        }
    }
    for key in ["arp-operation", "not-arp-operation"] {
        if !fields.has(key) {
            continue;
        }
        let is_arp = matches!(matches.ethertypes[..], [] | [EtherType::ARP]);
        if !is_arp || matches.is_about_protocols() {
            let message = format!("`{key}` is of ARP alone; leave out what is about other frames");
            reader.problem(fields.at(key), message);
        }
    }
}

/// Gives a rule that is about ARP its EtherType, so that `from` and `to` are about ARP as well.
pub(super) fn complete(matches: &mut Match) {
    let headers = &matches.headers;
    let is_about_arp = !headers.arp_operations.is_empty() || !headers.not_arp_operations.is_empty();
    if is_about_arp && matches.ethertypes.is_empty() {
        matches.ethertypes = vec![EtherType::ARP];
    }
}
