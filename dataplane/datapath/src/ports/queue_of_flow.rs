// SPDX-License-Identifier: Apache-2.0
//! Choice of a transmit queue, where a pod has several.

use sluice_packet::FlowKey;

/// Returns the transmit queue of a flow, below `queues`: always the same, so that its frames stay in order.
/// Ports count only where all of a flow's frames have them.
pub(super) fn queue_of(key: &FlowKey, queues: usize) -> usize {
    let half = |bytes: &[u8; 16]| {
        let bits = u128::from_ne_bytes(*bytes);
        // Both halves of the number; truncation is the point.
        #[allow(
            clippy::cast_possible_truncation,
            reason = "the other half is taken beside it"
        )]
        let (low, high) = (bits as u64, (bits >> 64) as u64);
        low ^ high.rotate_left(32)
    };
    let whole = if key.has(FlowKey::FRAGMENT) { 0 } else { 1 };
    let ports = (u64::from(key.src_port) << 16 | u64::from(key.dst_port)) * whole;
    let mut hash = mix(half(&key.src), u64::from(key.proto) << 32 | ports);
    hash = mix(hash, half(&key.dst));
    let [a, b, c, d, e, f] = key.src_mac;
    hash = mix(
        hash,
        u64::from_ne_bytes([a, b, c, d, e, f, 0, 0]) ^ u64::from(key.vid) << 48,
    );
    // The upper half of a product is the better mixed one.
    usize::try_from(((hash >> 32) * queues as u64) >> 32).unwrap_or(0)
}

/// Two numbers into one, each bit of which depends on all of theirs.
fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ 0x9e37_79b9_7f4a_7c15) * u128::from(b ^ 0xd6e8_feb8_6659_fd93);
    #[allow(clippy::cast_possible_truncation, reason = "both halves are used")]
    let (low, high) = (product as u64, (product >> 64) as u64);
    low ^ high
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_a_packet_go_to_one_queue() {
        let first = FlowKey {
            flags: FlowKey::IPV4 | FlowKey::PORTS | FlowKey::FRAGMENT,
            src_port: 1000,
            dst_port: 2000,
            proto: 17,
            src: FlowKey::mapped([10, 0, 0, 1]),
            ..FlowKey::default()
        };
        let later = FlowKey {
            flags: FlowKey::IPV4 | FlowKey::FRAGMENT | FlowKey::LATER_FRAGMENT,
            src_port: 0,
            dst_port: 0,
            ..first
        };
        for queues in 2..64 {
            assert_eq!(queue_of(&first, queues), queue_of(&later, queues));
            assert!(queue_of(&first, queues) < queues);
        }
    }
}
