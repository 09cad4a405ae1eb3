// SPDX-License-Identifier: Apache-2.0
//! Numbered frames from one memif to another, as fast as they go.

use std::time::{Duration, Instant};

use sluice_memif::{Memif, Sink};
use sluice_packet::build::FrameBuilder;

use super::failure::Failure;
use super::interrupt::Interrupt;
use super::plan::RATE_PORT;
use super::steps::pair::Played;

/// Bytes of a frame. A memif carries no frame check sequence.
const FRAME: usize = 64;
/// Ethernet, IPv4 and UDP headers: the number comes behind them.
const HEADERS: usize = 14 + 20 + 8;
/// Frames of one go.
const BURST: usize = 64;
/// Frames on the way at most, below what either ring holds (1024): then none can be lost for want
/// of room, and one that is lost was lost by the engine.
const WINDOW: u64 = 512;
/// Longest time for frames on the way to arrive.
const LIMIT: Duration = Duration::from_secs(10);

/// Result of a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Measured {
    pub(super) sent: u64,
    pub(super) received: u64,
    /// Frames that came besides: out of order, changed, or sent by nobody.
    pub(super) wrong: u64,
    pub(super) time: Duration,
}

impl Measured {
    /// Millions of frames a second.
    #[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    pub(super) fn mpps(&self) -> f64 {
        self.received as f64 / self.time.as_secs_f64() / 1e6
    }
}

/// Sends from `a` to `b` for `time`. One thread plays both, so that on two cores the engine's worker
/// has one to itself.
pub(super) fn measure(
    interrupt: &Interrupt,
    a: &mut Played<'_>,
    b: &mut Played<'_>,
    time: Duration,
) -> Result<Measured, Failure> {
    let frame = FrameBuilder::new(b.interface.mac, a.interface.mac)
        .ipv4(a.interface.address, b.interface.address)
        .udp(1024, RATE_PORT)
        .payload(&[0; FRAME - HEADERS])
        .build();
    let mut head = [0; HEADERS];
    head.copy_from_slice(&frame[..HEADERS]);
    // IPv4 allows datagrams without a checksum (RFC 768); this one would change with the number.
    head[HEADERS - 2..].fill(0);

    let mut landing = BurstBuffers::default();
    let (mut sent, mut received, mut wrong, mut next) = (0_u64, 0_u64, 0_u64, 0_u64);
    let start = Instant::now();
    let mut end = None;
    for turn in 0_u64.. {
        if turn % 256 == 0 {
            interrupt.check()?;
            check_link(&mut a.memif, "a")?;
            check_link(&mut b.memif, "b")?;
            let elapsed = start.elapsed();
            if end.is_none() && elapsed >= time {
                end = Some(elapsed);
            }
            if elapsed >= time + LIMIT {
                break;
            }
        }
        landing.count = 0;
        b.memif.recv(0, BURST, &mut landing);
        for frame in landing.frames() {
            let number = frame
                .get(HEADERS..HEADERS + 8)
                .and_then(|n| n.try_into().ok());
            let right = frame.starts_with(&head) && frame.len() == FRAME;
            match number.map(u64::from_be_bytes) {
                Some(number) if right && (next..sent).contains(&number) => {
                    received += 1;
                    next = number + 1;
                }
                _ => wrong += 1,
            }
        }
        if end.is_some() {
            if next >= sent {
                break;
            }
        } else if sent - next <= WINDOW - BURST as u64 {
            for _ in 0..BURST {
                let number = sent.to_be_bytes();
                let rest = [0; FRAME - HEADERS - 8];
                if !a.memif.send(0, &[&head, &number, &rest]) {
                    break;
                }
                sent += 1;
            }
            a.memif.flush();
        } else if landing.count == 0 {
            // The engine may want this core.
            std::thread::yield_now();
        }
    }
    // What came after the time was over came in far less than the rate's error.
    let time = end.unwrap_or(time);
    Ok(Measured {
        sent,
        received,
        wrong,
        time,
    })
}

fn check_link(memif: &mut Memif, name: &str) -> Result<(), Failure> {
    let change = memif.change();
    if memif.is_up() {
        return Ok(());
    }
    let what = format!("the memif of pod {name}");
    Err(Failure::unexpected(
        what,
        "its link stays up",
        format!("{change:?}"),
    ))
}

/// Buffers that a received burst is copied to.
#[derive(Debug)]
struct BurstBuffers {
    room: Box<[[u8; 128]; BURST]>,
    lens: [usize; BURST],
    count: usize,
}

impl Default for BurstBuffers {
    fn default() -> BurstBuffers {
        BurstBuffers {
            room: Box::new([[0; 128]; BURST]),
            lens: [0; BURST],
            count: 0,
        }
    }
}

impl BurstBuffers {
    fn frames(&self) -> impl Iterator<Item = &[u8]> {
        let landed = self.room.iter().zip(&self.lens).take(self.count);
        landed.map(|(room, &len)| room.get(..len).unwrap_or_default())
    }
}

impl Sink for BurstBuffers {
    fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        let room = self.room.get_mut(self.count)?.get_mut(..len)?;
        *self.lens.get_mut(self.count)? = len;
        self.count += 1;
        Some(room)
    }
}
