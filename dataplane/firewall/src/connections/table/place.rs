// SPDX-License-Identifier: Apache-2.0
//! Places of connections: how one is found, moved, given up, and how it changes its phase.

use super::super::pairs::{Pair, Pairs};
use super::super::phase::Phase;
use super::cold::{Cold, Place};
use super::hash::lines_of;
use super::line::{Line, StateByte, WAYS};
use super::owners::Class;
use super::{Removal, SHORT, Shared, Table};

impl<L: Line> Table<L> {
    /// Finds the line and the way of a key whose two lines are given.
    #[inline(always)]
    pub(super) fn find_in(
        &self,
        pairs: &Pairs,
        key: &L::Key,
        [first, second]: [usize; 2],
    ) -> Option<(usize, usize)> {
        let line = self.lines.get(first)?;
        if let Some(way) = way_of(line, pairs, key) {
            return Some((first, way));
        }
        if line.ways().over == 0 {
            return None;
        }
        let way = way_of(self.lines.get(second)?, pairs, key)?;
        Some((second, way))
    }

    /// Finds the place of a key.
    pub(crate) fn find(&self, pairs: &Pairs, key: &L::Key) -> Option<Place> {
        let lines = self.lines_of(key);
        let (line, way) = self.find_in(pairs, key, lines)?;
        Some(Self::place(line, way))
    }

    pub(super) fn lines_of(&self, key: &L::Key) -> [usize; 2] {
        lines_of(self.hasher.of_key(key), self.lines.len())
    }

    /// Lines of a connection that is there.
    pub(super) fn lines_of_place(&self, pairs: &Pairs, place: Place) -> [usize; 2] {
        let (line, way) = Self::at(place);
        let line = &self.lines[line];
        let scope = pairs.scope(line.ways().pair[way]);
        self.lines_of(&line.key(way, scope))
    }

    /// Ticks since the last frame.
    pub(super) fn idle(&self, place: Place) -> u32 {
        let (line, way) = Self::at(place);
        let age = self.now16().wrapping_sub(self.lines[line].ways().seen[way]);
        let long = self.cold[place as usize].long_idle(self.now);
        match long {
            Some(idle) if age >= SHORT => idle,
            _ => u32::from(age),
        }
    }

    /// Ticks of silence at which a connection is over.
    pub(super) fn limit(&self, place: Place) -> u32 {
        let (line, way) = Self::at(place);
        let state = self.lines[line].ways().state[way];
        let limit = self.limits.over[usize::from(state.phase_number())];
        let is_unanswered = state.phase() == Phase::Established
            && state.is_windowed()
            && self.windows[line].load(way).is_unanswered();
        if is_unanswered {
            limit.min(self.limits.unanswered)
        } else {
            limit
        }
    }

    /// Whether the time of a connection is over.
    #[cold]
    pub(super) fn is_over(&self, place: Place) -> bool {
        self.idle(place) >= self.limit(place)
    }

    /// Goes on to another phase.
    pub(super) fn change_phase(&mut self, place: Place, next: Phase) {
        let state = self.state(place).with_phase(next);
        self.set_state(place, state);
        self.wheel.remove(&mut self.cold, place);
        let rest = self.limit(place).saturating_sub(self.idle(place)).max(1);
        self.wheel
            .schedule(&mut self.cold, place, self.now.plus(rest));
    }

    /// Sets the state of a connection, and lists it by its class.
    pub(super) fn set_state(&mut self, place: Place, state: StateByte) {
        let before = self.class(place);
        let (line, way) = Self::at(place);
        self.lines[line].ways_mut().state[way] = state;
        let class = self.class(place);
        if class != before {
            self.owners.remove(&mut self.cold, place, before);
            self.owners.append(&mut self.cold, place, class);
        }
    }

    /// Takes a connection out.
    pub(super) fn remove(&mut self, shared: &mut Shared, place: Place, why: Removal) {
        let counts = &mut shared.counts;
        match why {
            Removal::Expired => counts.expired += 1,
            Removal::Ended => counts.ended += 1,
            Removal::WithOwner => counts.removed += 1,
            Removal::Evicted(class) => counts.evicted[class as usize] += 1,
        }
        self.leave_line(&shared.pairs, place);
        let class = self.class(place);
        self.owners.remove(&mut self.cold, place, class);
        self.wheel.remove(&mut self.cold, place);
        let source = self.cold[place as usize].source;
        if source != Cold::NO_SOURCE
            && let Some(count) = self.sources.get_mut(usize::from(source))
        {
            *count = count.saturating_sub(1);
        }
        let (line, way) = Self::at(place);
        let ways = self.lines[line].ways_mut();
        self.windowed -= usize::from(ways.state[way].is_windowed());
        ways.state[way] = StateByte::new(Phase::Free, false, false);
        shared.pairs.release(Pair(ways.pair[way]));
        self.len -= 1;
    }

    /// Notes in the first line of a connection that it is not in its second one any more.
    fn leave_line(&mut self, pairs: &Pairs, place: Place) {
        let [first, second] = self.lines_of_place(pairs, place);
        let (line, _) = Self::at(place);
        if line != first && line == second {
            let ways = self.lines[first].ways_mut();
            if ways.over != u8::MAX {
                ways.over -= 1;
            }
        }
    }

    /// Notes in the first line of a key that its connection is in `line`, if that is the second one.
    fn enter_line(&mut self, [first, second]: [usize; 2], line: usize) {
        if line != first && line == second {
            let ways = self.lines[first].ways_mut();
            ways.over = ways.over.saturating_add(1);
        }
    }

    /// Finds a free way for a key of these lines: in the first, in the second, or by moving others out of the way, two
    /// at most. (Two choices: Azar, Broder, Karlin and Upfal, 1994; moving: Pagh and Rodler's cuckoo hashing, 2001.)
    pub(super) fn make_place(&mut self, shared: &mut Shared, lines: [usize; 2]) -> Option<Place> {
        let free = |table: &Self, line: usize| {
            let way = table.lines.get(line)?.ways().free()?;
            Some(Self::place(line, way))
        };
        let place = lines
            .iter()
            .find_map(|&line| free(self, line))
            .or_else(|| self.move_one(shared, lines))
            .or_else(|| {
                // Somebody else moves out of the way of one that moves.
                (0..2 * WAYS).find_map(|n| {
                    let of = Self::place(*lines.get(n / WAYS)?, n % WAYS);
                    let other = self.other_line(&shared.pairs, of)?;
                    let to = self.move_one(shared, [other; 2])?;
                    self.move_to(shared, of, to);
                    Some(of)
                })
            })?;
        self.enter_line(lines, Self::at(place).0);
        Some(place)
    }

    /// Moves a connection out of one of these lines, if its other line has room. Returns its place.
    fn move_one(&mut self, shared: &mut Shared, lines: [usize; 2]) -> Option<Place> {
        for line in lines {
            for way in 0..WAYS {
                let of = Self::place(line, way);
                let Some(other) = self.other_line(&shared.pairs, of) else {
                    continue;
                };
                if let Some(free) = self.lines[other].ways().free() {
                    self.move_to(shared, of, Self::place(other, free));
                    return Some(of);
                }
            }
        }
        None
    }

    /// Line that a connection could be in beside the one that it is in.
    fn other_line(&self, pairs: &Pairs, place: Place) -> Option<usize> {
        let [first, second] = self.lines_of_place(pairs, place);
        let (line, _) = Self::at(place);
        let other = if line == first { second } else { first };
        (other != line).then_some(other)
    }

    /// Moves a connection to a free place of its other line.
    fn move_to(&mut self, shared: &mut Shared, of: Place, to: Place) {
        shared.counts.moved += 1;
        self.leave_line(&shared.pairs, of);
        let lines = self.lines_of_place(&shared.pairs, of);
        let class = self.class(of);
        let ((old, old_way), (new, new_way)) = (Self::at(of), Self::at(to));
        let source = self.lines[old];
        let scope = shared.pairs.scope(source.ways().pair[old_way]);
        let bounds = self.windows[old].load(old_way);
        self.windows[new].store(new_way, &bounds);
        let target = &mut self.lines[new];
        target.set_key(new_way, &source.key(old_way, scope));
        let ways = target.ways_mut();
        ways.pair[new_way] = source.ways().pair[old_way];
        ways.seen[new_way] = source.ways().seen[old_way];
        ways.state[new_way] = source.ways().state[old_way];
        self.lines[old].ways_mut().state[old_way] = StateByte::new(Phase::Free, false, false);
        self.cold[to as usize] = self.cold[of as usize];
        self.wheel.moved(&mut self.cold, to);
        self.owners.moved(&mut self.cold, to, class);
        self.enter_line(lines, new);
    }

    /// Gives up a connection of the same owner in one of these lines, as its class allows, or one whose time is over.
    pub(super) fn give_up_in(
        &mut self,
        shared: &mut Shared,
        owner: usize,
        lines: [usize; 2],
    ) -> bool {
        let places = || (0..2 * WAYS).map(|n| Self::place(lines[n / WAYS], n % WAYS));
        if let Some(place) = places().find(|&place| self.is_over(place)) {
            self.remove(shared, place, Removal::Expired);
            return true;
        }
        let own = places().filter(|&place| self.cold[place as usize].owner() == owner);
        let Some((place, class)) = own
            .map(|place| (place, self.class(place)))
            .filter(|(_, class)| *class != Class::Established)
            .min_by_key(|(_, class)| *class as u8)
        else {
            return false;
        };
        self.remove(shared, place, Removal::Evicted(class));
        true
    }
}

/// Way of a line that has this key.
#[inline(always)]
fn way_of<L: Line>(line: &L, pairs: &Pairs, key: &L::Key) -> Option<usize> {
    use super::super::key::Key;
    let mut found = line.of_key(key);
    if L::HAS_SCOPE {
        // The sets of one way are 1, 2 and 4.
        return (found != 0).then_some(found as usize >> 1);
    }
    while found != 0 {
        let way = found.trailing_zeros() as usize % WAYS;
        if pairs.scope(line.ways().pair[way]) == key.scope() {
            return Some(way);
        }
        found &= found - 1;
    }
    None
}
