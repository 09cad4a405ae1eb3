// SPDX-License-Identifier: Apache-2.0
//! Reports of other trackers' faults, each with the right answer.

use sluice_packet::build::FrameBuilder;
use sluice_packet::{InnerTag, Mac, parse};

use super::*;
use Event::{Ack, Fin, Syn, SynAck};

fn seconds(n: u32) -> Tick {
    Tick(0).plus_seconds(n)
}

#[test]
fn a_denied_syn_leaves_nothing() {
    // antrea-io/antrea#219: the retransmission of a denied SYN was taken for established.
    let mut tracker = tracker();
    for second in [0, 1, 3] {
        let answer = tracker.lookup(seconds(second), &tcp(Syn, 100, 0, 0));
        assert_eq!(answer, Answer::New);
        assert_eq!(answer.state(), Some(ConnectionState::New));
        assert!(tracker.is_empty());
    }
}

#[test]
fn syn_and_syn_ack_in_turns_are_gone_after_a_minute() {
    // ironcore-dev/dpservice#628: they made entries of 24 hours, until the table was full.
    for tracking in [Tracking::Strict, Tracking::Window, Tracking::Flags] {
        let mut tracker = tracker();
        let opens = Opening {
            tracking,
            ..BY_REMOTE
        };
        open(&mut tracker, seconds(0), &tcp(Syn, 100, 0, 0), &opens);
        for second in 0..10 {
            assert!(passes(
                &mut tracker,
                seconds(second),
                &tcp_back(SynAck, 500, 101, 0)
            ));
            assert!(passes(&mut tracker, seconds(second), &tcp(Syn, 100, 0, 0)));
        }
        assert!(tracker.expire(seconds(59), 1000));
        assert_eq!(tracker.len(), 1);
        assert!(tracker.expire(seconds(60), 1000));
        assert!(tracker.is_empty());
    }
}

/// Closes an established connection, by the opener first or by the responder.
fn close(tracker: &mut Tracker, now: Tick, by_opener: bool) {
    let frames = if by_opener {
        [
            tcp(Fin, 101, 501, 0),
            tcp_back(Fin, 501, 102, 0),
            tcp(Ack, 102, 502, 0),
        ]
    } else {
        [
            tcp_back(Fin, 501, 101, 0),
            tcp(Fin, 101, 502, 0),
            tcp_back(Ack, 502, 102, 0),
        ]
    };
    for frame in frames {
        assert!(passes(tracker, now, &frame));
    }
}

#[test]
fn the_same_ports_again_are_a_new_connection_by_the_rules_of_now() {
    // openzro/openzro#196, projectcalico/calico#5308, cilium/cilium#32614.
    for by_opener in [true, false] {
        let mut tracker = tracker();
        establish(&mut tracker, seconds(0), 40_000, &BY_POD);
        close(&mut tracker, seconds(10), by_opener);
        let syn = tcp(Syn, 9000, 0, 0);
        open(&mut tracker, seconds(11), &syn, &BY_POD);
        assert!(passes(
            &mut tracker,
            seconds(11),
            &tcp_back(SynAck, 7000, 9001, 0)
        ));
        assert!(passes(&mut tracker, seconds(11), &tcp(Ack, 9001, 7001, 0)));
        // Its timer is not what TIME_WAIT has left.
        assert!(tracker.expire(seconds(3000), 1000));
        assert!(passes(
            &mut tracker,
            seconds(3000),
            &tcp(Ack, 9001, 7001, 5)
        ));

        // The same where the policy denies by now: nothing of the old one lets the answer in.
        let mut tracker = super::tracker();
        establish(&mut tracker, seconds(0), 40_000, &BY_POD);
        close(&mut tracker, seconds(10), by_opener);
        assert_eq!(tracker.lookup(seconds(11), &syn), Answer::New);
        let answer = tracker.lookup(seconds(11), &tcp_back(SynAck, 7000, 9001, 0));
        assert_eq!(answer, Answer::Invalid(Cause::NoConnection));
        assert_eq!(answer.state(), Some(ConnectionState::Invalid));
    }
}

#[test]
fn a_datagram_of_eight_bytes_opens_and_is_answered() {
    // FDio/vpp#2029: UDP without data was malformed there.
    let mac = |n| Mac([2, 0, 0, 0, 0, n]);
    let read = |builder: FrameBuilder<'_>| {
        let frame = builder.build();
        let parsed = parse(&frame, InnerTag::Allow).unwrap();
        match TrackedFrame::read(&Layers::of(&frame, &parsed), Scope::new(1, 210)) {
            Reading::Tracked(tracked) => tracked,
            other => panic!("{other:?}"),
        }
    };
    let v4 = |from: u8, to: u8| {
        FrameBuilder::new(mac(to), mac(from)).ipv4([10, 0, 0, from].into(), [10, 0, 0, to].into())
    };
    let v6 = |from: u8, to: u8| {
        let address = |n: u8| format!("fd00::{n}").parse().unwrap();
        FrameBuilder::new(mac(to), mac(from)).ipv6(address(from), address(to))
    };
    let mut tracker = tracker();
    for (there, back) in [
        (
            read(v4(1, 2).udp(5000, 4000)),
            read(v4(2, 1).udp(4000, 5000)),
        ),
        (
            read(v6(1, 2).udp(5000, 4000)),
            read(v6(2, 1).udp(4000, 5000)),
        ),
    ] {
        open(&mut tracker, seconds(0), &there, &BY_POD);
        let answer = tracker.lookup(seconds(1), &back);
        assert_eq!(answer.state(), Some(ConnectionState::Established));
        let stranger = TrackedFrame {
            dst_port: 5001,
            ..back
        };
        assert_eq!(tracker.lookup(seconds(1), &stranger), Answer::New);
    }
}

#[test]
fn a_refused_connection_is_over_at_once() {
    // cilium/cilium#11742, #14097: kept for six hours.
    let mut tracker = tracker();
    open(&mut tracker, seconds(0), &tcp(Syn, 100, 0, 0), &BY_POD);
    let mut rst = tcp_back(Event::Rst, 0, 0, 0);
    rst.segment.has_ack = true;
    (rst.segment.ack, rst.segment.sack) = (101, 101);
    assert!(passes(&mut tracker, seconds(1), &rst));
    assert!(tracker.is_empty());
    assert_eq!(tracker.counts().ended, 1);
}

#[test]
fn a_transfer_into_a_half_closed_connection_is_not_cut() {
    // kubernetes/kubernetes#32551: 60 seconds were too short for it; silence is what ends it.
    let mut tracker = tracker();
    establish(&mut tracker, seconds(0), 40_000, &BY_POD);
    assert!(passes(&mut tracker, seconds(0), &tcp(Fin, 101, 501, 0)));
    for n in 0..100 {
        let now = seconds(n * 600);
        assert!(tracker.expire(now, 1000));
        let data = tcp_back(Ack, 501 + 500 * n, 102, 500);
        assert!(passes(&mut tracker, now, &data), "{n}");
        assert!(passes(&mut tracker, now, &tcp(Ack, 102, 1001 + 500 * n, 0)));
    }
    assert!(tracker.expire(seconds(99 * 600 + 900), 1000));
    assert!(tracker.is_empty());
}

#[test]
fn an_idle_connection_lives_for_a_day_and_no_longer() {
    for with_housekeeping in [true, false] {
        for (end, lives) in [(86_399, true), (86_400, false)] {
            let mut tracker = tracker();
            establish(&mut tracker, seconds(0), 40_000, &BY_POD);
            let mut second = 0;
            while with_housekeeping && second < end {
                assert!(tracker.expire(seconds(second), 1000));
                second += 100;
            }
            assert_eq!(
                passes(&mut tracker, seconds(end), &tcp(Ack, 101, 501, 0)),
                lives
            );
        }
    }
}
