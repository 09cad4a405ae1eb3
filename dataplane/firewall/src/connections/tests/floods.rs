// SPDX-License-Identifier: Apache-2.0
//! Floods, quotas and the order in which connections make room.

use super::*;
use crate::connections::testing::{Dice, address, frame};
use Event::{Ack, Data, Syn, SynAck};

const NOW: Tick = Tick(10);

fn tracker(capacity: usize, quotas: Quotas) -> Tracker {
    let config = Config {
        v4: capacity,
        v6: 0,
        pairs: 64,
        attachments: 16,
        timeouts: Timeouts::default(),
    };
    let mut tracker = Tracker::new(&config, NOW).unwrap();
    (0..16).for_each(|attachment| tracker.set_quotas(attachment, quotas));
    tracker
}

/// SYN from a made-up address to the pod, or from the pod to one.
fn spoofed(dice: &mut Dice, from_pod: bool) -> TrackedFrame {
    let mut syn = tcp(Syn, 100, 0, 0);
    let [a, b, c, d, e, ..] = dice.next().to_le_bytes();
    (syn.src[12], syn.src[13], syn.src[14], syn.src[15]) = (100 + a % 50, b, c, d);
    syn.src_port = u16::from(e);
    if from_pod {
        (syn.src, syn.dst) = (syn.dst, syn.src);
    }
    syn
}

#[test]
fn spoofed_syns_cost_nobody_a_connection_and_real_clients_get_in() {
    let quotas = Quotas {
        all: 20_000,
        embryonic: 1_000,
        ..Quotas::default()
    };
    let mut tracker = tracker(20_000, quotas);
    for client in 0..5_000 {
        establish(&mut tracker, NOW, 1_000 + client, &BY_POD);
        establish(&mut tracker, NOW, 10_000 + client, &BY_REMOTE);
    }
    let mut dice = Dice(1);
    for n in 0..100_000 {
        let syn = spoofed(&mut dice, false);
        if tracker.lookup(NOW, &syn) == Answer::New {
            let inserted = tracker.insert(NOW, &syn, &BY_REMOTE);
            let is_expected = match inserted {
                Inserted::Opened { .. } => n < 1_000 + 50,
                Inserted::Refused(reason) => reason == Refusal::EmbryonicQuota,
                Inserted::Found(_) => true,
            };
            assert!(is_expected, "{n}: {inserted:?}");
        }
    }
    assert_eq!(tracker.of_attachment(1), 11_000);
    assert_eq!(tracker.counts().evicted, [0; Class::COUNT]);
    for client in (1_000..6_000).chain(10_000..15_000) {
        assert!(passes(
            &mut tracker,
            NOW,
            &port(tcp(Ack, 101, 501, 0), client)
        ));
    }
    // A real client: its SYN passes by its rule without an entry, so does the answer, and its ACK makes the entry.
    assert_eq!(tracker.lookup(NOW, &tcp(Syn, 100, 0, 0)), Answer::New);
    let refused = tracker.insert(NOW, &tcp(Syn, 100, 0, 0), &BY_REMOTE);
    assert_eq!(refused, Inserted::Refused(Refusal::EmbryonicQuota));
    let answer = tracker.lookup(NOW, &tcp_back(SynAck, 500, 101, 0));
    assert_eq!(answer, Answer::Invalid(Cause::NoConnection));
    let ack = tcp(Ack, 101, 501, 0);
    let picked = tracker.pick_up(NOW, &ack, &BY_REMOTE, End::Opener, true);
    assert!(matches!(picked, Inserted::Opened { .. }), "{picked:?}");
    assert!(passes(&mut tracker, NOW, &tcp_back(Ack, 501, 101, 900)));
}

#[test]
fn a_pod_that_floods_pushes_out_its_own() {
    let quotas = Quotas {
        all: 3_000,
        embryonic: 1_000,
        ..Quotas::default()
    };
    let mut tracker = tracker(10_000, quotas);
    for client in 0..1_500 {
        establish(&mut tracker, NOW, 1_000 + client, &BY_POD);
    }
    let other = |client: u16| {
        let mut syn = port(tcp(Syn, 100, 0, 0), client);
        syn.scope = Scope::new(2, 210);
        syn
    };
    for client in 0..1_000 {
        open(&mut tracker, NOW, &other(client), &BY_POD);
    }
    let mut dice = Dice(2);
    for _ in 0..100_000 {
        let syn = spoofed(&mut dice, true);
        if tracker.lookup(NOW, &syn) == Answer::New {
            let inserted = tracker.insert(NOW, &syn, &BY_POD);
            assert!(matches!(inserted, Inserted::Opened { .. }), "{inserted:?}");
        }
    }
    assert_eq!(tracker.of_attachment(1), 2_500);
    assert_eq!(
        tracker.of_attachment(2),
        1_000,
        "a neighbour's are untouched"
    );
    assert_eq!(tracker.counts().evicted(Class::Established), 0);
    assert!(tracker.counts().evicted(Class::Embryonic) > 90_000);
    for client in 0..1_500 {
        assert!(passes(
            &mut tracker,
            NOW,
            &port(tcp(Ack, 101, 501, 0), 1_000 + client)
        ));
    }
}

#[test]
fn room_is_made_in_order_and_the_pods_established_never_make_it() {
    let quotas = Quotas {
        all: 6,
        ..Quotas::default()
    };
    let mut tracker = tracker(100, quotas);
    let udp = |client: u16| port(frame(17, Data), client);
    // From the one that is given up last to the one that is given up first, but for the pod's established one.
    establish(&mut tracker, NOW, 1, &BY_POD);
    open(&mut tracker, NOW, &port(tcp(Syn, 100, 0, 0), 2), &BY_POD);
    open(&mut tracker, NOW, &udp(3), &BY_POD);
    open(&mut tracker, NOW, &udp(4), &BY_REMOTE);
    open(&mut tracker, NOW, &port(tcp(Syn, 100, 0, 0), 5), &BY_REMOTE);
    establish(&mut tracker, NOW, 6, &BY_REMOTE);
    assert!(
        passes(&mut tracker, NOW, &port(tcp(Event::Rst, 101, 0, 0), 6)),
        "over"
    );
    let mut order = Vec::new();
    for client in 10..15 {
        let before = tracker.counts().evicted;
        establish_by_insert(&mut tracker, client);
        let after = tracker.counts().evicted;
        order.extend((0..Class::COUNT).filter(|&n| after[n] != before[n]));
    }
    let expected = [
        Class::Closing,
        Class::RederivableEmbryonic,
        Class::RederivableOneWay,
        Class::OneWay,
        Class::Embryonic,
    ];
    assert_eq!(order, expected.map(|class| class as usize));
    let refused = tracker.insert(NOW, &port(tcp(Syn, 100, 0, 0), 20), &BY_POD);
    assert_eq!(refused, Inserted::Refused(Refusal::Quota));
    assert_eq!(tracker.counts().refused(Refusal::Quota), 1);
    assert!(passes(&mut tracker, NOW, &port(tcp(Ack, 101, 501, 0), 1)));
}

fn establish_by_insert(tracker: &mut Tracker, client: u16) {
    establish(tracker, NOW, client, &BY_POD);
}

#[test]
fn a_flood_of_datagrams_has_its_own_quota() {
    let quotas = Quotas {
        all: 10_000,
        one_way: 100,
        ..Quotas::default()
    };
    let mut tracker = tracker(10_000, quotas);
    let answered = frame(17, Data);
    open(&mut tracker, NOW, &answered, &BY_POD);
    assert!(passes(&mut tracker, NOW, &testing::reply(&answered, Data)));
    for client in 0..20_000 {
        let datagram = port(frame(17, Data), client);
        let inserted = tracker.insert(NOW, &datagram, &BY_POD);
        assert!(matches!(inserted, Inserted::Opened { .. }));
    }
    assert_eq!(tracker.of_attachment(1), 101);
    assert!(passes(&mut tracker, NOW, &testing::reply(&answered, Data)));
}

#[test]
fn one_remote_cannot_fill_what_a_pod_has() {
    let quotas = Quotas {
        per_source: 50,
        ..Quotas::default()
    };
    let mut tracker = tracker(10_000, quotas);
    let mut kept = 0;
    for client in 0..1_000 {
        let syn = port(tcp(Syn, 100, 0, 0), client);
        match tracker.insert(NOW, &syn, &BY_REMOTE) {
            Inserted::Opened { .. } => kept += 1,
            other => assert_eq!(other, Inserted::Refused(Refusal::SourceQuota)),
        }
    }
    assert_eq!(kept, 50);
    let mut other = tcp(Syn, 100, 0, 0);
    other.src = address(77, false);
    open(&mut tracker, NOW, &other, &BY_REMOTE);
    // What has ended counts no more; what the pod opens to that remote never does.
    assert!(tracker.expire(NOW.plus_seconds(60), 1_000));
    assert!(tracker.is_empty());
    let later = NOW.plus_seconds(61);
    for client in 0..50 {
        open(
            &mut tracker,
            later,
            &port(tcp(Syn, 100, 0, 0), client),
            &BY_REMOTE,
        );
    }
    let reversed = testing::reply(&tcp(Syn, 100, 0, 0), Syn);
    open(&mut tracker, later, &reversed, &BY_POD);
}

#[test]
fn housekeeping_goes_in_bounded_steps() {
    let mut tracker = tracker(10_000, Quotas::default());
    for client in 0..1_000 {
        open(&mut tracker, NOW, &port(frame(17, Data), client), &BY_POD);
    }
    let late = NOW.plus_seconds(60);
    let mut calls = 0;
    while !tracker.expire(late, 10) {
        calls += 1;
    }
    assert!((90..110).contains(&calls), "{calls}");
    assert!(tracker.is_empty());
    for client in 0..100 {
        open(&mut tracker, late, &port(frame(17, Data), client), &BY_POD);
    }
    assert!(!tracker.remove_attachment(1, 60));
    assert_eq!(tracker.len(), 40);
    assert!(tracker.remove_attachment(1, 60));
    assert_eq!(tracker.counts().removed, 100);
}
