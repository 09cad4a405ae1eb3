//! The engine's parts that benches of a whole pipeline share: one VLAN, two pods, an uplink that
//! nothing comes from.

use std::net::Ipv4Addr;
use std::sync::Arc;

use sluice_datapath::ports::null::NullUplink;
use sluice_datapath::{AttachmentSpec, UplinkId, UplinkSpec, VlanSet};
use sluice_firewall::PolicySet;
use sluice_packet::{Mac, Vid};

use crate::policy_of;

/// The VLAN of the pods, and of [`policy_of`].
const VLAN: u16 = 210;

/// The two pods: MAC and address.
pub const PODS: [(Mac, Ipv4Addr); 2] = [
    (Mac([2, 0, 0, 0, 0, 1]), Ipv4Addr::new(10, 0, 0, 1)),
    (Mac([2, 0, 0, 0, 0, 2]), Ipv4Addr::new(10, 0, 0, 2)),
];

/// An uplink that nothing comes from.
pub fn wire() -> UplinkSpec {
    UplinkSpec {
        name: "wire0".to_owned(),
        port: Box::new(NullUplink::new(1500)),
        worker: None,
        tpids: vec![0x8100],
        native: None,
        network: None,
        port_vlan: false,
    }
}

/// The policy [`policy_of`] of `rules` rules.
///
/// # Panics
/// It cannot be compiled: a bug.
pub fn policies(rules: u16) -> Arc<PolicySet> {
    match PolicySet::build(1, &[policy_of(rules)]) {
        Ok(set) => Arc::new(set),
        Err(problems) => panic!("{problems:?}"),
    }
}

/// What a pod of [`PODS`] asks for; several pairs of them tell by their number.
///
/// # Panics
/// There is no such pod.
pub fn pod(uplink: UplinkId, number: usize, pair: u8) -> AttachmentSpec {
    let (mut mac, address) = PODS[number];
    mac.0[4] = pair;
    AttachmentSpec {
        name: format!("{mac}/net1"),
        uplink,
        vlans: VlanSet::Access(Vid::new(VLAN).unwrap_or(Vid::UNTAGGED)),
        qinq: false,
        mac,
        addresses: vec![address.into()],
        policy: None,
        mtu: 1500,
        worker: None,
    }
}
