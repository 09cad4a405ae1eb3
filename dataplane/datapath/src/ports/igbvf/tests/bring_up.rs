// SPDX-License-Identifier: Apache-2.0
//! Agreement with the PF, and what the NIC cannot have.

use super::*;

#[test]
fn a_vf_agrees_with_its_pf_and_starts() {
    let vlans = VfVlans::Trunk([210, 220].map(|vid| Vid::new(vid).unwrap()).to_vec());
    let lab = lab(Pf::default(), vlans);
    assert_eq!(lab.link(), LinkState::Up);
    lab.nic.with(|vf, _| {
        let asked: Vec<u32> = vf.pf.asked.iter().map(|word| word & 0xffff).collect();
        let all = [
            MSG_RESET,
            MSG_SET_LPE,
            MSG_SET_MULTICAST,
            MSG_SET_VLAN,
            MSG_SET_VLAN,
        ];
        assert_eq!(asked, all, "its MAC address is the PF's already");
        assert_eq!(vf.pf.longest, 1518);
        // 33:33:ff:00:0a:01 by hand: (0x0a >> 4 | 0x01 << 4) & 0xfff.
        assert_eq!(vf.pf.hashes, [0x010]);
        assert_eq!(vf.pf.vlans.iter().copied().collect::<Vec<_>>(), [210, 220]);
    });
    lab.end();
}

#[test]
fn a_pf_without_a_mac_address_takes_ours_and_another_s_is_refused() {
    let none = Pf {
        admin_mac: None,
        ..Pf::default()
    };
    let lab = lab(none, VfVlans::Untagged);
    lab.nic.with(|vf, _| assert_eq!(vf.pf.own_mac, Some(MAC)));
    lab.end();

    let mempools = [pool(BufSize::Small), pool(BufSize::Large)];
    let other = Pf {
        admin_mac: Some(Mac([2, 0, 0, 0, 0, 9])),
        ..Pf::default()
    };
    let device = fake_vf::device(Vf::of(other));
    let error = IgbVf::open(device, config(mempools, VfVlans::Untagged)).unwrap_err();
    assert!(
        matches!(
            error,
            IgbVfError::Refused {
                refusal: Refusal::Mac,
                ..
            }
        ),
        "{error}"
    );
    let vlans = VfVlans::Trunk(vec![Vid::new(7).unwrap()]);
    let device = fake_vf::device(Vf::of(Pf {
        refuses_vlans: true,
        ..Pf::default()
    }));
    let error = IgbVf::open(device, config(mempools, vlans)).unwrap_err();
    assert!(error.to_string().contains("refuses VLAN 7"), "{error}");
    assert_eq!(mempools[0].conservation().in_flight, 0);
}

#[test]
fn what_the_nic_cannot_have_is_refused() {
    let mempools = [pool(BufSize::Small), pool(BufSize::Large)];
    let open = |change: &dyn Fn(&mut IgbVfConfig)| {
        let mut config = config(mempools, VfVlans::Untagged);
        change(&mut config);
        let opened = IgbVf::open(fake_vf::device(Vf::default()), config);
        opened.map(|_| ()).unwrap_err().to_string()
    };
    assert!(open(&|config| config.mtu = 9500).contains("MTU of 9500"));
    assert!(open(&|config| config.rx_descriptors = 100).contains("100 descriptors"));
    assert!(open(&|config| config.tx_descriptors = 8192).contains("8192 descriptors"));
}

#[test]
fn further_mac_addresses_are_granted_by_trust_and_told_if_not() {
    let vrrp = |id| Mac([0, 0, 0x5e, 0, 1, id]);
    for (trusts, refused, granted) in [(true, 1, vec![vrrp(1), vrrp(2)]), (false, 3, Vec::new())] {
        let pf = Pf {
            trusts,
            // Left from an earlier life of the VF.
            macs: vec![vrrp(9)],
            ..Pf::default()
        };
        let device = fake_vf::device(Vf::of(pf));
        let nic = device.model();
        let mempools = [pool(BufSize::Small), pool(BufSize::Large)];
        let config = IgbVfConfig {
            macs: vec![vrrp(1), vrrp(2), vrrp(3)],
            ..config(mempools, VfVlans::Trunk(vec![Vid::new(5).unwrap()]))
        };
        let port = IgbVf::open(device, config).unwrap();
        assert_eq!(port.refused_macs(), refused);
        assert_eq!(nic.with(|vf, _| vf.pf.macs.clone()), granted);
        assert_eq!(
            nic.with(|vf, _| vf.pf.vlans.len()),
            1,
            "what follows is asked all the same"
        );
        assert_eq!(port.report().link, LinkState::Up);
    }
}
