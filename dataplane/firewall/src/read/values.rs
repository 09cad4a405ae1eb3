//! Single values from text. Each says on refusal what would be right.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use sluice_packet::{EtherType, IpProto, Mac, Vid};

use super::suggest::{closest, listed};

/// A value, or why the text is none.
pub(super) type Read<T> = Result<T, String>;

/// One of `words`.
pub(super) fn word<T: Copy>(text: &str, what: &str, words: &[(&str, T)]) -> Read<T> {
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    Err(format!(
        "`{text}` is no {what}{}; write {}",
        did_you_mean(text, &words),
        listed(&words, "or")
    ))
}

/// ` (did you mean ...?)`, or nothing.
pub(super) fn did_you_mean(text: &str, words: &[&str]) -> String {
    match closest(text, words) {
        Some(word) => format!(" (did you mean `{word}`?)"),
        None => String::new(),
    }
}

/// The name of a policy, a rule or an uplink.
pub(super) fn name(text: &str) -> Read<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    if starts_well && text.len() <= 63 && text.chars().all(allowed) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "`{text}` is no name: use at most 63 letters, digits, `-`, `_` and `.`, a letter or digit \
         first"
    ))
}

/// The name of a rule; `default` is what counters call a direction's default.
pub(super) fn rule_name(text: &str) -> Read<String> {
    match text {
        "default" => Err(
            "a rule cannot be called `default`: counters call the default verdict \
                          so; take another name"
                .to_owned(),
        ),
        _ => name(text),
    }
}

/// `true` or `false`.
pub(super) fn boolean(text: &str) -> Read<bool> {
    word(text, "truth value", &[("true", true), ("false", false)])
}

/// `10.0.0.0/8`, `fd00::/8`, or an address alone.
pub(super) fn prefix(text: &str) -> Read<IpNet> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address));
    }
    let net: IpNet = text.parse().map_err(|_| {
        format!(
            "`{text}` is no address or prefix: write one such as 10.0.0.0/8, 10.0.0.5, fd00::/8 or \
             fd00::5"
        )
    })?;
    if net.trunc() != net {
        return Err(format!(
            "`{text}` has bits set behind its prefix length: write {} for the prefix, {} for the \
             address",
            net.trunc(),
            net.addr()
        ));
    }
    Ok(net)
}

/// `5060` or `1024-65535`.
pub(super) fn ports(text: &str) -> Read<RangeInclusive<u16>> {
    range(text, "port", u64::from(u16::MAX))
}

/// `8` or `133-137`.
pub(super) fn icmp_types(text: &str) -> Read<RangeInclusive<u8>> {
    range(text, "ICMP type", u64::from(u8::MAX))
}

/// `210`, `220-229`, `0` or `untagged`.
pub(super) fn vids(text: &str) -> Read<RangeInclusive<Vid>> {
    if text == "untagged" {
        return Ok(Vid::UNTAGGED..=Vid::UNTAGGED);
    }
    let refused = || {
        format!(
            "`{text}` is no VLAN: write 1 to {max}, a range such as 220-229, or 0 or `untagged` for \
             the untagged segment",
            max = Vid::MAX
        )
    };
    let range = range::<u16>(text, "VLAN", u64::from(Vid::MAX.get())).map_err(|message| {
        // A range the wrong way round is better described there.
        if message.contains("ends before") {
            message
        } else {
            refused()
        }
    })?;
    let (first, last) = range.into_inner();
    match (Vid::new(first), Vid::new(last)) {
        (Some(first), Some(last)) => Ok(first..=last),
        _ => Err(refused()),
    }
}

/// A protocol's name or number.
pub(super) fn protocol(text: &str) -> Read<u8> {
    const NAMES: &[(&str, u8)] = &[
        ("tcp", IpProto::TCP),
        ("udp", IpProto::UDP),
        ("icmp", IpProto::ICMP),
        ("icmpv6", IpProto::ICMPV6),
        ("sctp", IpProto::SCTP),
    ];
    if let Some(number) = number(text) {
        return u8::try_from(number)
            .map_err(|_| format!("`{text}` is no IP protocol: numbers go from 0 to 255"));
    }
    word(text, "IP protocol", NAMES).map_err(|message| message + ", or a number from 0 to 255")
}

/// An EtherType's name or number.
pub(super) fn ethertype(text: &str) -> Read<u16> {
    const NAMES: &[(&str, u16)] = &[
        ("arp", EtherType::ARP),
        ("ipv4", EtherType::IPV4),
        ("ipv6", EtherType::IPV6),
        ("lldp", EtherType::LLDP),
        ("802.3", 0),
    ];
    let Some(number) = number(text) else {
        return word(text, "EtherType", NAMES)
            .map_err(|message| message + ", or a number from 0x0600 to 0xffff");
    };
    match u16::try_from(number) {
        Ok(tag) if EtherType::is_tag(tag) => Err(format!(
            "`{text}` is the EtherType of a VLAN tag, and rules see what lies behind the tags; name \
             that, and the VLANs in `vlans`"
        )),
        Ok(ethertype @ EtherType::FIRST..) => Ok(ethertype),
        _ => Err(format!(
            "`{text}` is no EtherType: numbers go from 0x0600 to 0xffff; frames with an 802.3 length \
             in its place are `802.3`"
        )),
    }
}

/// `02:00:5e:10:00:01`.
pub(super) fn mac(text: &str) -> Read<Mac> {
    text.parse().map_err(|_| {
        format!(
            "`{text}` is no MAC address: write six pairs of hex digits such as 02:00:5e:10:00:01"
        )
    })
}

/// `5` or `5-9`, up to `max`.
fn range<T: TryFrom<u64>>(text: &str, what: &str, max: u64) -> Read<RangeInclusive<T>> {
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (number(first.trim()), number(last.trim())),
        None => (number(text), number(text)),
    };
    let in_range = |number: &u64| *number <= max;
    let refused = || format!("`{text}` is no {what}: write 0 to {max}, or a range such as 8-15");
    let (Some(first), Some(last)) = (first.filter(in_range), last.filter(in_range)) else {
        return Err(refused());
    };
    if last < first {
        return Err(format!(
            "the range `{text}` ends before it begins; write {last}-{first}"
        ));
    }
    match (T::try_from(first), T::try_from(last)) {
        (Ok(first), Ok(last)) => Ok(first..=last),
        _ => Err(refused()),
    }
}

/// Digits only, or hex digits behind `0x`; `None` for anything else and for numbers past 64 bits.
fn number(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    // from_str_radix alone would take a sign.
    let all_digits = digits.chars().all(|c| c.is_digit(radix));
    all_digits.then(|| u64::from_str_radix(digits, radix).ok())?
}
