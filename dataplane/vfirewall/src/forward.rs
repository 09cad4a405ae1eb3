// SPDX-License-Identifier: Apache-2.0
//! The forwarding path: one burst of one leg through the stages, each a visible call.

use crate::burst::Burst;
use crate::context::{Context, Links};
use crate::neighbours::Neighbours;
use crate::stages::{filter, local, receive, resolve, route, transmit};

/// Handles a burst that came in on a leg. Stages remove what goes no further; what remains at the
/// end was sent.
pub fn forward<L: Links>(
    context: &mut Context<'_, L>,
    neighbours: &mut Neighbours,
    burst: &mut Burst,
    leg: usize,
) {
    receive::receive(context, burst, leg);
    filter::ingress(context, burst);
    local::deliver(context, neighbours, burst);
    route::route(context, burst);
    filter::egress(context, burst);
    resolve::resolve(context, neighbours, burst);
    transmit::transmit(context, burst);
}
