// SPDX-License-Identifier: Apache-2.0
//! Every combination that a pod may ask for, against DPDK's testpmd: roles, queues, ring sizes,
//! frame sizes with chained ones among them, polled and asleep; and both sides killed and started
//! again at random.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod testpmd_rig;

use std::time::{Duration, Instant};

use sluice_memif::{Address, EndpointConfig, FrameList, Memif, Role};
use testpmd_rig::{Testpmd, WINDOW, alone, can_run, echo, frame, name, swapped, up};

/// Binary logarithms of the rings' descriptors: the smallest, the largest, and between.
const RINGS: [u8; 6] = [1, 3, 6, 8, 11, 14];
const SIZES: [usize; 3] = [64, 1500, 9000];
/// Size of DPDK's mbufs and of our buffers, in bytes.
const BUFFER: usize = 2048;
/// Limit of the memory of one combination, in bytes: four queues with rings of 16384 take half of it.
const MOST_BYTES: u64 = 1 << 30;

fn config(role: Role, queues: u16, log2: u8) -> EndpointConfig {
    EndpointConfig {
        queue_pairs: queues,
        log2_ring_size: log2,
        max_bytes: MOST_BYTES,
        ..EndpointConfig::new(role, "sluice")
    }
}

/// Returns testpmd's role for a role of ours.
fn theirs(ours: Role) -> &'static str {
    match ours {
        Role::Server => "client",
        Role::Client => "server",
    }
}

fn matrix(ours: Role) {
    let _alone = alone();
    let mut combinations = 0;
    for queues in [1, 4] {
        for log2 in RINGS {
            let socket = name();
            let address = Address::Abstract(socket.clone());
            let mut endpoint = Memif::open(config(ours, queues, log2), address).unwrap();
            std::thread::sleep(Duration::from_millis(100));
            let memif = format!(",rsize={log2}");
            let testpmd = Testpmd::start(Testpmd::plain(), theirs(ours), &socket, &memif, queues);
            up(&mut endpoint);
            let connection = endpoint.connection().unwrap();
            assert_eq!(connection.rx.len(), usize::from(queues));
            assert!(
                connection
                    .rx
                    .iter()
                    .all(|queue| queue.ring_size() == 1 << log2)
            );
            for size in SIZES {
                if size.div_ceil(BUFFER) > 1 << log2 {
                    // No ring of so few buffers can ever hold it.
                    continue;
                }
                for sleeping in [false, true] {
                    // A ring of two is woken for every other frame, 1 ms late at worst.
                    let count = if log2 < 4 { 100 } else { 400 };
                    echo(&mut endpoint, count, size, sleeping);
                    combinations += 1;
                }
            }
            testpmd.quit();
        }
    }
    println!("{combinations} combinations with our side as {ours:?}");
    assert_eq!(combinations, 2 * (5 * 3 + 2) * 2);
}

#[test]
fn every_combination_with_testpmd_as_client() {
    if can_run("every_combination_with_testpmd_as_client") {
        matrix(Role::Server);
    }
}

#[test]
fn every_combination_with_testpmd_as_server() {
    if can_run("every_combination_with_testpmd_as_server") {
        matrix(Role::Client);
    }
}

/// Pseudo-random numbers, the same for one seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Time without any frame after which none is under way any more.
const STALLED: Duration = Duration::from_millis(20);

/// Stream of numbered frames over many lives of either side.
struct Traffic {
    frames: FrameList,
    /// Number of the next frame.
    next: u32,
    /// Number of the last frame that came back.
    last: Option<u32>,
    back: u32,
    /// Lowest number of a frame that may be under way.
    base: u32,
}

impl Traffic {
    /// Sends and receives for a while, and checks that frames come back once, in order and unchanged.
    fn flow(&mut self, memif: &mut Memif, size: usize, time: Duration) {
        let mut progress = Instant::now();
        let until = progress + time;
        while Instant::now() < until {
            while memif.change().is_some() {}
            let ahead = self.next - self.base;
            if ahead < WINDOW && memif.send(0, &[&frame(self.next, size)]) {
                self.next += 1;
            } else if progress.elapsed() > STALLED {
                // What a dead peer had is lost.
                self.base = self.next;
                progress = Instant::now();
            }
            memif.flush();
            memif.recv(0, 64, &mut self.frames);
            while let Some(got) = self.frames.pop() {
                let number = u32::from_be_bytes(got[14..18].try_into().unwrap());
                assert!(number < self.next, "frame {number} was never sent");
                assert!(
                    self.last.is_none_or(|last| number > last),
                    "frame {number} came after {:?}",
                    self.last
                );
                assert!(got == swapped(number, got.len()), "frame {number} differs");
                self.last = Some(number);
                self.base = number + 1;
                self.back += 1;
                progress = Instant::now();
                self.frames.recycle(got);
            }
            std::thread::yield_now();
        }
    }
}

fn killed_at_random(ours: Role) {
    let _alone = alone();
    let seconds = std::env::var("SLUICE_KILL_SECONDS");
    let seconds = seconds.map_or(60, |text| text.parse().unwrap());
    let mut random = Random(u64::from(std::process::id()));
    println!("seed {}", random.0);
    let socket = name();
    let open = |log2| {
        let address = Address::Abstract(socket.clone());
        Memif::open(config(ours, 1, log2), address).unwrap()
    };
    let mut endpoint = open(10);
    let mut traffic = Traffic {
        frames: FrameList::default(),
        next: 0,
        last: None,
        back: 0,
        base: 0,
    };
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut lives = 0;
    while Instant::now() < until {
        // testpmd connects once, when its port starts: our side has to be there.
        std::thread::sleep(Duration::from_millis(50));
        let testpmd = Testpmd::start(Testpmd::plain(), theirs(ours), &socket, ",rsize=10", 1);
        up(&mut endpoint);
        let before = traffic.back;
        let life = Duration::from_millis(100 + random.below(1500));
        let size = [64, 590, 1500][usize::try_from(random.below(3)).unwrap()];
        traffic.flow(&mut endpoint, size, life);
        assert!(traffic.back > before, "nothing came back in life {lives}");
        if random.below(2) == 0 {
            testpmd.kill();
            traffic.flow(&mut endpoint, size, Duration::from_millis(random.below(50)));
        } else {
            // Our side goes, in the middle of its frames, and comes again.
            drop(endpoint);
            testpmd.kill();
            endpoint = open(8 + u8::try_from(random.below(4)).unwrap());
        }
        lives += 1;
    }
    let Traffic { next, back, .. } = traffic;
    println!("{lives} lives, {next} frames sent, {back} came back, none twice or out of order");
}

#[test]
fn testpmd_as_client_and_our_side_killed_at_random() {
    if can_run("testpmd_as_client_and_our_side_killed_at_random") {
        killed_at_random(Role::Server);
    }
}

#[test]
fn testpmd_as_server_and_our_side_killed_at_random() {
    if can_run("testpmd_as_server_and_our_side_killed_at_random") {
        killed_at_random(Role::Client);
    }
}
