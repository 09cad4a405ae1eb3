// SPDX-License-Identifier: Apache-2.0
//! Frames and policies, the same in every run.

use std::fmt::Write;
use std::net::Ipv4Addr;

use sluice_firewall::Policy;
use sluice_packet::build::FrameBuilder;
use sluice_packet::{FlowKey, InnerTag, Mac, parse};

/// First of the destination ports, behind those of DHCP and DHCPv6: the engine reads what goes there, and
/// no such flow is cached.
const FIRST_PORT: u16 = 10_000;

/// Flows from one host to another that differ in their destination port, visited in pseudo-random order.
#[derive(Debug, Clone)]
pub struct Flows {
    state: u64,
    ports: u16,
}

impl Flows {
    /// Creates `ports` different flows.
    pub fn new(ports: u16) -> Flows {
        Flows { state: 1, ports }
    }

    /// Returns the destination port of the next frame. Half of the frames match in the last tenth of the rules of
    /// [`policy_of`] with as many rules, the others anywhere.
    pub fn next_port(&mut self) -> u16 {
        let z = splitmix64(&mut self.state);
        let low = u16::try_from(z & 0xffff).unwrap_or(0);
        let tenth = (self.ports / 10).max(1);
        FIRST_PORT
            + if z & 1 << 20 == 0 {
                low % self.ports
            } else {
                self.ports - 1 - low % tenth
            }
    }
}

/// Returns the next pseudo-random number of the SplitMix64 generator with this state.
pub fn splitmix64(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Makes a UDP frame of 64 bytes on the wire (60 without its frame check sequence).
pub fn udp_frame(to: Mac, from: Mac, port: u16) -> Vec<u8> {
    FrameBuilder::new(to, from)
        .ipv4(Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2))
        .udp(1024, port)
        .payload(&[0x5a; 18])
        .build()
}

/// Makes a policy for VLAN 210 with `rules` rules, each of which accepts one UDP port; all else is dropped.
///
/// # Panics
/// The policy it writes cannot be read: a bug.
pub fn policy_of(rules: u16) -> Policy {
    policy(rules, false)
}

/// Makes a policy as [`policy_of`] does that is stateful.
///
/// # Panics
/// As [`policy_of`].
pub fn stateful_policy_of(rules: u16) -> Policy {
    policy(rules, true)
}

fn policy(rules: u16, stateful: bool) -> Policy {
    let mut yaml = format!(
        "name: bench\nvlans: [210]\nstateful: {stateful}\n\
         default: {{ingress: drop, egress: drop}}\nrules:\n"
    );
    for port in FIRST_PORT..FIRST_PORT + rules {
        let _ = writeln!(
            yaml,
            "  - {{direction: both, from: [10.0.0.0/8], protocol: udp, ports: [{port}], \
             verdict: accept}}"
        );
    }
    match Policy::parse("bench.yaml", &yaml) {
        Ok(policy) => policy,
        Err(problems) => panic!("{problems:?}"),
    }
}

/// Returns the keys of `count` frames of `flows`.
///
/// # Panics
/// A frame it builds cannot be parsed: a bug.
pub fn keys(flows: &mut Flows, count: usize) -> Vec<FlowKey> {
    let (to, from) = (Mac([2, 0, 0, 0, 0, 2]), Mac([2, 0, 0, 0, 0, 1]));
    let key = |port| match parse(&udp_frame(to, from, port), InnerTag::Refuse) {
        Ok(parsed) => parsed.key,
        Err(error) => panic!("{error}"),
    };
    (0..count).map(|_| key(flows.next_port())).collect()
}
