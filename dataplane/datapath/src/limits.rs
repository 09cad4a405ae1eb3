// SPDX-License-Identifier: Apache-2.0
//! Limits of what one source may cause others to receive, which control hands in.

/// Rate of a token bucket, with its depth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Frames a second.
    pub per_second: u32,
    /// Frames at once.
    pub burst: u32,
}

impl Rate {
    /// Rate of `per_second` frames, `burst` of them at once.
    pub const fn new(per_second: u32, burst: u32) -> Rate {
        Rate { per_second, burst }
    }
}

/// Limits of the frames that one source may have flooded. Each kind has tokens of its own, so that
/// none of the three can take another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FloodLimits {
    /// Broadcast other than ARP.
    pub broadcast: Rate,
    /// Multicast to groups that nobody is known to be in, and to those that are always flooded.
    pub multicast: Rate,
    /// Reserve for ARP and neighbour discovery.
    pub arp_nd: Rate,
}

impl FloodLimits {
    /// Default of each attachment.
    ///
    /// A host sends a few ARP requests a second when it starts talking, and broadcasts hardly ever:
    /// DHCP, a discovery protocol. A thousand neighbours resolved at once are the largest burst
    /// that a router makes.
    pub const ATTACHMENT: FloodLimits = FloodLimits {
        broadcast: Rate::new(1_000, 256),
        multicast: Rate::new(2_000, 512),
        arp_nd: Rate::new(1_000, 1_024),
    };

    /// Default of each uplink's segment: the wire has all the hosts of a VLAN behind it.
    pub const WIRE: FloodLimits = FloodLimits {
        broadcast: Rate::new(10_000, 2_048),
        multicast: Rate::new(20_000, 4_096),
        arp_nd: Rate::new(10_000, 4_096),
    };
}

/// Default of [`Limits::wire_groups`]: 100,000 frames a second to twenty pods. It is as many copies as
/// the wire's other multicast makes at a hundred attachments.
const WIRE_GROUPS: Rate = Rate::new(2_000_000, 262_144);

/// Limits of all sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Limits of each attachment.
    pub attachment: FloodLimits,
    /// Limits of the wire, for each segment of each uplink.
    pub wire: FloodLimits,
    /// Copies, for each segment of each uplink, of the wire's frames to groups that somebody is known to
    /// be in; and as many of those to unicast addresses that nobody has, for promiscuous attachments.
    pub wire_groups: Rate,
    /// Multicast groups that an attachment may be in.
    pub groups: u16,
    /// MAC addresses besides its own that an attachment may have learned, over all its VLANs, where it may
    /// send from such at all.
    pub macs: u16,
}

/// Default of [`Limits::macs`]: as many virtual machines or containers as a pod may have behind a
/// bridge.
const MACS: u16 = 64;

/// Default of [`Limits::groups`]: three times what Linux lets a socket join. Every membership takes
/// 80 bytes at each worker.
const GROUPS: u16 = 64;

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            attachment: FloodLimits::ATTACHMENT,
            wire: FloodLimits::WIRE,
            wire_groups: WIRE_GROUPS,
            groups: GROUPS,
            macs: MACS,
        }
    }
}
