// SPDX-License-Identifier: Apache-2.0
//! Commands of control to a worker, one at a time over a ring, and the answers. Whatever
//! is taken out of service comes back with the answer, so that it dies on control's thread.

use std::sync::Arc;

use crate::control::balance::Balance;
use crate::ids::{AttachmentId, UplinkId};
use crate::pipeline::attachment::Attachment;
use crate::pipeline::groups::Group;
use crate::pipeline::groups::group_room::GroupRoom;
use crate::pipeline::state::UplinkState;
use crate::pipeline::tables::Tables;
use crate::ports::seam::{PodPort, Uplink};
use crate::spec::IdleConfig;

/// Command that a worker handles between two bursts.
pub(crate) enum Command {
    /// Judge and route by these tables from now on, and make the change that goes with them.
    Install {
        tables: Arc<Tables>,
        change: Change,
        /// Room for the memberships of more attachments.
        room: Option<Box<GroupRoom>>,
    },
    /// A peer has connected to an attachment.
    Connect {
        id: AttachmentId,
        port: Box<dyn PodPort>,
    },
    /// The peer of an attachment has gone.
    Disconnect { id: AttachmentId },
    /// Idle by these thresholds from now on.
    SetIdle(IdleConfig),
    /// Add the counters up.
    Balance,
    /// List memberships in multicast groups, from a number on, as far as the capacity of `found` goes.
    ListGroups {
        from: usize,
        found: Vec<(Group, AttachmentId)>,
    },
    /// Let go of everything and end.
    Stop,
}

/// Change that goes with new tables, at the worker that owns what changes.
pub(crate) enum Change {
    None,
    AddUplink(UplinkId, Box<UplinkState>),
    RemoveUplink(UplinkId),
    /// The uplink's device came or went: another port stands for it from now on.
    ReplacePort(UplinkId, Box<dyn Uplink>),
    AddAttachment(Box<Attachment>),
    RemoveAttachment(AttachmentId),
    /// An attachment is back that other workers took for gone: they have forgotten its groups.
    TellGroups,
}

/// Answer to a command.
pub(crate) enum Answer {
    /// The tables are in use; these are not any more.
    Installed {
        removed: Removed,
        _old: Arc<Tables>,
        _room: Option<Box<GroupRoom>>,
    },
    /// The port that was there, and whether the attachment is.
    Port {
        old: Option<Box<dyn PodPort>>,
        known: bool,
    },
    /// Acknowledgement without anything to hand back.
    Done,
    /// The worker's part of the balance.
    Balance(Balance),
    /// Memberships, and the number to go on from.
    Groups {
        next: Option<usize>,
        found: Vec<(Group, AttachmentId)>,
    },
    /// Nothing is left but the ports, in here.
    Stopped {
        ports: Vec<Box<dyn PodPort>>,
        _uplinks: Vec<Option<Box<UplinkState>>>,
    },
}

/// Object that a [`Change`] took out.
pub(crate) enum Removed {
    None,
    Uplink(Box<UplinkState>),
    Port(Box<dyn Uplink>),
    Attachment { _attachment: Box<Attachment> },
}

/// A command with its number; the answer bears the same.
pub(crate) struct Numbered<T> {
    pub(crate) number: u64,
    pub(crate) what: T,
}
