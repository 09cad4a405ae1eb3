// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::HashMap;

use sluice_mem::Burst;
use sluice_packet::{FlowKey, IpProto};

use super::*;
use crate::frame::destination::{Destination, PackedDestination};
use crate::frame::origin_tag::Origin;
use crate::ids::AttachmentId;
use crate::testing::fake_port_context::Lent;

fn cache(entries: usize) -> FlowCache {
    FlowCache::new(entries).unwrap()
}

/// Facts of a frame of flow `n` of a pod, in an mbuf.
fn frame(side: &mut Lent, cache: &FlowCache, pod: u16, n: u32) -> Mbuf {
    let mut mbuf = side.pools.alloc_for(60).unwrap();
    FrameInfo::begin(&mut mbuf, None);
    let info = FrameInfo::of_mut(&mut mbuf);
    info.key = FlowKey {
        src: FlowKey::mapped(n.to_be_bytes()),
        flags: FlowKey::IPV4 | FlowKey::PORTS,
        proto: IpProto::UDP,
        ..FlowKey::default()
    };
    let origin = Origin::Attachment(AttachmentId::new(pod, 1));
    let segment = crate::ids::SegmentId::from_u32(210);
    info.set_origin(segment, OriginTag::new(origin, cache.version()));
    info.set_destination(Destination::Attachment(AttachmentId::new(9, 9)));
    mbuf
}

fn destination(n: u32) -> PackedDestination {
    Destination::Attachment(AttachmentId::from_u32(n)).pack()
}

fn action(n: u32) -> FlowAction {
    FlowAction::new(
        destination(n),
        1514,
        CachedVerdict::ACCEPT,
        CachedVerdict::UNKNOWN,
    )
}

/// Begins a burst of `frames`.
fn begin_burst(cache: &mut FlowCache, frames: &[Mbuf]) -> Candidates {
    let indexes = BucketIndexes::of(cache, frames);
    cache.candidates(&indexes, frames.len())
}

/// Looks up one frame alone.
fn lookup(cache: &mut FlowCache, mbuf: &Mbuf) -> Option<FlowAction> {
    let candidates = begin_burst(cache, std::slice::from_ref(mbuf));
    cache
        .lookup(&candidates, 0, FrameInfo::of(mbuf))
        .map(|(_, action)| *action)
}

#[test]
fn a_flow_is_found_by_all_of_its_key_and_its_source() {
    let mut side = Lent::new(64);
    let mut cache = cache(64);
    let first = frame(&mut side, &cache, 1, 7);
    assert_eq!(lookup(&mut cache, &first), None);
    assert!(cache.insert(FrameInfo::of(&first), action(7)).is_some());
    assert_eq!(lookup(&mut cache, &first), Some(action(7)));
    let other_pod = frame(&mut side, &cache, 2, 7);
    assert_eq!(lookup(&mut cache, &other_pod), None);
    let changes: [fn(&mut FlowKey); 8] = [
        |key| key.src[0] ^= 1,
        |key| key.dst[15] ^= 1,
        |key| key.src_port ^= 1,
        |key| key.dst_port ^= 1,
        |key| key.vid ^= 1,
        |key| key.src_mac[5] ^= 1,
        |key| key.dst_mac[0] ^= 2,
        |key| key.icmp_code ^= 1,
    ];
    for (n, change) in changes.into_iter().enumerate() {
        let mut other = frame(&mut side, &cache, 1, 7);
        change(&mut FrameInfo::of_mut(&mut other).key);
        assert_eq!(lookup(&mut cache, &other), None, "change {n}");
        side.pools.free(other);
    }
    side.pools.free(first);
    side.pools.free(other_pod);
    side.assert_all_free();
}

#[test]
fn after_a_change_of_the_tables_every_lookup_misses() {
    let mut side = Lent::new(64);
    let mut cache = cache(64);
    let before = frame(&mut side, &cache, 1, 7);
    begin_burst(&mut cache, std::slice::from_ref(&before));
    cache.insert(FrameInfo::of(&before), action(7)).unwrap();
    cache.clear();
    let after = frame(&mut side, &cache, 1, 7);
    assert_eq!(lookup(&mut cache, &after), None);
    // The old entry is free: no other is evicted for the new one.
    cache.insert(FrameInfo::of(&after), action(8)).unwrap();
    assert_eq!(lookup(&mut cache, &after), Some(action(8)));
    side.pools.free(before);
    side.pools.free(after);
}

#[test]
fn versions_come_round_without_bringing_a_flow_back() {
    let mut side = Lent::new(64);
    let mut cache = cache(64);
    let first = frame(&mut side, &cache, 1, 7);
    begin_burst(&mut cache, std::slice::from_ref(&first));
    cache.insert(FrameInfo::of(&first), action(7)).unwrap();
    cache.version = OriginTag::VERSIONS - 1;
    cache.clear();
    assert_eq!(cache.version(), 1, "the version that it was inserted in");
    assert_eq!(lookup(&mut cache, &first), None);
    side.pools.free(first);
}

#[test]
fn what_the_key_does_not_decide_is_not_inserted() {
    let mut side = Lent::new(64);
    let mut cache = cache(64);
    let changes: [fn(&mut FrameInfo); 5] = [
        |info| info.key.flags = FlowKey::ARP,
        |info| info.key.proto = IpProto::ICMPV6,
        |info| info.set_destination(Destination::Flood),
        |info| info.set_inner_tag(true),
        FrameInfo::set_exempt,
    ];
    for (n, change) in changes.into_iter().enumerate() {
        let mut mbuf = frame(&mut side, &cache, 1, 7);
        begin_burst(&mut cache, std::slice::from_ref(&mbuf));
        change(FrameInfo::of_mut(&mut mbuf));
        let inserted = cache.insert(FrameInfo::of(&mbuf), action(7));
        assert_eq!(inserted, None, "change {n}");
        side.pools.free(mbuf);
    }
    // Nor is such a frame taken for one of the flow that it has the key of.
    let plain = frame(&mut side, &cache, 1, 7);
    begin_burst(&mut cache, std::slice::from_ref(&plain));
    cache.insert(FrameInfo::of(&plain), action(7)).unwrap();
    let later: [fn(&mut FrameInfo); 2] = [|info| info.set_inner_tag(true), FrameInfo::set_exempt];
    for change in later {
        let mut mbuf = frame(&mut side, &cache, 1, 7);
        change(FrameInfo::of_mut(&mut mbuf));
        assert_eq!(lookup(&mut cache, &mbuf), None);
        side.pools.free(mbuf);
    }
    side.pools.free(plain);
}

#[test]
fn a_burst_inserts_a_few_flows_and_each_once() {
    let mut side = Lent::new(64);
    let mut cache = cache(1024);
    let mut burst = Burst::new();
    for n in 0..20 {
        burst.push(frame(&mut side, &cache, 1, n / 2)).unwrap();
    }
    begin_burst(&mut cache, burst.as_slice());
    let numbers: Vec<_> = burst
        .iter()
        .map(|mbuf| cache.insert(FrameInfo::of(mbuf), action(1)))
        .collect();
    let few = INSERTS_PER_BURST as usize;
    let new = numbers.iter().flatten().filter(|(_, is_new)| *is_new);
    assert_eq!(new.count(), few);
    for (n, pair) in numbers.chunks(2).enumerate() {
        if n < few {
            let (first, is_new) = pair[0].unwrap();
            assert!(is_new);
            assert_eq!(pair[1], Some((first, false)), "one entry for one flow");
        } else {
            assert_eq!(pair, [None, None], "flow {n}");
        }
    }
    side.pools.free_burst(&mut burst);
}

/// A hit always returns what was inserted, whatever was evicted; and a flow that is used stays while
/// thousands of others come.
#[test]
fn made_up_flows_do_not_push_out_those_in_use() {
    let mut side = Lent::new(64);
    let mut cache = cache(64);
    let busy = frame(&mut side, &cache, 1, 0xffff_ffff);
    begin_burst(&mut cache, std::slice::from_ref(&busy));
    cache.insert(FrameInfo::of(&busy), action(77)).unwrap();
    let mut inserted = HashMap::new();
    let mut found = 0;
    for n in 0..20_000_u32 {
        assert_eq!(
            lookup(&mut cache, &busy),
            Some(action(77)),
            "after {n} others"
        );
        let other = frame(&mut side, &cache, 2, n % 3000);
        match lookup(&mut cache, &other) {
            Some(action) => {
                assert_eq!(Some(&action), inserted.get(&(n % 3000)));
                found += 1;
            }
            None => {
                cache.insert(FrameInfo::of(&other), action(n));
                inserted.insert(n % 3000, action(n));
            }
        }
        side.pools.free(other);
    }
    assert!(found < 20_000, "it holds 64 of 3000");
    side.pools.free(busy);
}

#[test]
fn without_entries_nothing_is_inserted() {
    let mut side = Lent::new(64);
    let mut cache = cache(0);
    assert!(!cache.is_on());
    let mbuf = frame(&mut side, &cache, 1, 7);
    assert_eq!(lookup(&mut cache, &mbuf), None);
    assert_eq!(cache.insert(FrameInfo::of(&mbuf), action(7)), None);
    side.pools.free(mbuf);
}

#[test]
fn it_grows_with_its_flows_and_begins_small_again() {
    const FLOWS: u32 = 2048;
    let mut side = Lent::new(64);
    let mut cache = cache(64 * FLOWS as usize);
    assert_eq!(cache.mask + 1, FIRST_BUCKETS);
    // A few flows fit as it is.
    let insert = |side: &mut Lent, cache: &mut FlowCache, flows: u32| {
        let mut new = 0;
        for n in 0..flows {
            let mbuf = frame(side, cache, 1, n);
            if lookup(cache, &mbuf) != Some(action(n)) {
                cache.insert(FrameInfo::of(&mbuf), action(n));
                new += 1;
            }
            side.pools.free(mbuf);
        }
        new
    };
    assert_eq!(insert(&mut side, &mut cache, 64), 64);
    assert_eq!(insert(&mut side, &mut cache, 64), 0);
    assert_eq!(cache.mask + 1, FIRST_BUCKETS);
    // More do not, until there is room for all.
    let rounds = (0..100).position(|_| insert(&mut side, &mut cache, FLOWS) == 0);
    assert!(rounds.is_some_and(|rounds| rounds < 12), "{rounds:?}");
    assert!(cache.mask + 1 > FLOWS as usize / WAYS);
    assert!(cache.mask < cache.buckets.len());
    cache.clear();
    assert_eq!(cache.mask + 1, FIRST_BUCKETS);
    assert_eq!(insert(&mut side, &mut cache, 64), 64);
}

#[test]
fn a_pod_with_many_flows_pushes_out_none_of_a_neighbour_with_few() {
    let mut side = Lent::new(64);
    let mut cache = cache(64);
    // Few enough that they are at most half of a bucket.
    let neighbours: Vec<Mbuf> = (0..4).map(|n| frame(&mut side, &cache, 2, n)).collect();
    for mbuf in &neighbours {
        begin_burst(&mut cache, std::slice::from_ref(mbuf));
        cache.insert(FrameInfo::of(mbuf), action(2)).unwrap();
    }
    let kept = |cache: &mut FlowCache| {
        let found = neighbours.iter().filter(|mbuf| {
            let candidates = {
                let indexes = BucketIndexes::of(cache, std::slice::from_ref(*mbuf));
                cache.candidates(&indexes, 1)
            };
            cache.lookup(&candidates, 0, FrameInfo::of(mbuf)).is_some()
        });
        found.count()
    };
    assert_eq!(kept(&mut cache), 4);
    // Every one of the flooder's flows is hit at once, and none of the neighbour's again.
    for n in 0..10_000 {
        let mbuf = frame(&mut side, &cache, 1, n);
        begin_burst(&mut cache, std::slice::from_ref(&mbuf));
        cache.insert(FrameInfo::of(&mbuf), action(1));
        lookup(&mut cache, &mbuf);
        side.pools.free(mbuf);
    }
    assert_eq!(kept(&mut cache), 4);
    neighbours
        .into_iter()
        .for_each(|mbuf| side.pools.free(mbuf));
}
