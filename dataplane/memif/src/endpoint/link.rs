//! A connection that runs, as the endpoint's thread sees it.

use std::os::fd::OwnedFd;

use super::{Connection, ConnectionId, send_disconnect};
use crate::fault::Fault;
use crate::kick::Kicker;
use crate::msg::Message;
use crate::queue::{Ring, RxBuffers, RxQueue, TxBuffers, TxQueue};
use crate::refusal::Refusal;
use crate::socket::Channel;

/// One ring of a finished handshake with its eventfd.
pub(super) struct RingEnd {
    pub(super) ring: Ring,
    pub(super) event: OwnedFd,
}

/// All queues of a finished handshake.
pub(super) struct Queues {
    pub(super) rx: Vec<RxQueue>,
    pub(super) tx: Vec<TxQueue>,
    pub(super) kicker: Kicker,
}

impl Queues {
    /// Turns rings into queues: those to receive from with their buffers, those to send on with
    /// theirs.
    pub(super) fn build(
        rx: Vec<(RingEnd, RxBuffers)>,
        tx: Vec<(RingEnd, TxBuffers)>,
        interrupts: bool,
    ) -> Result<Queues, Refusal> {
        let (tx, events): (Vec<_>, Vec<_>) = tx
            .into_iter()
            .map(|(part, buffers)| ((part.ring, buffers), part.event))
            .unzip();
        let kicker = Kicker::spawn(events).map_err(|e| Refusal::Allocation(e.to_string()))?;
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

/// See the [module](self).
pub(super) struct Link {
    pub(super) id: ConnectionId,
    pub(super) channel: Channel,
    kicker: Kicker,
}

impl Link {
    /// Splits a made connection into the owner's part and ours.
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

    /// Reads what the peer has to say. The only thing left to say is DISCONNECT.
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

    /// Tells the peer and closes. Returns the kicker if the peer holds its thread.
    pub(super) fn end(self, reason: &Refusal) -> Option<Kicker> {
        send_disconnect(&self.channel, reason);
        // Closed before the kick thread is waited for: a peer that holds it learns at once.
        drop(self.channel);
        self.kicker.stop().err()
    }
}

/// A finished handshake.
pub(super) struct Established {
    pub(super) channel: Channel,
    pub(super) queues: Queues,
    pub(super) peer_program: String,
    pub(super) peer_name: String,
    pub(super) peer: crate::socket::PeerCred,
    pub(super) shared_bytes: u64,
}
