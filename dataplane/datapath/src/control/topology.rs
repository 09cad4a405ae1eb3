// SPDX-License-Identifier: Apache-2.0
//! Topology: control's record of uplinks, attachments and policies, and the tables made from it.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::sync::Arc;

use sluice_firewall::PolicySet;
use sluice_packet::role::{Role, Roles};
use sluice_packet::{Mac, Vid};

use crate::control::learned_tables::LearnedTables;
use crate::counters::{AttachmentCounts, RuleCounts, UplinkCounts};
use crate::error::{ConfigError, Error};
use crate::ids::{AttachmentId, MAX_ATTACHMENTS, MAX_UPLINKS, SegmentId, UplinkId, WorkerId};
use crate::limits::Limits;
use crate::pipeline::attachment::ETHERNET_HEADER_BYTES;
use crate::pipeline::flood_limits::FloodBuckets;
use crate::pipeline::fragments::PieceTable;
use crate::pipeline::groups::Group;
use crate::pipeline::groups::queriers::Queriers;
use crate::pipeline::groups::table::Member as GroupMember;
use crate::pipeline::identity::{Identity, key_address};
use crate::pipeline::macs::MacTable;
use crate::pipeline::tables::{
    AttachmentEntry, Member, NO_SEGMENT, NetworkVlan, OwnPolicy, SegmentTable, Tables, UplinkTable,
};
use crate::pipeline::token_bucket::TokenBucket;
use crate::pipeline::tx_shares::Credit;
use crate::spec::{AttachmentSpec, UplinkSpec, VlanSet};

/// An inner tag may come on top of the MTU.
const INNER_TAG_BYTES: usize = 4;

/// Uplink in the topology.
pub(crate) struct UplinkRecord {
    pub(crate) name: String,
    pub(crate) network: String,
    pub(crate) driver: &'static str,
    pub(crate) device: String,
    pub(crate) mtu: u32,
    pub(crate) worker: WorkerId,
    pub(crate) tpids: Arc<[u16]>,
    pub(crate) native: Vid,
    pub(crate) port_vlan: bool,
    pub(crate) counts: Arc<UplinkCounts>,
    /// By worker; they outlive a version of the tables.
    pub(crate) credits: Arc<[Credit]>,
    pub(crate) pieces: Arc<PieceTable>,
}

/// Attachment in the topology.
pub(crate) struct AttachmentRecord {
    pub(crate) id: AttachmentId,
    pub(crate) spec: AttachmentSpec,
    pub(crate) worker: WorkerId,
    pub(crate) connected: bool,
    pub(crate) identity: Arc<Identity>,
    pub(crate) counts: Arc<AttachmentCounts>,
}

/// Slot of an attachment, with the number of those that were in it.
#[derive(Default)]
struct Slot {
    generation: u16,
    record: Option<AttachmentRecord>,
}

/// Uplinks, attachments and policies of the engine.
pub(crate) struct Topology {
    workers: usize,
    pub(crate) limits: Limits,
    pub(crate) uplinks: Vec<Option<UplinkRecord>>,
    slots: Vec<Slot>,
    pub(crate) policies: Arc<PolicySet>,
    pub(crate) rule_counts: Arc<[RuleCounts]>,
    /// Counts that earlier sets had for the same rule, by slot of `policies`.
    pub(crate) carried: Vec<(u64, u64)>,
    /// Kept as long as the segment has attachments, so that attaching fills no bucket.
    wire_floods: BTreeMap<SegmentId, WireLimits>,
    /// Kept as long as the segment has attachments that may send from others' MAC addresses.
    learned: LearnedTables,
}

/// Limits of the wire in one segment, and its queriers.
struct WireLimits {
    floods: Arc<FloodBuckets>,
    groups: Arc<TokenBucket>,
    unknown: Arc<TokenBucket>,
    /// Kept as they are.
    queriers: Arc<Queriers>,
}

impl WireLimits {
    fn new(limits: &Limits) -> WireLimits {
        WireLimits {
            floods: Arc::new(FloodBuckets::new(&limits.wire)),
            groups: Arc::new(TokenBucket::new(limits.wire_groups)),
            unknown: Arc::new(TokenBucket::new(limits.wire_groups)),
            queriers: Arc::default(),
        }
    }
}

impl Topology {
    pub(crate) fn new(workers: usize, limits: Limits) -> Topology {
        let policies = Arc::new(PolicySet::empty());
        Topology {
            workers,
            limits,
            uplinks: Vec::new(),
            slots: Vec::new(),
            rule_counts: counts_for(&policies, workers),
            carried: vec![(0, 0); policies.slots()],
            policies,
            wire_floods: BTreeMap::new(),
            learned: LearnedTables::default(),
        }
    }

    pub(crate) fn uplink(&self, id: UplinkId) -> Option<&UplinkRecord> {
        self.uplinks.get(id.index())?.as_ref()
    }

    pub(crate) fn attachments(&self) -> impl Iterator<Item = &AttachmentRecord> {
        self.slots.iter().filter_map(|slot| slot.record.as_ref())
    }

    pub(crate) fn attachment(&mut self, id: AttachmentId) -> Option<&mut AttachmentRecord> {
        self.slots
            .get_mut(id.slot())?
            .record
            .as_mut()
            .filter(|record| record.id == id)
    }

    /// Adds an uplink.
    pub(crate) fn add_uplink(&mut self, spec: &UplinkSpec) -> Result<UplinkId, Error> {
        if self
            .uplinks
            .iter()
            .flatten()
            .any(|uplink| uplink.name == spec.name)
        {
            return Err(Error::UplinkExists(spec.name.clone()));
        }
        if spec.tpids.is_empty() {
            return Err(ConfigError::NoTpids(spec.name.clone()).into());
        }
        let free = self
            .uplinks
            .iter()
            .position(Option::is_none)
            .unwrap_or(self.uplinks.len());
        if free >= MAX_UPLINKS {
            return Err(Error::Full(MAX_UPLINKS, "uplinks"));
        }
        let worker =
            self.choose_worker(spec.worker, self.uplinks.iter().flatten().map(|u| u.worker))?;
        let record = UplinkRecord {
            name: spec.name.clone(),
            network: spec.network.clone().unwrap_or_else(|| spec.name.clone()),
            driver: spec.port.driver(),
            device: spec.port.device().to_owned(),
            mtu: spec.port.mtu(),
            worker,
            tpids: spec.tpids.clone().into(),
            native: spec.native.unwrap_or(Vid::UNTAGGED),
            port_vlan: spec.port_vlan,
            counts: Arc::default(),
            credits: Credit::for_workers(self.workers),
            pieces: Arc::default(),
        };
        if free == self.uplinks.len() {
            self.uplinks.push(Some(record));
        } else {
            self.uplinks[free] = Some(record);
        }
        Ok(UplinkId(u16::try_from(free).unwrap_or(0)))
    }

    /// Notes device and MTU of an uplink's new port. Returns the worker that polls it.
    pub(crate) fn set_port(
        &mut self,
        id: UplinkId,
        device: &str,
        mtu: u32,
    ) -> Result<WorkerId, Error> {
        let uplink = self.uplinks.get_mut(id.index()).and_then(Option::as_mut);
        let uplink = uplink.ok_or(Error::NoUplink)?;
        device.clone_into(&mut uplink.device);
        uplink.mtu = mtu;
        Ok(uplink.worker)
    }

    /// Removes an uplink, if it has no attachments.
    pub(crate) fn remove_uplink(&mut self, id: UplinkId) -> Result<WorkerId, Error> {
        let uplink = self.uplink(id).ok_or(Error::NoUplink)?;
        let attachments = self
            .attachments()
            .filter(|record| record.spec.uplink == id)
            .count();
        if attachments > 0 {
            return Err(Error::UplinkInUse {
                uplink: uplink.name.clone(),
                attachments,
            });
        }
        let worker = uplink.worker;
        self.uplinks[id.index()] = None;
        Ok(worker)
    }

    /// Adds an attachment.
    pub(crate) fn add_attachment(
        &mut self,
        spec: AttachmentSpec,
    ) -> Result<&AttachmentRecord, Error> {
        let uplink = self.uplink(spec.uplink).ok_or(Error::NoUplink)?;
        if !uplink.native.is_untagged() && spec.vlans.vids().iter().any(|vid| vid.is_untagged()) {
            return Err(ConfigError::UntaggedIsVlan {
                uplink: uplink.name.clone(),
                native: uplink.native,
            }
            .into());
        }
        if uplink.port_vlan && (spec.qinq || spec.vlans != VlanSet::Access(uplink.native)) {
            return Err(ConfigError::PortVlan {
                uplink: uplink.name.clone(),
                vid: uplink.native,
            }
            .into());
        }
        let identity = Arc::new(Identity::new(&spec));
        self.check_mac(&spec)?;
        self.check_addresses(&spec, &identity)?;
        self.check_vlans(&spec)?;
        if let Some(name) = &spec.policy
            && self.policies.named(name).is_none()
        {
            let known: Vec<_> = self
                .policies
                .iter()
                .map(|(_, policy)| policy.name())
                .collect();
            let known = if known.is_empty() {
                "none".to_owned()
            } else {
                known.join(", ")
            };
            return Err(Error::UnknownPolicy {
                name: name.clone(),
                known,
            });
        }
        let worker =
            self.choose_worker(spec.worker, self.attachments().map(|record| record.worker))?;
        let free = self.slots.iter().position(|slot| slot.record.is_none());
        let slot = free.unwrap_or(self.slots.len());
        if slot >= MAX_ATTACHMENTS {
            return Err(Error::Full(MAX_ATTACHMENTS, "attachments"));
        }
        if slot == self.slots.len() {
            self.slots.push(Slot::default());
        }
        let entry = &mut self.slots[slot];
        entry.generation = entry.generation.wrapping_add(1);
        let id = AttachmentId::new(u16::try_from(slot).unwrap_or(0), entry.generation);
        Ok(entry.record.insert(AttachmentRecord {
            id,
            spec,
            worker,
            connected: false,
            identity,
            counts: Arc::default(),
        }))
    }

    /// Removes an attachment.
    pub(crate) fn remove_attachment(
        &mut self,
        id: AttachmentId,
    ) -> Result<AttachmentRecord, Error> {
        let slot = self.slots.get_mut(id.slot()).ok_or(Error::NoAttachment)?;
        match slot.record.take() {
            Some(record) if record.id == id => Ok(record),
            other => {
                slot.record = other;
                Err(Error::NoAttachment)
            }
        }
    }

    /// Puts an attachment back that was taken off.
    pub(crate) fn restore_attachment(&mut self, record: AttachmentRecord) {
        let slot = record.id.slot();
        self.slots[slot].record = Some(record);
    }

    /// Replaces the policies; counts start anew, over `carried`.
    pub(crate) fn set_policies(&mut self, policies: Arc<PolicySet>, carried: Vec<(u64, u64)>) {
        self.rule_counts = counts_for(&policies, self.workers);
        self.policies = policies;
        self.carried = carried;
    }

    /// Returns frames and bytes of a rule slot: carried over and counted by all workers.
    pub(crate) fn rule_total(&self, slot: usize) -> (u64, u64) {
        let base = self.carried.get(slot).copied().unwrap_or((0, 0));
        self.rule_counts
            .iter()
            .map(|counts| counts.get(slot))
            .fold(base, |sum, count| {
                (sum.0.wrapping_add(count.0), sum.1.wrapping_add(count.1))
            })
    }

    /// Builds the workers' tables.
    pub(crate) fn tables(&mut self) -> Tables {
        let mut by_segment: BTreeMap<SegmentId, Vec<&AttachmentRecord>> = BTreeMap::new();
        for record in self.slots.iter().filter_map(|slot| slot.record.as_ref()) {
            for vid in record.spec.vlans.vids() {
                let id = SegmentId::new(record.spec.uplink, vid);
                by_segment.entry(id).or_default().push(record);
            }
        }
        let networks = network_vlans(&self.uplinks, &by_segment);
        self.wire_floods.retain(|id, _| by_segment.contains_key(id));
        let learns = |id: &SegmentId| {
            let records = by_segment.get(id);
            records.is_some_and(|records| records.iter().any(|record| is_learner(record)))
        };
        self.learned.retain(learns);
        let mut uplinks: Vec<Option<UplinkTable>> = self
            .uplinks
            .iter()
            .map(|uplink| uplink.as_ref().map(uplink_table))
            .collect();
        let mut segments = Vec::with_capacity(by_segment.len());
        for (id, records) in by_segment {
            let Some(Some(uplink)) = self.uplinks.get(id.uplink().index()) else {
                continue;
            };
            let Some(vid) = Vid::new(id.vid()) else {
                continue;
            };
            let Some(network) = networks.get(&(uplink.network.as_str(), id.vid())) else {
                continue;
            };
            if let Some(Some(table)) = uplinks.get_mut(id.uplink().index()) {
                table.by_vid[usize::from(id.vid())] =
                    u16::try_from(segments.len()).unwrap_or(NO_SEGMENT);
            }
            let policy = self.policies.segment(&uplink.network, vid);
            let is_stateful = policy.is_some_and(|index| self.policies.policy(index).is_stateful())
                || records.iter().any(|record| self.has_stateful(record));
            let limits = &self.limits;
            let wire = self.wire_floods.entry(id);
            let wire = wire.or_insert_with(|| WireLimits::new(limits));
            let learners = records.iter().filter(|record| is_learner(record));
            let shares = learners.map(|record| share_of(record, limits.macs.into()));
            let learned = self.learned.of(id, shares.sum());
            segments.push(SegmentTable {
                id,
                network: Arc::clone(network),
                policy,
                is_stateful,
                macs: mac_table(&records),
                members: members_of(&records, |_| true),
                routers: members_of(&records, |record| hears_all_groups(record.spec.roles)),
                promiscuous: members_of(&records, |record| record.spec.pose.promiscuous),
                learned,
                wire_floods: Arc::clone(&wire.floods),
                wire_groups: Arc::clone(&wire.groups),
                wire_unknown: Arc::clone(&wire.unknown),
                queriers: Arc::clone(&wire.queriers),
            });
        }
        Tables {
            is_stateful: segments.iter().any(|segment| segment.is_stateful),
            static_groups: self.static_groups(),
            policies: self.policies.clone(),
            rule_counts: self.rule_counts.clone(),
            uplinks,
            segments,
            attachments: self
                .slots
                .iter()
                .map(|slot| self.entry(slot.record.as_ref()?))
                .collect(),
        }
    }

    /// Enters what workers learned while they changed over to larger tables; they all have these now.
    pub(crate) fn finish_growing(&mut self) {
        self.learned.finish_growing();
    }

    /// Removes what an attachment has learned, which no worker has any more: another may get its slot.
    pub(crate) fn forget_learned(&mut self, id: AttachmentId) {
        self.learned.forget(id);
    }

    /// Returns the MAC addresses that an attachment has learned, with their VLANs.
    pub(crate) fn learned(&self, id: AttachmentId) -> Vec<(Vid, Mac)> {
        self.learned.of_attachment(id)
    }

    /// Lists the groups that control has given attachments, in each of their segments.
    fn static_groups(&self) -> Vec<(Group, GroupMember)> {
        let mut given = Vec::new();
        for record in self.attachments() {
            let member = GroupMember {
                id: record.id,
                owner: record.worker,
            };
            for vid in record.spec.vlans.vids() {
                let segment = SegmentId::new(record.spec.uplink, vid);
                let groups = record.spec.groups.iter().map(key_address);
                given.extend(groups.map(|address| (Group { segment, address }, member)));
            }
        }
        given
    }

    fn entry(&self, record: &AttachmentRecord) -> Option<AttachmentEntry> {
        let own_policy = match &record.spec.policy {
            None => OwnPolicy::None,
            Some(name) => self
                .policies
                .named(name)
                .map_or(OwnPolicy::Missing, OwnPolicy::Policy),
        };
        Some(AttachmentEntry {
            id: record.id,
            uplink: record.spec.uplink,
            identity: record.identity.clone(),
            owner: record.worker,
            own_policy,
            counts: record.counts.clone(),
        })
    }

    /// Whether an attachment's own policy is stateful.
    fn has_stateful(&self, record: &AttachmentRecord) -> bool {
        let own = record.spec.policy.as_deref();
        let index = own.and_then(|name| self.policies.named(name));
        index.is_some_and(|index| self.policies.policy(index).is_stateful())
    }

    fn check_mac(&self, spec: &AttachmentSpec) -> Result<(), Error> {
        if !spec.mac.is_unicast() || spec.mac == Mac([0; 6]) {
            return Err(Error::BadMac(spec.mac));
        }
        let same = self.sharing(spec);
        if let Some((record, vid)) = same.into_iter().find(|(r, _)| r.spec.mac == spec.mac) {
            return Err(Error::DuplicateMac {
                mac: spec.mac,
                holder: record.spec.name.clone(),
                vid,
            });
        }
        Ok(())
    }

    /// Refuses an address that another attachment of one of the VLANs has. Addresses that hosts took
    /// by using them are not among them: who was given one has it.
    fn check_addresses(&self, spec: &AttachmentSpec, own: &Identity) -> Result<(), Error> {
        for (record, vid) in self.sharing(spec) {
            let theirs = &record.identity;
            if let Some(address) = own.given().find(|address| theirs.was_given(address)) {
                let address = Ipv6Addr::from(address);
                return Err(Error::DuplicateAddress {
                    address: address.to_canonical(),
                    holder: record.spec.name.clone(),
                    vid,
                });
            }
        }
        Ok(())
    }

    /// Attachments that have a VLAN in common with `spec`, each with one such VLAN. Uplinks of one
    /// network lead to the same VLANs.
    fn sharing(&self, spec: &AttachmentSpec) -> Vec<(&AttachmentRecord, Vid)> {
        let network = |id| self.uplink(id).map(|uplink| uplink.network.as_str());
        let vids = spec.vlans.vids();
        let mut found = Vec::new();
        for record in self.attachments() {
            if network(record.spec.uplink) != network(spec.uplink) {
                continue;
            }
            let theirs = record.spec.vlans.vids();
            let shared = vids.iter().find(|vid| theirs.binary_search(vid).is_ok());
            found.extend(shared.map(|vid| (record, *vid)));
        }
        found
    }

    fn check_vlans(&self, spec: &AttachmentSpec) -> Result<(), Error> {
        let VlanSet::Trunk { vids, native } = &spec.vlans else {
            return Ok(());
        };
        if vids.is_empty() {
            return Err(ConfigError::EmptyTrunk.into());
        }
        if vids.iter().any(|vid| vid.is_untagged()) {
            return Err(ConfigError::UntaggedInTrunk.into());
        }
        if let Some(native) = native
            && vids.contains(native)
        {
            return Err(ConfigError::NativeIsTagged(*native).into());
        }
        Ok(())
    }

    /// Chooses the worker asked for, else the one that occurs least in `taken`.
    fn choose_worker(
        &self,
        asked: Option<usize>,
        taken: impl Iterator<Item = WorkerId>,
    ) -> Result<WorkerId, Error> {
        let mut load = vec![0usize; self.workers];
        for worker in taken {
            load[worker.index()] += 1;
        }
        let worker = match asked {
            Some(worker) if worker < self.workers => worker,
            Some(worker) => {
                return Err(ConfigError::NoWorker {
                    worker,
                    workers: self.workers,
                }
                .into());
            }
            None => (0..self.workers)
                .min_by_key(|&worker| load[worker])
                .unwrap_or(0),
        };
        Ok(WorkerId(u8::try_from(worker).unwrap_or(0)))
    }
}

/// Lists the attachments that `choose` chooses.
fn members_of(
    records: &[&AttachmentRecord],
    choose: impl Fn(&AttachmentRecord) -> bool,
) -> Box<[Member]> {
    let chosen = records.iter().filter(|record| choose(record));
    let members = chosen.map(|record| Member {
        id: record.id,
        owner: record.worker,
    });
    members.collect()
}

/// Whether an attachment may send from MAC addresses besides its own.
fn is_learner(record: &AttachmentRecord) -> bool {
    record.spec.pose.is_learned()
}

/// VLANs in each of which a learner may have all its MAC addresses.
const WHOLE_VLANS: usize = 16;

/// Places for the MAC addresses of a learner in the table of one of its VLANs. It may have `limit` over all
/// of them, in whichever: but thousands of VLANs do not each need room for all.
fn share_of(record: &AttachmentRecord, limit: usize) -> usize {
    let vlans = record.identity.vlans();
    let share = limit * WHOLE_VLANS / vlans.max(WHOLE_VLANS);
    share.max(limit.min(WHOLE_VLANS))
}

/// Whether an attachment with these roles is to get the frames and the reports of all groups (RFC
/// 4541, 2.1.1 (1) and 2.1.2 (4)).
fn hears_all_groups(roles: Roles) -> bool {
    roles.has(Role::Router) || roles.has(Role::Querier)
}

fn mac_table(records: &[&AttachmentRecord]) -> MacTable {
    let entries = records.iter().map(|record| (record.spec.mac, record.id));
    MacTable::new(&entries.collect::<Vec<_>>())
}

fn uplink_table(uplink: &UplinkRecord) -> UplinkTable {
    UplinkTable {
        worker: uplink.worker,
        tpids: uplink.tpids.clone(),
        native: uplink.native,
        port_vlan: uplink.port_vlan,
        max_frame: usize::try_from(uplink.mtu).unwrap_or(usize::MAX / 2)
            + ETHERNET_HEADER_BYTES
            + INNER_TAG_BYTES,
        by_vid: vec![NO_SEGMENT; 4096].into(),
        credits: uplink.credits.clone(),
        pieces: uplink.pieces.clone(),
    }
}

/// Makes what each VLAN of a network is on all its uplinks together; by name of the network and VID.
fn network_vlans<'u>(
    uplinks: &'u [Option<UplinkRecord>],
    by_segment: &BTreeMap<SegmentId, Vec<&AttachmentRecord>>,
) -> BTreeMap<(&'u str, u16), Arc<NetworkVlan>> {
    let mut by_network: BTreeMap<_, Vec<&AttachmentRecord>> = BTreeMap::new();
    for (id, records) in by_segment {
        if let Some(Some(uplink)) = uplinks.get(id.uplink().index()) {
            let vlan = (uplink.network.as_str(), id.vid());
            by_network.entry(vlan).or_default().extend(records);
        }
    }
    let made = by_network.into_iter().map(|(vlan, records)| {
        let given = records.iter().flat_map(|record| {
            let addresses = record.identity.given();
            addresses.map(|address| (address, record.id))
        });
        let mut given: Vec<_> = given.collect();
        given.sort_unstable();
        let has_learner = records.iter().any(|record| is_learner(record));
        let macs = match has_learner {
            true => mac_table(&records),
            false => MacTable::default(),
        };
        let table = NetworkVlan {
            given: given.into(),
            macs,
            members: records.iter().map(|record| record.id).collect(),
        };
        (vlan, Arc::new(table))
    });
    made.collect()
}

fn counts_for(policies: &PolicySet, workers: usize) -> Arc<[RuleCounts]> {
    (0..workers)
        .map(|_| RuleCounts::new(policies.slots()))
        .collect()
}
