// SPDX-License-Identifier: Apache-2.0
//! Verdicts and directions.

use std::fmt;

/// Verdict of the firewall on a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Let the frame pass.
    Accept,
    /// Drop the frame silently.
    Drop,
    /// Drop the frame and answer its sender (TCP RST, ICMP "administratively prohibited"); where there
    /// must be no answer, such as to broadcasts, same as [`Verdict::Drop`].
    Reject,
    /// Let the frame pass, but count and log it as one that would be dropped or rejected.
    Audit,
}

impl Verdict {
    /// Whether frames pass by it.
    #[inline]
    #[must_use]
    pub const fn passes(self) -> bool {
        matches!(self, Verdict::Accept | Verdict::Audit)
    }

    /// Verdict in a policy whose verdicts are only tried: whatever keeps frames from passing is
    /// [`Verdict::Audit`].
    #[must_use]
    pub const fn audited(self) -> Verdict {
        match self {
            Verdict::Accept => Verdict::Accept,
            Verdict::Drop | Verdict::Reject | Verdict::Audit => Verdict::Audit,
        }
    }

    /// Word that policies use for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Verdict::Accept => "accept",
            Verdict::Drop => "drop",
            Verdict::Reject => "reject",
            Verdict::Audit => "audit",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Direction of a frame, seen from the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Towards the pod.
    Ingress,
    /// From the pod.
    Egress,
}

impl Direction {
    /// Both directions, in the order in which a policy set numbers their counter slots.
    pub const BOTH: [Direction; 2] = [Direction::Ingress, Direction::Egress];

    /// Word that policies use for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Direction::Ingress => "ingress",
            Direction::Egress => "egress",
        }
    }

    /// Index in [`Direction::BOTH`] and in arrays kept in that order.
    pub(crate) const fn index(self) -> usize {
        match self {
            Direction::Ingress => 0,
            Direction::Egress => 1,
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
