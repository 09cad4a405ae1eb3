// SPDX-License-Identifier: Apache-2.0
//! Time: how long a connection may be silent, and what is taken up after a start.

use sluice_datapath::ConnectionLimits;
use sluice_firewall::connections::Timeouts;
use sluice_packet::tcp::flag::{ACK, FIN, PSH, RST, SYN};

use crate::bench::{Bench, Conversation, POLICY, conversations, open};

/// Sends an answer `ms` milliseconds after a datagram of the pod to `port`, and returns whether it passes.
fn is_answered_after(ms: u64, port: u16, is_answered_before: bool) -> bool {
    let mut bench = Bench::new(&[POLICY]);
    let pod = bench.pod();
    let one = conversations(&pod, 1, port)[0];
    let answer = || [one.back().udp(port, one.pod_port)];
    assert_eq!(
        bench.pod_sends(&pod, [one.out().udp(one.pod_port, port)]),
        []
    );
    if is_answered_before {
        assert_eq!(bench.wire_sends(answer()), []);
    }
    bench.later(ms);
    let passes = bench.wire_sends(answer()).is_empty();
    bench.end();
    passes
}

#[test]
fn a_datagram_may_be_answered_for_a_minute_and_then_for_five() {
    // Time goes by in half-seconds.
    assert!(is_answered_after(59_000, 5060, false));
    assert!(!is_answered_after(61_000, 5060, false));
    assert!(is_answered_after(299_000, 5060, true));
    assert!(!is_answered_after(301_000, 5060, true));
}

#[test]
fn a_name_may_be_answered_for_ten_seconds() {
    assert!(is_answered_after(9_000, 53, false));
    assert!(!is_answered_after(11_000, 53, false));
}

#[test]
fn a_tcp_connection_lives_for_a_day_of_silence_and_a_minute_after_its_end() {
    let mut bench = Bench::new(&[POLICY]);
    let pod = bench.pod();
    let all = conversations(&pod, 2, 80);
    open(&mut bench, &pod, true, &all);
    let (idle, closed) = (all[0], all[1]);
    assert_eq!(
        bench.pod_sends(&pod, [closed.tcp(true, FIN | ACK, [101, 501])]),
        []
    );
    assert_eq!(
        bench.wire_sends([closed.tcp(false, FIN | ACK, [501, 102])]),
        []
    );
    assert_eq!(
        bench.pod_sends(&pod, [closed.tcp(true, ACK, [102, 502])]),
        []
    );
    bench.later(59_000);
    assert_eq!(
        bench.wire_sends([closed.tcp(false, FIN | ACK, [501, 102])]),
        [],
        "again"
    );
    bench.later(122_000);
    let late = [closed.tcp(false, FIN | ACK, [501, 102])];
    assert_eq!(bench.wire_sends(late), [("invalid_state", 1)]);
    bench.later(86_000_000);
    assert_eq!(bench.wire_sends([idle.tcp(false, ACK, [501, 101])]), []);
    bench.later(86_401_000);
    assert_eq!(
        bench.wire_sends([idle.tcp(false, ACK, [501, 101])]),
        [("invalid_state", 1)]
    );
    assert_eq!(bench.engine.snapshot().workers[0].connections.now, 0);
    bench.end();
}

#[test]
fn a_reset_ends_a_connection_and_one_in_its_window_alone_shortens_it() {
    let mut bench = Bench::new(&[POLICY]);
    let pod = bench.pod();
    let all = conversations(&pod, 2, 80);
    open(&mut bench, &pod, true, &all);
    let (exact, doubtful) = (all[0], all[1]);
    assert_eq!(bench.wire_sends([exact.tcp(false, RST, [501, 0])]), []);
    bench.later(11_000);
    assert_eq!(
        bench.wire_sends([exact.tcp(false, ACK, [501, 101])]),
        [("invalid_state", 1)]
    );
    assert_eq!(bench.wire_sends([doubtful.tcp(false, RST, [700, 0])]), []);
    assert_eq!(
        bench.pod_sends(&pod, [doubtful.tcp(true, ACK, [101, 501])]),
        [],
        "it lives"
    );
    bench.later(60_000);
    assert_eq!(bench.wire_sends([doubtful.tcp(false, ACK, [501, 101])]), []);
    bench.end();
}

#[test]
fn after_a_start_connections_are_taken_up_for_thirty_seconds_and_only_where_one_could_begin() {
    let mut bench = Bench::just_started(&[POLICY]);
    let pod = bench.pod();
    let all = conversations(&pod, 3, 80);
    // The pod could open it: its own frame is taken up at once, the other's until the pod answers.
    assert_eq!(
        bench.pod_sends(&pod, [all[0].tcp(true, ACK | PSH, [7000, 9000])]),
        []
    );
    assert_eq!(bench.wire_sends([all[0].tcp(false, ACK, [9000, 7000])]), []);
    assert_eq!(
        bench.wire_sends([all[1].tcp(false, ACK | PSH, [9000, 7000])]),
        []
    );
    assert_eq!(
        bench.pod_sends(&pod, [all[1].tcp(true, ACK, [7000, 9000])]),
        []
    );
    // A SYN+ACK is no frame of a connection that is under way, and no datagram is taken up.
    let datagram = all[2].back().udp(53, 40_002);
    assert_eq!(bench.wire_sends([datagram]), [("denied", 1)]);
    bench.later(31_000);
    let late = || [all[2].tcp(false, ACK, [9000, 7000])];
    assert_eq!(bench.wire_sends(late()), [("invalid_state", 1)]);
    let late = [all[2].tcp(true, ACK | PSH, [7000, 9000])];
    assert_eq!(bench.pod_sends(&pod, late), [("invalid_state", 1)]);
    // What was taken up and confirmed goes on.
    for one in &all[..2] {
        assert_eq!(
            bench.pod_sends(&pod, [one.tcp(true, ACK, [7000, 9000])]),
            []
        );
        assert_eq!(bench.wire_sends([one.tcp(false, ACK, [9000, 7000])]), []);
    }
    // A SYN begins as ever.
    assert_eq!(bench.pod_sends(&pod, [all[2].tcp(true, SYN, [1, 0])]), []);
    bench.end();
}

#[test]
fn what_is_taken_up_and_not_confirmed_ends_after_thirty_seconds() {
    let mut bench = Bench::just_started(&[POLICY]);
    let pod = bench.pod();
    let one = conversations(&pod, 1, 80)[0];
    let frame = || [one.tcp(false, ACK | PSH, [9000, 7000])];
    for _ in 0..2 {
        assert_eq!(bench.wire_sends(frame()), []);
        bench.later(14_000);
    }
    bench.later(4_000);
    assert_eq!(
        bench.wire_sends(frame()),
        [("invalid_state", 1)],
        "its frames do not renew it"
    );
    bench.end();
}

#[test]
fn limits_are_those_that_were_set() {
    let timeouts = Timeouts {
        dns: 2,
        ..Timeouts::default()
    };
    let limits = ConnectionLimits {
        places: 2_048,
        most: 3,
        one_way_percent: 100,
        one_source_percent: 100,
        grace_s: 0,
        timeouts,
        ..ConnectionLimits::default()
    };
    let mut bench = Bench::with_limits(&[POLICY], limits);
    bench.later(20);
    let pod = bench.pod();
    let all = conversations(&pod, 4, 53);
    let taken_up = [all[0].tcp(true, ACK | PSH, [7000, 9000])];
    assert_eq!(
        bench.pod_sends(&pod, taken_up),
        [("invalid_state", 1)],
        "no grace time"
    );
    let ask = |one: &Conversation| one.out().udp(one.pod_port, 53);
    let answer = |one: &Conversation| one.back().udp(53, one.pod_port);
    assert_eq!(bench.pod_sends(&pod, all[..3].iter().map(ask)), []);
    assert_eq!(bench.wire_sends(all[..3].iter().map(answer)), []);
    // Those that are answered are not given up for a fourth.
    assert_eq!(
        bench.pod_sends(&pod, [ask(&all[3])]),
        [("connection_limited", 1)]
    );
    bench.later(3_000);
    assert_eq!(bench.wire_sends([answer(&all[0])]), [("denied", 1)]);
    assert_eq!(bench.pod_sends(&pod, [ask(&all[3])]), []);
    bench.end();
}
