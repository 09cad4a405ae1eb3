// SPDX-License-Identifier: Apache-2.0
//! Connection that an ICMP error is related to.

use super::super::key::Probe;
use super::super::outcome::Cause;
use super::super::pairs::Pair;
use super::super::phase::End;
use super::super::related::About;
use super::line::Line;
use super::{Shared, Table};
use crate::verdict::Direction;

impl<L: Line> Table<L> {
    /// Finds the connection of the packet that an error is about. Returns its pair and the end that has sent that
    /// packet, which is the one that the error goes to.
    ///
    /// # Errors
    /// The cause for which the error is related to nothing.
    pub(crate) fn relate(&mut self, shared: &Shared, about: &About) -> Result<(Pair, End), Cause> {
        let none = Cause::ErrorNoConnection;
        let probe = Probe::<L::Key>::of(&about.frame).ok_or(none)?;
        let place = self.find(&shared.pairs, &probe.key).ok_or(none)?;
        let (line, way) = Self::at(place);
        let state = self.state(place);
        let pair = Pair(self.lines[line].ways().pair[way]);
        // One that is over may still be there, and one that the rules have revoked or that is to be judged anew is no
        // reason to let anything in.
        let is_current = shared.pairs.is_current(pair.0, 0, shared.generation);
        if self.is_over(place) || state.is_revoked() || !is_current {
            return Err(none);
        }
        let sender = state.end(probe.from_lesser);
        let sent_by_pod = self.cold[place as usize].is_from_pod() == (sender == End::Opener);
        if sent_by_pod != (about.direction == Direction::Egress) {
            return Err(Cause::ErrorDirection);
        }
        let seq = about.frame.segment.seq;
        if state.is_windowed() && !self.windows[line].load(way).is_in_flight(sender, seq) {
            return Err(Cause::ErrorSeq);
        }
        let now = self.now;
        if !self.cold[place as usize].take_error(now) {
            return Err(Cause::ErrorRate);
        }
        Ok((pair, sender))
    }
}
