// SPDX-License-Identifier: Apache-2.0
//! Frames made and read at the other end of the cable, tags and all.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use sluice_packet::Mac;
use sluice_packet::build::FrameBuilder;
use sluice_tests::Wire;

/// The station at the other end.
pub(crate) const STATION: Mac = Mac([0x02, 0, 0, 0, 0xee, 1]);

fn ping(to: Mac) -> Vec<u8> {
    let frame = FrameBuilder::new(to, STATION).padded();
    let frame = frame.ipv4([10, 21, 0, 250].into(), [10, 21, 0, 2].into());
    frame
        .icmp(8, 0, [0x12, 0x34, 0, 1])
        .payload(b"there and back")
        .build()
}

/// Sends a ping to the VF in VLAN `vid`; the frames that came back with the addresses changed over.
fn echo(wire: &mut Wire, vid: u16, vf: Mac) -> Result<Vec<(u16, Vec<u8>)>> {
    wire.send(vid, &[ping(vf)])?;
    Ok(wire.receive(1, Duration::from_secs(1), |_, bytes| {
        bytes.get(..6) == Some(&STATION.0) && bytes.get(6..12) == Some(&vf.0)
    }))
}

/// Until a ping in VLAN `vid` comes back, in the same VLAN.
pub(crate) fn ping_echo(wire: &mut Wire, vid: u16, vf: Mac) -> Result<()> {
    for _ in 0..60 {
        if let Some((heard, _)) = echo(wire, vid, vf)?.first() {
            ensure!(*heard == vid, "a frame of VLAN {vid} came back in {heard}");
            return Ok(());
        }
    }
    bail!("no echo in VLAN {vid} from {vf}")
}

/// Three pings in VLAN `vid` bring nothing back.
pub(crate) fn silent(wire: &mut Wire, vid: u16, vf: Mac) -> Result<()> {
    for _ in 0..3 {
        ensure!(
            echo(wire, vid, vf)?.is_empty(),
            "a frame of VLAN {vid} came back"
        );
    }
    Ok(())
}
