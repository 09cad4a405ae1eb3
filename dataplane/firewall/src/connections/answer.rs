// SPDX-License-Identifier: Apache-2.0
//! Answers of a tracker, and what it is told in turn.

use super::outcome::Cause;
use super::pairs::{Pair, Paths};
use super::phase::End;
use super::table::Class;
use super::tcp::Tracking;

/// State of a frame as rules have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConnectionState {
    /// First frame, or one of a connection that nothing has come back of.
    New,
    /// Frame of a connection of which both ends have sent.
    Established,
    /// ICMP error about a frame of a connection.
    Related,
    /// Frame that is of no connection and opens none.
    Invalid,
}

/// Answer to the lookup of one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Frame of a connection whose verdict is known: it goes the path of `from` of the pair, and is counted there.
    Known {
        /// Pair of paths.
        pair: Pair,
        /// End that has sent it.
        from: End,
        /// Whether nothing has come back yet.
        is_new: bool,
    },
    /// Frame that may open a connection: ask the policy, then insert it, or drop the frame and leave nothing.
    New,
    /// Frame of a connection that was judged by other rules: judge it anew *as it was opened*, then `revalidate` or
    /// `revoke`. Nothing was noted of the frame.
    Stale {
        /// End that has sent the frame. Of the responder's the first frame's key has the endpoints the other way
        /// round, and its direction is the opposite one.
        from: End,
        /// Whether it was revoked before.
        was_revoked: bool,
    },
    /// Frame of a connection that the rules have revoked: drop it.
    Revoked,
    /// Invalid frame, which was counted by its cause.
    Invalid(Cause),
}

impl Answer {
    /// State of the frame as rules have it; `None` of a connection that is to be judged as it was opened.
    #[must_use]
    pub const fn state(&self) -> Option<ConnectionState> {
        match self {
            Answer::Known { is_new: true, .. } | Answer::New => Some(ConnectionState::New),
            Answer::Known { is_new: false, .. } => Some(ConnectionState::Established),
            Answer::Invalid(_) => Some(ConnectionState::Invalid),
            Answer::Stale { .. } | Answer::Revoked => None,
        }
    }
}

/// Connection to be, as its first frame was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opening {
    /// Paths of both directions.
    pub paths: Paths,
    /// Depth of tracking, if it is TCP.
    pub tracking: Tracking,
    /// Whether the pod has opened it.
    pub from_pod: bool,
    /// Whether the policy would let the remote open it now: always of what came from outside.
    pub rederivable: bool,
}

/// Result of an insertion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// The connection is new.
    Opened {
        /// Pair of paths.
        pair: Pair,
    },
    /// The connection was there: an earlier frame of the burst has opened it. The frame was looked up.
    Found(Answer),
    /// The connection was not kept. If it is re-derivable the frame may pass all the same.
    Refused(Refusal),
}

/// Reason for which a connection is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Refusal {
    /// Frame that opens nothing.
    OpensNothing,
    /// Number of an attachment that the table has no room for.
    NoOwner,
    /// Quota of all connections, none of which may make room.
    Quota,
    /// Quota of embryonic connections. A re-derivable one pushes out none: its SYN passes without an entry, the
    /// answer by the reversed rule, and the entry is made at the opener's ACK. So spoofed SYNs cost nobody theirs.
    EmbryonicQuota,
    /// Quota of connections with frames of one end only.
    OneWayQuota,
    /// Quota of connections of one source.
    SourceQuota,
    /// Table full where the connection would be.
    NoPlace,
    /// No room for a pair of paths.
    NoPair,
}

impl Refusal {
    /// Number of reasons.
    pub const COUNT: usize = 8;

    /// All reasons, in the order in which arrays of counters are kept.
    pub const ALL: [Refusal; Refusal::COUNT] = [
        Refusal::OpensNothing,
        Refusal::NoOwner,
        Refusal::Quota,
        Refusal::EmbryonicQuota,
        Refusal::OneWayQuota,
        Refusal::SourceQuota,
        Refusal::NoPlace,
        Refusal::NoPair,
    ];

    /// Word for metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Refusal::OpensNothing => "opens_nothing",
            Refusal::NoOwner => "no_owner",
            Refusal::Quota => "quota",
            Refusal::EmbryonicQuota => "embryonic_quota",
            Refusal::OneWayQuota => "one_way_quota",
            Refusal::SourceQuota => "source_quota",
            Refusal::NoPlace => "no_place",
            Refusal::NoPair => "no_pair",
        }
    }
}

/// Counts of a tracker since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Connections that were opened or picked up.
    pub opened: u64,
    /// Connections that ended by their timer.
    pub expired: u64,
    /// Connections that a frame ended at once, or that a new one has replaced.
    pub ended: u64,
    /// Connections that ended with their attachment.
    pub removed: u64,
    /// Connections that made room for one of the same attachment, by [`Class`].
    pub evicted: [u64; Class::COUNT],
    /// Connections that were not kept, by [`Refusal`].
    pub refused: [u64; Refusal::COUNT],
    /// Invalid frames, by [`Cause`].
    pub invalid: [u64; Cause::ALL.len()],
    /// ICMP errors that were related to a connection.
    pub related: u64,
    /// Connections that were moved to make room: many more than the load explains mean that the hash is attacked.
    pub moved: u64,
}

impl Counts {
    /// Frames that were invalid for this cause.
    #[must_use]
    pub const fn invalid(&self, cause: Cause) -> u64 {
        self.invalid[cause as usize]
    }

    /// Connections that were refused for this reason.
    #[must_use]
    pub const fn refused(&self, reason: Refusal) -> u64 {
        self.refused[reason as usize]
    }

    /// Connections of this class that were evicted.
    #[must_use]
    pub const fn evicted(&self, class: Class) -> u64 {
        self.evicted[class as usize]
    }
}
