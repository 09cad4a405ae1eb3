// SPDX-License-Identifier: Apache-2.0
//! The engine as control sees it: plain calls that return when the workers have done what was
//! asked. Locks and waiting are on this side only.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this is control's side of the rings: it locks and waits so that workers need not"
)]

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sluice_firewall::{PolicySet, carry_over};
use sluice_mem::{Backing, BufSize, Mempool, PoolConfig, Pools};
use sluice_packet::{Mac, Vid};

use crate::control::balance::Balance;
use crate::control::figures::{Event, GroupMembership, LostRecords, MemorySnapshot, Snapshot};
use crate::control::link::{WorkerLink, WorkerParts, start_workers};
use crate::control::memory::{CACHE_MBUFS, RingSizes};
use crate::control::snapshot;
use crate::control::topology::Topology;
use crate::error::{ConfigError, Error};
use crate::flows::FlowCache;
use crate::ids::{AttachmentId, UplinkId, WorkerId};
use crate::pipeline::attachment::Attachment;
use crate::pipeline::state::UplinkState;
use crate::ports::seam::{PodPort, Uplink, UplinkReport};
use crate::spec::{AttachmentSpec, EngineConfig, IdleConfig, UplinkSpec};
use crate::worker::commands::{Answer, Change, Command, Removed};

/// Workers that the engine can have: bits of a mask.
const MAX_WORKERS: usize = 64;
/// Memberships in multicast groups that a worker lists between two bursts.
const GROUPS_AT_ONCE: usize = 512;

/// The running engine.
pub struct Engine {
    small: Mempool,
    large: Mempool,
    inner: Mutex<Inner>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

struct Inner {
    topology: Topology,
    links: Vec<WorkerLink>,
}

/// Result of an attach.
#[derive(Debug, Clone)]
pub struct Attached {
    /// Number of the attachment.
    pub id: AttachmentId,
    /// Number of the worker that owns it.
    pub worker: usize,
    /// VLANs of the attachment that have no policy, and so carry nothing.
    pub segments_without_policy: Vec<Vid>,
}

impl Engine {
    /// Makes the mempools and starts the workers. They judge by no policy yet: nothing passes.
    ///
    /// # Errors
    /// [`Error::Config`], [`Error::Memory`], [`Error::Thread`].
    pub fn start(config: EngineConfig) -> Result<Engine, Error> {
        let workers = config.workers.len();
        if workers == 0 || workers > MAX_WORKERS {
            return Err(ConfigError::WorkerCount {
                asked: workers,
                most: MAX_WORKERS,
            }
            .into());
        }
        let pool = |size, buffers| {
            Mempool::new(PoolConfig {
                buffers,
                size,
                numa_node: config.numa_node,
                huge_pages: config.huge_pages,
            })
        };
        let small = pool(BufSize::Small, config.small_mbufs)?;
        let large = pool(BufSize::Large, config.large_mbufs)?;
        let mut topology = Topology::new(workers, config.limits);
        let tables = Arc::new(topology.tables());
        let parts = config
            .workers
            .iter()
            .map(|worker| {
                Ok(WorkerParts {
                    core: worker.core,
                    pools: Pools::new(small, large, CACHE_MBUFS),
                    flows: flow_cache(config.flow_cache)?,
                })
            })
            .collect::<Result<Vec<_>, Error>>()?;
        let rings = RingSizes::for_pools(workers, config.small_mbufs, config.large_mbufs);
        let links = start_workers(parts, config.idle, rings, tables, &config.limits)?;
        Ok(Engine {
            small,
            large,
            inner: Mutex::new(Inner { topology, links }),
        })
    }

    /// The mempools: of small and of large mbufs. A NIC's driver has its device reach them.
    pub fn mempools(&self) -> (Mempool, Mempool) {
        (self.small, self.large)
    }

    /// The worker that polls an uplink.
    ///
    /// # Errors
    /// [`Error::NoUplink`].
    pub fn uplink_worker(&self, id: UplinkId) -> Result<usize, Error> {
        let inner = self.lock();
        let uplink = inner.topology.uplink(id).ok_or(Error::NoUplink)?;
        Ok(uplink.worker.index())
    }

    /// Adds an uplink; its worker polls it from now on.
    ///
    /// # Errors
    /// [`Error::UplinkExists`], [`Error::Full`], [`Error::Config`], [`Error::WorkerSilent`].
    pub fn add_uplink(&self, spec: UplinkSpec) -> Result<UplinkId, Error> {
        let mut inner = self.lock();
        let id = inner.topology.add_uplink(&spec)?;
        let Some(record) = inner.topology.uplink(id) else {
            return Err(Error::NoUplink);
        };
        let (worker, counts) = (record.worker, record.counts.clone());
        let state = UplinkState::new(spec.port, counts);
        inner.spread(
            worker,
            Change::AddUplink(id, Box::new(state)),
            Order::OwnerFirst,
        )?;
        Ok(id)
    }

    /// Takes an uplink out and gives its port back.
    ///
    /// # Errors
    /// [`Error::NoUplink`], [`Error::UplinkInUse`], [`Error::WorkerSilent`].
    pub fn remove_uplink(&self, id: UplinkId) -> Result<Box<dyn Uplink>, Error> {
        let mut inner = self.lock();
        let worker = inner.topology.remove_uplink(id)?;
        match inner.spread(worker, Change::RemoveUplink(id), Order::OwnerLast)? {
            Removed::Uplink(state) => Ok(state.port),
            _ => Err(Error::NoUplink),
        }
    }

    /// Gives an uplink another port, as its device went or came back; its attachments, its worker and its
    /// counters stay. Returns the port that was there, to be dropped by the caller.
    ///
    /// # Errors
    /// [`Error::NoUplink`], [`Error::WorkerSilent`].
    pub fn replace_port(
        &self,
        id: UplinkId,
        port: Box<dyn Uplink>,
    ) -> Result<Box<dyn Uplink>, Error> {
        let mut inner = self.lock();
        let worker = inner.topology.set_port(id, port.device(), port.mtu())?;
        match inner.spread(worker, Change::ReplacePort(id, port), Order::OwnerFirst)? {
            Removed::Port(old) => Ok(old),
            _ => Err(Error::NoUplink),
        }
    }

    /// Notes another MTU of an uplink's device. Attachments with more keep theirs: what is too long for
    /// the device is dropped and counted.
    ///
    /// # Errors
    /// [`Error::NoUplink`], [`Error::WorkerSilent`].
    pub fn set_uplink_mtu(&self, id: UplinkId, mtu: u32) -> Result<(), Error> {
        let mut inner = self.lock();
        let uplink = inner.topology.uplink(id).ok_or(Error::NoUplink)?;
        let device = uplink.device.clone();
        let worker = inner.topology.set_port(id, &device, mtu)?;
        inner.spread(worker, Change::None, Order::OwnerFirst)?;
        Ok(())
    }

    /// Returns what an uplink's port last reported.
    ///
    /// # Errors
    /// [`Error::NoUplink`].
    pub fn uplink_report(&self, id: UplinkId) -> Result<UplinkReport, Error> {
        let inner = self.lock();
        let uplink = inner.topology.uplink(id).ok_or(Error::NoUplink)?;
        Ok(uplink.counts.report.read())
    }

    /// Makes an attachment. It has no port yet: frames for it are dropped as `link_down`.
    ///
    /// # Errors
    /// Any but [`Error::Thread`] and [`Error::Memory`]; nothing was changed.
    pub fn attach(&self, spec: AttachmentSpec) -> Result<Attached, Error> {
        let mut inner = self.lock();
        let limits = inner.topology.limits;
        let record = inner.topology.add_attachment(spec)?;
        let (id, worker) = (record.id, record.worker);
        let (uplink, vids) = (record.spec.uplink, record.spec.vlans.vids());
        let identity = record.identity.clone();
        let counts = record.counts.clone();
        let attachment = Attachment::new(id, &record.spec, identity, counts, &limits);
        let change = Change::AddAttachment(Box::new(attachment));
        if let Err(error) = inner.spread(worker, change, Order::OwnerFirst) {
            let _ = inner.topology.remove_attachment(id);
            return Err(error);
        }
        let name = inner
            .topology
            .uplink(uplink)
            .map_or("", |uplink| &uplink.network);
        let segments_without_policy = vids
            .into_iter()
            .filter(|vid| inner.topology.policies.segment(name, *vid).is_none())
            .collect();
        Ok(Attached {
            id,
            worker: worker.index(),
            segments_without_policy,
        })
    }

    /// Takes an attachment out, with its port.
    ///
    /// # Errors
    /// [`Error::NoAttachment`], [`Error::WorkerSilent`].
    pub fn detach(&self, id: AttachmentId) -> Result<(), Error> {
        let mut inner = self.lock();
        let record = inner.topology.remove_attachment(id)?;
        let worker = record.worker;
        match inner.spread(worker, Change::RemoveAttachment(id), Order::OwnerLast) {
            Ok(removed) => {
                inner.topology.forget_learned(id);
                // Its port may take its time to end: others need not wait for that.
                drop(inner);
                drop(removed);
                Ok(())
            }
            Err(error) => {
                inner.topology.restore_attachment(record);
                inner.spread_to_all(worker, Change::TellGroups);
                Err(error)
            }
        }
    }

    /// Gives an attachment its port: the link is up. Returns the port that was there.
    ///
    /// # Errors
    /// [`Error::NoAttachment`], [`Error::WorkerSilent`].
    pub fn connect(
        &self,
        id: AttachmentId,
        mut port: Box<dyn PodPort>,
    ) -> Result<Option<Box<dyn PodPort>>, Error> {
        let mut inner = self.lock();
        let Inner { topology, links } = &mut *inner;
        let record = topology.attachment(id).ok_or(Error::NoAttachment)?;
        if let Some(link) = links.get(record.worker.index()) {
            record.counts.late.add_to(&link.counts.late);
        }
        port.count_late(&record.counts.late);
        inner.port_command(id, true, Command::Connect { id, port })
    }

    /// Takes an attachment's port: the link is down.
    ///
    /// # Errors
    /// [`Error::NoAttachment`], [`Error::WorkerSilent`].
    pub fn disconnect(&self, id: AttachmentId) -> Result<Option<Box<dyn PodPort>>, Error> {
        self.lock()
            .port_command(id, false, Command::Disconnect { id })
    }

    /// Has every worker judge by `policies` from its next burst on. Rules that are the same in both
    /// sets keep their counts. Returns the old set.
    ///
    /// # Errors
    /// [`Error::WorkerSilent`].
    pub fn set_policies(&self, policies: Arc<PolicySet>) -> Result<Arc<PolicySet>, Error> {
        let mut inner = self.lock();
        let old = inner.topology.policies.clone();
        let old_counts = inner.topology.rule_counts.clone();
        let old_carried = inner.topology.carried.clone();
        let empty = vec![(0, 0); policies.slots()];
        inner.topology.set_policies(policies.clone(), empty);
        if let Err(error) = inner.spread(WorkerId(0), Change::None, Order::OwnerFirst) {
            // Commands are obeyed in order: the last that a silent worker obeys is to go back.
            inner.topology.policies = old;
            inner.topology.rule_counts = old_counts;
            inner.topology.carried = old_carried;
            inner.spread_to_all(WorkerId(0), Change::None);
            return Err(error);
        }
        // Only now has every worker written its last count of the old set.
        let total = |slot: usize| {
            let base = old_carried.get(slot).copied().unwrap_or((0, 0));
            old_counts
                .iter()
                .map(|counts| counts.get(slot))
                .fold(base, |sum, n| {
                    (sum.0.wrapping_add(n.0), sum.1.wrapping_add(n.1))
                })
        };
        let mut carried = vec![(0, 0); policies.slots()];
        for (from, to) in carry_over(&old, &policies).iter() {
            if let Some(place) = carried.get_mut(to) {
                *place = total(from);
            }
        }
        inner.topology.carried = carried;
        Ok(old)
    }

    /// The policies that the workers judge by.
    pub fn policies(&self) -> Arc<PolicySet> {
        self.lock().topology.policies.clone()
    }

    /// All counters.
    pub fn snapshot(&self) -> Snapshot {
        let inner = self.lock();
        let workers: Vec<_> = inner
            .links
            .iter()
            .map(|link| (link.core, &*link.counts))
            .collect();
        snapshot::read(&inner.topology, &workers)
    }

    /// The balance of the counters, exact while frames flow: the sum of [`Engine::balances`].
    ///
    /// # Errors
    /// [`Error::WorkerSilent`].
    pub fn balance(&self) -> Result<Balance, Error> {
        let mut sum = Balance::default();
        self.balances()?.iter().for_each(|one| sum.add(one));
        Ok(sum)
    }

    /// The balance of each worker, which adds its own counters up between two bursts, so that each
    /// holds for itself.
    ///
    /// # Errors
    /// [`Error::WorkerSilent`].
    pub fn balances(&self) -> Result<Vec<Balance>, Error> {
        let mut inner = self.lock();
        let mut balances = Vec::new();
        for link in &mut inner.links {
            if let Answer::Balance(one) = link.ask(Command::Balance)? {
                balances.push(one);
            }
        }
        Ok(balances)
    }

    /// Changes the thresholds at which idle workers pause and sleep.
    ///
    /// # Errors
    /// [`Error::WorkerSilent`]; the workers before that one have the new ones.
    pub fn set_idle(&self, config: IdleConfig) -> Result<(), Error> {
        let mut inner = self.lock();
        for link in &mut inner.links {
            link.ask(Command::SetIdle(config))?;
        }
        Ok(())
    }

    /// Memberships in multicast groups, as they are known at this moment, in no order.
    ///
    /// # Errors
    /// [`Error::WorkerSilent`].
    pub fn groups(&self) -> Result<Vec<GroupMembership>, Error> {
        let mut memberships = Vec::new();
        let links = self.lock().links.len();
        for worker in 0..links {
            let mut from = Some(0);
            while let Some(at) = from.take() {
                // The lock is not held from one piece to the next: other requests go in between.
                let mut inner = self.lock();
                let Some(link) = inner.links.get_mut(worker) else {
                    break;
                };
                let found = Vec::with_capacity(GROUPS_AT_ONCE);
                let ask = Command::ListGroups { from: at, found };
                let Answer::Groups { next, found } = link.ask(ask)? else {
                    break;
                };
                drop(inner);
                memberships.extend(
                    found
                        .into_iter()
                        .map(|(group, attachment)| GroupMembership {
                            segment: group.segment,
                            group: group.ip(),
                            attachment,
                        }),
                );
                from = next;
            }
        }
        Ok(memberships)
    }

    /// MAC addresses besides its own that an attachment sends from, with their VLANs: of those that it
    /// may use, what was learned and is not too old.
    ///
    /// # Errors
    /// [`Error::NoAttachment`].
    pub fn learned(&self, id: AttachmentId) -> Result<Vec<(Vid, Mac)>, Error> {
        let mut inner = self.lock();
        inner.topology.attachment(id).ok_or(Error::NoAttachment)?;
        Ok(inner.topology.learned(id))
    }

    /// The mempools.
    pub fn memory(&self) -> MemorySnapshot {
        MemorySnapshot {
            small: self.small.conservation(),
            large: self.large.conservation(),
            backing: match (self.small.backing(), self.large.backing()) {
                (Backing::Huge, Backing::Huge) => Backing::Huge,
                _ => Backing::Ordinary,
            },
        }
    }

    /// Takes the events that workers have posted since the last call; call it every 50 ms or so.
    pub fn take_events(&self) -> Vec<Event> {
        let mut inner = self.lock();
        let Inner { topology, links } = &mut *inner;
        let (events, ports) = snapshot::take_events(topology, links);
        drop(inner);
        end_elsewhere(ports);
        events
    }

    /// The log records that were left out, of every attachment that lost one.
    pub fn lost_records(&self) -> Vec<LostRecords> {
        snapshot::lost_records(&self.lock().topology)
    }

    /// Stops the workers, lets go of every port, and tells what became of the mbufs: with all of
    /// them home nothing is in flight.
    ///
    /// # Errors
    /// [`Error::WorkerSilent`].
    pub fn stop(self) -> Result<MemorySnapshot, Error> {
        let mut inner = self.lock();
        let mut ports = Vec::new();
        for link in &mut inner.links {
            // What else is in the answer, the uplinks' ports, ends here.
            if let Answer::Stopped { ports: own, .. } = link.ask(Command::Stop)? {
                ports.extend(own);
            }
            link.join();
        }
        // All are told before the first is waited for: their times run side by side.
        ports.iter_mut().for_each(|port| port.end());
        drop(ports);
        // Mbufs that a worker handed over after its peer had stopped are in a ring that the last
        // of both ends frees.
        inner.links.clear();
        drop(inner);
        Ok(self.memory())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while it was held is a bug, but counters and detach are still wanted then.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the owner of a change hears of it before or after the other workers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    /// The owner installs first: what is added is there before anybody sends to it.
    OwnerFirst,
    /// The owner installs last: what is removed is there until nobody sends to it any more.
    OwnerLast,
}

impl Inner {
    /// Gives every worker the tables of the record, and `owner` the change that goes with them.
    fn spread(&mut self, owner: WorkerId, change: Change, order: Order) -> Result<Removed, Error> {
        let tables = Arc::new(self.topology.tables());
        let mut removed = Removed::None;
        let mut change = Some(change);
        let others = (0..self.links.len()).filter(|&worker| worker != owner.index());
        let sequence: Vec<usize> = match order {
            Order::OwnerFirst => std::iter::once(owner.index()).chain(others).collect(),
            Order::OwnerLast => others.chain(std::iter::once(owner.index())).collect(),
        };
        for worker in sequence {
            let change = if worker == owner.index() {
                change.take()
            } else {
                None
            };
            let change = change.unwrap_or(Change::None);
            let Some(link) = self.links.get_mut(worker) else {
                continue;
            };
            let command = Command::Install {
                room: link.room_for(&tables, self.topology.limits.groups),
                tables: Arc::clone(&tables),
                change,
            };
            if let Answer::Installed { removed: out, .. } = link.ask(command)?
                && worker == owner.index()
            {
                removed = out;
            }
        }
        self.topology.finish_growing();
        Ok(removed)
    }

    /// Gives every worker the tables of the record, those behind a silent one too, and `owner`, last,
    /// the change that goes with them.
    fn spread_to_all(&mut self, owner: WorkerId, change: Change) {
        let tables = Arc::new(self.topology.tables());
        let others = (0..self.links.len()).filter(|&worker| worker != owner.index());
        let sequence: Vec<usize> = others.chain(std::iter::once(owner.index())).collect();
        let mut change = Some(change);
        for worker in sequence {
            let Some(link) = self.links.get_mut(worker) else {
                continue;
            };
            let change = match worker == owner.index() {
                true => change.take().unwrap_or(Change::None),
                false => Change::None,
            };
            // A silent worker finds it in its ring when it goes on.
            let _ = link.ask(Command::Install {
                room: link.room_for(&tables, self.topology.limits.groups),
                tables: Arc::clone(&tables),
                change,
            });
        }
    }

    fn port_command(
        &mut self,
        id: AttachmentId,
        connected: bool,
        command: Command,
    ) -> Result<Option<Box<dyn PodPort>>, Error> {
        let record = self.topology.attachment(id).ok_or(Error::NoAttachment)?;
        let worker = record.worker;
        let Some(link) = self.links.get_mut(worker.index()) else {
            return Err(Error::NoAttachment);
        };
        match link.ask(command)? {
            Answer::Port { old, known: true } => {
                if let Some(record) = self.topology.attachment(id) {
                    record.connected = connected;
                }
                Ok(old)
            }
            _ => Err(Error::NoAttachment),
        }
    }
}

/// Drops ports that were taken out of service, on a thread that may wait for their ends: those who take
/// events, and their neighbours, need not.
fn end_elsewhere(mut ports: Vec<Box<dyn PodPort>>) {
    if ports.is_empty() {
        return;
    }
    ports.iter_mut().for_each(|port| port.end());
    // Without a thread left they end with the closure, here.
    let _ = std::thread::Builder::new()
        .name("port-ends".to_owned())
        .spawn(move || drop(ports));
}

/// Makes the flow cache of one worker.
pub(crate) fn flow_cache(entries: usize) -> Result<FlowCache, Error> {
    FlowCache::new(entries).map_err(|source| Error::System {
        what: "memory for the flow cache (memory.flow_cache)",
        source,
    })
}
