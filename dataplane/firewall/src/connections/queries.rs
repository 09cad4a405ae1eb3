// SPDX-License-Identifier: Apache-2.0
//! ICMP queries and their answers: what stands for their ports, and the key of what comes back.

use sluice_packet::{FlowKey, IpProto};

/// ICMP queries: protocol, type, and type of the answer.
const QUERIES: [(u8, u8, u8); 4] = [
    (IpProto::ICMP, 8, 0),
    (IpProto::ICMP, 13, 14),
    (IpProto::ICMPV6, 128, 129),
    (IpProto::ICMPV6, 139, 140),
];

/// Finds the query that a type of a protocol is of, as itself or as the answer: the type of both.
fn query_of(proto: u8, icmp_type: u8) -> Option<(u8, u8)> {
    let mut queries = QUERIES.iter().filter(|(of, ..)| *of == proto);
    let &(_, query, answer) =
        queries.find(|(_, query, answer)| *query == icmp_type || *answer == icmp_type)?;
    Some((query, answer))
}

/// Ports that stand for an ICMP query of this type and identifier, or for the answer to one, and whether it is an
/// answer; `None` of any other message.
pub(crate) fn query_ports(proto: u8, icmp_type: u8, id: u16) -> Option<(u16, u16, bool)> {
    let (query, _) = query_of(proto, icmp_type)?;
    let class = u16::from(query);
    Some(if icmp_type == query {
        (id, class, false)
    } else {
        (class, id, true)
    })
}

/// Returns the key of a frame that goes back the way of this key's: endpoints the other way round, and the answer in
/// place of the query.
#[must_use]
pub fn reversed(key: &FlowKey) -> FlowKey {
    let mut back = FlowKey {
        src: key.dst,
        dst: key.src,
        src_port: key.dst_port,
        dst_port: key.src_port,
        src_mac: key.dst_mac,
        dst_mac: key.src_mac,
        ..*key
    };
    if key.has(FlowKey::ICMP)
        && let Some((query, answer)) = query_of(key.proto, key.icmp_type)
    {
        back.icmp_type = if key.icmp_type == query {
            answer
        } else {
            query
        };
    }
    back
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_back_comes_again_as_it_was() {
        let mut key = FlowKey {
            src: [1; 16],
            dst: [2; 16],
            src_port: 3,
            dst_port: 4,
            src_mac: [5; 6],
            dst_mac: [6; 6],
            proto: IpProto::UDP,
            ..FlowKey::default()
        };
        let back = reversed(&key);
        assert_eq!((back.src, back.dst), (key.dst, key.src));
        assert_eq!((back.src_port, back.dst_port), (4, 3));
        assert_eq!((back.src_mac, back.dst_mac), ([6; 6], [5; 6]));
        assert_eq!(reversed(&back), key);
        key.flags |= FlowKey::ICMP;
        for (proto, query, answer) in QUERIES {
            (key.proto, key.icmp_type) = (proto, query);
            assert_eq!(reversed(&key).icmp_type, answer);
            assert_eq!(reversed(&reversed(&key)), key);
        }
        (key.proto, key.icmp_type) = (IpProto::ICMP, 3);
        assert_eq!(reversed(&key).icmp_type, 3);
    }
}
