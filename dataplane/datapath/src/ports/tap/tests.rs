// SPDX-License-Identifier: Apache-2.0
//! A tap's port and its thread around a device that does what a test says.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a test is no worker"
)]

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Condvar, Mutex, MutexGuard};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

use super::*;
use crate::drops::DropReason;
use crate::frame::FrameInfo;
use crate::testing::fake_port_context::Lent;

/// A device whose kernel is a test.
struct FakeTap {
    /// Readable while frames are waiting, as a tap is.
    readable: OwnedFd,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    from_pod: VecDeque<Vec<u8>>,
    to_pod: Vec<Vec<u8>>,
    /// Writes hang in the pod's kernel.
    is_held: bool,
    is_writing: bool,
    is_down: bool,
    is_deleted: bool,
    is_gone: bool,
}

impl FakeTap {
    fn new() -> Arc<FakeTap> {
        Arc::new(FakeTap {
            readable: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::SEMAPHORE).unwrap(),
            state: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_all();
    }

    fn wait(&self, until: impl Fn(&State) -> bool) {
        let mut state = self.state();
        while !until(&state) {
            state = self.changed.wait(state).unwrap();
        }
    }

    /// The pod sends a frame.
    fn give(&self, frame: Vec<u8>) {
        // Both under the lock: who reads the frame finds it counted.
        let mut state = self.state();
        state.from_pod.push_back(frame);
        rustix::io::write(&self.readable, &1u64.to_ne_bytes()).unwrap();
    }

    /// The pod deletes the device.
    fn delete(&self) {
        self.set(|state| state.is_deleted = true);
        rustix::io::write(&self.readable, &1u64.to_ne_bytes()).unwrap();
    }
}

/// The thread's handle of a [`FakeTap`].
struct FakeDevice(Arc<FakeTap>);

impl Device for FakeDevice {
    fn recv(&self, buffer: &mut [u8]) -> io::Result<Option<TapFrame>> {
        let mut state = self.0.state();
        if state.is_deleted {
            return Err(Errno::BADFD.into());
        }
        let Some(frame) = state.from_pod.pop_front() else {
            return Ok(None);
        };
        rustix::io::read(&self.0.readable, &mut [0; 8]).unwrap();
        buffer[..frame.len()].copy_from_slice(&frame);
        Ok(Some(TapFrame {
            len: frame.len(),
            csum_not_ready: None,
            gso: None,
        }))
    }

    fn send(&self, frame: &[u8]) -> io::Result<bool> {
        self.0.set(|state| state.is_writing = true);
        self.0.wait(|state| !state.is_held);
        let mut state = self.0.state();
        state.is_writing = false;
        if state.is_deleted {
            return Err(Errno::BADFD.into());
        }
        if state.is_down {
            return Err(Errno::IO.into());
        }
        state.to_pod.push(frame.to_vec());
        drop(state);
        self.0.changed.notify_all();
        Ok(true)
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.0.readable.as_fd()
    }
}

impl Drop for FakeDevice {
    fn drop(&mut self) {
        self.0.set(|state| state.is_gone = true);
    }
}

fn start(tap: &Arc<FakeTap>) -> (TapPort, Arc<LateCounts>) {
    let mut port = TapPort::start_device("tap-test".into(), FakeDevice(Arc::clone(tap))).unwrap();
    let late = Arc::default();
    port.count_late(&late);
    (port, late)
}

/// Delivers `frames` and returns how many the port took.
fn deliver(port: &mut TapPort, lent: &mut Lent, frames: &[Vec<u8>]) -> usize {
    let mut taken = 0;
    for frames in frames.chunks(sluice_mem::BURST) {
        let mut burst = Burst::new();
        for frame in frames {
            let mut mbuf = lent.pools.alloc_for(frame.len()).unwrap();
            assert!(mbuf.copy_from(frame));
            FrameInfo::begin(&mut mbuf, None);
            burst.push(mbuf).unwrap();
        }
        let sent = port.deliver(burst.as_slice(), Tagging::Untagged).unwrap();
        port.flush();
        lent.pools.free_burst(&mut burst);
        assert_eq!((sent.frames, sent.unfit), (0, 0));
        taken += sent.pending;
    }
    taken
}

/// Receives until there are `wanted` frames.
fn receive(port: &mut TapPort, lent: &mut Lent, wanted: usize) -> Vec<Vec<u8>> {
    let mut received = Vec::new();
    while received.len() < wanted {
        let mut burst = Burst::new();
        port.rx_burst(&mut lent.context(), &mut burst).unwrap();
        received.extend(burst.iter().map(|mbuf| mbuf.data().to_vec()));
        lent.pools.free_burst(&mut burst);
        std::thread::yield_now();
    }
    received
}

/// Sleeps at the port's fds, as a worker does, until they wake it or five seconds are over.
fn is_woken(port: &TapPort) -> bool {
    let mut woken = false;
    port.wake_fds(&mut |fd| {
        let limit = Timespec {
            tv_sec: 5,
            tv_nsec: 0,
        };
        let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
        woken = poll(&mut fds, Some(&limit)).unwrap() == 1;
        rustix::io::read(fd, &mut [0; 8]).unwrap();
    });
    woken
}

fn numbered(count: usize, len: usize) -> Vec<Vec<u8>> {
    let byte = |number: usize| number.to_le_bytes()[0];
    (0..count).map(|number| vec![byte(number); len]).collect()
}

#[test]
fn frames_keep_their_order_both_ways() {
    let tap = FakeTap::new();
    let (mut port, late) = start(&tap);
    let mut lent = Lent::new(256);
    let frames = numbered(1000, 100);
    assert_eq!(deliver(&mut port, &mut lent, &frames), 1000);
    tap.wait(|state| state.to_pod.len() == 1000);
    assert_eq!(tap.state().to_pod, frames);
    frames.iter().for_each(|frame| tap.give(frame.clone()));
    assert_eq!(receive(&mut port, &mut lent, 1000), frames);
    drop(port);
    assert_eq!(late.traffic().tx_frames, 1000);
    assert_eq!(late.traffic().tx_bytes, 100_000);
    lent.assert_all_free();
}

#[test]
fn a_kernel_that_takes_its_time_holds_its_thread_and_no_worker() {
    let tap = FakeTap::new();
    tap.set(|state| state.is_held = true);
    let (mut port, late) = start(&tap);
    let mut lent = Lent::new(256);
    // The worker fills the ring, and goes on.
    let frames = numbered(2000, 60);
    assert_eq!(deliver(&mut port, &mut lent, &frames), TO_POD_FRAMES);
    tap.wait(|state| state.is_writing);
    assert!(port.arm(), "nothing to do");
    assert_eq!(late.ended(), 0);
    tap.set(|state| state.is_held = false);
    tap.wait(|state| state.to_pod.len() == TO_POD_FRAMES);
    // There is room again, and a frame is a wake-up if the thread sleeps by now.
    assert_eq!(deliver(&mut port, &mut lent, &frames[..1]), 1);
    tap.wait(|state| state.to_pod.len() == TO_POD_FRAMES + 1);
    lent.assert_all_free();
}

#[test]
fn what_waits_for_the_pod_at_the_end_is_counted() {
    let tap = FakeTap::new();
    tap.set(|state| state.is_held = true);
    let (mut port, late) = start(&tap);
    let mut lent = Lent::new(256);
    assert_eq!(deliver(&mut port, &mut lent, &numbered(100, 60)), 100);
    tap.wait(|state| state.is_writing);
    port.end();
    // The frame that the pod's kernel has is finished, no other is begun.
    tap.set(|state| state.is_held = false);
    drop(port);
    let state = tap.state();
    assert!(state.is_gone, "the device is closed");
    let (sent, lost) = (state.to_pod.len(), late.drops().get(DropReason::LinkDown));
    assert_eq!((sent, lost), (1, 99));
    assert_eq!(late.traffic().tx_frames, 1);
    assert_eq!(late.ended(), 100);
}

#[test]
fn what_waits_for_the_worker_at_the_end_is_counted() {
    let tap = FakeTap::new();
    let (port, late) = start(&tap);
    let frames = numbered(10, 60);
    frames.iter().for_each(|frame| tap.give(frame.clone()));
    while !tap.state().from_pod.is_empty() {
        std::thread::yield_now();
    }
    drop(port);
    assert_eq!(late.unread_drops().get(DropReason::LinkDown), 10);
    assert_eq!(late.ended(), 0, "none of them was for the pod");
}

#[test]
fn ports_that_are_told_together_are_waited_for_together() {
    let taps: Vec<_> = (0..3).map(|_| FakeTap::new()).collect();
    let mut lent = Lent::new(64);
    let mut ports: Vec<_> = taps.iter().map(|tap| start(tap).0).collect();
    for (tap, port) in taps.iter().zip(&mut ports) {
        tap.set(|state| state.is_held = true);
        deliver(port, &mut lent, &numbered(1, 60));
        tap.wait(|state| state.is_writing);
    }
    ports.iter_mut().for_each(|port| port.end());
    assert!(ports.iter().all(|port| port.shared.is_stopped()));
    // The time of each runs since then, not since its drop.
    let started = std::time::Instant::now();
    drop(ports);
    let limit = thread::END_LIMIT + std::time::Duration::from_secs(2);
    assert!(started.elapsed() < limit);
    taps.iter()
        .for_each(|tap| tap.set(|state| state.is_held = false));
    taps.iter().for_each(|tap| tap.wait(|state| state.is_gone));
}

#[test]
fn a_worker_that_does_not_come_holds_the_frames_in_the_device() {
    let tap = FakeTap::new();
    let (mut port, _) = start(&tap);
    let mut lent = Lent::new(256);
    let frames = numbered(3 * FROM_POD_FRAMES, 60);
    frames.iter().for_each(|frame| tap.give(frame.clone()));
    let full = |state: &State| state.from_pod.len() <= 2 * FROM_POD_FRAMES;
    while !full(&tap.state()) {
        std::thread::yield_now();
    }
    // The thread sleeps over the full ring; each burst that the worker takes wakes it.
    assert_eq!(receive(&mut port, &mut lent, frames.len()), frames);
    lent.assert_all_free();
}

#[test]
fn each_frame_and_the_fault_wake_a_sleeping_worker() {
    let tap = FakeTap::new();
    let (mut port, late) = start(&tap);
    let mut lent = Lent::new(256);
    for number in 0..200 {
        assert!(port.arm(), "round {number}");
        tap.give(vec![7; 60]);
        assert!(is_woken(&port), "round {number}");
        assert!(!port.arm(), "a frame is waiting");
        port.disarm();
        receive(&mut port, &mut lent, 1);
    }
    tap.set(|state| state.is_down = true);
    assert_eq!(deliver(&mut port, &mut lent, &numbered(3, 60)), 3);
    while late.ended() < 3 {
        std::thread::yield_now();
    }
    assert_eq!(late.drops().get(DropReason::LinkDown), 3);
    assert!(port.arm(), "down is no fault");
    tap.delete();
    assert!(is_woken(&port));
    let mut burst = Burst::new();
    let fault = port.rx_burst(&mut lent.context(), &mut burst).unwrap_err();
    assert!(fault.reason.contains("it was deleted"), "{fault}");
    assert!(!port.arm());
    assert_eq!(port.deliver(&[], Tagging::Untagged), Err(fault));
}

#[test]
fn the_longest_frames_that_a_tap_can_have_fit_the_ring() {
    let tap = FakeTap::new();
    let (mut port, _) = start(&tap);
    let mut lent = Lent::new(64);
    // Not to be cut they fit no mbuf: counted, and the next one comes.
    for len in [LONGEST, 60, LONGEST, LONGEST, LONGEST, LONGEST, LONGEST, 61] {
        tap.give(vec![1; len]);
    }
    let lens: Vec<usize> = receive(&mut port, &mut lent, 2)
        .iter()
        .map(Vec::len)
        .collect();
    assert_eq!(lens, [60, 61]);
    assert_eq!(lent.drops.get(DropReason::TooLong), 6);
}
