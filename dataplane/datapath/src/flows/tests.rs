#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::HashMap;

use sluice_mem::Burst;
use sluice_packet::{FlowKey, IpProto};

use super::*;
use crate::frame::origin::Source;
use crate::frame::{Destination, Goal};
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
    let source = Source::Attachment(AttachmentId::new(pod, 1));
    let segment = crate::ids::SegmentId::from_u32(210);
    info.describe(segment, Mark::new(source, cache.version()));
    info.set_destination(Destination::Attachment(AttachmentId::new(9, 9)));
    mbuf
}

fn goal_of(n: u32) -> Goal {
    let mut info = FrameInfo::new_zeroed();
    info.set_destination(Destination::Attachment(AttachmentId::from_u32(n)));
    info.goal()
}

fn path(n: u32) -> Path {
    Path::new(goal_of(n), 1514, Half::PASS, Half::ASK)
}

/// Where the flows of some frames are looked for.
fn look_for(cache: &mut FlowCache, frames: &[Mbuf]) -> Candidates {
    let places = Places::of(cache, frames);
    cache.candidates(&places, frames.len())
}

/// What is known of one frame, looked up alone.
fn known(cache: &mut FlowCache, mbuf: &Mbuf) -> Option<Path> {
    let candidates = look_for(cache, std::slice::from_ref(mbuf));
    cache
        .find(&candidates, 0, FrameInfo::of(mbuf))
        .map(|(_, path)| *path)
}

#[test]
fn a_flow_is_found_by_all_of_its_key_and_its_source() {
    let mut side = Lent::new(64);
    let mut cache = cache(64);
    let first = frame(&mut side, &cache, 1, 7);
    assert_eq!(known(&mut cache, &first), None);
    assert!(cache.learn(FrameInfo::of(&first), path(7)).is_some());
    assert_eq!(known(&mut cache, &first), Some(path(7)));
    let other_pod = frame(&mut side, &cache, 2, 7);
    assert_eq!(known(&mut cache, &other_pod), None);
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
        assert_eq!(known(&mut cache, &other), None, "change {n}");
        side.pools.free(other);
    }
    side.pools.free(first);
    side.pools.free(other_pod);
    side.assert_all_free();
}

#[test]
fn after_a_change_of_the_tables_nothing_is_known() {
    let mut side = Lent::new(64);
    let mut cache = cache(64);
    let before = frame(&mut side, &cache, 1, 7);
    look_for(&mut cache, std::slice::from_ref(&before));
    cache.learn(FrameInfo::of(&before), path(7)).unwrap();
    cache.forget();
    let after = frame(&mut side, &cache, 1, 7);
    assert_eq!(known(&mut cache, &after), None);
    // Its place is free: what it was learned into is not given up for it.
    cache.learn(FrameInfo::of(&after), path(8)).unwrap();
    assert_eq!(known(&mut cache, &after), Some(path(8)));
    side.pools.free(before);
    side.pools.free(after);
}

#[test]
fn versions_come_round_without_bringing_a_flow_back() {
    let mut side = Lent::new(64);
    let mut cache = cache(64);
    let first = frame(&mut side, &cache, 1, 7);
    look_for(&mut cache, std::slice::from_ref(&first));
    cache.learn(FrameInfo::of(&first), path(7)).unwrap();
    cache.version = Mark::VERSIONS - 1;
    cache.forget();
    assert_eq!(cache.version(), 1, "the version that it was learned in");
    assert_eq!(known(&mut cache, &first), None);
    side.pools.free(first);
}

#[test]
fn what_the_key_does_not_decide_is_not_learned() {
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
        look_for(&mut cache, std::slice::from_ref(&mbuf));
        change(FrameInfo::of_mut(&mut mbuf));
        let learned = cache.learn(FrameInfo::of(&mbuf), path(7));
        assert_eq!(learned, None, "change {n}");
        side.pools.free(mbuf);
    }
    // Nor is such a frame taken for one of the flow that it has the key of.
    let plain = frame(&mut side, &cache, 1, 7);
    look_for(&mut cache, std::slice::from_ref(&plain));
    cache.learn(FrameInfo::of(&plain), path(7)).unwrap();
    let later: [fn(&mut FrameInfo); 2] = [|info| info.set_inner_tag(true), FrameInfo::set_exempt];
    for change in later {
        let mut mbuf = frame(&mut side, &cache, 1, 7);
        change(FrameInfo::of_mut(&mut mbuf));
        assert_eq!(known(&mut cache, &mbuf), None);
        side.pools.free(mbuf);
    }
    side.pools.free(plain);
}

#[test]
fn a_burst_teaches_a_few_flows_and_each_once() {
    let mut side = Lent::new(64);
    let mut cache = cache(1024);
    let mut burst = Burst::new();
    for n in 0..20 {
        burst.push(frame(&mut side, &cache, 1, n / 2)).unwrap();
    }
    look_for(&mut cache, burst.as_slice());
    let numbers: Vec<_> = burst
        .iter()
        .map(|mbuf| cache.learn(FrameInfo::of(mbuf), path(1)))
        .collect();
    let few = LEARNED_PER_BURST as usize;
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

/// Whatever is pushed out, what is found is always what was learned; and a flow that is used stays
/// while thousands of others come.
#[test]
fn made_up_flows_do_not_push_out_those_in_use() {
    let mut side = Lent::new(64);
    let mut cache = cache(64);
    let busy = frame(&mut side, &cache, 1, 0xffff_ffff);
    look_for(&mut cache, std::slice::from_ref(&busy));
    cache.learn(FrameInfo::of(&busy), path(77)).unwrap();
    let mut model = HashMap::new();
    let mut found = 0;
    for n in 0..20_000_u32 {
        assert_eq!(known(&mut cache, &busy), Some(path(77)), "after {n} others");
        let other = frame(&mut side, &cache, 2, n % 3000);
        match known(&mut cache, &other) {
            Some(path) => {
                assert_eq!(Some(&path), model.get(&(n % 3000)));
                found += 1;
            }
            None => {
                cache.learn(FrameInfo::of(&other), path(n));
                model.insert(n % 3000, path(n));
            }
        }
        side.pools.free(other);
    }
    assert!(found < 20_000, "it holds 64 of 3000");
    side.pools.free(busy);
}

#[test]
fn without_entries_nothing_is_learned() {
    let mut side = Lent::new(64);
    let mut cache = cache(0);
    assert!(!cache.is_on());
    let mbuf = frame(&mut side, &cache, 1, 7);
    assert_eq!(known(&mut cache, &mbuf), None);
    assert_eq!(cache.learn(FrameInfo::of(&mbuf), path(7)), None);
    side.pools.free(mbuf);
}

#[test]
fn it_grows_with_its_flows_and_begins_small_again() {
    const FLOWS: u32 = 2048;
    let mut side = Lent::new(64);
    let mut cache = cache(64 * FLOWS as usize);
    assert_eq!(cache.mask + 1, FIRST_BUCKETS);
    // A few flows fit as it is.
    let learn = |side: &mut Lent, cache: &mut FlowCache, flows: u32| {
        let mut new = 0;
        for n in 0..flows {
            let mbuf = frame(side, cache, 1, n);
            if known(cache, &mbuf) != Some(path(n)) {
                cache.learn(FrameInfo::of(&mbuf), path(n));
                new += 1;
            }
            side.pools.free(mbuf);
        }
        new
    };
    assert_eq!(learn(&mut side, &mut cache, 64), 64);
    assert_eq!(learn(&mut side, &mut cache, 64), 0);
    assert_eq!(cache.mask + 1, FIRST_BUCKETS);
    // More do not, until there is room for all.
    let rounds = (0..100).position(|_| learn(&mut side, &mut cache, FLOWS) == 0);
    assert!(rounds.is_some_and(|rounds| rounds < 12), "{rounds:?}");
    assert!(cache.mask + 1 > FLOWS as usize / WAYS);
    assert!(cache.mask < cache.buckets.len());
    cache.forget();
    assert_eq!(cache.mask + 1, FIRST_BUCKETS);
    assert_eq!(learn(&mut side, &mut cache, 64), 64);
}
