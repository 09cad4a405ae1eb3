// SPDX-License-Identifier: Apache-2.0
//! A steady stream of numbered datagrams that are echoed, and what became of each.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::failure::Failure;
use super::frames::{Content, Path, ReceivedFrame};
use super::interrupt::Interrupt;
use super::wire::WireHost;

/// Most datagrams of one go: who was kept from sending does not make up for it in one burst.
const AT_ONCE: u32 = 16;
/// Bytes before the number in each datagram.
const MAGIC: &[u8; 8] = b"sluice# ";
/// After the last datagram, the stream ends when nothing has come for so long.
const QUIET: Duration = Duration::from_millis(500);

/// Numbered stream of datagrams in one direction.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) path: Path,
    /// Source and destination port.
    pub(super) ports: (u16, u16),
    /// Datagrams a second.
    pub(super) rate: u32,
    /// Datagrams sent so far, to be looked at from other threads.
    pub(super) sent: AtomicU32,
    /// Datagrams echoed so far, likewise.
    pub(super) echoed: AtomicU32,
}

impl Lane {
    pub(super) fn new(path: Path, ports: (u16, u16), rate: u32) -> Lane {
        Lane {
            path,
            ports,
            rate,
            sent: AtomicU32::new(0),
            echoed: AtomicU32::new(0),
        }
    }

    fn datagram(&self, number: u32) -> Vec<u8> {
        let data = [&MAGIC[..], &number.to_be_bytes()].concat();
        self.path.udp(self.ports.0, self.ports.1, &data)
    }

    /// The number of a datagram of ours that came back, from where it went and in its segment.
    fn number(&self, heard: &ReceivedFrame) -> Option<u32> {
        let Content::Udp { from, to, data } = &heard.what else {
            return None;
        };
        let ours = heard.vid == self.path.vid
            && (heard.from, heard.to) == (self.path.to, self.path.from)
            && (*to, *from) == self.ports;
        let number = data.strip_prefix(MAGIC).filter(|_| ours)?;
        number.try_into().ok().map(u32::from_be_bytes)
    }
}

/// Sends all lanes until `stop`, listens until it is quiet then, and gives the numbers of each lane
/// in the order in which they came back.
pub(super) fn run<const N: usize>(
    host: &mut WireHost,
    interrupt: &Interrupt,
    lanes: &[Lane; N],
    stop: &AtomicBool,
) -> Result<[Vec<u32>; N], Failure> {
    let mut orders = [const { Vec::new() }; N];
    let mut starts = [Instant::now(); N];
    let mut last_heard = Instant::now();
    loop {
        let stopped = stop.load(Ordering::Relaxed);
        if stopped && last_heard.elapsed() > QUIET {
            return Ok(orders);
        }
        interrupt.check()?;
        if stopped {
            // The last ones are on their way.
        } else {
            for (lane, start) in lanes.iter().zip(&mut starts) {
                send_due(host, lane, start)?;
            }
            host.flush()?;
            last_heard = Instant::now();
        }
        let mut came = false;
        host.receive(&mut |heard| {
            for (lane, order) in lanes.iter().zip(&mut orders) {
                if let Some(number) = lane.number(&heard) {
                    order.push(number);
                    lane.echoed.fetch_add(1, Ordering::Relaxed);
                    came = true;
                }
            }
        })?;
        if came {
            last_heard = Instant::now();
        } else {
            std::thread::sleep(Duration::from_micros(300));
        }
    }
}

/// Sends what a lane's rate makes due.
fn send_due(host: &mut WireHost, lane: &Lane, start: &mut Instant) -> Result<(), Failure> {
    let sent = lane.sent.load(Ordering::Relaxed);
    let due = start.elapsed().as_secs_f64() * f64::from(lane.rate) - f64::from(sent);
    let mut now = 0;
    while f64::from(now) < due && now < AT_ONCE {
        host.queue(&lane.datagram(sent + now))?;
        now += 1;
    }
    let late = due - f64::from(now);
    if late > 1.0 {
        *start += Duration::from_secs_f64(late / f64::from(lane.rate));
    }
    lane.sent.store(sent + now, Ordering::Relaxed);
    Ok(())
}

/// Result of a lane's datagrams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    /// Number of datagrams that came back.
    pub(super) echoed: usize,
    /// Gaps: the first number missing of each, and the first behind it.
    pub(super) missing: Vec<(u32, u32)>,
    /// Number of datagrams that came back after one with a higher number, or twice.
    pub(super) disordered: usize,
}

impl Account {
    /// Of `sent` datagrams, whose numbers came back in this order.
    pub(super) fn of(sent: u32, order: &[u32]) -> Account {
        let mut missing = Vec::new();
        let mut disordered = 0;
        let mut next = 0;
        for &number in order {
            if number < next || number >= sent {
                disordered += 1;
                continue;
            }
            if number > next {
                missing.push((next, number));
            }
            next = number + 1;
        }
        if next < sent {
            missing.push((next, sent));
        }
        Account {
            echoed: order.len(),
            missing,
            disordered,
        }
    }

    /// Datagrams that did not come back.
    pub(super) fn lost(&self) -> u32 {
        self.missing
            .iter()
            .map(|(first, behind)| behind - first)
            .sum()
    }

    /// For a failure.
    pub(super) fn describe(&self) -> String {
        let gaps = self.missing.iter().take(5);
        let shown: Vec<_> = gaps
            .map(|(first, behind)| format!("{first}..{behind}"))
            .collect();
        format!(
            "{} came back, {} of them out of order; {} did not, in {} places: {}",
            self.echoed,
            self.disordered,
            self.lost(),
            self.missing.len(),
            shown.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_and_disorder_are_told_apart() {
        let whole = Account::of(4, &[0, 1, 2, 3]);
        assert_eq!(
            whole,
            Account {
                echoed: 4,
                missing: vec![],
                disordered: 0
            }
        );
        let gap = Account::of(6, &[0, 1, 4, 5]);
        assert_eq!(
            gap,
            Account {
                echoed: 4,
                missing: vec![(2, 4)],
                disordered: 0
            }
        );
        assert_eq!(gap.lost(), 2);
        let ends = Account::of(5, &[1, 2]);
        assert_eq!(ends.missing, [(0, 1), (3, 5)]);
        assert_eq!(Account::of(3, &[0, 2, 1]).disordered, 1);
        assert_eq!(Account::of(3, &[0, 1, 1, 2]).disordered, 1);
        assert_eq!(Account::of(1, &[0, 7]).disordered, 1);
        assert_eq!(Account::of(2, &[]).missing, [(0, 2)]);
    }
}
