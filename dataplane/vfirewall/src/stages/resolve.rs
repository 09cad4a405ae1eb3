// SPDX-License-Identifier: Apache-2.0
//! Resolving stage: the next hop's MAC address, for which packets may have to wait.

use sluice_packet::Mac;

use crate::answer::{self, Trouble};
use crate::ask;
use crate::burst::{Burst, Packet, Step};
use crate::context::{Context, Links};
use crate::drops::Drop;
use crate::neighbours::{Due, Neighbours, Parked};
use crate::stages::transmit;

/// Writes each packet's MAC addresses; those whose next hop is not known wait for it.
pub fn resolve<L: Links>(
    context: &mut Context<'_, L>,
    neighbours: &mut Neighbours,
    burst: &mut Burst,
) {
    burst.each(|packet| {
        let (output, next_hop) = (packet.output, packet.next_hop);
        if let Some(mac) = neighbours.lookup(output, next_hop) {
            let own = context.tables.interfaces.get(output).mac;
            packet.frame.set_macs(mac, own);
            return Step::On;
        }
        let input = packet.input;
        let parked = neighbours.park(packet, context.now, |displaced| {
            context.drop(displaced.input, Drop::QueueFull);
        });
        match parked {
            Parked::Ask => ask::ask(context, output, next_hop, None),
            Parked::Waits => {}
            Parked::Full => context.drop(input, Drop::QueueFull),
            Parked::Limited => context.drop(input, Drop::RequestLimit),
        }
        Step::Gone
    });
}

/// Sends the requests that fall due, and answers packets whose next hop did not.
pub fn tick<L: Links>(context: &mut Context<'_, L>, neighbours: &mut Neighbours) {
    neighbours.tick(context.now, |due| match due {
        Due::Ask {
            interface,
            address,
            mac,
        } => ask::ask(context, interface, address, mac),
        Due::Failed(packet) => {
            context.drop(packet.input, Drop::Unreachable);
            answer::trouble(context, packet, Trouble::HostUnreachable);
        }
    });
}

/// Sends a packet that waited, to the MAC address that was found.
pub fn resume<L: Links>(context: &mut Context<'_, L>, packet: &mut Packet, mac: Mac) {
    let own = context.tables.interfaces.get(packet.output).mac;
    packet.frame.set_macs(mac, own);
    transmit::transmit_one(context, packet);
}
