// SPDX-License-Identifier: Apache-2.0
//! Stand-in for an uplink's device that is not there: it never has a frame, and what is to be sent is
//! dropped as `link_down`. Control puts it in when a device goes and takes it out when it is back, so
//! that attachments, counters and the worker's list of ports stay.

use std::os::fd::BorrowedFd;

use sluice_mem::Burst;
use sluice_stats::LinkState;

use crate::drops::DropReason;
use crate::ports::seam::{PortContext, Sent, Uplink, UplinkReport, Wake};

/// Stand-in for a device that is not there.
#[derive(Debug, Clone)]
pub struct AbsentUplink {
    driver: &'static str,
    device: String,
    mtu: u32,
}

impl AbsentUplink {
    /// Makes the stand-in for `device`, whose MTU was `mtu` bytes when it was last there.
    pub fn new(driver: &'static str, device: impl Into<String>, mtu: u32) -> AbsentUplink {
        AbsentUplink {
            driver,
            device: device.into(),
            mtu,
        }
    }
}

impl Wake for AbsentUplink {
    fn wake_fds(&self, _add: &mut dyn FnMut(BorrowedFd<'_>)) {}

    fn arm(&mut self) -> bool {
        true
    }

    fn disarm(&mut self) {}
}

impl Uplink for AbsentUplink {
    fn driver(&self) -> &'static str {
        self.driver
    }

    fn device(&self) -> &str {
        &self.device
    }

    fn mtu(&self) -> u32 {
        self.mtu
    }

    fn rx_burst(&mut self, _context: &mut PortContext<'_>, _out: &mut Burst) {}

    fn tx_burst(&mut self, context: &mut PortContext<'_>, burst: &mut Burst) -> Sent {
        let dropped = burst.len() as u64;
        context.drops.add(DropReason::LinkDown, dropped);
        context.pools.free_burst(burst);
        Sent::default()
    }

    fn report(&self) -> UplinkReport {
        UplinkReport {
            link: LinkState::Gone,
            nic: None,
        }
    }
}
