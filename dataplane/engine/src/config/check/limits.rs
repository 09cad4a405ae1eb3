// SPDX-License-Identifier: Apache-2.0
//! Checks of the limits of what one source may cause others to receive.

use sluice_datapath::{FloodLimits, Limits, Rate};

use super::super::raw::{RawFloodLimits, RawLimits, RawRate};
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
