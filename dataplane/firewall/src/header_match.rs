// SPDX-License-Identifier: Apache-2.0
//! Conditions of a rule on header fields that differ within a flow.

use std::ops::RangeInclusive;

use sluice_packet::headers::{extension, ip_option};
use sluice_packet::{Headers, VidRange};

/// Conditions on [`Headers`]; as in [`crate::Match`] every condition must hold, an empty one always holds, and
/// a frame that does not have the field meets neither a condition on it nor its negation.
///
/// * `tcp_flags` are those of TCP segments; a later fragment has none.
/// * `dscp`, `hop_limits`, `ip_options` and `extensions` are about IP, `arp_operations` about ARP.
/// * Every frame has a priority and an inner VID: without a tag they are 0.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct HeaderMatch {
    /// Sets of TCP flags, any of which fits.
    pub tcp_flags: Vec<TcpFlags>,
    /// ARP operations.
    pub arp_operations: Vec<u16>,
    /// ARP operations that do not match.
    pub not_arp_operations: Vec<u16>,
    /// Differentiated services code points, 0 to 63.
    pub dscp: Vec<u8>,
    /// Code points that do not match.
    pub not_dscp: Vec<u8>,
    /// TTLs of IPv4 and hop limits of IPv6.
    pub hop_limits: Vec<RangeInclusive<u8>>,
    /// TTLs and hop limits that do not match.
    pub not_hop_limits: Vec<RangeInclusive<u8>>,
    /// IPv4 options of which one is there.
    pub ip_options: Vec<HeaderKind>,
    /// IPv4 options of which none is there.
    pub not_ip_options: Vec<HeaderKind>,
    /// IPv6 extension headers of which one is there.
    pub extensions: Vec<HeaderKind>,
    /// IPv6 extension headers of which none is there.
    pub not_extensions: Vec<HeaderKind>,
    /// Priority code points of the outer VLAN tag, 0 to 7.
    pub priorities: Vec<u8>,
    /// Priority code points that do not match.
    pub not_priorities: Vec<u8>,
    /// VIDs of a second VLAN tag.
    pub inner_vids: Vec<VidRange>,
    /// VIDs of a second VLAN tag that do not match.
    pub not_inner_vids: Vec<VidRange>,
}

/// TCP flags that must be set and flags that must be clear ([`sluice_packet::tcp::flag`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TcpFlags {
    /// Flags that must be set.
    pub set: u8,
    /// Flags that must be clear.
    pub clear: u8,
}

/// Kind of IPv4 option or IPv6 extension header that rules can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HeaderKind {
    /// Kinds of these bits ([`ip_option`], [`extension`]): one of them is there.
    Any(u8),
    /// No option, no extension header.
    None,
}

impl TcpFlags {
    /// Whether a segment with these flags fits.
    #[must_use]
    pub const fn fits(self, flags: u8) -> bool {
        flags & self.set == self.set && flags & self.clear == 0
    }
}

impl HeaderKind {
    /// Kind of every IPv4 option.
    pub const ANY_OPTION: HeaderKind = HeaderKind::Any(ip_option::ALL);
    /// Kind of every IPv6 extension header.
    pub const ANY_EXTENSION: HeaderKind = HeaderKind::Any(extension::ALL);

    /// Whether a header in which these kinds are there fits.
    #[must_use]
    pub const fn fits(self, there: u8) -> bool {
        match self {
            HeaderKind::Any(kinds) => there & kinds != 0,
            HeaderKind::None => there == 0,
        }
    }
}

impl HeaderMatch {
    /// Whether it has no condition.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == HeaderMatch::default()
    }

    /// Whether a condition can hold for IP packets alone.
    pub(crate) fn is_about_ip(&self) -> bool {
        let lists = [&self.dscp, &self.not_dscp];
        let kinds = [
            &self.ip_options,
            &self.not_ip_options,
            &self.extensions,
            &self.not_extensions,
        ];
        !self.tcp_flags.is_empty()
            || lists.iter().any(|list| !list.is_empty())
            || kinds.iter().any(|list| !list.is_empty())
            || !self.hop_limits.is_empty()
            || !self.not_hop_limits.is_empty()
    }

    /// Whether a frame with these fields meets every condition.
    pub(crate) fn holds(&self, headers: &Headers) -> bool {
        let in_range = |range: &RangeInclusive<u8>, one: &u8| range.contains(one);
        let of_kind = |kind: &HeaderKind, there: &u8| kind.fits(*there);
        let in_vids = |range: &VidRange, vid: &u16| {
            let (first, last) = (range.first().get(), range.last().get());
            (first..=last).contains(vid)
        };
        both(&self.tcp_flags, &[], headers.tcp_flags, |one, flags| {
            one.fits(*flags)
        }) && both(
            &self.arp_operations,
            &self.not_arp_operations,
            headers.arp_operation,
            u16::eq,
        ) && both(&self.dscp, &self.not_dscp, headers.dscp, u8::eq)
            && both(
                &self.hop_limits,
                &self.not_hop_limits,
                headers.hop_limit,
                in_range,
            )
            && both(
                &self.ip_options,
                &self.not_ip_options,
                headers.ip_options,
                of_kind,
            )
            && both(
                &self.extensions,
                &self.not_extensions,
                headers.extensions,
                of_kind,
            )
            && both(
                &self.priorities,
                &self.not_priorities,
                Some(headers.priority),
                u8::eq,
            )
            && both(
                &self.inner_vids,
                &self.not_inner_vids,
                Some(headers.inner_vid),
                in_vids,
            )
    }
}

/// Whether a field meets a condition and its negation. A field that the frame does not have meets
/// neither.
pub(crate) fn both<C, T>(
    wanted: &[C],
    not: &[C],
    field: Option<T>,
    fits: impl Fn(&C, &T) -> bool,
) -> bool {
    if wanted.is_empty() && not.is_empty() {
        return true;
    }
    let fits_one = |values: &[C], field: &T| values.iter().any(|value| fits(value, field));
    field.is_some_and(|field| {
        (wanted.is_empty() || fits_one(wanted, &field)) && !fits_one(not, &field)
    })
}
