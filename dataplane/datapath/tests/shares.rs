// SPDX-License-Identifier: Apache-2.0
//! A pod that floods costs its own share: each resource that attachments share is driven to its end by
//! one of them, and a neighbour that uses a tenth of its share loses nothing and waits at most
//! twice as long as on a quiet engine. Workers are stepped, so that what a frame waits for is counted in
//! rounds and not in time.
#![allow(clippy::unwrap_used, reason = "a test says what it expects")]

mod shares_lab;

use shares_lab::{Bench, GATEWAY, Outcome, Pod, Waits, allow, broadcast, multicast, unicast};
use sluice_packet::Mac;

/// Rounds of a scenario.
const ROUNDS: usize = 1000;

/// Workers with which each scenario runs.
const WORKERS: [usize; 3] = [1, 2, 4];

/// Times the rounds of a quiet engine that a neighbour's frame may wait, at the 99th percentile.
const PROMISE: usize = 2;

/// Does as [`compare_to`] with the factor that is promised.
fn compare(
    name: &str,
    make: impl Fn() -> (Bench, Neighbour),
    flood: impl FnMut(&mut Bench, usize),
) {
    compare_to(PROMISE, name, make, flood);
}

/// Runs a scenario without and with what `flood` does in every round, with a worker 0 that keeps up and
/// with one that goes round every third time only. The neighbour sends a frame every fifth round: all
/// of them arrive, at the 99th percentile in at most `factor` times the rounds of a quiet engine.
fn compare_to(
    factor: usize,
    name: &str,
    make: impl Fn() -> (Bench, Neighbour),
    mut flood: impl FnMut(&mut Bench, usize),
) {
    for pace in [1, 3] {
        let quiet = {
            let (mut bench, neighbour) = make();
            run(&mut bench, &neighbour, pace, |_, _| {})
        };
        let (mut bench, neighbour) = make();
        let noisy = run(&mut bench, &neighbour, pace, &mut flood);
        assert_eq!(quiet.lost, 0, "{name}, pace {pace}: quiet");
        assert_eq!(
            noisy.lost, 0,
            "{name}, pace {pace}: frames of the neighbour were lost\n{bench:?}"
        );
        assert!(
            noisy.p99 <= factor * quiet.p99,
            "{name}, pace {pace}: a frame of the neighbour waits {} rounds, on a quiet engine {}",
            noisy.p99,
            quiet.p99
        );
        bench.assert_conserved();
    }
}

/// Neighbour of a flooder: where its frames come from and where they have to arrive.
struct Neighbour {
    from: Pod,
    to: To,
}

/// Receiver of the neighbour's frames.
enum To {
    Pod(Pod),
    Wire,
}

impl Neighbour {
    fn frame(&self, number: usize, len: usize) -> Vec<u8> {
        let to = match &self.to {
            To::Pod(pod) => pod.mac,
            To::Wire => GATEWAY,
        };
        unicast(to, self.from.mac, number, len)
    }
}

fn run(
    bench: &mut Bench,
    neighbour: &Neighbour,
    pace: usize,
    mut flood: impl FnMut(&mut Bench, usize),
) -> Outcome {
    let mut seen = Waits::new();
    let len = neighbour.from.len;
    for round in 0..ROUNDS {
        flood(bench, round);
        if round % 5 == 0 && round < ROUNDS - 200 {
            neighbour.from.send(neighbour.frame(round, len));
            seen.sent(round);
        }
        bench.round_at_pace(round, pace);
        let arrived = match &neighbour.to {
            To::Pod(pod) => pod.take(),
            To::Wire => bench.take_from_wire(),
        };
        let ours = arrived
            .into_iter()
            .filter(|frame| frame.get(6..12) == Some(&neighbour.from.mac.0[..]));
        for frame in ours {
            seen.arrived(&frame, round);
        }
    }
    seen.outcome()
}

/// The uplink is at worker 0, flooder and neighbour are at the last worker.
fn to_the_wire(workers: usize, ring: Option<(usize, usize)>) -> (Bench, Neighbour) {
    let mut bench = Bench::new(workers, ring, &allow());
    let last = workers - 1;
    let _flooder = bench.pod(last, 1500);
    let from = bench.pod(last, 1500);
    (bench, Neighbour { from, to: To::Wire })
}

#[test]
fn a_flood_to_the_wire_costs_a_neighbour_nothing() {
    for workers in WORKERS {
        compare(
            &format!("{workers} workers"),
            || to_the_wire(workers, None),
            |bench, _| bench.fill(0, |mac| unicast(GATEWAY, mac, 0, 60)),
        );
    }
}

#[test]
fn many_that_flood_the_wire_cost_a_neighbour_nothing() {
    for workers in WORKERS {
        let make = || {
            let (mut bench, neighbour) = to_the_wire(workers, None);
            (0..7).for_each(|_| {
                bench.pod(workers - 1, 1500);
            });
            (bench, neighbour)
        };
        let name = format!("{workers} workers");
        compare(&name, make, |bench, _| {
            for flooder in [0, 2, 3, 4, 5, 6, 7, 8] {
                bench.fill(flooder, |mac| unicast(GATEWAY, mac, 0, 60));
            }
        });
    }
}

#[test]
fn a_wire_that_is_too_slow_costs_a_neighbour_nothing() {
    for workers in WORKERS {
        // A ring of 256 frames, of which the wire takes 20 a round.
        let ring = Some((256, 20));
        compare_to(
            // What is in the device's ring already was there first, and the wire has to send it.
            PROMISE + 256 / 20,
            &format!("{workers} workers"),
            || to_the_wire(workers, ring),
            |bench, _| bench.fill(0, |mac| unicast(GATEWAY, mac, 0, 60)),
        );
    }
}

#[test]
fn nothing_of_a_pod_is_dropped_at_a_wire_that_is_too_slow() {
    for workers in WORKERS {
        let mut bench = Bench::new(workers, Some((256, 20)), &allow());
        let pods: Vec<_> = (0..8).map(|pod| bench.pod(pod % workers, 1500)).collect();
        let mut sent = vec![0; pods.len()];
        for _ in 0..ROUNDS {
            for number in 0..pods.len() {
                bench.fill(number, |mac| unicast(GATEWAY, mac, 0, 60));
            }
            bench.round();
            for frame in bench.take_from_wire() {
                sent[usize::from(frame[11]) - 1] += 1;
            }
        }
        assert_eq!(bench.drops(), Default::default(), "{workers} workers");
        let all: usize = sent.iter().sum();
        assert!(
            all >= 19 * ROUNDS,
            "{workers} workers: the wire stood still: {all}"
        );
        let (least, most) = (sent.iter().min().unwrap(), sent.iter().max().unwrap());
        assert!(
            3 * least >= *most,
            "{workers} workers: shares are not equal: {sent:?}"
        );
        bench.assert_conserved();
    }
}

#[test]
fn a_pod_that_has_nothing_more_to_send_wants_nothing() {
    let mut bench = Bench::new(1, Some((256, 2)), &allow());
    let idle = bench.pod(0, 1500);
    for _ in 0..4 {
        bench.pod(0, 1500);
    }
    // A whole burst, as much as it has room for: there might be more.
    for _ in 0..64 {
        idle.send(unicast(GATEWAY, idle.mac, 0, 60));
    }
    for _ in 0..ROUNDS {
        bench.round();
        for pod in 1..5 {
            bench.fill(pod, |mac| unicast(GATEWAY, mac, 0, 60));
        }
    }
    assert!(bench.held_back(1) > 0, "the wire is too slow\n{bench:?}");
    assert_eq!(bench.held_back(0), 0);
}

#[test]
fn a_pod_that_goes_leaves_no_credits_behind() {
    let mut bench = Bench::new(2, Some((256, 20)), &allow());
    bench.pod(0, 1500);
    bench.pod(1, 1500);
    for _ in 0..50 {
        for pod in 0..2 {
            bench.fill(pod, |mac| unicast(GATEWAY, mac, 0, 60));
        }
        bench.round();
    }
    bench.detach(1);
    // The wire is quiet for a while: there is room to grant.
    for _ in 0..50 {
        bench.round();
    }
    for _ in 0..50 {
        bench.fill(0, |mac| unicast(GATEWAY, mac, 0, 60));
        bench.round();
    }
    let waits = bench.wire_waits();
    assert!(waits > 192, "{waits} of 256: the rest is kept for nobody");
    bench.assert_conserved();
}

#[test]
fn a_worker_whose_pods_have_no_ports_answers_the_wire() {
    let policy = "
name: open
vlans: [210]
default: {ingress: accept, egress: accept}
rules:
  - {name: closed, direction: ingress, protocol: udp, ports: [7], verdict: reject}
";
    for workers in WORKERS {
        let mut bench = Bench::new(workers, None, policy);
        let pod = bench.pod(workers - 1, 1500);
        bench.disconnect(0);
        for _ in 0..10 {
            bench.wire_sends(shares_lab::to_port(7, pod.mac, GATEWAY));
        }
        for _ in 0..5 {
            bench.round();
        }
        assert_eq!(bench.take_from_wire().len(), 10, "{:?}", bench.drops());
        bench.assert_conserved();
    }
}

#[test]
fn jumbo_frames_to_a_pod_of_another_worker_cost_a_neighbour_nothing() {
    for workers in WORKERS {
        let make = || {
            let mut bench = Bench::new(workers, None, &allow());
            let last = workers - 1;
            let _flooder = bench.pod(last, 9000);
            let _sink = bench.pod(0, 9000);
            let from = bench.pod(last, 9000);
            let to = To::Pod(bench.pod(0, 9000));
            (bench, Neighbour { from, to })
        };
        compare(&format!("{workers} workers"), make, |bench, _| {
            let sink = bench.mac(1);
            bench.fill(0, |mac| unicast(sink, mac, 0, 9000));
        });
    }
}

#[test]
fn what_everybody_gets_costs_a_neighbour_nothing() {
    for workers in WORKERS {
        for to in [broadcast(), multicast()] {
            let make = || {
                let mut bench = Bench::new(workers, None, &allow());
                let _flooder = bench.pod(0, 1500);
                let from = bench.pod(0, 1500);
                let receiver = bench.pod(workers - 1, 1500);
                for receiver in 0..40 {
                    bench.pod(receiver % workers, 1500);
                }
                (
                    bench,
                    Neighbour {
                        from,
                        to: To::Pod(receiver),
                    },
                )
            };
            compare(&format!("{workers} workers, {to}"), make, |bench, _| {
                bench.fill(0, |mac| unicast(to, mac, 0, 60));
                bench.empty_receivers(3);
            });
        }
    }
}

/// Two workers, `flooders` at the first, and a hundred pods at the second.
fn far_receivers(flooders: usize, are_members: bool) -> (Bench, Vec<Pod>) {
    let mut bench = Bench::new(2, None, &allow());
    for _ in 0..flooders {
        bench.pod(0, 1500);
    }
    let receivers = (0..100)
        .map(|_| match are_members {
            true => bench.member(1),
            false => bench.pod(1, 1500),
        })
        .collect();
    (bench, receivers)
}

#[test]
fn copies_at_other_workers_are_paid_by_who_sends() {
    for are_members in [true, false] {
        let (mut bench, receivers) = far_receivers(1, are_members);
        let mut frames = 0;
        for _ in 0..50 {
            bench.fill(0, |mac| unicast(multicast(), mac, 0, 60));
            bench.round();
            frames += receivers[99].take().len();
            bench.empty_receivers(1);
        }
        // Its first burst is on credit, and 50 rounds pay for less than that.
        assert!(frames <= 64, "{frames} frames, members: {are_members}");
        assert!(bench.drops().is_empty(), "{bench:?}");
        bench.assert_conserved();
    }
}

#[test]
fn flooded_frames_that_wait_in_a_ring_wait_for_one_visit_of_copies() {
    let (mut bench, receivers) = far_receivers(4, true);
    let mut sum = 0;
    let mut most = 0;
    let mut waits = Vec::new();
    for flooder in 0..4 {
        for _ in 0..64 {
            bench.send(flooder, |mac| unicast(multicast(), mac, 0, 60));
        }
    }
    let from = receivers[1].mac;
    for round in 0..2000 {
        // The second worker's own pods have their turn in each of its rounds.
        receivers[1].send(unicast(receivers[0].mac, from, round, 60));
        bench.round();
        let mut copies = 0;
        for receiver in &receivers {
            let got = receiver.take();
            let own = got.iter().filter(|frame| frame[6..12] == from.0).count();
            waits.extend((own != 0).then_some(own));
            copies += got.len() - own;
        }
        most = most.max(copies);
        sum += copies;
    }
    assert_eq!(sum, 4 * 64 * 100, "none is lost");
    assert_eq!(most, 300, "256, and the rest of the last frame");
    assert_eq!(waits, [1; 2000], "one a round");
    assert!(bench.drops().is_empty(), "{bench:?}");
    bench.assert_conserved();
}

#[test]
fn a_pod_that_does_not_read_costs_a_neighbour_nothing() {
    for workers in WORKERS {
        let make = || {
            let mut bench = Bench::new(workers, None, &allow());
            let last = workers - 1;
            let _flooder = bench.pod(last, 1500);
            let sink = bench.pod(0, 1500);
            sink.takes(0);
            let from = bench.pod(last, 1500);
            let to = To::Pod(bench.pod(0, 1500));
            (bench, Neighbour { from, to })
        };
        compare(&format!("{workers} workers"), make, |bench, _| {
            let sink = bench.mac(1);
            bench.fill(0, |mac| unicast(sink, mac, 0, 60));
        });
    }
}

#[test]
fn rejects_of_ten_pods_take_none_of_the_eleventh() {
    for workers in WORKERS {
        // What comes to port 7 is rejected.
        let policy = "
name: open
vlans: [210]
default: {ingress: accept, egress: accept}
rules:
  - {name: closed, direction: ingress, protocol: udp, ports: [7], verdict: reject}
";
        let mut bench = Bench::new(workers, None, policy);
        let rejecting: Vec<_> = (0..11).map(|pod| bench.pod(pod % workers, 1500)).collect();
        let asking: Vec<_> = (0..11).map(|pod| bench.pod(pod % workers, 1500)).collect();
        let mut answers = 0;
        for _ in 0..50 {
            for (from, to) in asking.iter().zip(&rejecting).take(10) {
                for _ in 0..64 {
                    from.send(shares_lab::to_port(7, to.mac, from.mac));
                }
            }
            let (from, to) = (&asking[10], &rejecting[10]);
            from.send(shares_lab::to_port(7, to.mac, from.mac));
            bench.round();
            answers += asking[10].take().len();
        }
        for _ in 0..200 {
            bench.round();
            answers += asking[10].take().len();
        }
        assert_eq!(answers, 50, "{workers} workers");
        bench.assert_conserved();
    }
}

#[test]
fn frames_of_the_wire_for_one_pod_cost_another_pod_none_of_its_own() {
    for workers in WORKERS {
        let mut bench = Bench::new(workers, None, &allow());
        let flooded = bench.pod(workers - 1, 1500);
        let neighbour = bench.pod(workers - 1, 1500);
        let mut got = 0;
        for round in 0..ROUNDS {
            for _ in 0..56 {
                bench.wire_sends(unicast(flooded.mac, GATEWAY, 0, 60));
            }
            bench.wire_sends(unicast(neighbour.mac, GATEWAY, round, 60));
            // The other worker is slow: it goes round every third time only.
            bench.round_of(0);
            if round % 3 == 0 {
                (1..workers).for_each(|worker| bench.round_of(worker));
            }
            got += neighbour.take().len();
            flooded.take();
        }
        for _ in 0..100 {
            bench.round();
            got += neighbour.take().len();
        }
        assert_eq!(got, ROUNDS, "{workers} workers");
        if workers > 1 {
            let drops = bench.drops();
            assert!(drops["handover_full"] > 0, "{workers} workers: {drops:?}");
            let at = bench.ingress_drops(0);
            assert_eq!(
                at["handover_full"], drops["handover_full"],
                "counted at the flooded pod"
            );
        }
        bench.assert_conserved();
    }
}

/// Frames of the wire for a neighbour, beside `flood` a round for another pod of a slow worker.
fn from_the_wire(workers: usize, flood: usize) -> Outcome {
    let mut bench = Bench::new(workers, None, &allow());
    let flooded = bench.pod(workers - 1, 1500);
    let neighbour = bench.pod(workers - 1, 1500);
    let mut seen = Waits::new();
    for round in 0..ROUNDS {
        for _ in 0..flood {
            bench.wire_sends(unicast(flooded.mac, GATEWAY, 0, 60));
        }
        if round % 5 == 0 && round < ROUNDS - 200 {
            bench.wire_sends(unicast(neighbour.mac, GATEWAY, round, 60));
            seen.sent(round);
        }
        bench.round_of(0);
        if round % 3 == 0 {
            (1..workers).for_each(|worker| bench.round_of(worker));
        }
        for frame in neighbour.take() {
            seen.arrived(&frame, round);
        }
        flooded.take();
    }
    bench.assert_conserved();
    seen.outcome()
}

#[test]
fn frames_of_the_wire_for_one_pod_keep_none_of_another_pods_waiting() {
    for workers in WORKERS {
        let (quiet, noisy) = (from_the_wire(workers, 0), from_the_wire(workers, 56));
        assert_eq!((quiet.lost, noisy.lost), (0, 0), "{workers} workers");
        assert!(
            noisy.p99 <= PROMISE * quiet.p99,
            "{workers} workers: {} rounds, {} beside nobody",
            noisy.p99,
            quiet.p99
        );
    }
}

#[test]
fn many_flows_of_one_pod_leave_a_neighbours_in_the_flow_cache() {
    let mut bench = Bench::new(1, None, &allow());
    let flooder = bench.pod(0, 1500);
    let neighbour = bench.pod(0, 1500);
    let mut flow = 0;
    let mut hits = Vec::new();
    for round in 0..ROUNDS {
        for _ in 0..64 {
            flow += 1;
            flooder.send(shares_lab::of_flow(flow, GATEWAY, flooder.mac));
        }
        bench.round();
        // Alone in its round, so that the hits are its own.
        neighbour.send(shares_lab::of_flow(0, GATEWAY, neighbour.mac));
        let before = bench.flow_hits();
        bench.round();
        if round > 10 {
            hits.push(bench.flow_hits() - before);
        }
        bench.take_from_wire();
    }
    let missed = hits.iter().filter(|&&hit| hit == 0).count();
    // The cache is emptied each time that it grows, a few times in all.
    assert!(missed < 20, "{missed} of {} missed", hits.len());
    bench.assert_conserved();
}

#[test]
fn many_source_addresses_of_a_bridge_cost_a_neighbour_nothing() {
    for workers in WORKERS {
        let make = || {
            let mut bench = Bench::new(workers, None, &allow());
            let last = workers - 1;
            let _bridge = bench.bridge(last);
            let from = bench.pod(last, 1500);
            (bench, Neighbour { from, to: To::Wire })
        };
        let name = format!("source addresses, {workers} workers");
        let mut number = 0_u32;
        compare(&name, make, |bench, round| {
            bench.fill(0, |_| {
                number += 1;
                let [_, a, b, c] = number.to_be_bytes();
                unicast(GATEWAY, Mac([2, 7, 7, a, b, c]), 0, 60)
            });
            if round == ROUNDS - 1 {
                assert_eq!(bench.learned(0).0, 64, "{name}: as many as it may");
                assert!(bench.drops().contains_key("mac_limited"), "{name}");
            }
        });
    }
}

#[test]
fn noisy_rules_of_many_pods_take_no_record_of_a_neighbours() {
    for workers in WORKERS {
        let policy = "
name: open
vlans: [210]
default: {ingress: accept, egress: accept}
rules:
  - {name: odd, direction: egress, protocol: udp, ports: [7], verdict: drop, log: true}
  - {name: even, direction: egress, protocol: udp, ports: [8], verdict: drop, log: true}
";
        let mut bench = Bench::new(workers, None, policy);
        let last = workers - 1;
        let noisy: Vec<_> = (0..60).map(|_| bench.pod(last, 1500)).collect();
        let neighbour = bench.pod(last, 1500);
        let mut lost = 0;
        // Control takes what there is once, in the middle.
        for round in 0..10 {
            for pod in &noisy {
                for frame in 0..64 {
                    pod.send(shares_lab::to_port(7 + frame % 2, GATEWAY, pod.mac));
                }
            }
            neighbour.send(shares_lab::to_port(7, GATEWAY, neighbour.mac));
            bench.round();
            if round == 5 {
                assert!(bench.take_events() > 300);
            }
            lost = bench.lost_records(60);
        }
        assert_eq!(lost, 0, "{workers} workers");
        assert!(bench.lost_records(0) > 0, "{workers} workers");
        bench.assert_conserved();
    }
}

#[test]
fn the_order_of_slots_is_no_advantage() {
    let mut bench = Bench::new(1, Some((64, 10)), &allow());
    let pods: Vec<_> = (0..5).map(|_| bench.pod(0, 1500)).collect();
    let mut sent = vec![0; pods.len()];
    for _ in 0..ROUNDS {
        for number in 0..pods.len() {
            bench.fill(number, |mac: Mac| unicast(GATEWAY, mac, 0, 60));
        }
        bench.round();
        for frame in bench.take_from_wire() {
            sent[usize::from(frame[11]) - 1] += 1;
        }
    }
    let (least, most) = (*sent.iter().min().unwrap(), *sent.iter().max().unwrap());
    assert!(most - least <= most / 5, "{sent:?}");
    bench.assert_conserved();
}
