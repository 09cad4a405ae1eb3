// SPDX-License-Identifier: Apache-2.0
//! Any traffic of many conversations: the tracker says what the naive one says.

use proptest::prelude::*;

use crate::connections::naive::{NaiveAnswer, NaiveTracker};
use crate::connections::testing::{Conversation, Dice, pause};
use crate::connections::*;

/// Tracker for a few connections.
fn tracker(capacity: usize, timeouts: Timeouts, now: Tick) -> Tracker {
    let config = Config {
        v4: capacity,
        v6: capacity,
        pairs: 64,
        attachments: 4,
        timeouts,
    };
    Tracker::new(&config, now).unwrap_or_else(|why| panic!("{why}"))
}

fn as_naive(answer: Answer) -> NaiveAnswer {
    match answer {
        Answer::Known { from, is_new, .. } => NaiveAnswer::Known {
            is_reply: from == End::Responder,
            is_new,
        },
        Answer::New => NaiveAnswer::New,
        Answer::Invalid(cause) => NaiveAnswer::Invalid(cause),
        Answer::Stale { .. } | Answer::Revoked => panic!("{answer:?}"),
    }
}

/// Looks a frame up alone, or as a burst.
fn ask(fast: &mut Tracker, now: Tick, frame: &TrackedFrame, as_burst: bool) -> Answer {
    let mut answer = [Answer::Revoked];
    if let Some(probe) = Probe::<V4Key>::of(frame)
        && as_burst
    {
        fast.lookup_v4(now, &[probe], &[frame.segment], &mut answer);
    } else if let Some(probe) = Probe::<V6Key>::of(frame)
        && as_burst
    {
        fast.lookup_v6(now, &[probe], &[frame.segment], &mut answer);
    } else {
        return fast.lookup(now, frame);
    }
    answer[0]
}

fn opening(tracking: Tracking, n: usize) -> Opening {
    let path = |destination| Path {
        destination,
        rules: [u32::try_from(n % 3).unwrap_or(0); 4],
    };
    Opening {
        paths: Paths {
            opener: path(1),
            responder: path(2),
        },
        tracking,
        from_pod: n.is_multiple_of(2),
        rederivable: n % 2 == 1,
    }
}

/// Runs conversations side by side through both trackers. `expires`: whether housekeeping is called as it should.
fn side_by_side(seed: u64, conversations: usize, turns: usize, expires: bool) {
    let mut dice = Dice(seed);
    let trackings = [Tracking::Strict, Tracking::Window, Tracking::Flags];
    let mut now = Tick(dice.pick(&[0, 65_000, u32::MAX - 70_000]));
    let mut timeouts = Timeouts::default();
    // Data that is not acknowledged shortens the time of a connection without the wheel's knowing: a lookup sees it at
    // once, housekeeping within a turn.
    let is_exact = dice.one_in(2);
    if is_exact {
        timeouts.unanswered = timeouts.established;
    }
    let mut fast = tracker(2 * conversations + 16, timeouts, now);
    let mut naive = NaiveTracker::new(timeouts);
    let mut all: Vec<_> = (0..conversations)
        .map(|n| Conversation::new(n, &mut dice))
        .collect();
    for turn in 0..turns {
        now = now.plus(pause(&mut dice));
        if expires {
            while !fast.expire(now, 7) {}
            let (kept, alive) = (fast.len(), naive.len(now));
            let agree = kept == alive || !is_exact && kept > alive;
            assert!(agree, "seed {seed}, turn {turn}: {kept} and {alive}");
        }
        let n = dice.below(conversations);
        let Some(frame) = all[n].turn(&mut dice) else {
            continue;
        };
        let tracking = trackings[n % 3];
        let expected = naive.look(now, &frame);
        let answer = as_naive(ask(&mut fast, now, &frame, dice.one_in(2)));
        assert_eq!(answer, expected, "seed {seed}, turn {turn}, {frame:?}");
        let is_plain = matches!(frame.event, Event::Ack | Event::Fin);
        if answer == NaiveAnswer::New && !dice.one_in(10) {
            let inserted = fast.insert(now, &frame, &opening(tracking, n));
            assert!(matches!(inserted, Inserted::Opened { .. }), "{inserted:?}");
            naive.open(now, &frame, tracking);
        } else if answer == NaiveAnswer::Invalid(Cause::NoConnection)
            && is_plain
            && frame.proto == 6
            && dice.one_in(4)
        {
            let by_opener = dice.one_in(2);
            let sender = if by_opener {
                End::Opener
            } else {
                End::Responder
            };
            let inserted = fast.pick_up(now, &frame, &opening(tracking, n), sender, false);
            assert!(matches!(inserted, Inserted::Opened { .. }), "{inserted:?}");
            naive.pick_up(now, &frame, by_opener, tracking);
        }
    }
    assert!(fast.counts().opened > 0);
    while !fast.remove_attachment(0, 3) || !fast.remove_attachment(1, 3) {}
    assert!(fast.is_empty());
    fast.sweep_pairs(64, |_, _| {});
    assert_eq!(fast.pairs(), 0, "every pair was released");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn many_conversations(seed: u64) {
        side_by_side(seed, 48, 3000, true);
    }

    #[test]
    fn even_if_nobody_keeps_house(seed: u64) {
        side_by_side(seed, 24, 2000, false);
    }
}
