// SPDX-License-Identifier: Apache-2.0
//! Shutting down: attachments are refused, then every link ends. Records stay, so that the next engine
//! serves the same attachments.

use std::sync::atomic::Ordering;

use sluice_datapath::Engine;

use super::Control;

impl Control {
    /// Refuses attachments from now on.
    pub fn refuse_requests(&self) {
        self.ready.store(false, Ordering::Release);
    }

    /// Ends every link, so that each pod sees its link go down, and takes the datapath out for
    /// [`Engine::stop`]; `None` if it was taken before.
    pub fn shut_down(&self) -> Option<Engine> {
        self.refuse_requests();
        let attachments = self.attachments.all();
        // All at once: a pod that hangs costs its own second, not one each.
        std::thread::scope(|scope| {
            for (_, attachment) in &attachments {
                scope.spawn(|| {
                    if let Some(link) = attachment.take_link() {
                        link.stop();
                    }
                });
            }
        });
        self.engine.take()
    }
}
