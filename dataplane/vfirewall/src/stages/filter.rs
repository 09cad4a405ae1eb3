// SPDX-License-Identifier: Apache-2.0
//! Filter stages: the policy of the interface that a packet came in on, and that of the one it is to
//! leave on.
//!
//! Both are the engine's policies and tables. *Ingress* is towards this pod, *egress* is from it.

use sluice_firewall::{Direction, Hit, PolicyIndex, Table, Verdict};
use sluice_memif::BURST;
use sluice_packet::Headers;

use crate::answer;
use crate::burst::{Burst, Packet, Step};
use crate::context::{Context, Links};
use crate::drops::Drop;
use crate::interfaces::InterfaceId;

/// Judges frames by the policy of the interface that they came in on.
pub fn ingress<L: Links>(context: &mut Context<'_, L>, burst: &mut Burst) {
    judge(context, burst, Direction::Ingress, |packet| packet.input);
}

/// Judges packets by the policy of the interface that they are to leave on.
pub fn egress<L: Links>(context: &mut Context<'_, L>, burst: &mut Burst) {
    judge(context, burst, Direction::Egress, |packet| packet.output);
}

fn judge<L: Links>(
    context: &mut Context<'_, L>,
    burst: &mut Burst,
    direction: Direction,
    interface_of: impl Fn(&Packet) -> InterfaceId,
) {
    let nothing = Hit {
        rule: 0,
        verdict: Verdict::Drop,
        log: false,
    };
    let mut hits = [nothing; BURST];
    look_up(context, burst, direction, &interface_of, &mut hits);
    let mut hits = hits.iter();
    burst.each(|packet| {
        let interface = interface_of(packet);
        let Some(hit) = hits.next() else {
            return Step::Gone;
        };
        match context.tables.policy(interface) {
            Some(policy) => decide(context, packet, interface, (policy, direction, *hit)),
            None => {
                context.drop(packet.input, Drop::NoPolicy);
                context.log_drop(packet.key(), interface, Drop::NoPolicy);
                Step::Gone
            }
        }
    });
}

/// Looks up the decisions of packets in order, all that have one policy in a row at once.
fn look_up<L: Links>(
    context: &Context<'_, L>,
    burst: &Burst,
    direction: Direction,
    interface_of: impl Fn(&Packet) -> InterfaceId,
    hits: &mut [Hit; BURST],
) {
    let mut packets = burst.iter().peekable();
    let mut at = 0;
    while let Some(first) = packets.peek() {
        let policy = context.tables.policy(interface_of(first));
        let same = packets
            .clone()
            .take_while(|packet| context.tables.policy(interface_of(packet)) == policy);
        let count = same.clone().count();
        if let (Some(policy), Some(hits)) = (policy, hits.get_mut(at..at + count)) {
            let table = context.tables.policies.policy(policy).table(direction);
            table.judge_burst(same.clone().map(Packet::key), hits);
            if table.reads_headers() {
                judge_by_headers(table, same, hits);
            }
        }
        at += count;
        packets.by_ref().take(count).for_each(drop);
    }
}

/// Judges those packets again whose rule has conditions on header fields such as TCP flags. The outer tag is taken
/// off: every packet counts as one of priority 0.
#[cold]
fn judge_by_headers<'p>(
    table: &Table,
    packets: impl Iterator<Item = &'p Packet>,
    hits: &mut [Hit],
) {
    for (packet, hit) in packets.zip(hits) {
        if table.needs_headers(*hit) {
            let headers = Headers::read(packet.frame.bytes(), packet.key());
            *hit = table.judge_with(packet.key(), &headers);
        }
    }
}

fn decide<L: Links>(
    context: &mut Context<'_, L>,
    packet: &mut Packet,
    interface: InterfaceId,
    (policy, direction, hit): (PolicyIndex, Direction, Hit),
) -> Step {
    let base = context.tables.policies.policy(policy).slot_base(direction);
    context.state.counters.rule(base + hit.rule as usize);
    if hit.verdict.passes() {
        if hit.log {
            context.log_decision(packet.key(), interface, None, (policy, direction, hit));
        }
        return Step::On;
    }
    let reason = match direction {
        Direction::Ingress => Drop::DeniedIngress,
        Direction::Egress => Drop::DeniedEgress,
    };
    context.drop(packet.input, reason);
    context.log_decision(
        packet.key(),
        interface,
        Some(reason),
        (policy, direction, hit),
    );
    if hit.verdict == Verdict::Reject {
        answer::reject(context, packet);
    }
    Step::Gone
}
