// SPDX-License-Identifier: Apache-2.0
//! Link of a netdev, as control watches it (rtnetlink) and its port, AF_PACKET or AF_XDP, uses it.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use sluice_packet::VlanTag;
use sluice_stats::LinkState;

/// Bytes of an Ethernet header, without tags.
const ETH_HEADER: usize = 14;

/// State and MTU of a netdev's link: written by control, read by the worker that polls the port.
///
/// Neither orders anything else, so relaxed accesses do.
#[derive(Debug)]
pub struct WatchedLink {
    state: AtomicU8,
    mtu: AtomicU32,
}

impl WatchedLink {
    /// Makes a link that is up.
    pub(super) fn new(mtu: u32) -> WatchedLink {
        WatchedLink {
            state: AtomicU8::new(LinkState::Up.code()),
            mtu: AtomicU32::new(mtu),
        }
    }

    /// Notes the state: while it is not [`LinkState::Up`], what is to be sent is dropped as `link_down`.
    pub fn set_state(&self, state: LinkState) {
        self.state.store(state.code(), Ordering::Relaxed);
    }

    /// State that was noted last.
    pub fn state(&self) -> LinkState {
        LinkState::from_code(self.state.load(Ordering::Relaxed))
    }

    /// Notes a lower MTU in bytes: longer frames are dropped as `too_long`. For a higher one than the
    /// port was opened with it must be opened anew, as its slots are too small.
    pub fn set_mtu(&self, mtu: u32) {
        self.mtu.store(mtu, Ordering::Relaxed);
    }

    /// MTU that was noted last, in bytes.
    pub fn mtu(&self) -> u32 {
        self.mtu.load(Ordering::Relaxed)
    }

    /// Longest frame that the netdev sends, in bytes: the MTU and one tag.
    pub(super) fn longest_frame(&self) -> usize {
        self.mtu() as usize + ETH_HEADER + VlanTag::LEN
    }
}
