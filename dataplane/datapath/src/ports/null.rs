// SPDX-License-Identifier: Apache-2.0
//! Ports without anything behind them: they swallow what they are sent and never have a frame.
//! For benches of the bare loop, and for uplinks and attachments that a test does not look at.

use std::os::fd::BorrowedFd;

use sluice_mem::{Burst, Mbuf};

use super::tagged::Tagged;
use crate::frame::tagging::Tagging;
use crate::ports::seam::{PodPort, PortContext, PortFault, Sent, Uplink, Wake};

/// An uplink to nowhere.
#[derive(Debug, Clone, Copy)]
pub struct NullUplink {
    mtu: u32,
}

impl NullUplink {
    /// Makes an uplink that takes IP packets of up to `mtu` bytes.
    pub fn new(mtu: u32) -> NullUplink {
        NullUplink { mtu }
    }
}

impl Default for NullUplink {
    /// With an MTU of 1500 bytes.
    fn default() -> NullUplink {
        NullUplink::new(1500)
    }
}

impl Wake for NullUplink {
    fn wake_fds(&self, _add: &mut dyn FnMut(BorrowedFd<'_>)) {}

    fn arm(&mut self) -> bool {
        true
    }

    fn disarm(&mut self) {}
}

impl Uplink for NullUplink {
    fn driver(&self) -> &'static str {
        "null"
    }

    fn device(&self) -> &str {
        "null"
    }

    fn mtu(&self) -> u32 {
        self.mtu
    }

    fn rx_burst(&mut self, _context: &mut PortContext<'_>, _out: &mut Burst) {}

    fn tx_burst(&mut self, context: &mut PortContext<'_>, burst: &mut Burst) -> Sent {
        let mut sent = Sent::default();
        for mbuf in burst.iter() {
            sent.add(Tagged::to_wire(mbuf).len());
        }
        context.pools.free_burst(burst);
        sent
    }
}

/// A pod that takes everything and says nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NullPort;

impl Wake for NullPort {
    fn wake_fds(&self, _add: &mut dyn FnMut(BorrowedFd<'_>)) {}

    fn arm(&mut self) -> bool {
        true
    }

    fn disarm(&mut self) {}
}

impl PodPort for NullPort {
    fn rx_burst(
        &mut self,
        _context: &mut PortContext<'_>,
        _out: &mut Burst,
    ) -> Result<(), PortFault> {
        Ok(())
    }

    fn deliver(&mut self, frames: &[Mbuf], tagging: Tagging) -> Result<Sent, PortFault> {
        let mut sent = Sent::default();
        // Asked once and not for each frame.
        if tagging == Tagging::Untagged {
            frames.iter().for_each(|mbuf| sent.add(mbuf.len()));
            return Ok(sent);
        }
        for mbuf in frames {
            sent.add(Tagged::to_pod(mbuf, tagging).len());
        }
        Ok(sent)
    }

    fn flush(&mut self) {}
}
