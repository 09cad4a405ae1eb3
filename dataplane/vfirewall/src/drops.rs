// SPDX-License-Identifier: Apache-2.0
//! Drop reasons: why a frame went no further.

macro_rules! drops {
    ($($(#[doc = $text:literal])* $variant:ident = $name:literal,)*) => {
        /// Reason why a frame went no further.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Drop {
            $($(#[doc = $text])* $variant,)*
        }

        impl Drop {
            /// All reasons, in the order of their indices.
            pub const ALL: &[Drop] = &[$(Drop::$variant,)*];

            /// Name in counters and logs.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Drop::$variant => $name,)*
                }
            }

            /// Description for people.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self {
                    $(Drop::$variant => concat!($($text),*),)*
                }
            }
        }
    };
}

drops! {
    /// Frame that is longer than its leg's MTU allows.
    Oversize = "oversize",
    /// Frame of a VLAN that its leg has no interface for, or untagged where tags are needed.
    UnknownVlan = "unknown_vlan",
    /// Frame that is not what its headers say, or that hides where it goes.
    Malformed = "malformed",
    /// Frame to the MAC of another.
    NotForUs = "not_for_us",
    /// Frame that is neither IP nor ARP.
    NotIp = "not_ip",
    /// IPv4 header with a wrong checksum.
    BadChecksum = "bad_checksum",
    /// Source address that is no single host's, or one of the firewall's own.
    MartianSource = "martian_source",
    /// Destination address that is no single host's.
    MartianDestination = "martian_destination",
    /// Group or broadcast address: neither is forwarded.
    NotUnicast = "not_unicast",
    /// Link-local address: it is not forwarded.
    LinkLocal = "link_local",
    /// Source address whose route leads to another interface.
    ReversePath = "reverse_path",
    /// Frame of an interface that no policy is for.
    NoPolicy = "no_policy",
    /// Rule, or default, of the policy of the interface that it came in on.
    DeniedIngress = "denied_ingress",
    /// Rule, or default, of the policy of the interface that it was to leave on.
    DeniedEgress = "denied_egress",
    /// ARP or neighbour discovery that is not as it must be.
    BadNeighbour = "bad_neighbour",
    /// Packet to the firewall itself that it has no use for.
    NoService = "no_service",
    /// Time to live or hop limit that ran out.
    TtlExpired = "ttl_expired",
    /// Destination without a route.
    NoRoute = "no_route",
    /// Packet that is too big for the next link and may not be fragmented.
    TooBig = "too_big",
    /// Next hop that did not answer.
    Unreachable = "unreachable",
    /// Next hop that is being resolved, with as many packets waiting for it as may wait.
    QueueFull = "queue_full",
    /// Next hop that would have been asked for, over the limit of requests.
    RequestLimit = "request_limit",
    /// Link of the leg that it was to leave on was down.
    LinkDown = "link_down",
    /// Ring of the leg that it was to leave on was full.
    RingFull = "ring_full",
}

impl Drop {
    /// Number of reasons.
    pub const COUNT: usize = Drop::ALL.len();

    /// Index in [`Drop::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}
