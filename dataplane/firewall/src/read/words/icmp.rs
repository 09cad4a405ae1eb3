// SPDX-License-Identifier: Apache-2.0
//! Names of ICMP and ICMPv6 types, and of those codes that matter (IANA "ICMP Parameters" and
//! "ICMPv6 Parameters").

use super::Words;

/// Type of a name, with its code if the name is that of a code.
pub(crate) type IcmpWord = (u8, Option<u8>);

/// ICMP for IPv4 (RFC 792, RFC 1191, RFC 1812, RFC 8335).
pub(crate) const ICMP_TYPES: Words<IcmpWord> = &[
    ("echo-request", (8, None)),
    ("echo-reply", (0, None)),
    ("destination-unreachable", (3, None)),
    ("time-exceeded", (11, None)),
    ("fragmentation-needed", (3, Some(4))),
    ("address-mask-request", (17, None)),
    ("address-mask-reply", (18, None)),
    ("administratively-prohibited", (3, Some(13))),
    ("extended-echo-request", (42, None)),
    ("extended-echo-reply", (43, None)),
    ("host-unreachable", (3, Some(1))),
    ("network-unreachable", (3, Some(0))),
    ("parameter-problem", (12, None)),
    ("port-unreachable", (3, Some(3))),
    ("protocol-unreachable", (3, Some(2))),
    ("reassembly-time-exceeded", (11, Some(1))),
    ("redirect", (5, None)),
    ("router-advertisement", (9, None)),
    ("router-solicitation", (10, None)),
    ("source-quench", (4, None)),
    ("source-route-failed", (3, Some(5))),
    ("timestamp-request", (13, None)),
    ("timestamp-reply", (14, None)),
    ("ttl-exceeded", (11, Some(0))),
];

/// ICMP for IPv6 (RFC 4443, RFC 4861, RFC 2710, RFC 3810, RFC 4286).
pub(crate) const ICMPV6_TYPES: Words<IcmpWord> = &[
    ("echo-request", (128, None)),
    ("echo-reply", (129, None)),
    ("packet-too-big", (2, None)),
    ("neighbour-solicitation", (135, None)),
    ("neighbour-advertisement", (136, None)),
    ("address-unreachable", (1, Some(3))),
    ("administratively-prohibited", (1, Some(1))),
    ("beyond-scope", (1, Some(2))),
    ("destination-unreachable", (1, None)),
    ("duplicate-address-confirmation", (158, None)),
    ("duplicate-address-request", (157, None)),
    ("extended-echo-request", (160, None)),
    ("extended-echo-reply", (161, None)),
    ("hop-limit-exceeded", (3, Some(0))),
    ("multicast-listener-query", (130, None)),
    ("multicast-listener-report", (131, None)),
    ("multicast-listener-done", (132, None)),
    ("multicast-listener-report-v2", (143, None)),
    ("multicast-router-advertisement", (151, None)),
    ("multicast-router-solicitation", (152, None)),
    ("multicast-router-termination", (153, None)),
    ("neighbor-solicitation", (135, None)),
    ("neighbor-advertisement", (136, None)),
    ("no-route", (1, Some(0))),
    ("parameter-problem", (4, None)),
    ("policy-failed", (1, Some(5))),
    ("port-unreachable", (1, Some(4))),
    ("reassembly-time-exceeded", (3, Some(1))),
    ("redirect", (137, None)),
    ("reject-route", (1, Some(6))),
    ("router-advertisement", (134, None)),
    ("router-solicitation", (133, None)),
    ("time-exceeded", (3, None)),
];
