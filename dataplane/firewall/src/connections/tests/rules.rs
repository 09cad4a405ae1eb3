// SPDX-License-Identifier: Apache-2.0
//! Changes of rules: connections are judged anew as they were opened, and what is revoked stays so.

use super::*;
use Event::{Ack, Data, Syn};

const NOW: Tick = Tick(10);

fn udp(client: u16) -> TrackedFrame {
    port(testing::frame(17, Data), client)
}

#[test]
fn each_keeps_its_own_verdict_on_all_frames_after_a_change() {
    // githedgehog/dataplane#1694; ovs-dev 105447: a blocked connection passed on every second frame.
    let mut tracker = tracker();
    establish(&mut tracker, NOW, 40_000, &BY_POD);
    establish(&mut tracker, NOW, 40_001, &BY_REMOTE);
    tracker.set_generation(1);
    let kept = tcp_back(Ack, 501, 101, 0);
    let revoked = port(tcp(Ack, 101, 501, 0), 40_001);
    for (frame, from) in [(&kept, End::Responder), (&revoked, End::Opener)] {
        let stale = Answer::Stale {
            from,
            was_revoked: false,
        };
        assert_eq!(tracker.lookup(NOW, frame), stale);
        assert_eq!(
            tracker.lookup(NOW, frame),
            stale,
            "it asks until it is answered"
        );
        assert_eq!(stale.state(), None);
    }
    let answer = tracker.revalidate(NOW, &kept, &paths(70));
    let Answer::Known { pair, from, .. } = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(tracker.path(pair, from).destination, 71);
    tracker.revoke(&revoked);
    for n in 0..1000 {
        for frame in [tcp(Ack, 101, 501, 0), tcp_back(Ack, 501, 101, 0)] {
            assert!(passes(&mut tracker, NOW, &frame), "{n}");
            let other = tracker.lookup(NOW, &port(frame, 40_001));
            assert_eq!(other, Answer::Revoked, "{n}");
        }
    }
}

#[test]
fn what_is_revoked_stays_so_until_newer_rules_say_otherwise_and_is_not_kept_alive() {
    let mut tracker = tracker();
    open(&mut tracker, NOW, &udp(1), &BY_POD);
    tracker.set_generation(1);
    tracker.revoke(&udp(1));
    for second in 0..59 {
        let now = NOW.plus_seconds(second);
        assert!(tracker.expire(now, 10));
        assert_eq!(tracker.lookup(now, &udp(1)), Answer::Revoked);
    }
    // Rules that change without letting it in again.
    tracker.set_generation(2);
    let now = NOW.plus_seconds(59);
    let stale = Answer::Stale {
        from: End::Opener,
        was_revoked: true,
    };
    assert_eq!(tracker.lookup(now, &udp(1)), stale);
    tracker.revoke(&udp(1));
    assert_eq!(tracker.lookup(now, &udp(1)), Answer::Revoked);
    tracker.set_generation(3);
    let lives_on = tracker.revalidate(now, &udp(1), &paths(5));
    assert!(matches!(lives_on, Answer::Known { .. }));
    tracker.set_generation(4);
    tracker.revoke(&udp(1));
    assert!(tracker.expire(now.plus_seconds(60), 10));
    assert!(tracker.is_empty());
}

#[test]
fn revoked_tcp_is_no_reason_to_pick_anything_up() {
    let mut tracker = tracker();
    establish(&mut tracker, NOW, 40_000, &BY_POD);
    tracker.set_generation(1);
    tracker.revoke(&tcp(Ack, 101, 501, 0));
    let back = tcp_back(Ack, 501, 101, 10);
    let picked = tracker.pick_up(NOW, &back, &BY_POD, End::Responder, false);
    assert_eq!(picked, Inserted::Found(Answer::Revoked));
    let again = tracker.insert(NOW, &tcp(Syn, 9, 0, 0), &BY_POD);
    assert_eq!(again, Inserted::Found(Answer::Revoked));
}

#[test]
fn a_second_datagram_of_the_burst_finds_what_the_first_has_opened() {
    let mut tracker = tracker();
    let frames = [udp(1), udp(1), udp(2)];
    let probes = frames.map(|frame| Probe::<V4Key>::of(&frame).unwrap());
    let mut answers = [Answer::Revoked; 3];
    let segments = frames.map(|frame| frame.segment);
    tracker.lookup_v4(NOW, &probes, &segments, &mut answers);
    assert_eq!(answers, [Answer::New; 3]);
    let inserted = frames.map(|frame| tracker.insert(NOW, &frame, &BY_POD));
    assert!(matches!(
        inserted,
        [
            Inserted::Opened { .. },
            Inserted::Found(Answer::Known { .. }),
            Inserted::Opened { .. }
        ]
    ));
    assert_eq!(tracker.len(), 2);
    tracker.lookup_v4(NOW, &probes, &segments, &mut answers);
    for answer in answers {
        assert_eq!(answer.state(), Some(ConnectionState::New));
    }
    let mut counted = 0;
    tracker.sweep_pairs(64, |path, counts| {
        assert_eq!(*path, BY_POD.paths.opener);
        counted += counts.frames;
    });
    assert_eq!(counted, 6);
}

#[test]
fn bursts_of_any_length_are_answered_as_one_by_one() {
    let mut tracker = tracker();
    for n in 0..150 {
        let opens = if n % 2 == 0 { BY_POD } else { BY_REMOTE };
        establish(&mut tracker, NOW, 1000 + n, &opens);
    }
    let frames: Vec<_> = (0..300u16)
        .map(|n| port(tcp(Ack, 101, 501, 0), 1000 + n * 7 % 300))
        .collect();
    let probes: Vec<_> = frames.iter().filter_map(Probe::<V4Key>::of).collect();
    let segments: Vec<_> = frames.iter().map(|frame| frame.segment).collect();
    for length in [0, 1, 63, 64, 65, 128, 300] {
        let mut answers = vec![Answer::Revoked; length];
        let (probes, segments) = (&probes[..length], &segments[..length]);
        tracker.lookup_v4(NOW, probes, segments, &mut answers);
        for (answer, frame) in answers.iter().zip(&frames) {
            assert_eq!(*answer, tracker.lookup(NOW, frame));
        }
    }
}

#[test]
fn without_room_for_paths_nothing_passes_unasked() {
    let config = Config {
        v4: 100,
        v6: 0,
        pairs: 1,
        attachments: 16,
        timeouts: Timeouts::default(),
    };
    let mut tracker = Tracker::new(&config, NOW).unwrap();
    open(&mut tracker, NOW, &udp(1), &BY_POD);
    let other = Opening {
        paths: paths(9),
        ..BY_POD
    };
    let refused = tracker.insert(NOW, &udp(2), &other);
    assert_eq!(refused, Inserted::Refused(Refusal::NoPair));
    tracker.set_generation(1);
    let answer = tracker.revalidate(NOW, &udp(1), &paths(9));
    assert!(matches!(answer, Answer::Stale { .. }), "{answer:?}");
    tracker.revoke(&udp(1));
    assert!(tracker.is_empty(), "revoked, if need be by its end");
    let v6 = TrackedFrame {
        is_v6: true,
        ..udp(1)
    };
    let refused = tracker.insert(NOW, &v6, &BY_POD);
    assert_eq!(refused, Inserted::Refused(Refusal::NoPlace));
}
