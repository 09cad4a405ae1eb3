// SPDX-License-Identifier: Apache-2.0
//! State of one device, as its front end sets it up: requests in, answers out, without sockets.
//!
//! A front end may send any request at any moment. A ring is *ready* when it has a size, addresses, a
//! way to be kicked, memory, and is switched on; a queue pair runs while both of its rings are ready.
//! What changes under a pair that runs stops it first: the caller asks [`Device::disturbs`], has the
//! worker give the queues back, and only then lets the request be done.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use sluice_peer::checks::{check, disabled};

use crate::features::{self, protocol};
use crate::memory::{MAX_REGIONS, Memory, MemoryTable};
use crate::msg::{Name, Request, RingAddresses, RingState};
use crate::queue::{Parts, Ring};
use crate::refusal::Refusal;

/// Binary logarithm of the largest ring.
const MAX_LOG2: u32 = 15;

/// Answer to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Done; answered with 0 if the front end wants an answer.
    Done,
    /// Not done; answered with 1 if the front end wants an answer.
    Failed,
    /// Value that was asked for.
    Word(u64),
    /// Next index of a ring.
    Base(RingState),
}

/// Way in which a front end kicks a ring.
#[derive(Debug, Clone, Default)]
pub(crate) enum KickFd {
    /// Not said yet: the ring does not run.
    #[default]
    Unset,
    /// Not at all: the ring is polled.
    Polled,
    /// By an eventfd.
    Fd(Arc<OwnedFd>),
}

/// Setup of one ring.
#[derive(Debug, Default)]
struct RingSetup {
    log2: Option<u8>,
    addresses: Option<RingAddresses>,
    /// Next index: as the front end set it, or where the ring stopped.
    base: u16,
    kick: KickFd,
    enabled: bool,
    /// Whether a worker has it.
    running: bool,
}

/// Device of one connection.
#[derive(Debug)]
pub(crate) struct Device {
    queue_pairs: u16,
    features: u64,
    status: u64,
    table: MemoryTable,
    rings: Vec<RingSetup>,
}

/// Ring that is to run.
#[derive(Debug)]
pub(crate) struct ReadyRing {
    pub(crate) ring: Ring,
    pub(crate) kick: Option<Arc<OwnedFd>>,
}

impl Device {
    /// Device of that many queue pairs, which takes `max_bytes` of a front end's memory.
    pub(crate) fn new(queue_pairs: u16, max_bytes: u64) -> Device {
        let rings = (0..2 * queue_pairs).map(|_| RingSetup::default());
        Device {
            queue_pairs,
            features: 0,
            status: 0,
            table: MemoryTable::new(max_bytes),
            rings: rings.collect(),
        }
    }

    /// Features that the front end chose.
    pub(crate) fn features(&self) -> u64 {
        self.features
    }

    /// Memory as it is now.
    pub(crate) fn memory(&self) -> Memory {
        self.table.memory()
    }

    /// Whether rings that run must be stopped before the request is done.
    pub(crate) fn disturbs(&self, request: &Request) -> bool {
        let running = |index: u32| self.ring(index).is_some_and(|ring| ring.running);
        match request {
            Request::ResetOwner
            | Request::ResetDevice
            | Request::SetStatus(0)
            | Request::SetMemTable(_)
            | Request::AddMemReg(_)
            | Request::RemMemReg(_) => true,
            Request::SetFeatures(features) => *features != self.features,
            Request::GetVringBase(state) => running(state.index),
            Request::SetVringEnable(state) => running(state.index) && state.num == 0,
            Request::SetVringKick(fd) => running(fd.index),
            _ => false,
        }
    }

    fn ring(&self, index: u32) -> Option<&RingSetup> {
        self.rings.get(usize::try_from(index).ok()?)
    }

    fn ring_mut(&mut self, request: u32, index: u32) -> Result<&mut RingSetup, Refusal> {
        let rings = self.rings.len();
        let wrong = Refusal::RingIndex {
            request: Name(request),
            index,
            rings,
        };
        let at = usize::try_from(index).unwrap_or(usize::MAX);
        self.rings.get_mut(at).ok_or(wrong)
    }

    /// Ring that is about to change.
    fn stopped_ring(&mut self, request: u32, index: u32) -> Result<&mut RingSetup, Refusal> {
        let ring = self.ring_mut(request, index)?;
        if ring.running && !disabled("ring-running") {
            return Err(Refusal::RingRunning {
                request: Name(request),
                index,
            });
        }
        Ok(ring)
    }

    /// Does a request. What [`Device::disturbs`] says was stopped before.
    ///
    /// # Errors
    /// The front end broke the protocol: its connection must end.
    pub(crate) fn apply(&mut self, request: Request, fds: Vec<OwnedFd>) -> Result<Answer, Refusal> {
        match request {
            Request::GetFeatures => Ok(Answer::Word(features::offered(self.queue_pairs))),
            Request::GetProtocolFeatures => Ok(Answer::Word(protocol::OFFERED)),
            Request::GetQueueNum => Ok(Answer::Word(self.queue_pairs.into())),
            Request::GetMaxMemSlots => Ok(Answer::Word(MAX_REGIONS as u64)),
            Request::GetStatus => Ok(Answer::Word(self.status)),
            Request::SetFeatures(chosen) => {
                let foreign = chosen & !features::offered(self.queue_pairs);
                check!("features", foreign == 0, Refusal::Features(foreign));
                self.features = chosen;
                Ok(Answer::Done)
            }
            Request::SetProtocolFeatures(chosen) => {
                let foreign = chosen & !protocol::OFFERED;
                check!("features", foreign == 0, Refusal::Features(foreign));
                Ok(Answer::Done)
            }
            Request::SetOwner => Ok(Answer::Done),
            Request::ResetOwner | Request::ResetDevice => {
                self.reset();
                Ok(Answer::Done)
            }
            Request::SetStatus(status) => {
                if status == 0 {
                    self.reset();
                }
                self.status = status & 0xff;
                Ok(Answer::Done)
            }
            Request::SetMemTable(regions) => {
                self.table.replace(regions.into_iter().zip(fds).collect())?;
                Ok(Answer::Done)
            }
            Request::AddMemReg(region) => {
                for fd in fds {
                    self.table.add(region, fd)?;
                }
                Ok(Answer::Done)
            }
            Request::RemMemReg(region) => {
                self.table.remove(&region)?;
                Ok(Answer::Done)
            }
            Request::SetVringNum(RingState { index, num }) => {
                let ring = self.stopped_ring(8, index)?;
                let log2 = num
                    .checked_ilog2()
                    .filter(|log2| num.is_power_of_two() && (1..=MAX_LOG2).contains(log2));
                let wrong = Refusal::RingSize { index, size: num };
                ring.log2 = Some(u8::try_from(log2.ok_or(wrong)?).unwrap_or(1));
                Ok(Answer::Done)
            }
            Request::SetVringAddr(addresses) => {
                let index = addresses.index;
                let ring = self.stopped_ring(9, index)?;
                check!(
                    "ring-log",
                    addresses.flags & 1 == 0,
                    Refusal::RingLog(index)
                );
                ring.addresses = Some(addresses);
                Ok(Answer::Done)
            }
            Request::SetVringBase(RingState { index, num }) => {
                let ring = self.stopped_ring(10, index)?;
                let wrong = Refusal::RingBase { index, base: num };
                ring.base = u16::try_from(num).map_err(|_| wrong)?;
                Ok(Answer::Done)
            }
            Request::GetVringBase(RingState { index, .. }) => {
                let ring = self.ring_mut(11, index)?;
                // Stopped until it is kicked again.
                ring.kick = KickFd::Unset;
                let num = u32::from(ring.base);
                Ok(Answer::Base(RingState { index, num }))
            }
            Request::SetVringEnable(RingState { index, num }) => {
                self.ring_mut(18, index)?.enabled = num != 0;
                Ok(Answer::Done)
            }
            Request::SetVringKick(fd) => {
                let kick = match eventfd(12, fds)? {
                    Some(fd) => KickFd::Fd(Arc::new(fd)),
                    None => KickFd::Polled,
                };
                self.ring_mut(12, fd.index)?.kick = kick;
                Ok(Answer::Done)
            }
            // The caller has the thread that writes it.
            Request::SetVringCall(fd) => self.ring_mut(13, fd.index).map(|_| Answer::Done),
            // Errors end the connection, so there is nobody to be told.
            Request::SetVringErr(fd) => self.ring_mut(14, fd.index).map(|_| Answer::Done),
            Request::Unsupported(name) => match name.0 {
                // GET_CONFIG, GET_INFLIGHT_FD, GET_SHARED_OBJECT, SET_DEVICE_STATE_FD and
                // CHECK_DEVICE_STATE are answered with data of their own.
                24 | 31 | 41..=43 => Err(Refusal::Unsupported(name)),
                _ => Ok(Answer::Failed),
            },
        }
    }

    /// Forgets the rings and the features; the memory stays.
    fn reset(&mut self) {
        for ring in &mut self.rings {
            *ring = RingSetup::default();
        }
        self.features = 0;
        self.status = 0;
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.reset();
        self.table.clear();
    }

    /// Queue pairs whose two rings are ready: bit n stands for pair n.
    pub(crate) fn ready(&self) -> u64 {
        // Without the protocol's features, rings are on from the start.
        let all = self.features & features::PROTOCOL_FEATURES == 0;
        let ready = |ring: &RingSetup| {
            ring.log2.is_some()
                && ring.addresses.is_some()
                && !matches!(ring.kick, KickFd::Unset)
                && (ring.enabled || all)
        };
        let pairs = self.rings.chunks_exact(2).zip(0..);
        pairs.fold(0, |bits, (pair, n)| {
            bits | u64::from(pair.iter().all(ready)) << n
        })
    }

    /// Rings of a pair that is ready, found in memory: the one to receive from and the one to send on.
    /// From now on they run.
    ///
    /// # Errors
    /// A part of a ring is not in the front end's memory, or not aligned.
    pub(crate) fn run(
        &mut self,
        pair: u16,
        memory: &Memory,
    ) -> Result<(ReadyRing, ReadyRing), Refusal> {
        let mut find = |index: u16| {
            let ring = self.ring_mut(12, index.into())?;
            let (Some(log2), Some(addresses)) = (ring.log2, ring.addresses) else {
                return Err(Refusal::RingIndex {
                    request: Name(12),
                    index: index.into(),
                    rings: 0,
                });
            };
            let found = Ring::new(memory, &Parts { log2, addresses })?;
            ring.running = true;
            let kick = match &ring.kick {
                KickFd::Fd(fd) => Some(Arc::clone(fd)),
                KickFd::Unset | KickFd::Polled => None,
            };
            Ok(ReadyRing { ring: found, kick })
        };
        // Rings are named from the driver's side: 0 is where it receives.
        let send = find(2 * pair)?;
        let receive = find(2 * pair + 1)?;
        Ok((receive, send))
    }

    /// Takes note that no worker has the rings any more, and where each stopped.
    pub(crate) fn stopped(&mut self) {
        let memory = self.table.memory();
        for ring in self.rings.iter_mut().filter(|ring| ring.running) {
            ring.running = false;
            // Frames are copied in order and published in the same burst: the used index is all the
            // state that there is.
            if let (Some(log2), Some(addresses)) = (ring.log2, ring.addresses)
                && let Ok(found) = Ring::new(&memory, &Parts { log2, addresses })
                && let Ok(index) = found.used_index()
            {
                ring.base = index;
            }
        }
    }
}

/// Eventfd of a ring, if the message has one.
pub(crate) fn eventfd(request: u32, fds: Vec<OwnedFd>) -> Result<Option<OwnedFd>, Refusal> {
    let Some(fd) = fds.into_iter().next() else {
        return Ok(None);
    };
    sluice_peer::check_eventfd(fd.as_fd()).map_err(|kind| Refusal::NotEventfd {
        request: Name(request),
        kind,
    })?;
    Ok(Some(fd))
}
