// SPDX-License-Identifier: Apache-2.0
//! Waiting for the kernel to say that some netdev of the namespace has changed (RTNLGRP_LINK).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::NetlinkMessage;
use rtnetlink::packet_route::RouteNetlinkMessage;
use tokio::runtime::Runtime;
use tokio::sync::Notify;

/// Time after a message in which further ones are waited for: a netdev that comes makes a handful.
const SETTLE: Duration = Duration::from_millis(20);

type Messages = dyn futures_util::Stream<Item = NetlinkMessage<RouteNetlinkMessage>> + Send + Unpin;

/// Waits for changes of netdevs.
pub struct LinkWatch {
    runtime: Runtime,
    messages: Option<Box<Messages>>,
    stop: Arc<Notify>,
}

impl std::fmt::Debug for LinkWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinkWatch").finish_non_exhaustive()
    }
}

impl LinkWatch {
    /// Listens in the network namespace of the calling thread. `stop` ends each wait at once.
    ///
    /// # Errors
    /// The system has no socket left.
    pub fn start(stop: Arc<Notify>) -> io::Result<LinkWatch> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let messages: Box<Messages> = {
            let _inside = runtime.enter();
            let (connection, _, messages) =
                rtnetlink::new_multicast_connection(&[MulticastGroup::Link])?;
            runtime.spawn(connection);
            Box::new(messages.map(|(message, _)| message))
        };
        Ok(LinkWatch {
            runtime,
            messages: Some(messages),
            stop,
        })
    }

    /// Waits until a netdev has changed, until told to stop, or for `limit`.
    ///
    /// Must not be called from asynchronous code.
    pub fn wait(&mut self, limit: Duration) {
        let LinkWatch {
            runtime,
            messages,
            stop,
        } = self;
        let ended = runtime.block_on(async {
            let Some(messages) = messages else {
                // The socket has failed: what is left is to look now and then.
                let _ = tokio::time::timeout(limit, stop.notified()).await;
                return false;
            };
            let first = tokio::select! {
                () = stop.notified() => return false,
                first = tokio::time::timeout(limit, messages.next()) => first,
            };
            if first.is_ok_and(|message| message.is_none()) {
                return true;
            }
            let settled = tokio::time::sleep(SETTLE);
            tokio::pin!(settled);
            loop {
                tokio::select! {
                    () = &mut settled => return false,
                    message = messages.next() => if message.is_none() {
                        return true;
                    },
                }
            }
        });
        if ended {
            tracing::error!(
                "the kernel's messages about netdevs have ended: changes are seen a second later from \
                 now on"
            );
            self.messages = None;
        }
    }
}
