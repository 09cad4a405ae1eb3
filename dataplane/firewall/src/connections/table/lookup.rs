// SPDX-License-Identifier: Apache-2.0
//! Lookup of a burst: hash and prefetch for all, then compare, step and count one by one.

use sluice_mem::BURST;

use super::super::answer::Answer;
use super::super::event::Event;
use super::super::key::{Key, Probe};
use super::super::outcome::{Cause, Outcome};
use super::super::pairs::Pair;
use super::super::phase::{End, Phase};
use super::super::pseudo::{by_event, opening};
use super::super::tcp::{Segment, by_flags, judge, judge_ack};
use super::super::timeouts::Tick;
use super::hash::lines_of;
use super::line::{Line, WAYS};
use super::{Removal, Shared, Table};

/// Outcomes without windows, by phase, end and event.
static OUTCOMES: [[[Outcome; 8]; 2]; Phase::VALUES] = outcomes();

const fn outcomes() -> [[[Outcome; 8]; 2]; Phase::VALUES] {
    let mut table = [[[Outcome::Invalid(Cause::OutOfPlace); 8]; 2]; Phase::VALUES];
    let mut phase = 1;
    while phase < Phase::ALL.len() {
        let mut end = 0;
        while end < 2 {
            let mut event = 0;
            while event < Event::ALL.len() {
                let of = (Phase::ALL[phase], End::BOTH[end], Event::ALL[event]);
                table[phase][end][event] = if phase < Phase::UdpOneWay as usize {
                    by_flags(of.0, of.1, of.2)
                } else {
                    by_event(of.0, of.1, of.2)
                };
                event += 1;
            }
            end += 1;
        }
        phase += 1;
    }
    table
}

/// Set of the ways of a key that is in neither of its lines. No frame of a burst inserts any.
const ABSENT: u32 = 1 << WAYS;
/// Code of an outcome that is not usual: it changes the phase, ends the connection, or is invalid.
const UNUSUAL: u8 = 1;
/// Code: the timer starts again.
const RENEWS: u8 = 2;
/// Code: nothing has come back yet.
const IS_NEW: u8 = 4;

/// Codes of the outcomes, by phase, end and event in nine bits.
static USUAL: [u8; 512] = usual();

const fn usual() -> [u8; 512] {
    let mut codes = [UNUSUAL; 512];
    let outcomes = outcomes();
    let mut index = 16;
    while index < Phase::ALL.len() << 4 {
        let (number, end, event) = (index >> 4, index >> 3 & 1, index & 7);
        let code = match outcomes[number][end][event] {
            Outcome::Pass { next, renew } if next as usize == number => {
                if renew {
                    RENEWS
                } else {
                    0
                }
            }
            Outcome::Untouched => 0,
            _ => UNUSUAL,
        };
        let is_new = end == 0 && Phase::ALL[number].is_new();
        codes[index] = if is_new { code | IS_NEW } else { code };
        index += 1;
    }
    codes
}

impl<L: Line> Table<L> {
    /// Looks up frames, as many as there are `answers`; `segments` are those of the same frames, and are read of TCP
    /// alone where windows are kept.
    pub(crate) fn lookup_burst(
        &mut self,
        shared: &mut Shared,
        now: Tick,
        probes: &[Probe<L::Key>],
        segments: &[Segment],
        answers: &mut [Answer],
    ) {
        self.set_now(now);
        let bursts = probes.chunks(BURST).zip(segments.chunks(BURST));
        for ((probes, segments), answers) in bursts.zip(answers.chunks_mut(BURST)) {
            self.lookup_some(shared, probes, segments, answers);
        }
    }

    fn lookup_some(
        &mut self,
        shared: &mut Shared,
        probes: &[Probe<L::Key>],
        segments: &[Segment],
        answers: &mut [Answer],
    ) {
        let mut lines = [[0; 2]; BURST];
        let has_windows = self.windowed != 0;
        for (lines, probe) in lines.iter_mut().zip(probes) {
            *lines = lines_of(self.hasher.of_key(&probe.key), self.lines.len());
            self.lines.prefetch(lines[0]);
            if has_windows && (probe.event as u8) < Event::Data as u8 {
                self.windows.prefetch(lines[0]);
            }
        }
        let mut ways = [0; BURST];
        for ((way, lines), probe) in ways.iter_mut().zip(&lines).zip(probes) {
            let Some(first) = self.lines.get(lines[0]) else {
                break;
            };
            *way = first.of_key(&probe.key);
            if *way != 0 {
                continue;
            }
            if first.ways().over == 0 {
                *way = ABSENT;
                continue;
            }
            self.lines.prefetch(lines[1]);
            if has_windows {
                self.windows.prefetch(lines[1]);
            }
        }
        let now16 = self.now16();
        let frames = probes.iter().zip(segments).zip(answers);
        for (((probe, segment), answer), (lines, way)) in frames.zip(lines.iter().zip(ways)) {
            let usual = self.look_usual(shared, now16, lines[0], way, probe, segment);
            *answer = match usual {
                Some(answer) => answer,
                None if way == ABSENT => miss(shared, probe),
                None => self.look_anew(shared, *lines, probe, segment),
            };
        }
    }

    /// Looks up a frame that changes nothing but counts, numbers and time, as nearly all do: one of a connection in its
    /// first line, whose phase stays. `found` is the set of the ways that had its key before the burst. `None`, with
    /// nothing touched, of any other frame.
    #[inline(always)]
    fn look_usual(
        &mut self,
        shared: &mut Shared,
        now16: u16,
        line: usize,
        found: u32,
        probe: &Probe<L::Key>,
        segment: &Segment,
    ) -> Option<Answer> {
        let at = line;
        let line = self.lines.get_mut(at)?;
        // The sets of one way are 1, 2 and 4. A frame before this one may have ended the connection.
        let way = (found as usize >> 1).min(WAYS - 1);
        if found == 0 || found == ABSENT || !line.is_of_key(way, &probe.key) {
            return None;
        }
        let ways = line.ways_mut();
        let (state, pair, seen) = (ways.state[way], ways.pair[way], ways.seen[way]);
        let number = usize::from(state.phase_number());
        let is_certain = now16.wrapping_sub(seen) < self.limits.certain[number];
        let from = state.end(probe.from_lesser);
        let path = shared.pairs.path_of(pair, from.index())?;
        let is_its = L::HAS_SCOPE || path.is_of(probe.key.scope());
        if !is_certain || !is_its || state.is_revoked() || !path.is_current(shared.generation) {
            return None;
        }
        let code = if state.is_windowed() {
            if number != Phase::Established as usize || probe.event != Event::Ack {
                return None;
            }
            let windows = self.windows.get_mut(at)?;
            let mut bounds = windows.load_of(way, from);
            let Outcome::Pass { .. } = judge_ack(segment, &mut bounds) else {
                return None;
            };
            windows.store_ack(way, from, &bounds);
            RENEWS
        } else {
            let index = number << 4 | from.index() << 3 | probe.event as usize;
            USUAL[index % USUAL.len()]
        };
        if code & UNUSUAL != 0 {
            return None;
        }
        if code & RENEWS != 0 && seen != now16 {
            ways.seen[way] = now16;
        }
        path.count(probe.bytes);
        Some(Answer::Known {
            pair: Pair(pair),
            from,
            is_new: code & IS_NEW != 0,
        })
    }

    /// Looks up a frame that [`Table::look_usual`] has left alone.
    #[inline(never)]
    fn look_anew(
        &mut self,
        shared: &mut Shared,
        lines: [usize; 2],
        probe: &Probe<L::Key>,
        segment: &Segment,
    ) -> Answer {
        let found = self.find_in(&shared.pairs, &probe.key, lines);
        self.look(shared, found, probe, segment)
    }

    /// Looks up one frame at the time that was set last.
    pub(crate) fn lookup_one(
        &mut self,
        shared: &mut Shared,
        probe: &Probe<L::Key>,
        segment: &Segment,
    ) -> Answer {
        let lines = self.lines_of(&probe.key);
        let found = self.find_in(&shared.pairs, &probe.key, lines);
        self.look(shared, found, probe, segment)
    }

    fn look(
        &mut self,
        shared: &mut Shared,
        found: Option<(usize, usize)>,
        probe: &Probe<L::Key>,
        segment: &Segment,
    ) -> Answer {
        let Some((line, way)) = found else {
            return miss(shared, probe);
        };
        let now16 = self.now16();
        let ways = self.lines[line].ways();
        let (state, pair, seen) = (ways.state[way], ways.pair[way], ways.seen[way]);
        let number = usize::from(state.phase_number());
        if now16.wrapping_sub(seen) >= self.limits.certain[number] {
            let place = Self::place(line, way);
            if self.is_over(place) {
                self.remove(shared, place, Removal::Expired);
                return miss(shared, probe);
            }
        }
        let from = state.end(probe.from_lesser);
        if !shared
            .pairs
            .is_current(pair, from.index(), shared.generation)
        {
            return Answer::Stale {
                from,
                was_revoked: state.is_revoked(),
            };
        }
        if state.is_revoked() {
            return Answer::Revoked;
        }
        let outcome = if state.is_windowed() {
            self.judge_windows(line, way, state.phase(), from, probe.event, segment)
        } else {
            OUTCOMES[number][from.index()][probe.event as usize]
        };
        let mut is_new = from == End::Opener && state.phase().is_new();
        match outcome {
            Outcome::Pass { next, renew } => {
                if renew && seen != now16 {
                    self.lines[line].ways_mut().seen[way] = now16;
                }
                if next as usize != number {
                    self.change_phase(Self::place(line, way), next);
                }
            }
            Outcome::Untouched => {}
            Outcome::Ends => {
                is_new = false;
                self.remove(shared, Self::place(line, way), Removal::Ended);
            }
            Outcome::Reopens => {
                self.remove(shared, Self::place(line, way), Removal::Ended);
                return Answer::New;
            }
            Outcome::Invalid(cause) => {
                shared.invalid(cause);
                return Answer::Invalid(cause);
            }
        }
        shared.pairs.count(pair, from.index(), probe.bytes);
        Answer::Known {
            pair: Pair(pair),
            from,
            is_new,
        }
    }

    /// Judges a segment by the bounds of its connection. The SYN in the cold part is looked at if it may matter.
    fn judge_windows(
        &mut self,
        line: usize,
        way: usize,
        phase: Phase,
        from: End,
        event: Event,
        segment: &Segment,
    ) -> Outcome {
        let mut bounds = self.windows[line].load(way);
        let outcome = if matches!(event, Event::Syn | Event::SynAck) {
            let cold = &mut self.cold[Self::place(line, way) as usize];
            let mut syn = cold.syn();
            let outcome = judge(phase, from, event, segment, &mut bounds, &mut syn);
            cold.set_syn(syn);
            outcome
        } else {
            judge(phase, from, event, segment, &mut bounds, &mut None)
        };
        self.windows[line].store(way, &bounds);
        outcome
    }
}

/// Answer to a frame of no connection.
#[inline(always)]
fn miss<K: Key>(shared: &mut Shared, probe: &Probe<K>) -> Answer {
    let dst_port = probe.key.port(probe.from_lesser);
    match opening(probe.key.proto(), dst_port, probe.event) {
        Ok(_) => Answer::New,
        Err(cause) => {
            shared.invalid(cause);
            Answer::Invalid(cause)
        }
    }
}
