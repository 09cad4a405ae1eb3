// SPDX-License-Identifier: Apache-2.0
//! Pair of our own endpoints over a real socket, for all tests of this crate.
#![allow(dead_code, reason = "each test file uses its part of it")]

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use sluice_memif::{Address, EndpointConfig, FrameList, LinkChange, Memif, Role};

/// Long enough for a busy machine; nothing waits that long when it works.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Abstract name that is unique to the test.
pub(crate) fn address() -> Address {
    static SERIAL: AtomicU32 = AtomicU32::new(0);
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    Address::Abstract(format!("sluice-memif/{}/{serial}", std::process::id()))
}

/// An endpoint with a change to the defaults.
pub(crate) fn open(
    role: Role,
    address: &Address,
    change: impl FnOnce(&mut EndpointConfig),
) -> Memif {
    let mut config = EndpointConfig::new(role, if role == Role::Server { "s" } else { "c" });
    change(&mut config);
    Memif::open(config, address.clone()).unwrap()
}

/// Polls until `found` returns a value.
pub(crate) fn until(what: &str, mut found: impl FnMut() -> bool) {
    let start = Instant::now();
    while !found() {
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Waits for the next change of the link that is not a notice.
pub(crate) fn change(memif: &mut Memif) -> LinkChange {
    let mut next = None;
    until("a change of the link", || {
        next = memif.change();
        matches!(next, Some(LinkChange::Up { .. } | LinkChange::Down { .. }))
    });
    next.unwrap()
}

/// Waits until the link is up.
pub(crate) fn up(memif: &mut Memif) {
    until("the link to come up", || {
        while memif.change().is_some() {}
        memif.is_up()
    });
}

/// Waits for a notice that contains `text`.
pub(crate) fn notice(memif: &mut Memif, text: &str) {
    until(text, || {
        std::iter::from_fn(|| memif.change())
            .any(|c| matches!(c, LinkChange::Notice { what } if what.contains(text)))
    });
}

/// Frame number `n` of `len` bytes (4 at least): its number, then bytes that depend on both.
pub(crate) fn frame(n: u32, len: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..len)
        .map(|at| (n as usize * 31 + at * 7) as u8)
        .collect();
    bytes[..4].copy_from_slice(&n.to_le_bytes());
    bytes
}

/// Sends `count` frames of `len` bytes from `from`'s queue to `to`'s and compares every byte and
/// their order.
pub(crate) fn carry(from: &mut Memif, to: &mut Memif, queue: usize, count: u32, len: usize) {
    let mut frames = FrameList::default();
    let (mut sent, mut received) = (0, 0);
    let start = Instant::now();
    while received < count {
        assert!(
            start.elapsed() < PATIENCE,
            "{received} of {count} frames of {len} arrived"
        );
        for _ in 0..32 {
            let next = frame(sent, len);
            let (head, tail) = next.split_at(len / 3);
            if sent == count || !from.send(queue, &[head, &[], tail]) {
                break;
            }
            sent += 1;
        }
        from.flush();
        to.recv(queue, 64, &mut frames);
        while let Some(got) = frames.pop() {
            assert!(
                got == frame(received, len),
                "frame {received} of {len} bytes differs"
            );
            received += 1;
            frames.recycle(got);
        }
    }
    assert_eq!(to.recv(queue, 64, &mut frames), 0);
}
