// SPDX-License-Identifier: Apache-2.0
//! Established connection, as the endpoint's thread holds it.

use std::os::fd::OwnedFd;

use super::{Connection, ConnectionId, send_disconnect};
use crate::fault::Fault;
use crate::msg::Message;
use crate::queue::{Ring, RxBuffers, RxQueue, TxBuffers, TxQueue};
use crate::refusal::Refusal;
use crate::socket::Channel;
use sluice_peer::Kicker;

/// Ring of a finished handshake, with its eventfd.
pub(super) struct RingEnd {
    pub(super) ring: Ring,
    pub(super) event: OwnedFd,
}

/// Queues of a finished handshake.
pub(super) struct Queues {
    pub(super) rx: Vec<RxQueue>,
    pub(super) tx: Vec<TxQueue>,
    pub(super) kicker: Kicker,
}

impl Queues {
    /// Makes queues of the rings: `rx` to receive from, `tx` to send on, each with its buffers.
    pub(super) fn build(
        rx: Vec<(RingEnd, RxBuffers)>,
        tx: Vec<(RingEnd, TxBuffers)>,
        interrupts: bool,
    ) -> Result<Queues, Refusal> {
        let (tx, events): (Vec<_>, Vec<_>) = tx
            .into_iter()
            .map(|(part, buffers)| ((part.ring, buffers), part.event))
            .unzip();
        let kicker = Kicker::spawn("memif-kick", events.into_iter().map(Some).collect())
            .map_err(|e| Refusal::Allocation(e.to_string()))?;
        let tx = tx
            .into_iter()
            .enumerate()
            .map(|(queue, (ring, buffers))| {
                // There is one for each: the list of eventfds was made from this one.
                let kick = kicker
                    .kick(queue)
                    .ok_or(Refusal::Fault(Fault::MemoryGone))?;
                Ok(TxQueue::new(ring, buffers, kick)?)
            })
            .collect::<Result<_, Refusal>>()?;
        let rx = rx
            .into_iter()
            .map(|(part, buffers)| RxQueue::new(part.ring, buffers, part.event, interrupts))
            .collect::<Result<_, Fault>>()?;
        Ok(Queues { rx, tx, kicker })
    }
}

/// Established connection without its queues, which the owner has.
pub(super) struct Link {
    pub(super) id: ConnectionId,
    pub(super) channel: Channel,
    kicker: Kicker,
}

impl Link {
    /// Splits an established connection into the owner's part and ours.
    pub(super) fn new(id: ConnectionId, made: Established) -> (Link, Connection) {
        let Established {
            channel,
            queues,
            peer_program,
            peer_name,
            peer,
            shared_bytes,
        } = made;
        let Queues { rx, tx, kicker } = queues;
        let connection = Connection {
            id,
            peer_program,
            peer_name,
            peer,
            rx,
            tx,
            shared_bytes,
        };
        (
            Link {
                id,
                channel,
                kicker,
            },
            connection,
        )
    }

    /// Reads the peer's next message, which can only be DISCONNECT.
    pub(super) fn read(&self) -> Result<(), Refusal> {
        let Some(received) = self.channel.receive()? else {
            return Ok(());
        };
        Err(match received.message {
            Message::Disconnect { code, reason } => Refusal::ByPeer {
                code,
                reason: reason.to_string(),
            },
            other => Refusal::Unexpected {
                expected: "DISCONNECT",
                got: other.kind(),
            },
        })
    }

    /// Sends DISCONNECT and closes. Returns the kicker if the peer holds its thread.
    pub(super) fn end(self, reason: &Refusal) -> Option<Kicker> {
        send_disconnect(&self.channel, reason);
        // Closed before the kick thread is waited for: a peer that holds it notices at once.
        drop(self.channel);
        self.kicker.stop().err()
    }
}

/// Result of a finished handshake.
pub(super) struct Established {
    pub(super) channel: Channel,
    pub(super) queues: Queues,
    pub(super) peer_program: String,
    pub(super) peer_name: String,
    pub(super) peer: sluice_peer::PeerCred,
    pub(super) shared_bytes: u64,
}
