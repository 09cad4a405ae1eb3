// SPDX-License-Identifier: Apache-2.0
//! Insertion of a connection after a verdict, within the quotas of its attachment; and new verdicts on those
//! that are there.

use super::super::answer::{Answer, Inserted, Opening, Refusal};
use super::super::key::{Key, Probe};
use super::super::outcome::Outcome;
use super::super::pairs::{Pair, Paths};
use super::super::phase::{End, Phase};
use super::super::pseudo::opening;
use super::super::tcp::{Bounds, Segment, Tracking};
use super::cold::{Cold, Place};
use super::line::{Line, StateByte, WAYS};
use super::owners::Class;
use super::{Removal, SOURCES, Shared, Table};

/// Beginning of a connection that is to be inserted.
struct Beginning {
    phase: Phase,
    /// End that has sent the frame.
    from: End,
    /// Bounds, if windows are to be kept.
    bounds: Option<Bounds>,
}

impl<L: Line> Table<L> {
    /// Inserts the connection that a frame opens. If it is there by now the frame is looked up instead.
    pub(crate) fn insert(
        &mut self,
        shared: &mut Shared,
        probe: &Probe<L::Key>,
        segment: &Segment,
        opens: &Opening,
    ) -> Inserted {
        if self.find(&shared.pairs, &probe.key).is_some() {
            match self.lookup_one(shared, probe, segment) {
                // It made way: for a new one, or because its time was over.
                Answer::New => {}
                answer => return Inserted::Found(answer),
            }
        }
        let dst_port = probe.key.port(probe.from_lesser);
        let Ok(phase) = opening(probe.key.proto(), dst_port, probe.event) else {
            return refuse(shared, Refusal::OpensNothing);
        };
        let is_windowed = phase == Phase::SynSent && opens.tracking != Tracking::Flags;
        let strict = opens.tracking == Tracking::Strict;
        let beginning = Beginning {
            phase,
            from: End::Opener,
            bounds: is_windowed.then(|| Bounds::of_syn(segment, strict)),
        };
        self.begin(shared, probe, opens, beginning)
    }

    /// Inserts the connection of a TCP frame whose beginning was not seen. `from` is taken for its sender;
    /// `confirmed`: the frame itself shows that the pod takes part.
    pub(crate) fn pick_up(
        &mut self,
        shared: &mut Shared,
        probe: &Probe<L::Key>,
        segment: &Segment,
        opens: &Opening,
        from: End,
        confirmed: bool,
    ) -> Inserted {
        let phase = match (confirmed, from) {
            (true, _) => Phase::Established,
            (false, End::Opener) => Phase::PickedUpByOpener,
            (false, End::Responder) => Phase::PickedUpByResponder,
        };
        // What it may do at the very first: neither a SYN nor an RST picks anything up.
        let is_plain = matches!(
            by_flags_of(phase, from, probe),
            Outcome::Pass { next, .. } if next == phase
        );
        if !is_plain || probe.key.proto() != sluice_packet::IpProto::TCP {
            return refuse(shared, Refusal::OpensNothing);
        }
        if self.find(&shared.pairs, &probe.key).is_some() {
            return Inserted::Found(self.lookup_one(shared, probe, segment));
        }
        let is_windowed = opens.tracking != Tracking::Flags;
        let strict = opens.tracking == Tracking::Strict;
        let beginning = Beginning {
            phase,
            from,
            bounds: is_windowed.then(|| Bounds::picked_up(from, segment, strict)),
        };
        self.begin(shared, probe, opens, beginning)
    }

    fn begin(
        &mut self,
        shared: &mut Shared,
        probe: &Probe<L::Key>,
        opens: &Opening,
        beginning: Beginning,
    ) -> Inserted {
        let scope = probe.key.scope();
        let owner = scope.attachment();
        if owner >= self.owners.len() {
            return refuse(shared, Refusal::NoOwner);
        }
        if self.lines.is_empty() {
            return refuse(shared, Refusal::NoPlace);
        }
        // On its way while room is made and the paths are interned.
        let lines = self.lines_of(&probe.key);
        self.windows.prefetch(lines[0]);
        self.cold.prefetch(Self::place(lines[0], 0) as usize);
        self.cold.prefetch(Self::place(lines[0], WAYS - 1) as usize);
        let class = Class::of(beginning.phase, opens.rederivable, false);
        let opened_by_lesser = probe.from_lesser == (beginning.from == End::Opener);
        let source = if opens.from_pod {
            Cold::NO_SOURCE
        } else {
            self.source(owner, &probe.key, opened_by_lesser)
        };
        if let Err(reason) = self.make_room(shared, owner, class, source) {
            return refuse(shared, reason);
        }
        let Some(pair) = shared.pairs.intern(scope, shared.generation, &opens.paths) else {
            return refuse(shared, Refusal::NoPair);
        };
        let mut place = self.make_place(shared, lines);
        if place.is_none() && self.give_up_in(shared, owner, lines) {
            place = self.make_place(shared, lines);
        }
        let Some(place) = place else {
            shared.pairs.release(pair);
            return refuse(shared, Refusal::NoPlace);
        };
        let is_windowed = beginning.bounds.is_some();
        let state = StateByte::new(beginning.phase, opened_by_lesser, is_windowed);
        let (line, way) = Self::at(place);
        if let Some(bounds) = &beginning.bounds {
            self.windows[line].store(way, bounds);
        }
        let now16 = self.now16();
        let line = &mut self.lines[line];
        line.set_key(way, &probe.key);
        let ways = line.ways_mut();
        (ways.pair[way], ways.seen[way], ways.state[way]) = (pair.0, now16, state);
        self.cold[place as usize] = Cold::new(owner, source, opens.from_pod, opens.rederivable);
        if let Some(count) = self.sources.get_mut(usize::from(source)) {
            *count += 1;
        }
        self.owners.append(&mut self.cold, place, class);
        let due = self.now.plus(self.limit(place).max(1));
        self.wheel.schedule(&mut self.cold, place, due);
        self.len += 1;
        self.windowed += usize::from(is_windowed);
        shared.counts.opened += 1;
        shared
            .pairs
            .count(pair.0, beginning.from.index(), probe.bytes);
        Inserted::Opened { pair }
    }

    /// Bucket in which the connections of a remote source are counted.
    fn source(&self, owner: usize, key: &L::Key, opened_by_lesser: bool) -> u16 {
        let [a, b] = key.source_words(!opened_by_lesser);
        let hash = self.hasher.of_words(&[a, b, owner as u64]);
        u16::try_from(hash >> 32 & (SOURCES as u64 - 1)).unwrap_or(0)
    }

    /// Makes room for a connection of `class` within the quotas of its owner.
    fn make_room(
        &mut self,
        shared: &mut Shared,
        owner: usize,
        class: Class,
        source: u16,
    ) -> Result<(), Refusal> {
        const EMBRYONIC: [Class; 2] = [Class::RederivableEmbryonic, Class::Embryonic];
        const ONE_WAY: [Class; 2] = [Class::RederivableOneWay, Class::OneWay];
        let quotas = self.owners.quotas(owner);
        let of_source = self.sources.get(usize::from(source)).copied();
        if of_source.is_some_and(|count| count >= quotas.per_source) {
            return Err(Refusal::SourceQuota);
        }
        if EMBRYONIC.contains(&class) && self.owners.count(owner, &EMBRYONIC) >= quotas.embryonic {
            if class == Class::RederivableEmbryonic {
                return Err(Refusal::EmbryonicQuota);
            }
            self.evict(shared, owner, &EMBRYONIC, Refusal::EmbryonicQuota)?;
        }
        if ONE_WAY.contains(&class) && self.owners.count(owner, &ONE_WAY) >= quotas.one_way {
            self.evict(shared, owner, &ONE_WAY, Refusal::OneWayQuota)?;
        }
        if self.owners.total(owner) >= quotas.all {
            self.evict(shared, owner, &Class::EVICTED, Refusal::Quota)?;
        }
        Ok(())
    }

    /// Gives up the oldest connection of an owner in the first of these classes that it has any in.
    fn evict(
        &mut self,
        shared: &mut Shared,
        owner: usize,
        classes: &[Class],
        reason: Refusal,
    ) -> Result<(), Refusal> {
        let (place, class) = self.owners.oldest(owner, classes).ok_or(reason)?;
        self.remove(shared, place, Removal::Evicted(class));
        Ok(())
    }

    /// Gives a stale connection the paths of the rules as they are now: it lives on. `None` if it is gone, or if there
    /// is no room for its paths; then it stays stale.
    pub(crate) fn revalidate(
        &mut self,
        shared: &mut Shared,
        key: &L::Key,
        paths: &Paths,
    ) -> Option<()> {
        let place = self.find(&shared.pairs, key)?;
        let pair = shared.pairs.intern(key.scope(), shared.generation, paths)?;
        self.set_pair(shared, place, pair);
        self.set_revoked(place, false);
        Some(())
    }

    /// Revokes a connection: none of its frames passes any more. `None` if it is gone, or if there is no room for the
    /// paths of what is revoked; then it is taken out.
    pub(crate) fn revoke(&mut self, shared: &mut Shared, key: &L::Key) -> Option<()> {
        let place = self.find(&shared.pairs, key)?;
        let none = Paths::default();
        let Some(pair) = shared.pairs.intern(key.scope(), shared.generation, &none) else {
            self.remove(shared, place, Removal::Ended);
            return None;
        };
        self.set_pair(shared, place, pair);
        self.set_revoked(place, true);
        Some(())
    }

    fn set_pair(&mut self, shared: &mut Shared, place: Place, pair: Pair) {
        let (line, way) = Self::at(place);
        let before = std::mem::replace(&mut self.lines[line].ways_mut().pair[way], pair.0);
        shared.pairs.release(Pair(before));
    }

    fn set_revoked(&mut self, place: Place, revoked: bool) {
        let state = self.state(place).with_revoked(revoked);
        self.set_state(place, state);
    }
}

/// Outcome of a frame that makes a connection in `phase`, by its flags.
fn by_flags_of<K>(phase: Phase, from: End, probe: &Probe<K>) -> Outcome {
    super::super::tcp::by_flags(phase, from, probe.event)
}

#[cold]
fn refuse(shared: &mut Shared, reason: Refusal) -> Inserted {
    shared.counts.refused[reason as usize] += 1;
    Inserted::Refused(reason)
}
