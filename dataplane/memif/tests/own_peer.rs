// SPDX-License-Identifier: Apache-2.0
//! Client and server of this crate against each other, over real sockets and memory.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::cast_possible_truncation, reason = "patterns wrap on purpose")]
#![allow(missing_docs, reason = "tests")]

mod link;

use std::time::{Duration, Instant};

use link::{address, carry, change, frame, notice, open, up};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sluice_memif::{Address, FrameList, LinkChange, Memif, Role, Secret};

fn pair(change: impl Fn(&mut sluice_memif::EndpointConfig)) -> (Memif, Memif) {
    let address = address();
    let mut server = open(Role::Server, &address, &change);
    let mut client = open(Role::Client, &address, &change);
    up(&mut server);
    up(&mut client);
    (server, client)
}

fn both_ways(server: &mut Memif, client: &mut Memif, queue: usize, count: u32, len: usize) {
    carry(client, server, queue, count, len);
    carry(server, client, queue, count, len);
}

#[test]
fn frames_of_all_sizes_cross_intact() {
    let (mut server, mut client) = pair(|c| c.log2_ring_size = 6);
    for len in [
        4, 14, 15, 16, 17, 60, 63, 64, 65, 128, 255, 256, 257, 1500, 2047, 2048,
    ] {
        both_ways(&mut server, &mut client, 0, 200, len);
    }
}

#[test]
fn indices_wrap() {
    let (mut server, mut client) = pair(|c| c.log2_ring_size = 3);
    both_ways(&mut server, &mut client, 0, 70_000, 64);
}

#[test]
fn long_frames_are_chained() {
    let (mut server, mut client) = pair(|c| c.log2_ring_size = 7);
    for len in [2049, 4096, 4097, 9000, 65_535] {
        both_ways(&mut server, &mut client, 0, 100, len);
    }
    // 36 buffers of 256 bytes a frame.
    let (mut server, mut client) = pair(|c| c.buffer_size = 256);
    both_ways(&mut server, &mut client, 0, 300, 9000);
}

#[test]
fn a_frame_that_can_never_fit_is_dropped_and_counted() {
    let (mut server, mut client) = pair(|c| c.log2_ring_size = 2);
    let big = vec![1; 4 * 2048 + 1];
    for memif in [&mut server, &mut client] {
        // The server sees the posted buffers only when the client has posted them.
        link::until("buffers", || {
            memif.connection().unwrap().tx[0].room().unwrap() == 4
        });
        assert!(memif.send(0, &[&big]), "taken");
        assert!(memif.send(0, &[&vec![1; 65_536]]), "taken");
        assert!(memif.send(0, &[]), "taken");
        assert_eq!(memif.connection().unwrap().tx[0].counters().unfit, 3);
    }
    both_ways(&mut server, &mut client, 0, 10, 4 * 2048);
}

#[test]
fn a_full_ring_takes_no_more_and_loses_nothing() {
    let (mut server, mut client) = pair(|c| c.log2_ring_size = 4);
    for n in 0..16 {
        assert!(client.send(0, &[&frame(n, 100)]));
    }
    assert!(!client.send(0, &[&frame(16, 100)]));
    client.flush();
    assert!(!client.send(0, &[&frame(16, 100)]));
    let mut frames = FrameList::default();
    assert_eq!(server.recv(0, 10, &mut frames), 10);
    assert_eq!(frames.len(), 10);
    for n in 0..10 {
        assert_eq!(frames.pop().unwrap(), frame(n, 100));
    }
    for n in 16..26 {
        assert!(client.send(0, &[&frame(n, 100)]));
    }
    assert!(!client.send(0, &[&frame(26, 100)]));
    // A chain needs all its buffers at once.
    assert_eq!(server.recv(0, 1, &mut frames), 1);
    assert!(!client.send(0, &[&frame(26, 3000)]));
    assert!(client.send(0, &[&frame(26, 2000)]));
    client.flush();
    server.recv(0, 64, &mut frames);
    for n in 10..27_u32 {
        assert_eq!(frames.pop().unwrap()[..4], n.to_le_bytes());
    }
    assert!(frames.is_empty());
    let counted = client.connection().unwrap().tx[0].counters();
    assert_eq!((counted.packets, counted.full), (27, 4));
    assert_eq!(server.connection().unwrap().rx[0].counters().packets, 27);
}

#[test]
fn a_sink_without_room_drops_and_counts() {
    struct Every2nd(FrameList, usize);
    impl sluice_memif::Sink for Every2nd {
        fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
            self.1 += 1;
            if self.1.is_multiple_of(2) {
                self.0.reserve(len)
            } else {
                None
            }
        }
    }
    let (mut server, mut client) = pair(|_| {});
    for n in 0..10 {
        assert!(client.send(0, &[&frame(n, 3000)]));
    }
    client.flush();
    let mut sink = Every2nd(FrameList::default(), 0);
    assert_eq!(server.recv(0, 64, &mut sink), 10);
    for n in [1, 3, 5, 7, 9] {
        assert_eq!(sink.0.pop().unwrap(), frame(n, 3000));
    }
    let counters = server.connection().unwrap().rx[0].counters();
    assert_eq!(
        (counters.packets, counters.bytes, counters.no_room),
        (5, 15_000, 5)
    );
}

#[test]
fn four_queue_pairs_are_apart() {
    let (mut server, mut client) = pair(|c| c.queue_pairs = 4);
    assert_eq!((server.queues(), client.queues()), ((4, 4), (4, 4)));
    for queue in 0..4 {
        both_ways(&mut server, &mut client, queue, 500, 64 + queue);
    }
}

#[test]
fn the_smaller_offer_counts() {
    let address = address();
    let mut server = open(Role::Server, &address, |c| {
        c.queue_pairs = 2;
        c.log2_ring_size = 5;
    });
    let mut client = open(Role::Client, &address, |c| c.queue_pairs = 4);
    up(&mut server);
    up(&mut client);
    assert_eq!((server.queues(), client.queues()), ((2, 2), (2, 2)));
    assert_eq!(client.connection().unwrap().tx[0].ring_size(), 32);
    both_ways(&mut server, &mut client, 1, 500, 1000);
}

fn sleep(memif: &Memif, limit: Duration) -> bool {
    let limit = Timespec::try_from(limit).unwrap();
    poll(&mut [PollFd::new(memif, PollFlags::IN)], Some(&limit)).unwrap() == 1
}

#[test]
fn a_sleeper_is_woken_each_time() {
    let (server, client) = pair(|_| {});
    for (mut sleeper, mut waker) in [(server, client)] {
        for swapped in [false, true] {
            if swapped {
                std::mem::swap(&mut sleeper, &mut waker);
            }
            // Polled: no interrupts.
            sleeper.disarm();
            assert!(waker.send(0, &[&frame(0, 64)]));
            waker.flush();
            assert!(!sleep(&sleeper, Duration::from_millis(30)));
            assert!(!sleeper.arm(), "a frame waits");
            let mut frames = FrameList::default();
            assert_eq!(sleeper.recv(0, 64, &mut frames), 1);
            for n in 0..200 {
                // More than once without a read in between: edges, not levels.
                assert!(sleeper.arm());
                assert!(waker.send(0, &[&frame(n, 64)]));
                waker.flush();
                assert!(sleep(&sleeper, link::PATIENCE), "wake-up {n}");
                sleeper.disarm();
                assert_eq!(sleeper.recv(0, 64, &mut frames), 1);
            }
        }
    }
}

#[test]
fn no_wake_up_is_lost_between_two_that_sleep() {
    // One frame goes back and forth; whoever has it not sleeps without a limit that would hide a
    // lost wake-up.
    let (mut server, mut client) = pair(|c| c.interrupts = true);
    let echo = std::thread::spawn(move || {
        let mut frames = FrameList::default();
        let mut count = 0;
        while count < 20_000 {
            if client.recv(0, 64, &mut frames) == 0 {
                if client.arm() {
                    assert!(sleep(&client, link::PATIENCE), "echo {count}");
                }
                client.disarm();
            }
            while let Some(frame) = frames.pop() {
                assert!(client.send(0, &[&frame]));
                client.flush();
                frames.recycle(frame);
                count += 1;
            }
        }
        client
    });
    let mut frames = FrameList::default();
    for n in 0..20_000 {
        assert!(server.send(0, &[&frame(n, 64)]));
        server.flush();
        while server.recv(0, 64, &mut frames) == 0 {
            if server.arm() {
                assert!(sleep(&server, link::PATIENCE), "frame {n}");
            }
            server.disarm();
        }
        let back = frames.pop().unwrap();
        assert_eq!(back, frame(n, 64));
        frames.recycle(back);
    }
    drop(echo.join().unwrap());
}

#[test]
fn a_client_comes_back_to_a_new_server() {
    let address = address();
    let mut client = open(Role::Client, &address, |_| {});
    notice(&mut client, "nobody listens");
    for round in 0..3 {
        let mut server = open(Role::Server, &address, |_| {});
        up(&mut server);
        assert!(matches!(change(&mut client), LinkChange::Up { .. }));
        both_ways(&mut server, &mut client, 0, 1000, 64 + round);
        drop(server);
        let down = change(&mut client);
        assert!(matches!(down, LinkChange::Down { reason } if reason.contains("stopped")));
        assert!(!client.is_up() && !client.send(0, &[&[0; 64]]));
    }
}

#[test]
fn a_server_takes_a_new_client() {
    let address = address();
    let mut server = open(Role::Server, &address, |_| {});
    for round in 0..3 {
        let mut client = open(Role::Client, &address, |_| {});
        up(&mut client);
        assert!(matches!(change(&mut server), LinkChange::Up { .. }));
        both_ways(&mut server, &mut client, 0, 1000, 64 + round);
        drop(client);
        assert!(matches!(change(&mut server), LinkChange::Down { .. }));
    }
}

#[test]
fn a_wrong_secret_is_refused() {
    let address = address();
    let mut server = open(Role::Server, &address, |c| c.secret = Secret::new("right"));
    let mut wrong = open(Role::Client, &address, |c| c.secret = Secret::new("wrong"));
    notice(&mut wrong, "Incorrect secret");
    notice(&mut server, "Incorrect secret");
    let mut none = open(Role::Client, &address, |_| {});
    notice(&mut none, "Secret required");
    assert!(!server.is_up() && !wrong.is_up() && !none.is_up());
    let mut right = open(Role::Client, &address, |c| c.secret = Secret::new("right"));
    up(&mut right);
    up(&mut server);
    both_ways(&mut server, &mut right, 0, 100, 100);
}

#[test]
fn another_id_is_refused() {
    let address = address();
    let _server = open(Role::Server, &address, |c| c.id = 1);
    let mut client = open(Role::Client, &address, |c| c.id = 2);
    notice(&mut client, "ID 2 not found");
}

#[test]
fn a_second_client_is_told_and_gets_its_turn() {
    let address = address();
    let mut server = open(Role::Server, &address, |_| {});
    let mut first = open(Role::Client, &address, |_| {});
    up(&mut first);
    up(&mut server);
    let mut second = open(Role::Client, &address, |_| {});
    notice(&mut second, "Already connected");
    both_ways(&mut server, &mut first, 0, 1000, 64);
    drop(first);
    up(&mut second);
    assert!(matches!(change(&mut server), LinkChange::Down { .. }));
    assert!(matches!(change(&mut server), LinkChange::Up { .. }));
    both_ways(&mut server, &mut second, 0, 1000, 64);
}

#[test]
fn too_much_memory_is_refused_by_either_side() {
    let address = address();
    let mut server = open(Role::Server, &address, |c| c.max_bytes = 1 << 20);
    let mut client = open(Role::Client, &address, |_| {});
    notice(&mut client, "bytes of shared memory");
    notice(&mut server, "bytes of shared memory");
    drop(client);
    let mut client = open(Role::Client, &address, |c| c.max_bytes = 1 << 20);
    notice(&mut client, "bytes of shared memory");
}

#[test]
fn a_socket_by_path_goes_with_its_server() {
    let folder = tempfile::tempdir().unwrap();
    let address = Address::Path(folder.path().join("memif.sock"));
    let mut server = open(Role::Server, &address, |_| {});
    let mut client = open(Role::Client, &address, |_| {});
    up(&mut client);
    up(&mut server);
    both_ways(&mut server, &mut client, 0, 100, 64);
    drop(server);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_server_without_its_folder_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let address = Address::Path(folder.path().join("later/memif.sock"));
    let mut server = open(Role::Server, &address, |_| {});
    notice(&mut server, "cannot open the folder");
    std::fs::create_dir(folder.path().join("later")).unwrap();
    let mut client = open(Role::Client, &address, |_| {});
    up(&mut client);
    up(&mut server);
}

#[test]
fn nothing_is_left_open() {
    let fds = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    // Other tests of this process open and close at the same time: so this is measured in a
    // process of its own.
    if std::env::var_os("SLUICE_MEMIF_ALONE").is_none() {
        let alone = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "nothing_is_left_open", "--test-threads=1"])
            .env("SLUICE_MEMIF_ALONE", "1")
            .status()
            .unwrap();
        assert!(alone.success());
        return;
    }
    let round = || {
        let (mut server, mut client) = pair(|c| c.queue_pairs = 2);
        both_ways(&mut server, &mut client, 1, 100, 3000);
    };
    round();
    let before = (fds(), threads());
    for _ in 0..20 {
        round();
    }
    let start = Instant::now();
    // A thread that was joined may still be listed for a moment.
    while (fds(), threads()) != before && start.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!((fds(), threads()), before);
}
