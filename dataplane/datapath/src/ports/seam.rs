// SPDX-License-Identifier: Apache-2.0
//! The seam between the pipelines and whatever frames come from and go to. One file per driver
//! stands behind it in [`crate::ports`]; tests put their own ports here.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use sluice_mem::{Burst, Mbuf, Pools};
use sluice_stats::{LinkState, NicCounters};

use crate::counters::LateCounts;
use crate::drops::DropCounts;
use crate::frame::tagging::Tagging;

/// Parts of a worker that a port may use during one call.
#[derive(Debug)]
pub struct PortContext<'a> {
    /// The worker's mempools.
    pub pools: &'a mut Pools,
    /// Counters for the frames that end in the port: while it receives and keeps house those that it
    /// does not hand out, while it sends those that it was given.
    pub drops: &'a DropCounts,
}

/// Wake-ups that a port gives a sleeping worker.
pub trait Wake {
    /// Names every fd that becomes readable, edge by edge, when frames come. The worker puts them
    /// into its epoll set with EPOLLET and never reads or writes them. Called once, when the port
    /// is installed.
    fn wake_fds(&self, add: &mut dyn FnMut(BorrowedFd<'_>));

    /// Asks for wake-ups, then looks once more: false if frames are waiting already.
    fn arm(&mut self) -> bool;

    /// Wake-ups are no longer wanted: the worker polls again.
    fn disarm(&mut self);

    /// Whether a wake-up can be lost (memif peers that do not fence). While such a port is
    /// installed a worker sleeps 1 ms at most.
    fn may_miss_wakeups(&self) -> bool {
        false
    }
}

/// A port that faces the wire.
pub trait Uplink: Wake + Send {
    /// The driver's name: `af_packet`, `pcap`, ...
    fn driver(&self) -> &'static str;

    /// The netdev, PCI address or file it stands on.
    fn device(&self) -> &str;

    /// The largest IP packet in bytes.
    fn mtu(&self) -> u32;

    /// Receives: appends at most as many frames as `out` has room for. Each has had
    /// [`crate::frame::FrameInfo::begin`] called with the outermost tag, if the device took it off; a tag still
    /// among the bytes is taken off by classify.
    fn rx_burst(&mut self, context: &mut PortContext<'_>, out: &mut Burst);

    /// Sends from the front of `burst`, each with the tag in its
    /// [`crate::frame::FrameInfo::tag`]. What it takes it
    /// frees or will free; what remains in `burst` did not fit. Frames that it takes and cannot
    /// send are counted in `context.drops`. Returns frames and bytes taken and not so counted.
    fn tx_burst(&mut self, context: &mut PortContext<'_>, burst: &mut Burst) -> Sent;

    /// Returns the number of frames that [`Uplink::tx_burst`] takes now. The worker shares it among
    /// the pods that send, and leaves in their own rings what does not fit. `usize::MAX`, as without
    /// this, where there is no limit, and where nothing can be sent at all: then frames are taken
    /// and dropped, for a pod need not wait for a wire that is dead to reach its neighbours.
    fn tx_room(&mut self, context: &mut PortContext<'_>) -> usize {
        let _ = context;
        usize::MAX
    }

    /// Housekeeping: called about every 10 ms while the worker is awake, and whenever it wakes.
    /// Never blocks: what has to wait for the device goes on at the next call. `now_ms` is the
    /// worker's clock, which only goes forward.
    fn housekeeping(&mut self, context: &mut PortContext<'_>, now_ms: u64) {
        let _ = (context, now_ms);
    }

    /// Returns the port's state, as of the last [`Uplink::housekeeping`].
    fn report(&self) -> UplinkReport {
        UplinkReport::default()
    }
}

/// State of an uplink.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UplinkReport {
    /// Link state.
    pub link: LinkState,
    /// Counters of the NIC itself, where the port is a NIC's driver.
    pub nic: Option<NicCounters>,
}

/// Result of sending a burst.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// Frames sent.
    pub frames: usize,
    /// Bytes sent, tags included, frame check sequence not.
    pub bytes: usize,
    /// Frames passed over because the receiver can never hold them.
    pub unfit: usize,
    /// Frames taken, beside those sent, whose end the port counts later where [`PodPort::count_late`] says.
    pub pending: usize,
}

/// A port that faces a pod. The pod is hostile.
pub trait PodPort: Wake + Send {
    /// Copies frames in: appends at most as many as `out` has room for, each with
    /// [`crate::frame::FrameInfo::begin`] called (tags are left in the bytes).
    ///
    /// # Errors
    /// The peer broke the protocol: the worker takes the port out and gives it to control.
    fn rx_burst(&mut self, context: &mut PortContext<'_>, out: &mut Burst)
    -> Result<(), PortFault>;

    /// Copies `frames` to the pod in order, each with the tag that `tagging` gives it, until one
    /// does not fit. Returns frames and bytes taken from the front, and those passed over. What was copied may become
    /// visible to the pod only at [`PodPort::flush`].
    ///
    /// # Errors
    /// The peer broke the protocol: the worker takes the port out and gives it to control.
    fn deliver(&mut self, frames: &[Mbuf], tagging: Tagging) -> Result<Sent, PortFault>;

    /// Publishes what was delivered and has the pod woken if it asked for that. Called at most once
    /// per burst and port.
    fn flush(&mut self);

    /// Tells a port that takes frames as [`Sent::pending`] where it counts their ends. Called once, before a
    /// worker has it.
    fn count_late(&mut self, counts: &Arc<LateCounts>) {
        let _ = counts;
    }

    /// Tells a port that no worker has any more to end, without waiting for it: that is left to its drop,
    /// whose time runs from now on. Many ports end together that way.
    fn end(&mut self) {}
}

/// Fault for which a port was taken out of service, for the log and the status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct PortFault {
    /// Violation by the peer.
    pub reason: String,
}
