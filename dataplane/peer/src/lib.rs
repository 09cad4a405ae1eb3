// SPDX-License-Identifier: Apache-2.0
//! Peers on shared memory: what the protocols memif and vhost-user have in common.
//!
//! A peer is a process in a pod. It is reached by a unix socket, is hostile, and may come and go at
//! any time.
//!
//! | module | holds |
//! |---|---|
//! | `address`, `listener` | control sockets by abstract name and by path, and the peer's credentials |
//! | `pace` | pauses after failures, and token buckets for what a peer may ask for |
//! | `kick` | thread that interrupts a peer, so that no worker waits for it |
//! | `eventfd` | check that a file descriptor is an eventfd |
//! | `sink` | receiver of the packets that a queue copies out |
//! | `index` | ring index that the peer moves, checked at every read |
//! | `counts`, `wait` | counts of an endpoint; wait for the first of several fds |
//! | `checks` | checks that tests can disable, one at a time |
//!
//! System calls go through rustix, and through nix for the peer's credentials, whose pid rustix
//! cannot give where it is 0.
#![forbid(unsafe_code)]

mod address;
pub mod checks;
mod counts;
mod eventfd;
mod index;
mod kick;
mod listener;
mod pace;
mod sink;
mod wait;

pub use address::{Address, AddressError, PeerCred};
pub use counts::{EndpointCounts, SharedCounts};
pub use eventfd::check_eventfd;
pub use index::{IndexFault, PeerIndex};
pub use kick::{Kick, Kicker, MAX_QUEUES};
pub use listener::{Listener, OpenError, SocketKind, connect, connect_in};
pub use pace::{Allowance, Pace};
pub use sink::{BURST, FrameList, Sink};
pub use wait::{sooner, wait};

/// Name of a thread for an interface: `prefix-NAME`, cut to the 15 bytes that the kernel keeps.
pub fn thread_name(prefix: &str, interface: &str) -> String {
    let mut name = format!("{prefix}-");
    name.extend(interface.chars().filter(|c| !c.is_control()));
    while name.len() > 15 {
        name.pop();
    }
    name
}

#[cfg(test)]
mod tests {
    #[test]
    fn thread_names_fit() {
        assert_eq!(super::thread_name("memif", "net1"), "memif-net1");
        assert!(super::thread_name("memif", "a-very-long-näme\0").len() <= 15);
    }
}
