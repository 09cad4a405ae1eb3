// SPDX-License-Identifier: Apache-2.0
//! Notices of memberships between workers, over a ring per pair.

use sluice_ring::{Consumer, Producer};

use super::Group;
use super::table::GroupTable;
use crate::ids::{AttachmentId, WorkerId};

/// Notices that may wait in a ring.
pub(crate) const NOTICES: usize = 1024;
/// Notices that are taken of one worker in a round, and nodes that one call looks at to tell all
/// memberships again.
const NOTICES_PER_ROUND: usize = 256;

/// Change of a membership, or the beginning or the end of all memberships.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notice {
    /// An attachment of the sending worker is in the group from now on.
    Joined(Group, AttachmentId),
    /// An attachment of the sending worker is no longer in the group.
    Left(Group, AttachmentId),
    /// All memberships of the sending worker's attachments follow.
    All,
    /// End of them: what was not among them is over.
    Told,
}

/// State of telling one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Telling {
    /// Worker that knows everything.
    Changes,
    /// Worker whose ring was full, or that has forgotten: all is to be told again.
    Again,
    /// Worker that is told all again, from this node on.
    From(usize),
}

/// Ring to another worker.
struct Peer {
    ring: Producer<Notice>,
    telling: Telling,
}

/// Rings of notices to and from the other workers.
#[derive(Default)]
pub(crate) struct Peers {
    to: Vec<Option<Peer>>,
    from: Vec<Option<Consumer<Notice>>>,
    /// Notices taken in this round.
    taken: usize,
    /// Workers to wake, by bit.
    to_wake: u64,
}

impl Peers {
    /// Sets the rings, by worker.
    pub(crate) fn connect(
        &mut self,
        to: Vec<Option<Producer<Notice>>>,
        from: Vec<Option<Consumer<Notice>>>,
    ) {
        let peer = |ring| Peer {
            ring,
            telling: Telling::Changes,
        };
        self.to = to.into_iter().map(|ring| ring.map(peer)).collect();
        self.from = from;
    }

    /// Returns the number of workers.
    pub(crate) fn len(&self) -> usize {
        self.from.len()
    }

    /// Whether a notice waits.
    pub(crate) fn is_waiting(&mut self) -> bool {
        self.from.iter_mut().flatten().any(|ring| !ring.is_empty())
    }

    /// Returns the next notice of a worker, if there is one and this round has not taken its share.
    pub(crate) fn next(&mut self, worker: usize) -> Option<Notice> {
        let ring = self.from.get_mut(worker)?.as_mut()?;
        if self.taken >= NOTICES_PER_ROUND {
            self.taken = 0;
            return None;
        }
        let notice = ring.pop();
        self.taken = if notice.is_some() { self.taken + 1 } else { 0 };
        notice
    }

    /// Returns the workers that were told something since the last call.
    pub(crate) fn take_to_wake(&mut self) -> u64 {
        std::mem::take(&mut self.to_wake)
    }

    /// Tells every other worker of a change.
    pub(super) fn tell(&mut self, notice: Notice) {
        for (worker, peer) in self.to.iter_mut().enumerate() {
            let Some(peer) = peer else { continue };
            if peer.telling == Telling::Again {
                continue;
            }
            match peer.ring.push(notice) {
                Ok(()) => self.to_wake |= 1 << worker,
                Err(_) => peer.telling = Telling::Again,
            }
        }
    }

    /// Has every other worker told all memberships again.
    pub(super) fn begin_again(&mut self) {
        for peer in self.to.iter_mut().flatten() {
            peer.telling = Telling::Again;
        }
    }

    /// Goes on with telling all memberships to the workers whose ring was full.
    pub(super) fn tell_again(&mut self, table: &GroupTable, owner: WorkerId) {
        for (worker, peer) in self.to.iter_mut().enumerate() {
            let Some(peer) = peer else { continue };
            if peer.telling == Telling::Again && peer.ring.push(Notice::All).is_ok() {
                peer.telling = Telling::From(0);
            }
            let Telling::From(from) = peer.telling else {
                continue;
            };
            self.to_wake |= 1 << worker;
            let end = table.len().min(from + NOTICES_PER_ROUND);
            let mut at = from;
            while at < end {
                let own = table.node(at).filter(|node| node.member.owner == owner);
                let notice = own.map(|node| Notice::Joined(node.group, node.member.id));
                if notice.is_some_and(|notice| peer.ring.push(notice).is_err()) {
                    break;
                }
                at += 1;
            }
            let is_over = at >= table.len() && peer.ring.push(Notice::Told).is_ok();
            peer.telling = match is_over {
                true => Telling::Changes,
                false => Telling::From(at),
            };
        }
    }
}
