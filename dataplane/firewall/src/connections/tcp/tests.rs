// SPDX-License-Identifier: Apache-2.0
//! Cases of TCP one by one, and random ones beside the naive tracker.

use std::collections::HashSet;

use proptest::prelude::*;
use sluice_packet::IpProto;

use super::*;
use crate::connections::event::Event;
use crate::connections::naive::{NaiveAnswer, NaiveTracker};
use crate::connections::outcome::{Cause, Outcome};
use crate::connections::phase::{End, Phase};
use crate::connections::testing::{Conversation, Dice, pause, segment};
use crate::connections::timeouts::{Tick, Timeouts};

use Event::{Ack, Fin, Rst, Syn, SynAck};

/// Connection as a table would keep it.
struct One {
    phase: Phase,
    tracking: Tracking,
    bounds: Bounds,
    syn: Option<SynSeen>,
}

/// Initial sequence numbers of the two ends.
const ISN: [u32; 2] = [1_000_000, 5_000_000];

impl One {
    fn opened(tracking: Tracking, syn: &Segment) -> One {
        One {
            phase: Phase::SynSent,
            tracking,
            bounds: Bounds::of_syn(syn, tracking == Tracking::Strict),
            syn: None,
        }
    }

    /// Opens with a window of 1,000 and, if asked for, a scale of 3 in both SYNs.
    fn new(tracking: Tracking, scale: Option<u8>) -> One {
        let mut syn = segment(Syn, ISN[0], 0, 1000, 0);
        (syn.scale, syn.sack_permitted) = (scale, true);
        One::opened(tracking, &syn)
    }

    fn established(tracking: Tracking, scale: Option<u8>) -> One {
        let mut one = One::new(tracking, scale);
        let mut answer = segment(SynAck, ISN[1], ISN[0] + 1, 1000, 0);
        (answer.scale, answer.sack_permitted) = (scale, true);
        assert_eq!(
            one.take(End::Responder, SynAck, &answer),
            on(Phase::SynReceived)
        );
        assert_eq!(one.opener(Ack, 1, 1, 0), on(Phase::Established));
        one
    }

    fn take(&mut self, from: End, event: Event, segment: &Segment) -> Outcome {
        let outcome = if self.tracking == Tracking::Flags {
            by_flags(self.phase, from, event)
        } else {
            let (bounds, syn) = (&mut self.bounds, &mut self.syn);
            judge(self.phase, from, event, segment, bounds, syn)
        };
        if let Outcome::Pass { next, .. } = outcome {
            self.phase = next;
        }
        outcome
    }

    /// Frame of the opener, with numbers from the initial ones on and a window of 1,000.
    fn opener(&mut self, event: Event, seq: u32, ack: u32, data: u32) -> Outcome {
        let segment = segment(
            event,
            ISN[0].wrapping_add(seq),
            ISN[1].wrapping_add(ack),
            1000,
            data,
        );
        self.take(End::Opener, event, &segment)
    }

    /// Frame of the responder, likewise.
    fn responder(&mut self, event: Event, seq: u32, ack: u32, data: u32) -> Outcome {
        let segment = segment(
            event,
            ISN[1].wrapping_add(seq),
            ISN[0].wrapping_add(ack),
            1000,
            data,
        );
        self.take(End::Responder, event, &segment)
    }
}

fn on(next: Phase) -> Outcome {
    Outcome::Pass { next, renew: true }
}

fn still(next: Phase) -> Outcome {
    Outcome::Pass { next, renew: false }
}

fn invalid(cause: Cause) -> Outcome {
    Outcome::Invalid(cause)
}

const ALL: [Tracking; 3] = [Tracking::Strict, Tracking::Window, Tracking::Flags];
const WITH_WINDOWS: [Tracking; 2] = [Tracking::Strict, Tracking::Window];

#[test]
fn a_connection_from_first_to_last() {
    for tracking in ALL {
        let mut one = One::established(tracking, Some(3));
        assert_eq!(one.opener(Ack, 1, 1, 100), on(Phase::Established));
        assert_eq!(one.responder(Ack, 1, 101, 100), on(Phase::Established));
        assert_eq!(one.opener(Fin, 101, 101, 0), on(Phase::OpenerClosed));
        assert_eq!(one.responder(Ack, 101, 102, 100), on(Phase::OpenerClosed));
        assert_eq!(one.responder(Fin, 201, 102, 0), on(Phase::LastAck));
        assert_eq!(one.opener(Ack, 102, 202, 0), on(Phase::TimeWait));
        assert_eq!(
            one.responder(Fin, 201, 102, 0),
            on(Phase::TimeWait),
            "lost ACK"
        );
        assert_eq!(one.opener(Ack, 102, 202, 0), still(Phase::TimeWait));
        assert_eq!(one.opener(Syn, 500_000, 0, 0), Outcome::Reopens);
    }
}

#[test]
fn syn_and_syn_ack_in_turns_never_establish_nor_renew() {
    for tracking in ALL {
        let mut one = One::new(tracking, None);
        assert_eq!(one.responder(SynAck, 0, 1, 0), on(Phase::SynReceived));
        for _ in 0..10 {
            for outcome in [one.opener(Syn, 0, 0, 0), one.responder(SynAck, 0, 1, 0)] {
                let stays = [Outcome::Untouched, still(Phase::SynReceived)];
                assert!(stays.contains(&outcome), "{outcome:?}");
            }
        }
        assert_eq!(one.phase, Phase::SynReceived);
    }
}

#[test]
fn the_openers_syn_again_starts_anew_without_time() {
    for tracking in WITH_WINDOWS {
        let mut one = One::new(tracking, Some(3));
        assert_eq!(one.opener(Syn, 77_000, 0, 0), still(Phase::SynSent));
        let old = one.responder(SynAck, 0, 1, 0);
        assert_eq!(old, invalid(Cause::AckOver), "answer to the SYN before");
        assert_eq!(one.responder(SynAck, 0, 77_001, 0), on(Phase::SynReceived));
    }
}

#[test]
fn an_open_from_both_ends() {
    for tracking in ALL {
        let crossed = || {
            let mut one = One::new(tracking, None);
            assert_eq!(one.responder(Syn, 0, 0, 0), on(Phase::SynCrossed));
            one
        };
        let mut one = crossed();
        assert_eq!(one.opener(SynAck, 0, 1, 0), on(Phase::SynReceived));
        assert_eq!(one.responder(SynAck, 0, 1, 0), Outcome::Untouched);
        assert_eq!(one.opener(Ack, 1, 1, 10), on(Phase::Established));
        let mut one = crossed();
        assert_eq!(one.opener(Ack, 1, 1, 0), on(Phase::Established));
        let mut one = crossed();
        assert_eq!(one.responder(Ack, 1, 1, 0), on(Phase::SynReceived));
        assert_eq!(one.opener(Ack, 1, 1, 0), on(Phase::Established));
    }
}

#[test]
fn a_challenge_ack_to_a_reused_port_passes_and_so_does_its_rst() {
    for tracking in ALL {
        let mut one = One::new(tracking, None);
        assert_eq!(one.responder(Ack, 900, 4242, 0), Outcome::Untouched);
        assert_eq!(one.opener(Rst, 4242, 0, 0), Outcome::Untouched);
        assert_eq!(one.phase, Phase::SynSent);
        assert_eq!(one.responder(SynAck, 0, 1, 0), on(Phase::SynReceived));
    }
}

#[test]
fn only_the_openers_ack_of_the_responders_syn_establishes() {
    for tracking in WITH_WINDOWS {
        let mut one = One::new(tracking, None);
        one.responder(SynAck, 0, 1, 0);
        assert_eq!(
            one.responder(Ack, 1, 1, 500),
            still(Phase::SynReceived),
            "early data"
        );
        assert_eq!(one.opener(Ack, 1, 0, 0), still(Phase::SynReceived));
        assert_eq!(one.opener(Ack, 1, 502, 0), invalid(Cause::AckOver));
        assert_eq!(one.opener(Ack, 1, 1, 0), on(Phase::Established));
    }
    for tracking in ALL {
        let mut one = One::new(tracking, None);
        assert_eq!(one.opener(Ack, 1, 1, 0), invalid(Cause::OutOfPlace));
        assert_eq!(one.opener(Fin, 1, 1, 0), invalid(Cause::OutOfPlace));
        assert_eq!(one.opener(SynAck, 0, 1, 0), invalid(Cause::OutOfPlace));
        assert_eq!(one.responder(Fin, 1, 1, 0), invalid(Cause::OutOfPlace));
    }
}

#[test]
fn data_on_a_syn_counts() {
    let syn = segment(Syn, ISN[0], 0, 1000, 40);
    for (ack, expected) in [
        (41, on(Phase::SynReceived)),
        (1, on(Phase::SynReceived)),
        (42, invalid(Cause::AckOver)),
    ] {
        let mut one = One::opened(Tracking::Window, &syn);
        assert_eq!(one.responder(SynAck, 0, ack, 0), expected);
    }
}

#[test]
fn scales_count_if_both_offer_one_and_never_in_a_syn() {
    for (scale, edge) in [(Some(3), 8000), (None, 1000)] {
        let mut one = One::established(Tracking::Strict, scale);
        // The windows of the SYNs are 1,000 bytes, that of the ACK is 1,000 units.
        assert_eq!(one.responder(Ack, 1 + edge, 1, 1), on(Phase::Established));
        let mut one = One::established(Tracking::Strict, scale);
        let over = one.responder(Ack, 2 + edge, 1, 1);
        assert_eq!(over, invalid(Cause::SeqOver));
        let mut one = One::established(Tracking::Strict, scale);
        assert_eq!(one.opener(Ack, 1001, 1, 1), on(Phase::Established));
    }
    let mut one = One::new(Tracking::Strict, Some(3));
    one.responder(SynAck, 0, 1, 0);
    one.opener(Ack, 1, 1, 0);
    assert_eq!(
        one.responder(Ack, 1002, 1, 1),
        invalid(Cause::SeqOver),
        "one offered"
    );
}

#[test]
fn over_the_edge_by_less_than_a_window_moves_the_end() {
    let mut one = One::established(Tracking::Window, None);
    assert_eq!(one.responder(Ack, 2001, 1, 500), on(Phase::Established));
    assert_eq!(
        one.opener(Ack, 1, 2501, 0),
        on(Phase::Established),
        "its ACK"
    );
    let mut one = One::established(Tracking::Window, None);
    assert_eq!(one.responder(Ack, 2002, 1, 500), invalid(Cause::SeqOver));
    assert_eq!(one.opener(Ack, 1, 2502, 0), invalid(Cause::AckOver));
}

#[test]
fn late_frames_pass_and_touch_nothing() {
    for (tracking, seq, ack) in [
        (Tracking::Window, Outcome::Untouched, Outcome::Untouched),
        (
            Tracking::Strict,
            invalid(Cause::SeqBelow),
            invalid(Cause::AckBelow),
        ),
    ] {
        let mut one = One::established(tracking, Some(3));
        let mut at = 1;
        for _ in 0..20 {
            assert_eq!(one.responder(Ack, at, 1, 8000), on(Phase::Established));
            at += 8000;
            assert_eq!(one.opener(Ack, 1, at, 0), on(Phase::Established));
        }
        assert_eq!(one.responder(Ack, at - 8001, 1, 0), seq, "retransmission");
        assert_eq!(one.responder(Ack, at - 8000, 1, 0), on(Phase::Established));
        assert_eq!(one.opener(Ack, 1, at - 66_001, 0), ack);
        assert_eq!(one.opener(Ack, 1, at - 66_000, 0), on(Phase::Established));
    }
}

#[test]
fn keepalives_and_probes_of_a_closed_window() {
    for tracking in WITH_WINDOWS {
        for data in [0, 1] {
            let mut one = One::established(tracking, None);
            assert_eq!(
                one.responder(Ack, 0, 1, data),
                on(Phase::Established),
                "keepalive"
            );
        }
        // Both windows are 0 from the first SYN on.
        let mut one = One::opened(tracking, &segment(Syn, ISN[0], 0, 0, 0));
        let answer = segment(SynAck, ISN[1], ISN[0] + 1, 0, 0);
        one.take(End::Responder, SynAck, &answer);
        let ack = segment(Ack, ISN[0] + 1, ISN[1] + 1, 0, 0);
        assert_eq!(one.take(End::Opener, Ack, &ack), on(Phase::Established));
        let probe = segment(Ack, ISN[1] + 2, ISN[0] + 1, 0, 1);
        let probe = one.take(End::Responder, Ack, &probe);
        assert_eq!(probe, on(Phase::Established), "a window of 0 counts as 1");
    }
}

#[test]
fn the_right_edge_of_sack_is_what_is_acknowledged() {
    let mut one = One::established(Tracking::Window, None);
    one.opener(Ack, 1, 1, 100);
    let mut ack = segment(Ack, ISN[1] + 1, ISN[0] + 1, 1000, 0);
    ack.sack = ISN[0] + 101;
    assert_eq!(one.take(End::Responder, Ack, &ack), on(Phase::Established));
    ack.sack = ISN[0] + 102;
    assert_eq!(one.take(End::Responder, Ack, &ack), invalid(Cause::AckOver));
    one.bounds.sack = false;
    assert_eq!(
        one.take(End::Responder, Ack, &ack),
        on(Phase::Established),
        "not agreed"
    );
}

#[test]
fn frames_of_segmentation_offload_are_as_long_as_they_are() {
    let mut one = One::established(Tracking::Strict, Some(7));
    assert_eq!(one.opener(Ack, 1, 1, 65_160), on(Phase::Established));
    assert_eq!(one.responder(Ack, 1, 65_161, 0), on(Phase::Established));
}

#[test]
fn an_exact_rst_closes_and_a_near_one_is_doubted() {
    for tracking in WITH_WINDOWS {
        // What the receiver expects, and what is right behind the data sent last.
        for seq in [1, 101] {
            let mut one = One::established(tracking, None);
            one.responder(Ack, 1, 1, 100);
            assert_eq!(one.responder(Rst, seq, 0, 0), on(Phase::Reset));
            assert_eq!(one.responder(Rst, seq, 0, 0), Outcome::Untouched);
            assert_eq!(one.opener(Ack, 1, 101, 0), Outcome::Untouched);
            assert_eq!(one.opener(Syn, 9000, 0, 0), Outcome::Reopens);
        }
        let mut one = One::established(tracking, None);
        let doubted = Phase::EstablishedDoubtedByResponder;
        for seq in [1u32.wrapping_sub(1), 1002, 1 << 31] {
            assert_eq!(
                one.responder(Rst, seq, 0, 0),
                invalid(Cause::RstWindow),
                "{seq}"
            );
        }
        assert_eq!(one.responder(Rst, 1001, 0, 0), on(doubted));
        assert_eq!(
            one.responder(Rst, 2, 0, 0),
            still(doubted),
            "shortened once"
        );
        assert_eq!(
            one.responder(Ack, 1, 1, 10),
            still(doubted),
            "it proves nothing"
        );
        assert_eq!(one.opener(Ack, 1, 11, 0), on(Phase::Established));
        assert_eq!(
            one.opener(Rst, 2, 0, 0),
            on(Phase::EstablishedDoubtedByOpener)
        );
        assert_eq!(one.responder(Ack, 11, 1, 10), on(Phase::Established));
        assert_eq!(one.responder(Rst, 21, 0, 0), on(Phase::Reset));
    }
}

#[test]
fn without_windows_no_rst_ends_anything() {
    let mut one = One::new(Tracking::Flags, None);
    assert_eq!(one.responder(Rst, 0, 1, 0), Outcome::Untouched);
    let mut one = One::established(Tracking::Flags, None);
    let doubted = Phase::EstablishedDoubtedByResponder;
    assert_eq!(one.responder(Rst, 1, 0, 0), on(doubted));
    assert_eq!(one.responder(Rst, 1, 0, 0), still(doubted));
    assert_eq!(one.opener(Ack, 1, 1, 0), on(Phase::Established));
}

#[test]
fn a_refused_syn_is_over_at_once() {
    for tracking in WITH_WINDOWS {
        let rst = |one: &mut One, ack: Option<u32>| {
            let mut rst = segment(Rst, 0, 0, 0, 0);
            rst.has_ack = ack.is_some();
            rst.ack = ack.unwrap_or(0);
            one.take(End::Responder, Rst, &rst)
        };
        let mut one = One::new(tracking, None);
        assert_eq!(rst(&mut one, Some(0)), Outcome::Untouched, "old stacks");
        for forged in [None, Some(ISN[0]), Some(ISN[0] + 2)] {
            assert_eq!(rst(&mut one, forged), invalid(Cause::RstWindow));
        }
        assert_eq!(rst(&mut one, Some(ISN[0] + 1)), Outcome::Ends);
        let mut one = One::new(tracking, None);
        assert_eq!(one.opener(Rst, 1, 0, 0), Outcome::Ends, "given up");
    }
}

#[test]
fn a_half_close_holds_while_the_other_end_sends() {
    for tracking in ALL {
        let mut one = One::established(tracking, None);
        assert_eq!(one.responder(Fin, 1, 1, 0), on(Phase::ResponderClosed));
        for n in 0..100 {
            assert_eq!(
                one.opener(Ack, 1 + 500 * n, 2, 500),
                on(Phase::ResponderClosed)
            );
            let ack = one.responder(Ack, 2, 501 + 500 * n, 0);
            assert_eq!(ack, on(Phase::ResponderClosed));
        }
        assert_eq!(
            one.responder(Fin, 1, 1, 0),
            on(Phase::ResponderClosed),
            "again"
        );
        assert_eq!(one.opener(Fin, 50_001, 2, 0), on(Phase::LastAck));
    }
}

#[test]
fn both_ends_close_at_once_and_the_last_ack_is_the_last() {
    for tracking in WITH_WINDOWS {
        let mut one = One::established(tracking, None);
        one.opener(Fin, 1, 1, 0);
        assert_eq!(one.responder(Fin, 1, 1, 0), on(Phase::LastAck));
        assert_eq!(
            one.opener(Ack, 2, 2, 0),
            on(Phase::LastAck),
            "one FIN is open"
        );
        assert_eq!(one.responder(Ack, 2, 2, 0), on(Phase::TimeWait));
    }
}

#[test]
fn a_fin_before_the_data_that_it_covers() {
    for tracking in WITH_WINDOWS {
        let mut one = One::established(tracking, None);
        assert_eq!(one.opener(Fin, 501, 1, 0), on(Phase::OpenerClosed));
        assert_eq!(one.responder(Ack, 1, 1, 0), on(Phase::OpenerClosed));
        assert_eq!(one.opener(Ack, 1, 1, 500), on(Phase::OpenerClosed));
        assert_eq!(one.responder(Fin, 1, 502, 0), on(Phase::LastAck));
        assert_eq!(one.opener(Ack, 502, 2, 0), on(Phase::TimeWait));
    }
}

#[test]
fn a_syn_in_the_midst_passes_and_its_answer_proves_a_new_beginning() {
    for tracking in WITH_WINDOWS {
        let mut one = One::established(tracking, None);
        let before = one.bounds;
        assert_eq!(one.opener(Syn, 900_000, 0, 0), Outcome::Untouched);
        assert_eq!(one.bounds, before);
        assert_eq!(
            one.responder(Ack, 1, 1, 0),
            on(Phase::Established),
            "challenge ACK"
        );
        assert_eq!(one.responder(SynAck, 700_000, 7, 0), Outcome::Untouched);
        assert_eq!(
            one.responder(SynAck, 700_000, 900_001, 0),
            on(Phase::SynReceived)
        );
        assert_eq!(one.opener(Ack, 900_001, 700_001, 0), on(Phase::Established));
        // The other way round the ends change roles: the verdict is not for that.
        let mut one = One::established(tracking, None);
        assert_eq!(one.responder(Syn, 900_000, 0, 0), Outcome::Untouched);
        let answer = one.opener(SynAck, 700_000, 900_001, 0);
        assert_eq!(answer, invalid(Cause::OutOfPlace));
    }
}

#[test]
fn picked_up_until_the_other_end_answers() {
    let first = segment(Ack, 77, 99, 10, 100);
    let pick = || One {
        phase: Phase::PickedUpByResponder,
        tracking: Tracking::Window,
        bounds: Bounds::picked_up(End::Responder, &first, false),
        syn: None,
    };
    let mut one = pick();
    let more = segment(Ack, 177, 99, 10, 100);
    let again = one.take(End::Responder, Ack, &more);
    assert_eq!(again, still(Phase::PickedUpByResponder));
    let answer = segment(Ack, 99, 277, 10, 5);
    assert_eq!(one.take(End::Opener, Ack, &answer), on(Phase::Established));
    let forged = segment(Ack, 277, 105, 10, 0);
    let forged = one.take(End::Responder, Ack, &forged);
    assert_eq!(
        forged,
        invalid(Cause::AckOver),
        "windows are known from now on"
    );
    let mut one = pick();
    let rst = segment(Rst, 99, 0, 0, 0);
    assert_eq!(
        one.take(End::Opener, Rst, &rst),
        Outcome::Ends,
        "nobody is there"
    );
}

/// Phases that were reached and causes that were found.
#[derive(Default)]
struct Coverage {
    phases: HashSet<Phase>,
    causes: HashSet<Cause>,
}

/// Runs a random conversation through one connection and through the naive tracker.
fn beside_the_naive(seed: u64, turns: usize, coverage: &mut Coverage) {
    let mut dice = Dice(seed);
    let tracking = dice.pick(&ALL);
    let times = Timeouts::default();
    let mut conversation = Conversation::new(0, &mut dice);
    let mut naive = NaiveTracker::new(times);
    let (mut one, mut now): (Option<(One, [u8; 16], Tick)>, _) = (None, Tick(0));
    for turn in 0..turns {
        now = now.plus(pause(&mut dice));
        let Some(frame) = conversation.turn(&mut dice) else {
            continue;
        };
        assert_eq!(frame.proto, IpProto::TCP);
        let expected = naive.look(now, &frame);
        if let Some((found, _, seen)) = &one {
            let unanswered = found.phase == Phase::Established
                && tracking != Tracking::Flags
                && found.bounds.is_unanswered();
            let limit = if unanswered {
                times.unanswered_ticks()
            } else {
                times.ticks(found.phase)
            };
            if now.since(*seen) >= limit {
                one = None;
            }
        }
        let opens = frame.event == Syn;
        let none = if opens {
            NaiveAnswer::New
        } else {
            NaiveAnswer::Invalid(Cause::NoConnection)
        };
        let mut answer = none;
        if let Some((found, opener, seen)) = &mut one {
            let is_reply = frame.src != *opener;
            let from = if is_reply {
                End::Responder
            } else {
                End::Opener
            };
            let is_new = !is_reply && found.phase.is_new();
            let known = |is_new| NaiveAnswer::Known { is_reply, is_new };
            let outcome = found.take(from, frame.event, &frame.segment);
            (answer, one) = match outcome {
                Outcome::Pass { renew, .. } => {
                    if renew {
                        *seen = now;
                    }
                    (known(is_new), one)
                }
                Outcome::Untouched => (known(is_new), one),
                Outcome::Ends => (known(false), None),
                Outcome::Reopens => (NaiveAnswer::New, None),
                Outcome::Invalid(cause) => (NaiveAnswer::Invalid(cause), one),
            };
        }
        let phase = one.as_ref().map(|(one, ..)| one.phase);
        assert_eq!(
            answer, expected,
            "seed {seed}, turn {turn}, {phase:?}, {frame:?}"
        );
        coverage.phases.extend(phase);
        if let NaiveAnswer::Invalid(cause) = answer {
            coverage.causes.insert(cause);
        }
        if answer == NaiveAnswer::New && !dice.one_in(10) {
            one = Some((One::opened(tracking, &frame.segment), frame.src, now));
            coverage.phases.insert(Phase::SynSent);
            naive.open(now, &frame, tracking);
        } else if answer == none && dice.one_in(3) && matches!(frame.event, Ack | Fin) {
            let by_opener = dice.one_in(2);
            let (phase, from, opener) = if by_opener {
                (Phase::PickedUpByOpener, End::Opener, frame.src)
            } else {
                (Phase::PickedUpByResponder, End::Responder, frame.dst)
            };
            let strict = tracking == Tracking::Strict;
            let found = One {
                phase,
                tracking,
                bounds: Bounds::picked_up(from, &frame.segment, strict),
                syn: None,
            };
            one = Some((found, opener, now));
            coverage.phases.insert(phase);
            naive.pick_up(now, &frame, by_opener, tracking);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn any_traffic_is_as_the_naive_tracker_says(seed: u64) {
        beside_the_naive(seed, 300, &mut Coverage::default());
    }
}

#[test]
fn that_traffic_reaches_every_phase_and_every_cause() {
    let mut coverage = Coverage::default();
    for seed in 0..2000 {
        beside_the_naive(seed, 300, &mut coverage);
    }
    for phase in &Phase::ALL[1..=17] {
        assert!(coverage.phases.contains(phase), "{phase:?}");
    }
    let causes = [
        Cause::NoConnection,
        Cause::OutOfPlace,
        Cause::SeqOver,
        Cause::SeqBelow,
        Cause::AckOver,
        Cause::AckBelow,
        Cause::RstWindow,
    ];
    for cause in causes {
        assert!(coverage.causes.contains(&cause), "{cause}");
    }
}
