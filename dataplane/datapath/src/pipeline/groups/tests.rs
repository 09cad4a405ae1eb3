// SPDX-License-Identifier: Apache-2.0
//! Tests of memberships in multicast groups.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use sluice_packet::build::FrameBuilder;
use sluice_packet::membership::{self, Message};
use sluice_packet::{InnerTag, IpProto, Mac, Vid, checksum, parse};
use sluice_ring::spsc;

use super::*;
use crate::control::topology::Topology;
use crate::limits::Limits;
use crate::ports::null::NullUplink;
use crate::spec::{AttachmentSpec, UplinkSpec, VlanSet};

const GROUP: [u8; 4] = [239, 1, 2, 3];
const INCLUDE: u8 = 1;
const EXCLUDE: u8 = 2;
const ALLOW: u8 = 5;
const BLOCK: u8 = 6;

/// A topology of pods in VLAN 210, one after the other at one of two workers.
struct Scene {
    topology: Topology,
    pods: Vec<AttachmentId>,
    segment: SegmentId,
}

impl Scene {
    fn new(pods: u8) -> Scene {
        let mut topology = Topology::new(2, Limits::default());
        let uplink = topology
            .add_uplink(&UplinkSpec {
                name: "wire0".to_owned(),
                port: Box::from(NullUplink::default()),
                worker: None,
                tpids: vec![0x8100],
                native: None,
                network: None,
                port_vlan: false,
            })
            .unwrap();
        let vid = Vid::new(210).unwrap();
        let mut scene = Scene {
            topology,
            pods: Vec::new(),
            segment: SegmentId::new(uplink, vid),
        };
        for number in 0..pods {
            let spec = AttachmentSpec {
                name: format!("pod{number}"),
                uplink,
                vlans: VlanSet::Access(vid),
                qinq: false,
                mac: Mac([2, 0, 0, 0, 0, number]),
                addresses: Vec::new(),
                groups: Vec::new(),
                roles: Default::default(),
                pose: Default::default(),
                keeps_priority: false,
                policy: None,
                mtu: 1500,
                worker: Some(usize::from(number % 2)),
            };
            let id = scene.topology.add_attachment(spec).unwrap().id;
            scene.pods.push(id);
        }
        scene
    }

    fn group(&self, address: [u8; 4]) -> Group {
        Group {
            segment: self.segment,
            address: FlowKey::mapped(address),
        }
    }

    /// Memberships of two workers that tell each other.
    fn workers(&mut self) -> [Groups; 2] {
        let tables = self.topology.tables();
        let mut groups = [0, 1].map(|worker| Groups::new(WorkerId(worker), 64));
        let ((to_1, from_0), (to_0, from_1)) = (spsc(8), spsc(8));
        groups[0]
            .peers
            .connect(vec![None, Some(to_1)], vec![None, Some(from_1)]);
        groups[1]
            .peers
            .connect(vec![Some(to_0), None], vec![Some(from_0), None]);
        for one in &mut groups {
            follow(one, &tables);
        }
        groups
    }
}

/// Has a worker follow tables, with the room that control would send.
fn follow(groups: &mut Groups, tables: &Tables) {
    let mut room = GroupRoom::for_tables(tables, groups.limit, groups.chunks());
    groups.follow(tables, room.as_deref_mut());
}

/// Learns from an IGMPv3 report of one record.
fn learn(
    groups: &mut Groups,
    id: AttachmentId,
    segment: SegmentId,
    (kind, group, sources): (u8, [u8; 4], &[u8]),
    now_ms: u64,
) -> Learned {
    let mut message = vec![0x22, 0, 0, 0, 0, 0, 0, 1, kind, 0, 0];
    message.push(u8::try_from(sources.len()).unwrap());
    message.extend(group);
    for &source in sources {
        message.extend([10, 0, 0, source]);
    }
    let sum = checksum::of(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let frame = FrameBuilder::new(Mac([1, 0, 0x5e, 0, 0, 22]), Mac([2, 0, 0, 0, 0, 1]))
        .ipv4([10, 0, 0, 1].into(), [224, 0, 0, 22].into())
        .ttl(1)
        .proto(IpProto::IGMP)
        .payload(&message)
        .build();
    let parsed = parse(&frame, InnerTag::Refuse).unwrap();
    let Some(Ok(Message::Report(mut records))) = membership::read(&frame, &parsed.key, parsed.l3)
    else {
        panic!("not a report");
    };
    let record = records.next().unwrap();
    groups.learn(id, segment, &record, now_ms, || true)
}

fn members(groups: &Groups, group: &Group) -> Vec<AttachmentId> {
    let (mut node, mut found) = (groups.find(group), Vec::new());
    while let Some((member, next)) = node.and_then(|node| groups.member(node)) {
        found.push(member.id);
        node = next;
    }
    found.sort_unstable();
    found
}

#[test]
fn a_pod_is_a_member_from_its_report_until_it_leaves() {
    let mut scene = Scene::new(4);
    let [mut groups, _] = scene.workers();
    let (segment, group) = (scene.segment, scene.group(GROUP));
    for id in [scene.pods[0], scene.pods[2]] {
        let join = (EXCLUDE, GROUP, &[][..]);
        assert_eq!(learn(&mut groups, id, segment, join, 1), Learned::Changed);
        assert_eq!(learn(&mut groups, id, segment, join, 2), Learned::Nothing);
    }
    assert_eq!(members(&groups, &group), [scene.pods[0], scene.pods[2]]);
    assert!(members(&groups, &scene.group([239, 1, 2, 4])).is_empty());
    let leave = (INCLUDE, GROUP, &[][..]);
    let left = learn(&mut groups, scene.pods[0], segment, leave, 3);
    assert_eq!(left, Learned::Changed);
    assert_eq!(members(&groups, &group), [scene.pods[2]]);
    let again = learn(&mut groups, scene.pods[0], segment, leave, 3);
    assert_eq!(again, Learned::Nothing);
}

#[test]
fn a_member_of_single_sources_leaves_with_the_last_of_them() {
    let mut scene = Scene::new(1);
    let [mut groups, _] = scene.workers();
    let (segment, group, id) = (scene.segment, scene.group(GROUP), scene.pods[0]);
    let many: Vec<u8> = (1..=20).collect();
    for (kind, sources, is_member) in [
        (ALLOW, &[1, 2][..], true),
        (BLOCK, &[1], true),
        (BLOCK, &[3], true),
        (BLOCK, &[2], false),
        (BLOCK, &[2], false),
        (ALLOW, &[], false),
        (INCLUDE, &[4], true),
        (INCLUDE, &[], false),
        (EXCLUDE, &[5], true),
        (BLOCK, &[6], true),
        (INCLUDE, &many[..], true),
        (BLOCK, &many[..], true),
        (INCLUDE, &[], false),
    ] {
        learn(&mut groups, id, segment, (kind, GROUP, sources), 1);
        let known = members(&groups, &group);
        assert_eq!(known == [id], is_member, "{kind} {sources:?}");
    }
}

#[test]
fn groups_are_bounded_per_attachment() {
    let mut scene = Scene::new(3);
    let [mut groups, _] = scene.workers();
    let segment = scene.segment;
    for number in 0..64 {
        let join = (EXCLUDE, [239, 0, 1, number], &[][..]);
        let learned = learn(&mut groups, scene.pods[0], segment, join, 1);
        assert_eq!(learned, Learned::Changed);
    }
    let join = (EXCLUDE, GROUP, &[][..]);
    let one_more = learn(&mut groups, scene.pods[0], segment, join, 1);
    assert_eq!(one_more, Learned::Refused);
    let another = learn(&mut groups, scene.pods[2], segment, join, 1);
    assert_eq!(another, Learned::Changed, "another pod's are its own");
    let leave = (INCLUDE, [239, 0, 1, 7], &[][..]);
    learn(&mut groups, scene.pods[0], segment, leave, 1);
    let in_its_place = learn(&mut groups, scene.pods[0], segment, join, 1);
    assert_eq!(in_its_place, Learned::Changed);
    let of_the_link = (EXCLUDE, [224, 0, 0, 251], &[][..]);
    let nothing = learn(&mut groups, scene.pods[0], segment, of_the_link, 1);
    assert_eq!(nothing, Learned::Nothing);
}

#[test]
fn memberships_age_only_while_a_querier_asks() {
    let mut scene = Scene::new(3);
    let [mut groups, _] = scene.workers();
    let tables = scene.topology.tables();
    let (segment, group) = (scene.segment, scene.group(GROUP));
    let join = (EXCLUDE, GROUP, &[][..]);
    learn(&mut groups, scene.pods[0], segment, join, 0);
    learn(&mut groups, scene.pods[2], segment, join, 0);
    groups.housekeeping(&tables, 100_000_000);
    assert_eq!(members(&groups, &group).len(), 2, "nobody asked");
    let query = Query {
        is_general: true,
        max_response_ms: 10_000,
        robustness: 2,
        interval_s: 125,
    };
    let all_hosts = scene.group([224, 0, 0, 1]);
    let start = 100_000_000;
    for asked in 0..3 {
        let now = start + asked * 125_000;
        note_query(&tables, &all_hosts, &query, now);
        // Only one of them answers.
        learn(&mut groups, scene.pods[2], segment, join, now + 5_000);
        groups.housekeeping(&tables, now + 9_000);
    }
    assert_eq!(members(&groups, &group).len(), 2, "260 s are not over");
    groups.housekeeping(&tables, start + 260_000);
    assert_eq!(members(&groups, &group).len(), 2);
    groups.housekeeping(&tables, start + 260_001);
    assert_eq!(members(&groups, &group), [scene.pods[2]]);
    groups.housekeeping(&tables, start + 100_000_000);
    assert_eq!(
        members(&groups, &group),
        [scene.pods[2]],
        "the querier went"
    );
}

#[test]
fn a_querier_is_known_after_a_change_of_tables() {
    let mut scene = Scene::new(2);
    let query = Query {
        is_general: true,
        max_response_ms: 10_000,
        robustness: 2,
        interval_s: 125,
    };
    let all_hosts = scene.group([224, 0, 0, 1]);
    for now in [1, 125_001, 250_001] {
        note_query(&scene.topology.tables(), &all_hosts, &query, now);
    }
    let tables = scene.topology.tables();
    let queriers = &tables.segment(scene.segment).unwrap().queriers;
    assert!(queriers.get(false).is_over(1, 261_000));
    assert!(
        !queriers.get(true).is_over(1, 261_000),
        "nobody asks by MLD"
    );
}

#[test]
fn every_worker_knows_all_members() {
    let mut scene = Scene::new(4);
    let [mut first, mut second] = scene.workers();
    let (segment, group) = (scene.segment, scene.group(GROUP));
    let (join, leave) = ((EXCLUDE, GROUP, &[][..]), (INCLUDE, GROUP, &[][..]));
    learn(&mut first, scene.pods[0], segment, join, 1);
    learn(&mut second, scene.pods[1], segment, join, 1);
    assert_eq!(first.peers.take_to_wake(), 0b10);
    assert_eq!(second.peers.take_to_wake(), 0b01);
    let tables = scene.topology.tables();
    first.take_notices(&tables);
    second.take_notices(&tables);
    assert_eq!(members(&first, &group), scene.pods[..2]);
    assert_eq!(members(&second, &group), scene.pods[..2]);

    // A detach: what is still on its way of that attachment is nobody's.
    learn(&mut first, scene.pods[2], segment, join, 1);
    scene.topology.remove_attachment(scene.pods[2]).unwrap();
    scene.topology.remove_attachment(scene.pods[1]).unwrap();
    let tables = scene.topology.tables();
    follow(&mut second, &tables);
    second.take_notices(&tables);
    assert_eq!(members(&second, &group), scene.pods[..1]);
    follow(&mut first, &tables);
    assert_eq!(members(&first, &group), scene.pods[..1]);
    learn(&mut first, scene.pods[0], segment, leave, 1);
    second.take_notices(&tables);
    assert_eq!(members(&second, &group), []);
}

#[test]
fn an_attachment_that_is_back_is_a_member_everywhere() {
    let mut scene = Scene::new(2);
    let [mut first, mut second] = scene.workers();
    let group = scene.group(GROUP);
    learn(
        &mut first,
        scene.pods[0],
        scene.segment,
        (EXCLUDE, GROUP, &[]),
        1,
    );
    second.take_notices(&scene.topology.tables());
    // A detach that fails at its last step, the owner.
    let record = scene.topology.remove_attachment(scene.pods[0]).unwrap();
    follow(&mut second, &scene.topology.tables());
    scene.topology.restore_attachment(record);
    let tables = scene.topology.tables();
    follow(&mut second, &tables);
    follow(&mut first, &tables);
    assert_eq!(members(&second, &group), []);
    first.tell_all();
    first.housekeeping(&tables, 2);
    second.take_notices(&tables);
    assert_eq!(members(&second, &group), scene.pods[..1]);
    assert_eq!(members(&first, &group), scene.pods[..1]);
}

#[test]
fn a_ring_that_was_full_is_made_up_for() {
    let mut scene = Scene::new(4);
    let [mut first, mut second] = scene.workers();
    let (segment, tables) = (scene.segment, scene.topology.tables());
    let own = (EXCLUDE, [239, 9, 9, 9], &[][..]);
    learn(&mut second, scene.pods[1], segment, own, 1);
    let group = |number| [239, 0, 2, number];
    for number in 0..60 {
        learn(
            &mut first,
            scene.pods[0],
            segment,
            (EXCLUDE, group(number), &[]),
            1,
        );
    }
    for number in 0..20 {
        learn(
            &mut first,
            scene.pods[0],
            segment,
            (INCLUDE, group(number), &[]),
            1,
        );
    }
    for _ in 0..20 {
        second.take_notices(&tables);
        first.housekeeping(&tables, 2);
    }
    second.take_notices(&tables);
    for number in 0..60 {
        let known = members(&second, &scene.group(group(number)));
        assert_eq!(known.is_empty(), number < 20, "{number}");
    }
    let kept = members(&second, &scene.group([239, 9, 9, 9]));
    assert_eq!(
        kept,
        [scene.pods[1]],
        "its own are not the sender's to forget"
    );
}

#[test]
fn what_control_gives_no_report_takes() {
    let mut scene = Scene::new(2);
    let record = scene.topology.attachment(scene.pods[0]).unwrap();
    record.spec.groups = vec![std::net::Ipv4Addr::from(GROUP).into()];
    let [mut first, second] = scene.workers();
    let (segment, group) = (scene.segment, scene.group(GROUP));
    assert_eq!(members(&first, &group), [scene.pods[0]]);
    assert_eq!(members(&second, &group), [scene.pods[0]]);
    learn(&mut first, scene.pods[0], segment, (INCLUDE, GROUP, &[]), 1);
    assert_eq!(members(&first, &group), [scene.pods[0]]);
    let mut listed = Vec::with_capacity(4);
    assert_eq!(first.list(0, &mut listed), None);
    assert_eq!(listed, [(group, scene.pods[0])]);
}

/// Entries of a table, by a number each.
fn numbered(number: u32, id: AttachmentId) -> (Group, Member) {
    let [a, b, c, d] = number.to_be_bytes();
    let group = Group {
        segment: SegmentId::from_u32(7),
        address: FlowKey::mapped([239 | a, b, c, d]),
    };
    let owner = WorkerId(0);
    (group, Member { id, owner })
}

#[test]
fn a_table_grows_with_the_room_that_it_is_given() {
    let mut scene = Scene::new(200);
    let tables = scene.topology.tables();
    let id = scene.pods[0];
    let mut table = GroupTable::new();
    let (group, member) = numbered(0, id);
    assert!(!table.insert(group, member, Filter::ANY, 0), "no room yet");
    let mut there = 0;
    for limit in [1, 10, 20, 60] {
        let mut room = GroupRoom::for_tables(&tables, limit, table.chunks()).unwrap();
        table.take_room(&mut room);
        let places = u32::try_from(table.chunks() * 1024).unwrap();
        assert!(places as usize >= 200 * limit);
        for number in there..places {
            let (group, member) = numbered(number, id);
            assert!(table.insert(group, member, Filter::ANY, 0), "{number}");
        }
        there = places;
        let (group, member) = numbered(places, id);
        assert!(!table.insert(group, member, Filter::ANY, 0), "it is full");
        for number in 0..there {
            let (group, _) = numbered(number, id);
            assert!(
                table.find_member(&group, id).is_some(),
                "{number} of {there}"
            );
        }
    }
    for number in (0..there).step_by(3) {
        let (group, _) = numbered(number, id);
        table.remove(table.find_member(&group, id).unwrap());
    }
    for number in 0..there {
        let (group, _) = numbered(number, id);
        let is_there = table.find_member(&group, id).is_some();
        assert_eq!(is_there, number % 3 != 0, "{number}");
    }
    assert!(GroupRoom::for_tables(&tables, 60, table.chunks()).is_none());
}

#[test]
fn room_that_is_sent_twice_is_handed_back() {
    let mut scene = Scene::new(4);
    let tables = scene.topology.tables();
    let mut table = GroupTable::new();
    let rooms = [(); 2].map(|()| GroupRoom::for_tables(&tables, 64, 0).unwrap());
    for mut room in rooms {
        table.take_room(&mut room);
        assert_eq!(table.chunks(), 1);
    }
}

#[test]
fn what_many_have_left_behind_is_removed_in_steps() {
    let mut scene = Scene::new(200);
    let [mut groups, _] = scene.workers();
    let segment = scene.segment;
    for number in 0..100 {
        let id = scene.pods[2 * number];
        for group in 0..60 {
            let join = (EXCLUDE, [239, 5, 5, group], &[][..]);
            assert_eq!(learn(&mut groups, id, segment, join, 1), Learned::Changed);
        }
    }
    for &id in &scene.pods {
        scene.topology.remove_attachment(id).unwrap();
    }
    let tables = scene.topology.tables();
    follow(&mut groups, &tables);
    assert!(groups.is_behind(), "6000 are more than one step");
    let mut rounds = 0;
    while groups.is_behind() {
        groups.take_notices(&tables);
        rounds += 1;
    }
    assert_eq!(rounds, (6000 - SWEEP_AT_ONCE).div_ceil(SWEEP));
    assert_eq!(members(&groups, &scene.group([239, 5, 5, 1])), []);
}
