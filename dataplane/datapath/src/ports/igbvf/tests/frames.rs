// SPDX-License-Identifier: Apache-2.0
//! Frames in and out: order, doorbells, tags, lengths, lack of mbufs, lies of the device.

use super::*;

#[test]
fn frames_come_and_go_byte_for_byte_and_in_order() {
    let mut lab = lab(Pf::default(), VfVlans::Untagged);
    let (mut sent, mut received) = (0u32, 0u32);
    while received < 10_000 {
        for _ in 0..sent % 60 + 1 {
            lab.arrive(&frame(sent, 60 + sent as usize % 1400), None);
            sent += 1;
        }
        loop {
            let mut burst = lab.receive();
            if burst.is_empty() {
                break;
            }
            let mut frames = Vec::new();
            for mbuf in burst.iter() {
                assert_eq!(mbuf.data(), frame(received, 60 + received as usize % 1400));
                assert_eq!(FrameInfo::of(mbuf).tag(), None);
                frames.push(mbuf.data().to_vec());
                received += 1;
            }
            lab.pools.free_burst(&mut burst);
            assert_eq!(lab.send(&frames, None), frames.len());
        }
    }
    lab.nic.with(|vf, _| {
        assert_eq!(vf.missed, 0);
        assert_eq!(vf.wire.len(), received as usize);
        for (number, sent) in (0..).zip(&vf.wire) {
            assert_eq!(*sent, frame(number, 60 + number as usize % 1400));
        }
    });
    lab.housekeeping(60);
    let nic = lab.port.as_ref().unwrap().report().nic.unwrap();
    assert_eq!(nic.tx_frames, u64::from(received), "over a register's wrap");
    lab.end();
}

#[test]
fn one_doorbell_per_burst() {
    let vf = Vf::default();
    let device = fake_vf::device(vf);
    let mut counts = None;
    let mut lab = lab_on(
        device,
        |device| device.model(),
        |device| {
            let (counted, seen) = Counted::new(device);
            counts = Some(seen);
            counted
        },
        VfVlans::Untagged,
    );
    let counts = counts.unwrap();
    let before = counts.tally();
    let doorbells = |register| counts.writes_at(register);
    let bells_before = [RDT, TDT].map(doorbells);
    for round in 0..8 {
        for number in 0..64 {
            lab.arrive(&frame(number, 64), None);
        }
        let mut burst = lab.receive();
        assert_eq!(burst.len(), 64, "round {round}");
        let (port, mut context) = lab.port();
        port.tx_burst(&mut context, &mut burst);
        assert!(burst.is_empty());
    }
    let done = counts.tally().since(before);
    assert_eq!(
        [RDT, TDT].map(doorbells),
        bells_before.map(|bells| bells + 8)
    );
    assert_eq!(done.register_reads, 0, "no register is read for a frame");
    assert_eq!(done.register_writes, 16);
    lab.end();
}

#[test]
fn a_full_ring_gives_the_rest_back_and_goes_on() {
    let mut lab = lab(Pf::default(), VfVlans::Untagged);
    lab.nic.with(|vf, _| vf.stuck = true);
    let frames: Vec<_> = (0..64).map(|number| frame(number, 64)).collect();
    let room = |lab: &mut Lab| {
        let (port, mut context) = lab.port();
        port.tx_room(&mut context)
    };
    assert_eq!(room(&mut lab), 127);
    assert_eq!(lab.send(&frames, None), 64);
    assert_eq!(room(&mut lab), 63);
    assert_eq!(lab.send(&frames, None), 63, "one descriptor stays free");
    assert_eq!(room(&mut lab), 0);
    assert_eq!(lab.send(&frames, None), 0);
    lab.nic.with(|vf, _| vf.stuck = false);
    assert_eq!(lab.send(&frames, None), 0, "nothing is done yet");
    // The next doorbell is the one that a stuck NIC looks at.
    lab.nic.with(|vf, bus| {
        use sluice_vfio::emulated::RegisterModel;
        let tail = vf.read32(TDT, bus);
        vf.write32(TDT, tail, bus);
    });
    assert_eq!(room(&mut lab), 127);
    assert_eq!(lab.send(&frames, None), 64);
    lab.end();
}

#[test]
fn tags_by_the_kind_of_vf() {
    let tag = VlanTag {
        tpid: 0x8100,
        tci: 0x60d2,
    };
    let vid = Vid::new(0xd2).unwrap();
    let mut trunk = lab(Pf::default(), VfVlans::Trunk(vec![vid]));
    trunk.arrive(&frame(1, 60), Some(tag.tci));
    let mut burst = trunk.receive();
    assert_eq!(FrameInfo::of(&burst.as_slice()[0]).tag(), Some(tag));
    trunk.pools.free_burst(&mut burst);
    assert_eq!(trunk.send(&[frame(1, 60)], Some(tag)), 1);
    trunk.nic.with(|vf, _| {
        let plain = frame(1, 60);
        let tagged = [&plain[..12], &tag.to_bytes(), &plain[12..]].concat();
        assert_eq!(vf.wire, [tagged]);
    });
    trunk.end();

    let pf = Pf {
        port_vlan: Some(0xd2),
        ..Pf::default()
    };
    let mut port = lab(pf, VfVlans::Port(vid));
    port.arrive(&frame(1, 60), Some(0xd2));
    let mut burst = port.receive();
    assert_eq!(
        FrameInfo::of(&burst.as_slice()[0]).tag(),
        None,
        "the PF's own"
    );
    port.pools.free_burst(&mut burst);
    port.send(&[frame(1, 60)], Some(tag));
    assert_eq!(port.drops.get(DropReason::InnerTag), 1);
    port.nic
        .with(|vf, _| assert!(vf.wire.is_empty(), "it would have two tags"));
    port.send(&[frame(1, 60)], None);
    port.nic
        .with(|vf, _| assert_eq!(vf.wire[0][12..16], [0x81, 0, 0, 0xd2]));
    port.end();
}

#[test]
fn what_cannot_be_sent_is_counted() {
    let mut lab = lab(Pf::default(), VfVlans::Untagged);
    assert_eq!(
        lab.send(&[frame(1, 1519), frame(2, 1518), vec![1; 14]], None),
        3
    );
    assert_eq!(lab.drops.get(DropReason::TooLong), 1);
    lab.nic.with(|vf, _| {
        assert_eq!(vf.wire[0], frame(2, 1518));
        assert_eq!(vf.wire[1], [vec![1; 14], vec![0; 3]].concat(), "padded");
    });
    lab.end();
}

#[test]
fn without_mbufs_frames_are_lost_and_counted_and_then_it_goes_on() {
    let mut lab = lab(Pf::default(), VfVlans::Untagged);
    let mut held = Vec::new();
    while let Some(mbuf) = lab.pools.small.alloc() {
        held.push(mbuf);
    }
    let mut received = 0;
    for number in 0..60 {
        lab.arrive(&frame(number, 60), None);
        let mut burst = lab.receive();
        received += burst.len();
        while let Some(mbuf) = burst.pop() {
            held.push(mbuf);
        }
    }
    let lost = lab.drops.get(DropReason::NoMbuf);
    assert!(lost >= 28, "{lost} lost");
    assert_eq!(received as u64 + lost, 60);
    held.drain(..).for_each(|mbuf| lab.pools.free(mbuf));
    lab.arrive(&frame(61, 60), None);
    let mut burst = lab.receive();
    assert_eq!(burst.as_slice()[0].data(), frame(61, 60));
    lab.pools.free_burst(&mut burst);
    lab.end();
}

#[test]
fn jumbo_frames_go_into_large_mbufs() {
    let mempools = [pool(BufSize::Small), pool(BufSize::Large)];
    let device = fake_vf::device(Vf::default());
    let nic = device.model();
    let jumbo = IgbVfConfig {
        mtu: 9000,
        ..config(mempools, VfVlans::Untagged)
    };
    let mut lab = Lab {
        port: Some(IgbVf::open(device, jumbo).unwrap()),
        nic,
        pools: Pools::new(mempools[0], mempools[1], 512),
        mempools,
        drops: DropCounts::new(),
        now_ms: 0,
    };
    lab.arrive(&frame(1, 9018), None);
    let mut burst = lab.receive();
    assert_eq!(burst.as_slice()[0].data(), frame(1, 9018));
    lab.pools.free_burst(&mut burst);
    lab.end();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// A device may write anything into its descriptors: nothing panics, nothing is lost.
    #[test]
    fn a_device_that_lies_costs_frames_and_nothing_else(words in prop::collection::vec(any::<u64>(), 1..300)) {
        let mut lab = lab(Pf::default(), VfVlans::Trunk(vec![Vid::new(5).unwrap()]));
        let mut seen = 0;
        for chunk in words.chunks(40) {
            for word in chunk {
                lab.nic.with(|vf, bus| vf.done(word | RX_DD, bus));
            }
            loop {
                let mut burst = lab.receive();
                if burst.is_empty() {
                    break;
                }
                prop_assert!(burst.iter().all(|mbuf| mbuf.len() <= BufSize::Small.data_bytes()));
                seen += burst.len();
                lab.pools.free_burst(&mut burst);
            }
        }
        prop_assert!(seen <= words.len());
        lab.end();
    }
}
