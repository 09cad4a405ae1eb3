// SPDX-License-Identifier: Apache-2.0
//! Keys of a policy file: the tables by which files are read, and from which the grammar page and the
//! JSON schema are made.

use super::addresses::{MacKind, PrefixKind, VidKind};
use super::header_kinds::{
    ArpOperationKind, DscpKind, ExtensionKind, HopLimitKind, IpOptionKind, PriorityKind,
    TcpFlagKind,
};
use super::headers::{EtherTypeKind, IcmpCodeKind, IcmpKind, Icmpv6Kind, PortKind, ProtocolKind};
use super::kind::{Grammar, Kind};
use super::limit::{BurstKind, LimitScopeKind, RateKind};
use super::values::{
    BooleanKind, CommentKind, DirectionKind, FragmentsKind, LogKind, NameKind, RuleNameKind,
    ServiceKind, StateKind, VerdictKind, VersionKind,
};

/// Key of a map.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    /// Key as written.
    pub(crate) name: &'static str,
    /// Values that it may have.
    pub(crate) values: Values,
    /// Whether it must be there.
    pub(crate) required: bool,
    /// Meaning, as the end of a sentence; markdown.
    pub(crate) meaning: &'static str,
}

/// Values that a key may have.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Values {
    /// Single value.
    One(&'static Grammar),
    /// Value or a list of them, of any of the kinds, with exceptions.
    Some(&'static [&'static Grammar]),
    /// As [`Values::Some`], or an empty list.
    SomeOrNone(&'static [&'static Grammar]),
    /// Value or a list of them, of which none may match: neither `any` nor exceptions.
    NoneOf(&'static [&'static Grammar]),
    /// Value or a list of them, all of which must hold: neither `any` nor exceptions.
    AllOf(&'static [&'static Grammar]),
    /// Map with keys of its own.
    Map(&'static [Key]),
    /// List of such maps.
    Maps(&'static [Key]),
}

const fn key(name: &'static str, values: Values, meaning: &'static str) -> Key {
    Key {
        name,
        values,
        required: false,
        meaning,
    }
}

const fn required(name: &'static str, values: Values, meaning: &'static str) -> Key {
    let required = true;
    Key {
        required,
        ..key(name, values, meaning)
    }
}

const NAME: Values = Values::One(&NameKind::GRAMMAR);
const COMMENT: Values = Values::One(&CommentKind::GRAMMAR);
const BOOLEAN: Values = Values::One(&BooleanKind::GRAMMAR);
const VERDICT: Values = Values::One(&VerdictKind::GRAMMAR);
const ICMP: &[&Grammar] = &[&IcmpKind::GRAMMAR, &Icmpv6Kind::GRAMMAR];

/// Keys of a policy.
pub(crate) const POLICY: &[Key] = &[
    required(
        "name",
        NAME,
        "of the policy; attachments, counters and logs name it",
    ),
    key("comment", COMMENT, "no meaning; for people"),
    key(
        "version",
        Values::One(&VersionKind::GRAMMAR),
        "of the language that the file is written in; absent: `1`. A file of version 2 is stateful unless it says \
         `stateful: false`",
    ),
    key(
        "audit",
        BOOLEAN,
        "`true`: what the policy would drop or reject passes, counted and logged",
    ),
    key("uplink", NAME, "only on this uplink; absent: on every one"),
    key(
        "vlans",
        Values::SomeOrNone(&[&VidKind::GRAMMAR]),
        "its segments; absent or an empty list: used by attachments that name the policy",
    ),
    key(
        "stateful",
        BOOLEAN,
        "`true`: frames of connections that its rules have let begin pass both ways, and ICMP errors about them; \
         `false`: every frame is judged by the rules; absent: `false` in a file of version 1, `true` in one of version 2",
    ),
    key(
        "default",
        Values::Map(DEFAULT),
        "verdict where no rule matches; absent: `drop`",
    ),
    key(
        "rules",
        Values::Maps(RULE),
        "in order; the first that matches decides",
    ),
];

/// Keys of `default`.
pub(crate) const DEFAULT: &[Key] = &[
    key("ingress", VERDICT, "towards the pod; absent: `drop`"),
    key("egress", VERDICT, "from the pod; absent: `drop`"),
    key(
        "log",
        Values::One(&DirectionKind::GRAMMAR),
        "direction in which frames that no rule matches are logged; absent: neither",
    ),
];

/// Keys of a rule.
pub(crate) const RULE: &[Key] = &[
    key(
        "name",
        Values::One(&RuleNameKind::GRAMMAR),
        "optional; unique in the policy",
    ),
    key(
        "comment",
        COMMENT,
        "no meaning; for people who read counters and logs",
    ),
    required(
        "direction",
        Values::One(&DirectionKind::GRAMMAR),
        "towards the pod, from it, or both",
    ),
    key(
        "state",
        Values::Some(&[&StateKind::GRAMMAR]),
        "state of the frame's connection; needs a stateful policy; absent: `new`",
    ),
    key(
        "from",
        Values::Some(&[&PrefixKind::GRAMMAR]),
        "source address; of ARP the sender's",
    ),
    key(
        "not-from",
        Values::NoneOf(&[&PrefixKind::GRAMMAR]),
        "any other source address",
    ),
    key(
        "to",
        Values::Some(&[&PrefixKind::GRAMMAR]),
        "destination address; of ARP the target's",
    ),
    key(
        "not-to",
        Values::NoneOf(&[&PrefixKind::GRAMMAR]),
        "any other destination address",
    ),
    key(
        "service",
        Values::One(&ServiceKind::GRAMMAR),
        "protocols and destination ports that belong together, in place of `protocol`, `ports` and \
         `icmp-type`",
    ),
    key(
        "protocol",
        Values::Some(&[&ProtocolKind::GRAMMAR]),
        "IP protocol",
    ),
    key(
        "not-protocol",
        Values::NoneOf(&[&ProtocolKind::GRAMMAR]),
        "any other IP protocol",
    ),
    key(
        "source-ports",
        Values::Some(&[&PortKind::GRAMMAR]),
        "source port; needs a `protocol` that has ports",
    ),
    key(
        "not-source-ports",
        Values::NoneOf(&[&PortKind::GRAMMAR]),
        "any other source port, likewise",
    ),
    key(
        "ports",
        Values::Some(&[&PortKind::GRAMMAR]),
        "destination port; needs a `protocol` that has ports",
    ),
    key(
        "not-ports",
        Values::NoneOf(&[&PortKind::GRAMMAR]),
        "any other destination port, likewise",
    ),
    key(
        "icmp-type",
        Values::Some(ICMP),
        "type, or type and code; needs `protocol: icmp` or `icmpv6`, which decides what names mean",
    ),
    key(
        "not-icmp-type",
        Values::NoneOf(ICMP),
        "any other type, likewise",
    ),
    key(
        "icmp-code",
        Values::Some(&[&IcmpCodeKind::GRAMMAR]),
        "code of each type in `icmp-type`",
    ),
    key(
        "fragments",
        Values::One(&FragmentsKind::GRAMMAR),
        "pieces of datagrams: the first, those after it, or either; absent: whole packets and pieces",
    ),
    key(
        "ethertype",
        Values::Some(&[&EtherTypeKind::GRAMMAR]),
        "EtherType behind the VLAN tags",
    ),
    key(
        "not-ethertype",
        Values::NoneOf(&[&EtherTypeKind::GRAMMAR]),
        "any other EtherType",
    ),
    key(
        "source-mac",
        Values::Some(&[&MacKind::GRAMMAR]),
        "source MAC",
    ),
    key(
        "not-source-mac",
        Values::NoneOf(&[&MacKind::GRAMMAR]),
        "any other source MAC",
    ),
    key(
        "destination-mac",
        Values::Some(&[&MacKind::GRAMMAR]),
        "destination MAC",
    ),
    key(
        "not-destination-mac",
        Values::NoneOf(&[&MacKind::GRAMMAR]),
        "any other destination MAC",
    ),
    key(
        "tcp-flags",
        Values::AllOf(&[&TcpFlagKind::GRAMMAR]),
        "TCP flags that are all set; needs `protocol: tcp`",
    ),
    key(
        "not-tcp-flags",
        Values::NoneOf(&[&TcpFlagKind::GRAMMAR]),
        "TCP flags that are all clear; likewise",
    ),
    key(
        "dscp",
        Values::Some(&[&DscpKind::GRAMMAR]),
        "code point of IPv4 and IPv6",
    ),
    key(
        "not-dscp",
        Values::NoneOf(&[&DscpKind::GRAMMAR]),
        "any other code point",
    ),
    key(
        "ttl",
        Values::Some(&[&HopLimitKind::GRAMMAR]),
        "TTL of IPv4, hop limit of IPv6",
    ),
    key(
        "not-ttl",
        Values::NoneOf(&[&HopLimitKind::GRAMMAR]),
        "any other",
    ),
    key(
        "ip-options",
        Values::Some(&[&IpOptionKind::GRAMMAR]),
        "IPv4 packets with one of these options",
    ),
    key(
        "not-ip-options",
        Values::NoneOf(&[&IpOptionKind::GRAMMAR]),
        "IPv4 packets with none of them",
    ),
    key(
        "extension-headers",
        Values::Some(&[&ExtensionKind::GRAMMAR]),
        "IPv6 packets with one of these headers",
    ),
    key(
        "not-extension-headers",
        Values::NoneOf(&[&ExtensionKind::GRAMMAR]),
        "IPv6 packets with none of them",
    ),
    key(
        "arp-operation",
        Values::Some(&[&ArpOperationKind::GRAMMAR]),
        "operation of an ARP packet",
    ),
    key(
        "not-arp-operation",
        Values::NoneOf(&[&ArpOperationKind::GRAMMAR]),
        "any other operation of an ARP packet",
    ),
    key(
        "pcp",
        Values::Some(&[&PriorityKind::GRAMMAR]),
        "priority of the VLAN tag; 0 without a tag",
    ),
    key(
        "not-pcp",
        Values::NoneOf(&[&PriorityKind::GRAMMAR]),
        "any other priority",
    ),
    key(
        "inner-vlan",
        Values::Some(&[&VidKind::GRAMMAR]),
        "VID of a second VLAN tag; `untagged` without one",
    ),
    key(
        "not-inner-vlan",
        Values::NoneOf(&[&VidKind::GRAMMAR]),
        "any other VID, also none",
    ),
    required(
        "verdict",
        VERDICT,
        "of the frames for which this rule is the first that matches",
    ),
    key(
        "log",
        Values::One(&LogKind::GRAMMAR),
        "`true` logs those frames, `1/100` the first of them at an attachment and each hundredth after it",
    ),
    key(
        "limit",
        Values::Map(LIMIT),
        "how much passes by the rule; what it accepts beyond that is dropped",
    ),
];

/// Keys of `limit`.
pub(crate) const LIMIT: &[Key] = &[
    key("frames", Values::One(&RateKind::GRAMMAR), "frames a second"),
    key(
        "bytes",
        Values::One(&RateKind::GRAMMAR),
        "bytes of frames a second; with `frames`, both must be kept",
    ),
    key(
        "burst",
        Values::One(&BurstKind::GRAMMAR),
        "time for which the rates may pass at once; absent: `100ms`. One frame always may",
    ),
    key(
        "per",
        Values::One(&LimitScopeKind::GRAMMAR),
        "what shares the rates: all that the rule accepts at one attachment, or what it accepts there of one source \
         address; absent: `attachment`",
    ),
];

/// Keys of a named set.
pub(crate) const SET: &[Key] = &[
    required("name", NAME, "of the set; rules name it as `$name`"),
    key("comment", COMMENT, "no meaning; for people"),
    key(
        "prefixes",
        Values::SomeOrNone(&[&PrefixKind::GRAMMAR]),
        "for `from`, `to`, and their negations",
    ),
    key(
        "ports",
        Values::SomeOrNone(&[&PortKind::GRAMMAR]),
        "for `ports`, `source-ports`, and their negations",
    ),
    key(
        "macs",
        Values::SomeOrNone(&[&MacKind::GRAMMAR]),
        "for `source-mac`, `destination-mac`, and their negations",
    ),
    key(
        "vlans",
        Values::SomeOrNone(&[&VidKind::GRAMMAR]),
        "for `vlans`",
    ),
    key(
        "except",
        Values::NoneOf(&[
            &PrefixKind::GRAMMAR,
            &PortKind::GRAMMAR,
            &MacKind::GRAMMAR,
            &VidKind::GRAMMAR,
        ]),
        "values of the same kind that the set does not hold",
    ),
];
