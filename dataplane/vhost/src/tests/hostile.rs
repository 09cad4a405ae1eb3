// SPDX-License-Identifier: Apache-2.0
//! Hostile front ends: each attack ends its own connection with the reason, and the next front end is
//! served as if nothing had been.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{EventfdFlags, eventfd};

use super::*;
use crate::testing::{GUEST, GuestMemory, USER};

/// Runs an attack against a device whose rings run, and expects the reason for which its connection
/// ends; then serves an honest front end.
fn refused(reason: &str, attack: impl FnOnce(&mut FrontEnd)) {
    let back = Back::new(Role::Server, |_| {});
    let mut front = back.running(Setup::default());
    attack(&mut front);
    back.says(reason);
    assert!(front.closed(), "{reason}");
    let mut next = back.running(Setup::default());
    back.echoes(&mut next, 0, &[60, 1514]);
}

fn ask(front: &FrontEnd, request: u32, payload: &[u8], fds: &[BorrowedFd<'_>]) {
    let answer = front.ask(request, payload, fds);
    assert!(matches!(answer, None | Some(1)), "{request}: {answer:?}");
}

#[test]
fn bytes_that_are_no_message_are_refused() {
    for (bytes, reason) in [
        (FrontEnd::message(1, 5, &[]), "header flags 0x5"),
        (FrontEnd::message(1, 0, &[]), "header flags 0x0"),
        (
            FrontEnd::message(2, 1, &[0; 7]),
            "SET_FEATURES with a payload of 7 bytes",
        ),
        (
            FrontEnd::message(5, 1, &[255; 40]),
            "memory table of 4294967295 regions",
        ),
        (
            FrontEnd::message(5, 1, &[0; 40]),
            "memory table of 0 regions",
        ),
    ] {
        refused(reason, |front| front.send_raw(&bytes, &[]).unwrap());
    }
    refused("announces a payload of 4294967295 bytes", |front| {
        let mut bytes = FrontEnd::message(5, 1, &[]);
        bytes[8..12].copy_from_slice(&[255; 4]);
        front.send_raw(&bytes, &[]).unwrap();
    });
}

#[test]
fn a_message_that_comes_byte_by_byte_is_a_message() {
    let back = Back::new(Role::Server, |_| {});
    let front = back.front_end(Setup::default());
    for byte in FrontEnd::message(1, 1, &[]) {
        front.send_raw(&[byte], &[]).unwrap();
    }
    assert_eq!(front.answer(1), Some(crate::features::OFFERED));
}

#[test]
fn half_a_message_is_waited_for_and_then_refused() {
    let back = Back::new(Role::Server, |_| {});
    let mut front = back.running(Setup::default());
    let start = Instant::now();
    front
        .send_raw(&FrontEnd::message(2, 1, &[0; 8])[..15], &[])
        .unwrap();
    // Its rings run on meanwhile.
    back.echoes(&mut front, 0, &[60, 1514]);
    back.says("not whole within 5000 ms");
    assert!(start.elapsed() >= Duration::from_secs(5));
}

#[test]
fn file_descriptors_are_counted() {
    let event = eventfd(0, EventfdFlags::NONBLOCK).unwrap();
    let fd = event.as_fd();
    refused("SET_MEM_TABLE came with 0 file descriptors", |front| {
        ask(front, 5, &FrontEnd::table(&[front.memory.spec()]), &[]);
    });
    refused("GET_FEATURES came with 1 file descriptors", |front| {
        front.tell(1, &[], &[fd]);
    });
    refused("SET_VRING_KICK came with 0 file descriptors", |front| {
        ask(front, 12, &[0; 8], &[]);
    });
    refused("SET_VRING_CALL came with 1 file descriptors", |front| {
        ask(front, 13, &0x100_u64.to_ne_bytes(), &[fd]);
    });
    refused("more file descriptors in one message", |front| {
        front.tell(12, &[0; 8], &[fd; 40]);
    });
}

#[test]
fn no_file_descriptor_is_kept_of_a_refused_message() {
    let back = Back::new(Role::Server, |_| {});
    let front = back.running(Setup::default());
    let (held, watched) = UnixStream::pair().unwrap();
    front.tell(1, &[], &[held.as_fd(); 3]);
    drop(held);
    back.says("GET_FEATURES came with 3");
    watched
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let read = std::io::Read::read(&mut &watched, &mut [0]);
    assert!(matches!(read, Ok(0)), "{read:?}");
}

#[test]
fn memory_that_is_none_or_lies_about_its_size_is_refused() {
    let share = |front: &FrontEnd, change: &dyn Fn(&mut crate::RegionSpec), fd: BorrowedFd<'_>| {
        let mut spec = front.memory.spec();
        change(&mut spec);
        ask(front, 5, &FrontEnd::table(&[spec]), &[fd]);
    };
    refused("ends at byte", |front| {
        share(front, &|spec| spec.bytes += 1, front.memory.as_fd());
    });
    refused("leaves the address space", |front| {
        let change = |spec: &mut crate::RegionSpec| spec.guest_address = u64::MAX - 5;
        share(front, &change, front.memory.as_fd());
    });
    refused("are allowed: raise maxMemory", |front| {
        let change = |spec: &mut crate::RegionSpec| spec.file_offset = u64::MAX - 5;
        share(front, &change, front.memory.as_fd());
    });
    refused("is not shared memory", |front| {
        let (pipe, _other) = std::io::pipe().unwrap();
        share(front, &|_| {}, pipe.as_fd());
    });
    refused("is not shared memory", |front| {
        let file = std::fs::File::open("/proc/self/maps").unwrap();
        share(front, &|_| {}, file.as_fd());
    });
    refused("two memory regions overlap", |front| {
        let specs = [front.memory.spec(); 2];
        let fd = front.memory.as_fd();
        ask(front, 5, &FrontEnd::table(&specs), &[fd, fd]);
    });
    refused("are allowed: raise maxMemory", |front| {
        let vast = GuestMemory::with_sparse(2 << 30);
        ask(front, 5, &FrontEnd::table(&[vast.spec()]), &[vast.as_fd()]);
    });
}

#[test]
fn memory_cannot_be_piled_up() {
    refused("more than 32 memory regions", |front| {
        let more = GuestMemory::new(1 << 20);
        for n in 1..40_u64 {
            let spec = crate::RegionSpec {
                guest_address: GUEST + (n << 32),
                user_address: USER + (n << 32),
                ..more.spec()
            };
            let payload = [vec![0; 8], FrontEnd::region(&spec)].concat();
            if front.ask(37, &payload, &[more.as_fd()]) != Some(0) {
                break;
            }
        }
    });
}

#[test]
fn rings_of_impossible_sizes_and_places_are_refused() {
    for size in [0, 1, 3, 65_535, 65_536, u32::MAX] {
        refused("a power of two from 2 to 32768", |front| {
            front.stop_ring(0);
            ask(front, 8, &FrontEnd::ring_state(0, size), &[]);
        });
    }
    for request in [8, 10, 18] {
        refused("names ring 200, of 2 rings", |front| {
            ask(front, request, &FrontEnd::ring_state(200, 2), &[]);
        });
    }
    refused("names ring 200", |front| {
        front.tell(11, &FrontEnd::ring_state(200, 0), &[]);
    });
    refused("begins at 65536", |front| {
        front.stop_ring(0);
        ask(front, 10, &FrontEnd::ring_state(0, 65_536), &[]);
    });
    let moved = |change: fn(&mut crate::msg::RingAddresses)| {
        move |front: &mut FrontEnd| {
            front.stop_ring(1);
            let mut addresses = front.rings[1].addresses(1);
            change(&mut addresses);
            front.ask(9, &FrontEnd::ring_addresses(&addresses), &[]);
            front.set_kick(1);
        }
    };
    refused(
        "the descriptor table of ring 1",
        moved(|a| a.descriptors += 8),
    );
    refused("the available ring of ring 1", moved(|a| a.available += 1));
    refused("the used ring of ring 1", moved(|a| a.used += 2));
    refused("the used ring of ring 1", moved(|a| a.used = u64::MAX - 3));
    refused(
        "the descriptor table of ring 1",
        moved(|a| a.descriptors = 16),
    );
    refused("asks for a log of dirty pages", moved(|a| a.flags = 1));
}

#[test]
fn a_ring_that_runs_cannot_be_changed() {
    refused("SET_VRING_NUM for ring 0 while it runs", |front| {
        ask(front, 8, &FrontEnd::ring_state(0, 32_768), &[]);
    });
    refused("SET_VRING_BASE for ring 1 while it runs", |front| {
        ask(front, 10, &FrontEnd::ring_state(1, 5), &[]);
    });
    refused("SET_VRING_ADDR for ring 0 while it runs", |front| {
        let addresses = front.rings[0].addresses(0);
        ask(front, 9, &FrontEnd::ring_addresses(&addresses), &[]);
    });
}

#[test]
fn memory_cannot_be_taken_from_under_the_rings() {
    // The queues are given back before the answer, and without memory the rings cannot go on.
    refused("the descriptor table of ring 0", |front| {
        let payload = [vec![0; 8], FrontEnd::region(&front.memory.spec())].concat();
        front.ask(38, &payload, &[]);
    });
}

#[test]
fn features_that_were_not_offered_are_refused() {
    refused("features 0x20000000 were not offered", |front| {
        ask(front, 2, &(1_u64 << 29).to_ne_bytes(), &[]);
    });
    refused("features 0x1000 were not offered", |front| {
        ask(front, 16, &(1_u64 << 12).to_ne_bytes(), &[]);
    });
    refused("GET_INFLIGHT_FD is not supported", |front| {
        front.tell(31, &[0; 20], &[]);
    });
}

#[test]
fn what_is_no_eventfd_is_not_polled_and_not_written() {
    for request in [12, 13] {
        refused("is not an eventfd but pipe", |front| {
            let (pipe, _other) = std::io::pipe().unwrap();
            ask(front, request, &[0; 8], &[pipe.as_fd()]);
        });
    }
}

#[test]
fn memory_made_shorter_ends_the_connection_and_nobody_else() {
    let back = Back::new(Role::Server, |_| {});
    let mut front = back.running(Setup::default());
    front.send(0, &[&[7; 60]]);
    front.memory.truncate(4096);
    let fault = back.with(|connection| {
        let mut list = FrameList::default();
        // The first look finds zeros where the ring was, the next one that the page is gone.
        let rx = &mut connection.rx[0];
        let fault = rx
            .recv(64, &mut list)
            .and_then(|_| rx.pending())
            .unwrap_err();
        (connection.id, fault)
    });
    assert_eq!(fault.1, crate::Fault::MemoryGone);
    back.endpoint.disconnect(fault.0, fault.1);
    back.says("stopped: broken ring: shared memory is gone");
    assert!(front.closed());
    let mut next = back.running(Setup::default());
    back.echoes(&mut next, 0, &[60, 1514]);
}

#[test]
fn memory_made_shorter_before_the_rings_run_kills_nobody() {
    let back = Back::new(Role::Server, |_| {});
    let front = back.front_end(Setup::default());
    front.begin().unwrap();
    front.share_memory().unwrap();
    for ring in 0..2 {
        front.set_ring(ring).unwrap();
    }
    front.memory.truncate(0);
    front.set_kick(0);
    front.set_kick(1);
    back.says("started");
    let fault = back.with(|connection| connection.rx[0].pending());
    assert_eq!(fault, Err(crate::Fault::MemoryGone));
}

#[test]
fn an_interrupt_that_blocks_holds_its_own_thread_only() {
    let back = Back::new(Role::Server, |_| {});
    let mut front = back.running(Setup::default());
    let full = eventfd(0, EventfdFlags::empty()).unwrap();
    rustix::io::write(&full, &(u64::MAX - 1).to_ne_bytes()).unwrap();
    front.calls = vec![full.try_clone().unwrap(), full];
    front.set_call(0).unwrap();
    front.set_call(1).unwrap();
    for _ in 0..50 {
        back.echoes(&mut front, 0, &[60, 1514]);
    }
    let start = Instant::now();
    drop(front.socket().shutdown(std::net::Shutdown::Both));
    back.says("stopped: the front end closed");
    let mut next = back.running(Setup::default());
    back.echoes(&mut next, 0, &[60]);
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn messages_are_taken_at_a_rate() {
    let back = Back::new(Role::Server, |_| {});
    let front = back.running(Setup::default());
    let start = Instant::now();
    for n in 0..2000 {
        assert_eq!(front.ask(18, &FrontEnd::ring_state(n % 2, 1), &[]), Some(0));
    }
    assert!(
        start.elapsed() >= Duration::from_millis(800),
        "1024, then 1000 a second"
    );
    assert!(back.said.try_recv().is_err(), "the rings ran on");
}

#[test]
fn rings_are_started_at_a_rate() {
    let back = Back::new(Role::Server, |_| {});
    let front = back.running(Setup::default());
    let start = Instant::now();
    for _ in 0..200 {
        for on in [0, 1] {
            front.ask(18, &FrontEnd::ring_state(0, on), &[]).unwrap();
        }
    }
    assert!(
        start.elapsed() >= Duration::from_secs(1),
        "64, then 100 a second"
    );
}

#[test]
fn front_ends_that_break_the_protocol_again_and_again_wait() {
    let back = Back::new(Role::Server, |_| {});
    let start = Instant::now();
    for _ in 0..10 {
        let front = back.front_end(Setup::default());
        front.send_raw(&FrontEnd::message(1, 7, &[]), &[]).unwrap();
        assert!(front.closed());
    }
    assert!(
        start.elapsed() >= Duration::from_millis(500),
        "pauses that double"
    );
    let counts = back.endpoint.counts();
    assert!(counts.refused >= 9 && counts.pauses > 0, "{counts:?}");
}
