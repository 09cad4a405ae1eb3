// SPDX-License-Identifier: Apache-2.0
//! Checks of the limits of what one source may cause others to receive.

use sluice_datapath::{ConnectionLimits, FloodLimits, Limits, Rate};
use sluice_firewall::connections::Timeouts;

use super::super::raw::{RawConnections, RawFloodLimits, RawLimits, RawRate, RawTimeouts};
use super::Check;

/// Largest rate, and largest burst. More than a second's worth of 64-byte frames at 100 Gbit/s is no
/// limit any more.
const MOST: u32 = 100_000_000;

impl Check<'_> {
    /// Checks the section `limits`.
    pub(super) fn limits(&mut self, raw: RawLimits) -> Limits {
        let defaults = Limits::default();
        let wire = raw.wire.unwrap_or_default();
        let floods = RawFloodLimits {
            broadcast: wire.broadcast,
            multicast: wire.multicast,
            arp_nd: wire.arp_nd,
        };
        Limits {
            attachment: self.flood_limits(
                "limits.attachment",
                raw.attachment.unwrap_or_default(),
                &defaults.attachment,
            ),
            wire: self.flood_limits("limits.wire", floods, &defaults.wire),
            wire_groups: self.rate("limits.wire.groups", wire.groups, defaults.wire_groups),
            groups: self.number("limits.groups", raw.groups, defaults.groups, (0, 1024)),
            macs: self.number("limits.macs", raw.macs, defaults.macs, (1, 1024)),
            connections: self
                .connections(raw.connections.unwrap_or_default(), &defaults.connections),
        }
    }

    /// Checks the section `limits.connections`.
    fn connections(
        &mut self,
        raw: RawConnections,
        defaults: &ConnectionLimits,
    ) -> ConnectionLimits {
        let key = |name| format!("limits.connections.{name}");
        let mut percent = |name, raw, default| self.number(&key(name), raw, default, (1, 100));
        let half_open_percent = percent(
            "half_open_percent",
            raw.half_open_percent,
            defaults.half_open_percent,
        );
        let one_way_percent = percent(
            "one_way_percent",
            raw.one_way_percent,
            defaults.one_way_percent,
        );
        let one_source_percent = percent(
            "one_source_percent",
            raw.one_source_percent,
            defaults.one_source_percent,
        );
        let (least, most) = ConnectionLimits::PLACES;
        ConnectionLimits {
            places: self.number(&key("places"), raw.places, defaults.places, (least, most)),
            most: self.number(&key("most"), raw.most, defaults.most, (1, most)),
            half_open_percent,
            one_way_percent,
            one_source_percent,
            grace_s: self.number(&key("grace_s"), raw.grace_s, defaults.grace_s, (0, 3_600)),
            timeouts: self.timeouts(raw.timeouts_s.unwrap_or_default(), &defaults.timeouts),
        }
    }

    fn timeouts(&mut self, raw: RawTimeouts, defaults: &Timeouts) -> Timeouts {
        let mut seconds = |name: &str, raw, default| {
            let key = format!("limits.connections.timeouts_s.{name}");
            self.number(&key, raw, default, (1, Timeouts::MAX))
        };
        Timeouts {
            syn_sent: seconds("syn_sent", raw.syn_sent, defaults.syn_sent),
            syn_received: seconds("syn_received", raw.syn_received, defaults.syn_received),
            established: seconds("established", raw.established, defaults.established),
            unanswered: seconds("unanswered", raw.unanswered, defaults.unanswered),
            half_closed: seconds("half_closed", raw.half_closed, defaults.half_closed),
            last_ack: seconds("last_ack", raw.last_ack, defaults.last_ack),
            time_wait: seconds("time_wait", raw.time_wait, defaults.time_wait),
            reset: seconds("reset", raw.reset, defaults.reset),
            picked_up: seconds("picked_up", raw.picked_up, defaults.picked_up),
            udp_one_way: seconds("udp_one_way", raw.udp_one_way, defaults.udp_one_way),
            udp_answered: seconds("udp_answered", raw.udp_answered, defaults.udp_answered),
            udp_stream: seconds("udp_stream", raw.udp_stream, defaults.udp_stream),
            dns: seconds("dns", raw.dns, defaults.dns),
            icmp: seconds("icmp", raw.icmp, defaults.icmp),
            sctp_opening: seconds("sctp_opening", raw.sctp_opening, defaults.sctp_opening),
            sctp_up: seconds("sctp_up", raw.sctp_up, defaults.sctp_up),
            other: seconds("other", raw.other, defaults.other),
        }
    }

    fn flood_limits(
        &mut self,
        key: &str,
        raw: RawFloodLimits,
        defaults: &FloodLimits,
    ) -> FloodLimits {
        FloodLimits {
            broadcast: self.rate(
                &format!("{key}.broadcast"),
                raw.broadcast,
                defaults.broadcast,
            ),
            multicast: self.rate(
                &format!("{key}.multicast"),
                raw.multicast,
                defaults.multicast,
            ),
            arp_nd: self.rate(&format!("{key}.arp_nd"), raw.arp_nd, defaults.arp_nd),
        }
    }

    fn rate(&mut self, key: &str, raw: Option<RawRate>, default: Rate) -> Rate {
        let Some(raw) = raw else { return default };
        Rate {
            per_second: self.number(
                &format!("{key}.rate"),
                raw.rate,
                default.per_second,
                (1, MOST),
            ),
            burst: self.number(&format!("{key}.burst"), raw.burst, default.burst, (1, MOST)),
        }
    }
}
