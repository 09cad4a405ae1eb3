// SPDX-License-Identifier: Apache-2.0
//! Ingress: towards the pod.

use sluice_mem::{Burst, Mbuf};

use super::classify;
use super::dispatch::dispatch;
use super::judge;
use super::lookup::Lookup;
use super::parse;
use super::state::WorkerState;
use super::tables::Tables;
use super::tracked::Source;
use crate::ids::UplinkId;
use crate::ports::seam::PortContext;

/// Ingress flow, over one burst of one uplink. Returns the number of frames received.
#[inline(always)]
pub(crate) fn ingress(tables: &Tables, state: &mut WorkerState, uplink: UplinkId) -> usize {
    let mut burst = Burst::new();
    let received = receive(state, uplink, &mut burst);
    if received == 0 {
        return 0;
    }
    let buckets = parse::from_uplink(tables, state, uplink, &mut burst);
    let mut flows = Lookup::new();
    flows.look_up(tables, state, Source::Wire, &buckets, &mut burst);
    if !flows.all_hit() {
        classify::from_uplink(tables, state, &mut flows, &mut burst);
        judge::at_receivers(tables, state, &mut flows, &mut burst);
    }
    dispatch(tables, state, &flows, &mut burst);
    received
}

/// Receives a burst. Returns its number of frames.
fn receive(state: &mut WorkerState, id: UplinkId, burst: &mut Burst) -> usize {
    let Some(uplink) = state.uplinks.get_mut(id.index()).and_then(Option::as_mut) else {
        return 0;
    };
    let mut context = PortContext {
        pools: &mut state.pools,
        drops: &uplink.counts.rx_lost,
    };
    uplink.port.rx_burst(&mut context, burst);
    let frames = burst.len();
    if frames > 0 {
        uplink
            .counts
            .traffic
            .received(frames, burst.iter().map(Mbuf::len).sum());
    }
    frames
}
