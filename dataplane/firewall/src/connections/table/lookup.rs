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
            if *way == 0 && first.ways().over != 0 {
                self.lines.prefetch(lines[1]);
                if has_windows {
                    self.windows.prefetch(lines[1]);
                }
            }
        }
        let frames = probes.iter().zip(segments).zip(answers);
        for (((probe, segment), answer), (lines, way)) in frames.zip(lines.iter().zip(ways)) {
            // A way that was found is still its key's, unless a frame before this one has ended it.
            let hint = (way as usize >> 1).min(WAYS - 1);
            let found = match self.lines.get(lines[0]) {
                Some(line) if L::HAS_SCOPE && way != 0 && line.is_of_key(hint, &probe.key) => {
                    Some((lines[0], hint))
                }
                _ => self.find_in(&shared.pairs, &probe.key, *lines),
            };
            *answer = self.look(shared, found, probe, segment);
        }
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

    #[inline(always)]
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

    /// Judges a segment by the bounds of its connection.
    #[inline(always)]
    fn judge_windows(
        &mut self,
        line: usize,
        way: usize,
        phase: Phase,
        from: End,
        event: Event,
        segment: &Segment,
    ) -> Outcome {
        let Some(windows) = self.windows.get_mut(line) else {
            return Outcome::Untouched;
        };
        if phase == Phase::Established && event == Event::Ack {
            let mut bounds = windows.load_of(way, from);
            let outcome = judge_ack(segment, &mut bounds);
            windows.store_ack(way, from, &bounds);
            return outcome;
        }
        self.judge_rare(line, way, phase, from, event, segment)
    }

    /// Judges what is no ACK of an established connection. The SYN in the cold part is looked at if it may matter.
    #[inline(never)]
    fn judge_rare(
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
