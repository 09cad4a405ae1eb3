// SPDX-License-Identifier: Apache-2.0
//! Single values from text.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use sluice_packet::{EtherType, IpProto, Mac, Vid, VidError, VidRange};

use super::value_error::ValueError;
use crate::policy::Directions;
use crate::verdict::Verdict;

/// Value that was read, or the reason why the text was refused.
pub(super) type Read<T> = Result<T, ValueError>;

/// Reads one of `words`; `kind` names them with their article, as in "a verdict".
fn word<T: Copy>(text: &str, kind: &'static str, words: &[(&'static str, T)]) -> Read<T> {
    word_or_number(text, kind, words, None)
}

/// Reads one of `words`, where a number, which the caller read before, is allowed as well.
fn word_or_number<T: Copy>(
    text: &str,
    kind: &'static str,
    words: &[(&'static str, T)],
    or_number: Option<&'static str>,
) -> Read<T> {
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    Err(ValueError::Word {
        text: text.to_owned(),
        kind,
        words: words.iter().map(|(word, _)| *word).collect(),
        or_number,
    })
}

/// Reads a verdict.
pub(super) fn verdict(text: &str) -> Read<Verdict> {
    const VERDICTS: &[(&str, Verdict)] = &[
        ("accept", Verdict::Accept),
        ("drop", Verdict::Drop),
        ("reject", Verdict::Reject),
    ];
    word(text, "a verdict", VERDICTS)
}

/// Reads the directions of a rule.
pub(super) fn directions(text: &str) -> Read<Directions> {
    const DIRECTIONS: &[(&str, Directions)] = &[
        ("ingress", Directions::Ingress),
        ("egress", Directions::Egress),
        ("both", Directions::Both),
    ];
    word(text, "a direction", DIRECTIONS)
}

/// Reads the name of a policy, a rule or an uplink.
pub(super) fn name(text: &str) -> Read<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    if starts_well && text.len() <= 63 && text.chars().all(allowed) {
        return Ok(text.to_owned());
    }
    Err(ValueError::Name(text.to_owned()))
}

/// Reads the name of a rule; `default` is refused, since counters call a direction's default so.
pub(super) fn rule_name(text: &str) -> Read<String> {
    match text {
        "default" => Err(ValueError::ReservedName),
        _ => name(text),
    }
}

/// Reads `true` or `false`.
pub(super) fn boolean(text: &str) -> Read<bool> {
    word(text, "a truth value", &[("true", true), ("false", false)])
}

/// Reads a prefix (`10.0.0.0/8`, `fd00::/8`) or an address alone.
pub(super) fn prefix(text: &str) -> Read<IpNet> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address));
    }
    let net: IpNet = text
        .parse()
        .map_err(|_| ValueError::Prefix(text.to_owned()))?;
    if net.trunc() != net {
        let text = text.to_owned();
        return Err(ValueError::HostBits { text, net });
    }
    Ok(net)
}

/// Reads ports: `5060` or `1024-65535`.
pub(super) fn ports(text: &str) -> Read<RangeInclusive<u16>> {
    range(text, "a port", u64::from(u16::MAX))
}

/// Reads ICMP types: `8` or `133-137`.
pub(super) fn icmp_types(text: &str) -> Read<RangeInclusive<u8>> {
    range(text, "an ICMP type", u64::from(u8::MAX))
}

/// Reads segments: `210`, `220-229`, `0` or `untagged`.
pub(super) fn vids(text: &str) -> Read<VidRange> {
    if text == "untagged" {
        return Ok(Vid::UNTAGGED.into());
    }
    let (first, last) = ends(text);
    let vid = |text: &str| Vid::try_from(number(text)?).ok();
    let (Some(first), Some(last)) = (vid(first), vid(last)) else {
        return Err(ValueError::Vlan(text.to_owned()));
    };
    VidRange::new(first, last).map_err(|error| match error {
        VidError::Backwards { first, last } => ValueError::Backwards {
            text: text.to_owned(),
            first: first.get().into(),
            last: last.get().into(),
        },
        _ => ValueError::Vlan(text.to_owned()),
    })
}

/// Reads a protocol's name or number.
pub(super) fn protocol(text: &str) -> Read<u8> {
    const NAMES: &[(&str, u8)] = &[
        ("tcp", IpProto::TCP),
        ("udp", IpProto::UDP),
        ("icmp", IpProto::ICMP),
        ("icmpv6", IpProto::ICMPV6),
        ("sctp", IpProto::SCTP),
    ];
    if let Some(number) = number(text) {
        return u8::try_from(number).map_err(|_| ValueError::Protocol(text.to_owned()));
    }
    let or_number = Some(", or a number from 0 to 255");
    word_or_number(text, "an IP protocol", NAMES, or_number)
}

/// Reads an EtherType's name or number.
pub(super) fn ethertype(text: &str) -> Read<u16> {
    const NAMES: &[(&str, u16)] = &[
        ("arp", EtherType::ARP),
        ("ipv4", EtherType::IPV4),
        ("ipv6", EtherType::IPV6),
        ("lldp", EtherType::LLDP),
        ("802.3", 0),
    ];
    let Some(number) = number(text) else {
        let or_number = Some(", or a number from 0x0600 to 0xffff");
        return word_or_number(text, "an EtherType", NAMES, or_number);
    };
    match u16::try_from(number) {
        Ok(tag) if EtherType::is_tag(tag) => Err(ValueError::TagEtherType(text.to_owned())),
        Ok(ethertype @ EtherType::FIRST..) => Ok(ethertype),
        _ => Err(ValueError::EtherType(text.to_owned())),
    }
}

/// Reads a MAC address: `02:00:5e:10:00:01`.
pub(super) fn mac(text: &str) -> Read<Mac> {
    text.parse().map_err(|_| ValueError::Mac(text.to_owned()))
}

/// Reads `5` or `5-9`, up to `max`; `kind` names the numbers with their article.
fn range<T: TryFrom<u64>>(text: &str, kind: &'static str, max: u64) -> Read<RangeInclusive<T>> {
    let (first, last) = ends(text);
    let in_range = |text: &str| number(text).filter(|number| *number <= max);
    let refused = || ValueError::Range {
        text: text.to_owned(),
        kind,
        max,
    };
    let (Some(first), Some(last)) = (in_range(first), in_range(last)) else {
        return Err(refused());
    };
    if last < first {
        let text = text.to_owned();
        return Err(ValueError::Backwards { text, first, last });
    }
    match (T::try_from(first), T::try_from(last)) {
        (Ok(first), Ok(last)) => Ok(first..=last),
        _ => Err(refused()),
    }
}

/// Splits `5-9` into its two ends, which are the same text if there is no hyphen.
fn ends(text: &str) -> (&str, &str) {
    match text.split_once('-') {
        Some((first, last)) => (first.trim(), last.trim()),
        None => (text, text),
    }
}

/// Reads decimal digits, or hex digits behind `0x`; `None` for anything else and above 64 bits.
fn number(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    // from_str_radix alone would take a sign.
    let all_digits = digits.chars().all(|c| c.is_digit(radix));
    all_digits.then(|| u64::from_str_radix(digits, radix).ok())?
}
