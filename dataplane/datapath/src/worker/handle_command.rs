// SPDX-License-Identifier: Apache-2.0
//! Handling of control's commands, between two bursts.

use std::sync::Arc;

use super::Worker;
use super::commands::{Answer, Change, Command, Numbered, Removed};
use crate::control::balance::Balance;
use crate::drops::DropReason;
use crate::ids::{AttachmentId, UplinkId};
use crate::pipeline::claims::yield_to_given;
use crate::pipeline::flush::{flush, send_answers};
use crate::pipeline::groups::group_room::GroupRoom;
use crate::pipeline::handed_off::handed_off;
use crate::pipeline::tables::Tables;
use crate::pipeline::tx_shares::list_uplinks;
use crate::ports::seam::{PodPort, Uplink};

/// Bursts that a worker takes out of another's rings before it swaps tables, several times what
/// these hold.
const MOST_BURSTS: usize = 64;

impl Worker {
    /// Handles one of control's commands, if there is one. Returns whether it was the last.
    pub(crate) fn handle_command(&mut self) -> bool {
        self.post_faults();
        let Some(Numbered { number, what }) = self.commands.pop() else {
            return false;
        };
        let stop = matches!(what, Command::Stop);
        let answer = match what {
            Command::Install {
                tables,
                change,
                room,
            } => self.install(tables, change, room),
            Command::Connect { id, port } => self.connect(id, port),
            Command::Disconnect { id } => self.disconnect(id),
            Command::ListGroups { from, mut found } => {
                let next = self.state.groups.list(from, &mut found);
                Answer::Groups { next, found }
            }
            Command::SetIdle(config) => {
                self.idle.set_config(config);
                Answer::Done
            }
            Command::Balance => Answer::Balance(self.balance()),
            Command::Stop => self.shut_down(),
        };
        // It fits: the ring is as large as that of commands, and control waits for each answer.
        let _ = self.answers.push(Numbered {
            number,
            what: answer,
        });
        stop
    }

    /// Stops watching the ports that were quarantined in the middle of a flow, and posts them to
    /// control. What does not fit control's ring is posted at the next call.
    fn post_faults(&mut self) {
        if !self.state.has_faults {
            return;
        }
        self.state.has_faults = false;
        while let Some(event) = self.state.quarantined.pop() {
            event.port_fds(|fd| self.idle.unwatch(fd));
            if let Err(event) = self.state.events.push(event) {
                self.state.quarantined.push(event);
                self.state.has_faults = true;
                break;
            }
        }
        self.list_polled();
    }

    /// Swaps the tables and makes the change that goes with them.
    fn install(
        &mut self,
        tables: Arc<Tables>,
        change: Change,
        mut room: Option<Box<GroupRoom>>,
    ) -> Answer {
        // Frames that others handed off by the old tables are finished by the old tables, what the
        // rings hold at most: no frame that comes later can be for what is now removed.
        for worker in 0..self.state.from_workers.len() {
            let mut limit = MOST_BURSTS;
            while limit > 0 && handed_off(&self.tables, &mut self.state, worker, u64::MAX) > 0 {
                send_answers(&self.tables, &mut self.state);
                limit -= 1;
            }
        }
        flush(&self.tables, &mut self.state);
        self.wake_others();
        let old = std::mem::replace(&mut self.tables, tables);
        self.state.flows.clear();
        self.state
            .connections
            .follow(self.tables.policies.version());
        for attachment in self.state.attachments.iter().flatten() {
            yield_to_given(&self.tables, attachment.id, &attachment.identity);
        }
        let removed = match change {
            Change::None => Removed::None,
            Change::TellGroups => {
                self.state.groups.tell_all();
                Removed::None
            }
            Change::AddUplink(id, uplink) => {
                uplink.port.wake_fds(&mut |fd| self.idle.watch(fd));
                self.uplinks.push(id);
                if self.state.uplinks.len() <= id.index() {
                    self.state.uplinks.resize_with(id.index() + 1, || None);
                }
                self.state.uplinks[id.index()] = Some(uplink);
                Removed::None
            }
            Change::RemoveUplink(id) => {
                self.uplinks.retain(|&other| other != id);
                match self
                    .state
                    .uplinks
                    .get_mut(id.index())
                    .and_then(Option::take)
                {
                    Some(mut uplink) => {
                        uplink.port.wake_fds(&mut |fd| self.idle.unwatch(fd));
                        self.state.drop_burst(&mut uplink.out, DropReason::Gone);
                        self.state.counts.gone.add_uplink(&uplink.counts);
                        Removed::Uplink(uplink)
                    }
                    None => Removed::None,
                }
            }
            Change::ReplacePort(id, port) => self.replace_port(id, port),
            Change::AddAttachment(mut attachment) => {
                let slot = attachment.id.slot();
                if self.state.attachments.len() <= slot {
                    self.state.attachments.resize_with(slot + 1, || None);
                }
                attachment.tracked_as = self.state.connections.enter();
                self.state.attachments[slot] = Some(attachment);
                self.share_connections();
                Removed::None
            }
            Change::RemoveAttachment(id) => {
                // The port stays in the attachment, to end on control's thread.
                if let Some(port) = self.state.attachment(id).and_then(|own| own.port.as_ref()) {
                    port.wake_fds(&mut |fd| self.idle.unwatch(fd));
                }
                let slot = self.state.attachments.get_mut(id.slot());
                let found = slot.filter(|slot| slot.as_ref().is_some_and(|found| found.id == id));
                match found.and_then(Option::take) {
                    Some(attachment) => {
                        self.state.connections.leave(attachment.tracked_as);
                        self.share_connections();
                        self.state.counts.gone.add_attachment(&attachment.counts);
                        Removed::Attachment {
                            _attachment: attachment,
                        }
                    }
                    None => Removed::None,
                }
            }
        };
        self.state.groups.follow(&self.tables, room.as_deref_mut());
        let chunks = self.state.groups.chunks() as u64;
        self.state.counts.group_chunks.set(chunks);
        self.list_polled();
        Answer::Installed {
            removed,
            _old: old,
            _room: room,
        }
    }

    /// Gives an uplink another port. Returns the one that was there, or `port` if there is no such uplink.
    fn replace_port(&mut self, id: UplinkId, port: Box<dyn Uplink>) -> Removed {
        let Some(uplink) = self
            .state
            .uplinks
            .get_mut(id.index())
            .and_then(Option::as_mut)
        else {
            return Removed::Port(port);
        };
        uplink.port.wake_fds(&mut |fd| self.idle.unwatch(fd));
        let old = std::mem::replace(&mut uplink.port, port);
        uplink.port.wake_fds(&mut |fd| self.idle.watch(fd));
        uplink.counts.report.write(uplink.port.report());
        (uplink.is_down, uplink.full_since_ms) = (false, None);
        Removed::Port(old)
    }

    /// Gives an attachment its port.
    fn connect(&mut self, id: AttachmentId, mut port: Box<dyn PodPort>) -> Answer {
        let mut old = self.take_port(id);
        let known = match self.state.attachment(id) {
            Some(attachment) => {
                port.wake_fds(&mut |fd| self.idle.watch(fd));
                port.disarm();
                attachment.port = Some(port);
                attachment.wants_more = false;
                true
            }
            None => {
                old = Some(port);
                false
            }
        };
        self.list_polled();
        Answer::Port { old, known }
    }

    /// Takes an attachment's port.
    fn disconnect(&mut self, id: AttachmentId) -> Answer {
        let old = self.take_port(id);
        let known = self.state.attachment(id).is_some();
        self.list_polled();
        Answer::Port { old, known }
    }

    /// Takes the port out of an attachment and stops watching it.
    fn take_port(&mut self, id: AttachmentId) -> Option<Box<dyn PodPort>> {
        let port = self.state.attachment(id)?.port.take()?;
        port.wake_fds(&mut |fd| self.idle.unwatch(fd));
        Some(port)
    }

    /// Adds up the counters of this worker and its ports.
    pub(crate) fn balance(&self) -> Balance {
        let mut sum = Balance::of_worker(&self.state.counts);
        for uplink in self.state.uplinks.iter().flatten() {
            sum.add_uplink(&uplink.counts);
        }
        for attachment in self.state.attachments.iter().flatten() {
            sum.add_attachment(&attachment.counts);
        }
        sum
    }

    /// Sends what is on its way, and gives up every port and mbuf.
    fn shut_down(&mut self) -> Answer {
        flush(&self.tables, &mut self.state);
        for rings in self.state.from_workers.iter_mut().flatten() {
            for ring in [&mut rings.pods, &mut rings.others] {
                while let Some(mbuf) = ring.pop() {
                    self.state.pools.free(mbuf);
                }
            }
        }
        let attachments = std::mem::take(&mut self.state.attachments);
        let ports = attachments
            .into_iter()
            .flatten()
            .filter_map(|mut a| a.port.take())
            .collect();
        let mut uplinks = std::mem::take(&mut self.state.uplinks);
        for uplink in uplinks.iter_mut().flatten() {
            self.state.pools.free_burst(&mut uplink.out);
        }
        Answer::Stopped {
            ports,
            _uplinks: uplinks,
        }
    }

    /// Lists the attachments that have a port, and the uplinks that this worker sends to.
    fn list_polled(&mut self) {
        self.polled.clear();
        let slots = self.state.attachments.iter().enumerate();
        self.polled.extend(slots.filter_map(|(slot, attachment)| {
            attachment
                .as_ref()
                .and_then(|attachment| attachment.port.as_ref())
                .map(|_| slot)
        }));
        self.state.share_records();
        list_uplinks(&self.tables, &mut self.state, &self.uplinks);
    }

    /// Divides the room for connections among the attachments, whose number has changed.
    fn share_connections(&mut self) {
        let attachments = self.state.attachments.iter().flatten();
        let numbers = attachments.map(|attachment| attachment.tracked_as);
        self.state.connections.share(numbers);
    }
}
