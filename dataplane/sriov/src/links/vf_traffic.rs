// SPDX-License-Identifier: Apache-2.0
//! Counts that a PF keeps of its VFs.

use netlink_packet_route::link::{
    LinkAttribute, LinkExtentMask, LinkMessage, LinkVfInfo, VfInfo, VfStats,
};
use sluice_stats::Traffic;

use super::{get, talk};
use crate::Error;

/// Returns the traffic of the VFs of the PF with netdev `pf`, by their numbers, seen from the VF: `rx` is what it
/// received. A VF of which the driver counts nothing is left out: the kernel reports zeros for a driver that cannot
/// count.
///
/// # Errors
/// [`Error::Netdev`]; [`Error::NoPf`].
pub fn vf_traffic(pf: &str) -> Result<Vec<(u32, Traffic)>, Error> {
    let link = talk("ask about the VFs of", pf, async |handle| {
        get(&handle, pf, vec![LinkExtentMask::Vf]).await
    })?;
    let link = link.ok_or_else(|| Error::NoPf(pf.to_owned()))?;
    Ok(traffic_in(&link))
}

pub(super) fn traffic_in(link: &LinkMessage) -> Vec<(u32, Traffic)> {
    let lists = link
        .attributes
        .iter()
        .filter_map(|attribute| match attribute {
            LinkAttribute::VfInfoList(vfs) => Some(vfs),
            _ => None,
        });
    lists.flatten().filter_map(of_vf).collect()
}

fn of_vf(LinkVfInfo(infos): &LinkVfInfo) -> Option<(u32, Traffic)> {
    let number = infos.iter().find_map(|info| match info {
        VfInfo::Mac(mac) => Some(mac.vf_id),
        _ => None,
    })?;
    let stats = infos.iter().find_map(|info| match info {
        VfInfo::Stats(stats) => Some(stats),
        _ => None,
    })?;
    let mut traffic = Traffic::default();
    for stat in stats {
        match stat {
            VfStats::RxPackets(count) => traffic.rx_frames = *count,
            VfStats::TxPackets(count) => traffic.tx_frames = *count,
            VfStats::RxBytes(count) => traffic.rx_bytes = *count,
            VfStats::TxBytes(count) => traffic.tx_bytes = *count,
            _ => {}
        }
    }
    (traffic != Traffic::default()).then_some((number, traffic))
}
