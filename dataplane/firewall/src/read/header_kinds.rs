// SPDX-License-Identifier: Apache-2.0
//! Kinds of values that are header fields which differ within a flow.

use std::ops::RangeInclusive;

use sluice_packet::tcp::flag;

use super::kind::{Form, Grammar, Kind, Read, Word, find, no_word, word};
use super::numbers::{number, range};
use super::value_error::ValueError;
use super::words::{
    ARP_OPERATIONS, DSCP, EXTENSION_HEADERS, IP_OPTIONS, TCP_FLAGS, TcpFlagWord, Words,
};
use crate::header_match::HeaderKind;

const NUMBER: &str = "(0x[0-9a-fA-F]+|[0-9]+)";
const NUMBER_OR_RANGE: &str = "(0x[0-9a-fA-F]+|[0-9]+)( *- *(0x[0-9a-fA-F]+|[0-9]+))?";

/// TCP flag, or a word for several.
pub(crate) enum TcpFlagKind {}

impl Kind for TcpFlagKind {
    type Value = TcpFlagWord;

    const GRAMMAR: Grammar = Grammar {
        name: "TCP flags",
        words: || {
            Word::numbered(TCP_FLAGS, |word| match word {
                TcpFlagWord::Flag(flag) => format!("({flag:#04x})"),
                TcpFlagWord::Initial => "(`syn` without `ack`)".to_owned(),
                TcpFlagWord::Established => "(`ack` or `rst`)".to_owned(),
            })
        },
        ..Grammar::NONE
    };

    fn read(text: &str) -> Read<TcpFlagWord> {
        word(text, "a TCP flag", TCP_FLAGS)
    }
}

/// Name of a TCP flag.
pub(super) fn flag_name(flag: u8) -> &'static str {
    let mut words = TCP_FLAGS.iter();
    let found = words.find(|(_, word)| matches!(word, TcpFlagWord::Flag(one) if *one == flag));
    found.map_or("?", |(name, _)| name)
}

/// All TCP flags, lowest bit first.
pub(super) const FLAGS: [u8; 8] = [
    flag::FIN,
    flag::SYN,
    flag::RST,
    flag::PSH,
    flag::ACK,
    flag::URG,
    flag::ECE,
    flag::CWR,
];

/// Reads one of `words` or a number up to `max`.
fn word_or_number(
    text: &str,
    kind: &'static str,
    words: Words<u8>,
    max: u8,
    or_else: &'static str,
) -> Read<u8> {
    let number = number(text).and_then(|number| u8::try_from(number).ok());
    let found = find(text, words).or(number.filter(|number| *number <= max));
    found.ok_or_else(|| no_word(text, kind, words, Some(or_else)))
}

/// Differentiated services code point.
pub(crate) enum DscpKind {}

impl Kind for DscpKind {
    type Value = u8;

    const GRAMMAR: Grammar = Grammar {
        name: "DSCPs",
        numbers: Some((0, 63)),
        forms: &[Form {
            name: "number from 0 to 63",
            pattern: NUMBER,
            examples: &["46", "0x2e"],
        }],
        words: || Word::numbered(DSCP, |number| number.to_string()),
        ..Grammar::NONE
    };

    fn read(text: &str) -> Read<u8> {
        word_or_number(text, "a DSCP", DSCP, 63, "a number from 0 to 63")
    }
}

/// Priority code point of a VLAN tag.
pub(crate) enum PriorityKind {}

impl Kind for PriorityKind {
    type Value = u8;

    const GRAMMAR: Grammar = Grammar {
        name: "priorities",
        numbers: Some((0, 7)),
        forms: &[Form {
            name: "number from 0 to 7",
            pattern: NUMBER,
            examples: &["5"],
        }],
        ..Grammar::NONE
    };

    fn read(text: &str) -> Read<u8> {
        let number = number(text).and_then(|number| u8::try_from(number).ok());
        let found = number.filter(|number| *number <= 7);
        found.ok_or_else(|| ValueError::Priority(text.to_owned()))
    }
}

/// TTL or hop limit, or a range of them.
pub(crate) enum HopLimitKind {}

impl Kind for HopLimitKind {
    type Value = RangeInclusive<u8>;

    const GRAMMAR: Grammar = Grammar {
        name: "TTLs",
        numbers: Some((0, 255)),
        forms: &[Form {
            name: "number from 0 to 255, or a range of them",
            pattern: NUMBER_OR_RANGE,
            examples: &["255", "0-4"],
        }],
        ..Grammar::NONE
    };

    fn read(text: &str) -> Read<RangeInclusive<u8>> {
        range(text, "a TTL", u64::from(u8::MAX))
    }
}

/// ARP operation.
pub(crate) enum ArpOperationKind {}

impl Kind for ArpOperationKind {
    type Value = u16;

    const GRAMMAR: Grammar = Grammar {
        name: "ARP operations",
        numbers: Some((0, 0xffff)),
        forms: &[Form {
            name: "number from 0 to 65535",
            pattern: NUMBER,
            examples: &["1"],
        }],
        words: || Word::numbered(ARP_OPERATIONS, |number| number.to_string()),
        ..Grammar::NONE
    };

    fn read(text: &str) -> Read<u16> {
        let number = number(text).and_then(|number| u16::try_from(number).ok());
        let or_else = Some("a number from 0 to 65535");
        let found = find(text, ARP_OPERATIONS).or(number);
        found.ok_or_else(|| no_word(text, "an ARP operation", ARP_OPERATIONS, or_else))
    }
}

/// Defines a kind whose values are kinds of options or extension headers.
macro_rules! header_kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal, $article:literal, $words:ident;)*) => {$(
        $(#[$doc])*
        pub(crate) enum $kind {}

        impl Kind for $kind {
            type Value = HeaderKind;

            const GRAMMAR: Grammar = Grammar {
                name: $name,
                words: || Word::plain($words),
                ..Grammar::NONE
            };

            fn read(text: &str) -> Read<HeaderKind> {
                word(text, $article, $words)
            }
        }
    )*};
}

header_kinds! {
    /// IPv4 option.
    IpOptionKind = "IPv4 options", "an IPv4 option", IP_OPTIONS;
    /// IPv6 extension header.
    ExtensionKind = "IPv6 extension headers", "an IPv6 extension header", EXTENSION_HEADERS;
}
