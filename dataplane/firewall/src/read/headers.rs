// SPDX-License-Identifier: Apache-2.0
//! Kinds of values that are fields of headers: protocols, ports, ICMP types and EtherTypes.

use std::ops::RangeInclusive;

use sluice_packet::EtherType;

use super::kind::{Form, Grammar, Kind, Read, Word, find, no_word};
use super::numbers::{is_numeric, number, range};
use super::value_error::ValueError;
use super::words::{ETHERTYPES, ICMP_TYPES, ICMPV6_TYPES, IcmpWord, PORTS, PROTOCOLS, Words};
use crate::matches::IcmpTypes;
use crate::named_set::SetValues;

const NUMBER: &str = "(0x[0-9a-fA-F]+|[0-9]+)";
const NUMBER_OR_RANGE: &str = "(0x[0-9a-fA-F]+|[0-9]+)( *- *(0x[0-9a-fA-F]+|[0-9]+))?";

/// IP protocol.
pub(crate) enum ProtocolKind {}

impl Kind for ProtocolKind {
    type Value = u8;

    const GRAMMAR: Grammar = Grammar {
        name: "protocols",
        numbers: Some((0, 0xff)),
        forms: &[Form {
            name: "number from 0 to 255",
            pattern: NUMBER,
            examples: &["17", "0x11"],
        }],
        words: || Word::numbered(PROTOCOLS, |number| number.to_string()),
        any: true,
        ..Grammar::NONE
    };

    fn read(text: &str) -> Read<u8> {
        if let Some(number) = number(text) {
            return u8::try_from(number).map_err(|_| ValueError::Protocol(text.to_owned()));
        }
        let or_else = Some("a number from 0 to 255");
        find(text, PROTOCOLS).ok_or_else(|| no_word(text, "an IP protocol", PROTOCOLS, or_else))
    }
}

/// Port or range of ports.
pub(crate) enum PortKind {}

impl Kind for PortKind {
    type Value = RangeInclusive<u16>;

    const GRAMMAR: Grammar = Grammar {
        name: "ports",
        set: Some("ports"),
        numbers: Some((0, 0xffff)),
        forms: &[Form {
            name: "number from 0 to 65535, or a range of them",
            pattern: NUMBER_OR_RANGE,
            examples: &["5060", "1024-65535"],
        }],
        words: || Word::numbered(PORTS, |port| port.to_string()),
        any: true,
        ..Grammar::NONE
    };

    fn read(text: &str) -> Read<RangeInclusive<u16>> {
        if let Some(port) = find(text, PORTS) {
            return Ok(port..=port);
        }
        if is_numeric(text) {
            return range(text, "a port", u64::from(u16::MAX));
        }
        let or_else = Some("a number from 0 to 65535, a range such as 8-15");
        Err(no_word(text, "a port", PORTS, or_else))
    }

    fn of_set(set: &SetValues) -> Option<&[RangeInclusive<u16>]> {
        match set {
            SetValues::Ports(values) => Some(values),
            _ => None,
        }
    }

    fn everything() -> Vec<RangeInclusive<u16>> {
        vec![0..=u16::MAX]
    }
}

/// Defines the kind of ICMP types of one IP version.
macro_rules! icmp_types {
    ($($(#[$doc:meta])* $kind:ident = $name:literal, $words:ident;)*) => {$(
        $(#[$doc])*
        pub(crate) enum $kind {}

        impl Kind for $kind {
            type Value = IcmpTypes;

            const GRAMMAR: Grammar = Grammar {
                name: $name,
                numbers: Some((0, 0xff)),
                forms: &[
                    Form {
                        name: "number from 0 to 255, or a range of them",
                        pattern: NUMBER_OR_RANGE,
                        examples: &["8", "133-137"],
                    },
                    Form {
                        name: "type and code",
                        pattern: "(0x[0-9a-fA-F]+|[0-9]+)/(0x[0-9a-fA-F]+|[0-9]+)",
                        examples: &["3/4"],
                    },
                ],
                words: || Word::numbered($words, icmp_number),
                        ..Grammar::NONE
                    };

            fn read(text: &str) -> Read<IcmpTypes> {
                icmp_types(text, $words)
            }
        }
    )*};
}

icmp_types! {
    /// ICMP type of IPv4, with a code or without.
    IcmpKind = "ICMP types", ICMP_TYPES;
    /// ICMPv6 type, with a code or without.
    Icmpv6Kind = "ICMPv6 types", ICMPV6_TYPES;
}

fn icmp_number((icmp_type, code): IcmpWord) -> String {
    match code {
        Some(code) => format!("{icmp_type}/{code}"),
        None => icmp_type.to_string(),
    }
}

fn icmp_types(text: &str, words: Words<IcmpWord>) -> Read<IcmpTypes> {
    let one = |icmp_type, code| IcmpTypes {
        types: icmp_type..=icmp_type,
        codes: code..=code,
    };
    match find(text, words) {
        Some((icmp_type, Some(code))) => return Ok(one(icmp_type, code)),
        Some((icmp_type, None)) => return Ok(IcmpTypes::of(icmp_type..=icmp_type)),
        None => {}
    }
    if !is_numeric(text) {
        let or_else = Some("a number from 0 to 255, a range such as 8-15, or type and code as 3/4");
        return Err(no_word(text, "an ICMP type", words, or_else));
    }
    let Some((icmp_type, code)) = text.split_once('/') else {
        return range(text, "an ICMP type", u64::from(u8::MAX)).map(IcmpTypes::of);
    };
    let part = |text| u8::try_from(number(text)?).ok();
    match (part(icmp_type), part(code)) {
        (Some(icmp_type), Some(code)) => Ok(one(icmp_type, code)),
        _ => Err(ValueError::IcmpCode(text.to_owned())),
    }
}

/// ICMP code or range of codes.
pub(crate) enum IcmpCodeKind {}

impl Kind for IcmpCodeKind {
    type Value = RangeInclusive<u8>;

    const GRAMMAR: Grammar = Grammar {
        name: "ICMP codes",
        numbers: Some((0, 0xff)),
        forms: &[Form {
            name: "number from 0 to 255, or a range of them",
            pattern: NUMBER_OR_RANGE,
            examples: &["4", "0-1"],
        }],
        ..Grammar::NONE
    };

    fn read(text: &str) -> Read<RangeInclusive<u8>> {
        range(text, "an ICMP code", u64::from(u8::MAX))
    }
}

/// EtherType.
pub(crate) enum EtherTypeKind {}

impl Kind for EtherTypeKind {
    type Value = u16;

    const GRAMMAR: Grammar = Grammar {
        name: "EtherTypes",
        numbers: Some((0x0600, 0xffff)),
        forms: &[Form {
            name: "number from 0x0600 to 0xffff; none of a VLAN tag",
            pattern: NUMBER,
            examples: &["0x88cc", "2048"],
        }],
        words: || {
            Word::numbered(ETHERTYPES, |ethertype| match ethertype {
                0 => "a length".to_owned(),
                ethertype => format!("{ethertype:#06x}"),
            })
        },
        ..Grammar::NONE
    };

    fn read(text: &str) -> Read<u16> {
        let Some(number) = number(text) else {
            let or_else = Some("a number from 0x0600 to 0xffff");
            return find(text, ETHERTYPES)
                .ok_or_else(|| no_word(text, "an EtherType", ETHERTYPES, or_else));
        };
        match u16::try_from(number) {
            Ok(tag) if EtherType::is_tag(tag) => Err(ValueError::TagEtherType(text.to_owned())),
            Ok(ethertype @ EtherType::FIRST..) => Ok(ethertype),
            _ => Err(ValueError::EtherType(text.to_owned())),
        }
    }
}
