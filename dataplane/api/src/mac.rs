// SPDX-License-Identifier: Apache-2.0
//! The MAC address of an attachment that asked for none: plugin and engine come to the same one.

use sluice_packet::Mac;

/// FNV-1a's parameters for 64 bits (draft-eastlake-fnv).
const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// A locally administered unicast address that is always the same for a container's interface: 46
/// bits of a hash. `attempt` gives another one, for when one is taken.
pub fn derived_mac(container_id: &str, ifname: &str, attempt: u8) -> Mac {
    // A NUL between them: neither can hold one, so no two interfaces are hashed alike.
    let parts = [container_id.as_bytes(), ifname.as_bytes(), &[attempt]];
    let mut hash = OFFSET_BASIS;
    for byte in parts.join(&0) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(PRIME);
    }
    // FNV mixes its last bytes into the low bits only (the finaliser is splitmix64's).
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^= hash >> 31;
    let [a, b, c, d, e, f, ..] = hash.to_le_bytes();
    Mac::new([a & 0xfc | 0x02, b, c, d, e, f])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn stable_local_and_unicast() {
        // Written down: pods keep their address across releases of the engine.
        assert_eq!(derived_mac("c0ffee", "net1", 0), PINNED);
        let mut seen = HashSet::new();
        for container in 0..2000 {
            for attempt in 0..2 {
                let mac = derived_mac(&format!("{container:x}"), "net1", attempt);
                assert!(
                    mac.is_unicast() && mac.is_locally_administered(),
                    "{mac} is not a local unicast address"
                );
                assert!(seen.insert(mac), "{mac} twice");
            }
        }
        assert_ne!(derived_mac("ab", "c", 0), derived_mac("a", "bc", 0));
    }

    const PINNED: Mac = Mac::new([0xc6, 0xec, 0x02, 0xa6, 0xc6, 0xc5]);
}
