// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use super::*;

const LIMITS: NeighbourLimits = NeighbourLimits {
    known: 100,
    pending: 16,
    waiting: 8,
    waiting_each: 3,
    request_rate: 1_000_000,
    request_burst: 1_000_000,
};

fn address(n: u32) -> IpAddr {
    std::net::Ipv4Addr::from(0x0a15_0000 + n).into()
}

/// Packet from interface `input` to host `n` behind interface 1, whose frame says `n`.
fn packet(input: InterfaceId, n: u32) -> Packet {
    let mut packet = Packet::new(64);
    packet.frame.set(&n.to_be_bytes());
    packet.input = input;
    packet.output = 1;
    packet.next_hop = address(n);
    packet
}

fn number(packet: &Packet) -> u32 {
    u32::from_be_bytes(packet.frame.bytes().try_into().unwrap())
}

const MAC: Mac = Mac([2, 0, 0, 0, 0, 9]);

#[test]
fn packets_wait_in_order_and_leave_with_the_answer() {
    let now = Instant::now();
    let mut all = Neighbours::new(2, 64, LIMITS);
    assert_eq!(all.lookup(1, address(7)), None);
    assert_eq!(all.park(&mut packet(0, 7), now, |_| panic!()), Parked::Ask);
    for _ in 0..2 {
        assert_eq!(
            all.park(&mut packet(0, 7), now, |_| panic!()),
            Parked::Waits
        );
    }
    assert_eq!(all.park(&mut packet(0, 7), now, |_| panic!()), Parked::Full);
    assert_eq!(all.counts().waiting, 3);
    let mut left = 0;
    // A stranger's answer is not taken, that of another interface neither.
    all.learn((1, address(8)), MAC, false, now, |_| panic!());
    all.learn((0, address(7)), MAC, false, now, |_| panic!());
    all.learn((1, address(7)), MAC, false, now, |packet| {
        assert_eq!(number(packet), 7);
        left += 1;
    });
    assert_eq!(left, 3);
    assert_eq!(all.lookup(1, address(7)), Some(MAC));
    let counts = NeighbourCounts {
        known: 1,
        pending: 0,
        waiting: 0,
    };
    assert_eq!(all.counts(), counts);
}

#[test]
fn a_flood_of_unknown_destinations_takes_its_own_share() {
    let now = Instant::now();
    let mut all = Neighbours::new(3, 64, LIMITS);
    assert_eq!(all.park(&mut packet(2, 1), now, |_| panic!()), Parked::Ask);
    let mut displaced = 0;
    for n in 1000..21_000 {
        let parked = all.park(&mut packet(0, n), now, |_| displaced += 1);
        assert_eq!(parked, Parked::Ask);
    }
    let counts = all.counts();
    assert_eq!((counts.pending, counts.waiting), (16 + 1, 8 + 1));
    assert_eq!(displaced, 20_000 - 8);
    // The last of the flood is found, and the packet from the other interface too.
    let mut left = Vec::new();
    all.learn((1, address(20_999)), MAC, false, now, |p| {
        left.push(number(p))
    });
    all.learn((1, address(1)), MAC, false, now, |p| left.push(number(p)));
    assert_eq!(left, [20_999, 1]);
}

#[test]
fn who_does_not_answer_is_asked_three_times() {
    let start = Instant::now();
    let mut all = Neighbours::new(2, 64, LIMITS);
    all.park(&mut packet(0, 7), start, |_| panic!());
    let (mut asked, mut failed) = (0, 0);
    for tenth in 0..50 {
        all.tick(start + RETRANSMIT / 10 * tenth, |due| match due {
            Due::Ask {
                interface: 1,
                mac: None,
                ..
            } => asked += 1,
            Due::Failed(packet) => {
                assert_eq!(number(packet), 7);
                failed += 1;
            }
            other => panic!("{other:?}"),
        });
    }
    assert_eq!((asked, failed), (2, 1));
    assert_eq!(all.counts(), NeighbourCounts::default());
}

#[test]
fn old_answers_are_checked_while_in_use_and_forgotten_when_not() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut all = Neighbours::new(2, 64, LIMITS);
    all.learn((1, address(1)), MAC, true, start, |_| panic!());
    all.learn((1, address(2)), MAC, true, start, |_| panic!());
    let mut asked = Vec::new();
    for seconds in 0..29 {
        all.lookup(1, address(1));
        all.tick(at(seconds), |_| panic!());
    }
    for seconds in 30..32 {
        all.tick(at(seconds), |due| match due {
            Due::Ask {
                address,
                mac: Some(MAC),
                ..
            } => asked.push(address),
            other => panic!("{other:?}"),
        });
        // It stays in use while it is asked.
        assert_eq!(all.lookup(1, address(1)), Some(MAC));
    }
    assert_eq!(asked, [address(1); 2]);
    all.learn((1, address(1)), MAC, false, at(32), |_| panic!());
    all.tick(at(40), |_| panic!());
    // The second never spoke again, and the first is asked in vain.
    all.lookup(1, address(1));
    for seconds in 62..70 {
        all.tick(at(seconds), |_| {});
    }
    assert_eq!(all.lookup(1, address(1)), None);
    all.tick(at(301), |_| panic!());
    assert_eq!(all.counts().known, 0);
}

#[test]
fn the_table_is_bounded_and_keeps_those_in_use() {
    let now = Instant::now();
    let mut all = Neighbours::new(2, 64, LIMITS);
    all.learn((1, address(0)), MAC, true, now, |_| panic!());
    for n in 1..20_000 {
        assert_eq!(all.lookup(1, address(0)), Some(MAC), "{n}");
        all.learn((1, address(n)), MAC, true, now, |_| panic!());
        assert!(all.counts().known <= LIMITS.known);
    }
    assert_eq!(all.lookup(1, address(19_999)), Some(MAC));
}

#[test]
fn requests_are_limited() {
    let now = Instant::now();
    let limits = NeighbourLimits {
        request_rate: 10,
        request_burst: 5,
        ..LIMITS
    };
    let mut all = Neighbours::new(2, 64, limits);
    let asked = (0..100)
        .filter(|n| all.park(&mut packet(0, *n), now, |_| panic!()) == Parked::Ask)
        .count();
    assert_eq!(asked, 5);
    assert_eq!(
        all.park(&mut packet(0, 100), now, |_| panic!()),
        Parked::Limited
    );
    let later = now + Duration::from_secs(1);
    assert_eq!(
        all.park(&mut packet(0, 100), later, |_| panic!()),
        Parked::Ask
    );
}
