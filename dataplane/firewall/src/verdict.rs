//! What the firewall says, and of which way a frame goes.

use std::fmt;

/// What becomes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It goes on.
    Accept,
    /// It is dropped without a word.
    Drop,
    /// It is dropped and its sender told so (TCP RST, ICMP "administratively prohibited"); where
    /// there must be no answer, such as to broadcasts, this is [`Verdict::Drop`].
    Reject,
}

impl Verdict {
    /// As it is written in a policy.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Verdict::Accept => "accept",
            Verdict::Drop => "drop",
            Verdict::Reject => "reject",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Which way a frame goes, seen from the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Towards the pod.
    Ingress,
    /// From the pod.
    Egress,
}

impl Direction {
    /// Both, in the order in which a policy set numbers their counter slots.
    pub const BOTH: [Direction; 2] = [Direction::Ingress, Direction::Egress];

    /// As it is written in a policy.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Direction::Ingress => "ingress",
            Direction::Egress => "egress",
        }
    }

    /// Its place in [`Direction::BOTH`] and in arrays kept in that order.
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
