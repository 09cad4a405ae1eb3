// SPDX-License-Identifier: Apache-2.0
//! Waiting for the kernel to say that some netdev of the namespace has changed (RTNLGRP_LINK).

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::NetlinkMessage;
use rtnetlink::packet_route::RouteNetlinkMessage;
use tokio::runtime::Runtime;
use tokio::sync::Notify;

/// Time after a message in which further ones are waited for: a netdev that comes makes a handful.
const SETTLE: Duration = Duration::from_millis(20);

/// Time between two tries to listen again after the kernel's messages have ended: more of them at once than
/// the socket holds end them.
const REOPEN: Duration = Duration::from_secs(5);

type Messages = dyn futures_util::Stream<Item = NetlinkMessage<RouteNetlinkMessage>> + Send + Unpin;

/// Waits for changes of netdevs.
pub struct LinkWatch {
    runtime: Runtime,
    messages: Option<Box<Messages>>,
    /// Time of the last try to listen.
    tried: Instant,
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
        let messages = listen(&runtime)?;
        Ok(LinkWatch {
            runtime,
            messages: Some(messages),
            tried: Instant::now(),
            stop,
        })
    }

    /// Waits until a netdev has changed, until told to stop, or for `limit`. Listens again, in the network
    /// namespace of the calling thread, if the messages have ended.
    ///
    /// Must not be called from asynchronous code.
    pub fn wait(&mut self, limit: Duration) {
        if self.messages.is_none() && self.tried.elapsed() >= REOPEN {
            self.tried = Instant::now();
            match listen(&self.runtime) {
                Ok(messages) => {
                    tracing::info!("the kernel's messages about netdevs are read again");
                    self.messages = Some(messages);
                    // What changed meanwhile is looked at now.
                    return;
                }
                Err(error) => {
                    tracing::debug!("cannot read the kernel's messages about netdevs: {error}");
                }
            }
        }
        let LinkWatch {
            runtime,
            messages,
            stop,
            ..
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
            tracing::warn!(
                "the kernel's messages about netdevs have ended: changes are seen a second later until \
                 they are read again, which is tried every {} s",
                REOPEN.as_secs()
            );
            self.messages = None;
        }
    }
}

/// Opens a socket for messages of the kernel about netdevs.
fn listen(runtime: &Runtime) -> io::Result<Box<Messages>> {
    let _inside = runtime.enter();
    let (connection, _, messages) = rtnetlink::new_multicast_connection(&[MulticastGroup::Link])?;
    runtime.spawn(connection);
    Ok(Box::new(messages.map(|(message, _)| message)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn messages_that_have_ended_are_read_again() {
        let stop = Arc::new(Notify::new());
        let mut watch = LinkWatch::start(Arc::clone(&stop)).unwrap();
        watch.messages = Some(Box::new(futures_util::stream::empty()));
        watch.wait(Duration::from_secs(60));
        assert!(watch.messages.is_none(), "they have ended");
        // Not at once: that would be a loop where the socket fails again and again.
        watch.tried = Instant::now();
        watch.wait(Duration::from_millis(1));
        assert!(watch.messages.is_none());
        watch.tried = Instant::now().checked_sub(REOPEN).unwrap();
        watch.wait(Duration::from_secs(60));
        assert!(watch.messages.is_some());
        // The new ones can be waited for.
        stop.notify_one();
        watch.wait(Duration::from_secs(60));
    }
}
