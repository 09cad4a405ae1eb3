// SPDX-License-Identifier: Apache-2.0
//! Rings whose peer writes anything at any moment, against a live queue of each kind. The first byte
//! says which; then come operations.

use sluice_memif::fuzzing::{Queue, Side};
use sluice_memif::layout::MAX_PACKET;
use sluice_memif::{Fault, FrameList, TxQueue};

use crate::Bytes;

/// Number of descriptors in the ring.
const LOG2: u8 = 4;

/// Carries out the operations in the bytes, until they end or the queue reports a fault.
pub(crate) fn body(bytes: &[u8]) {
    thread_local! {
        static SIDE: Option<Side> = Side::new(LOG2).ok();
    }
    let mut bytes = Bytes(bytes);
    let kind = bytes.u8();
    let live = SIDE.with(|side| side.as_ref().and_then(|side| side.live(kind).ok()));
    let Some(mut live) = live else {
        panic!("the system has no memory for a ring");
    };
    let mut frames = FrameList::default();
    let frame = [0x55_u8; 3000];
    while !bytes.is_empty() {
        let done = match bytes.u8() % 8 {
            0 => live.head(bytes.u16()),
            1 => live.tail(bytes.u16()),
            2 => live.head(u16::from(bytes.u8())),
            3 => live.tail(u16::from(bytes.u8())),
            4 => {
                let (slot, flags, region) = (bytes.u8(), bytes.u8(), bytes.u8());
                let (length, offset) = (bytes.u32(), bytes.u32());
                live.descriptor(slot.into(), flags.into(), region.into(), length, offset);
                Ok(())
            }
            5 => {
                // One that may well be right.
                let (slot, flags, length) = (bytes.u8(), bytes.u8(), bytes.u8());
                live.good(slot.into(), flags.into(), length.into());
                Ok(())
            }
            6 => live.poke(bytes.u16().into(), &bytes.take::<4>()),
            _ => {
                let size = usize::from(bytes.u16()) % frame.len();
                let worked = match live.queue() {
                    Queue::Rx(queue) => queue.recv(64, &mut frames).map(|_| ()),
                    Queue::Tx(queue) => send(queue, size, &frame),
                };
                while let Some(frame) = frames.pop() {
                    assert!((1..=MAX_PACKET).contains(&frame.len()), "{}", frame.len());
                    frames.recycle(frame);
                }
                worked
            }
        };
        if done.is_err() {
            return;
        }
    }
}

/// Sends frames in the way that their size selects.
fn send(queue: &mut TxQueue, size: usize, frame: &[u8]) -> Result<(), Fault> {
    match size % 4 {
        0 => queue.prepare()?,
        1 => {
            queue.push_frames((0..5).map(|_| &frame[..size]))?;
        }
        _ => {
            queue.push(&[&frame[..size / 2], &frame[..size]])?;
        }
    }
    queue.publish().map(|_| ())
}
