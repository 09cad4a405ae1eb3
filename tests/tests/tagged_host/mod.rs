// SPDX-License-Identifier: Apache-2.0
//! Host of a VLAN at the far end of an uplink, since the kernel may have no support for VLANs: it answers ARP and ping.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use sluice_packet::checksum;
use sluice_tests::{Netns, Wire};

/// MAC address of every such host; one is enough for a VLAN.
const MAC: [u8; 6] = [2, 0, 0x5e, 0x22, 0, 5];

/// Host of a VLAN, until it is dropped.
pub(super) struct TaggedHost {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl TaggedHost {
    /// Starts a host with `address` in VLAN `vid` of `device`.
    pub(super) fn start(netns: &Netns, device: &str, vid: u16, address: Ipv4Addr) -> TaggedHost {
        let mut wire = Wire::open(netns, device).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let limit = Duration::from_millis(100);
                let own = |found, frame: &[u8]| found == vid && answer(frame, address).is_some();
                let asked = wire.receive(1, limit, own);
                let answers = asked.iter().filter_map(|(_, frame)| answer(frame, address));
                wire.send(vid, &answers.collect::<Vec<_>>()).unwrap();
            }
        });
        TaggedHost {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for TaggedHost {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
            eprintln!("the host ended early: {panic:?}");
        }
    }
}

/// Answer to an ARP request or a ping for `address`.
fn answer(frame: &[u8], address: Ipv4Addr) -> Option<Vec<u8>> {
    let address = address.octets();
    let mut answer = frame.to_vec();
    answer[0..6].copy_from_slice(frame.get(6..12)?);
    answer[6..12].copy_from_slice(&MAC);
    match frame.get(12..14)? {
        [0x08, 0x06] if frame.get(20..22)? == [0, 1] && frame.get(38..42)? == address => {
            answer[21] = 2;
            answer[22..28].copy_from_slice(&MAC);
            answer[28..32].copy_from_slice(&address);
            answer[32..42].copy_from_slice(&frame[22..32]);
        }
        // Without options; an echo request.
        [0x08, 0x00]
            if frame.get(14) == Some(&0x45)
                && frame.get(23) == Some(&1)
                && frame.get(30..34)? == address
                && frame.get(34) == Some(&8) =>
        {
            let end = 14 + usize::from(u16::from_be_bytes([frame[16], frame[17]]));
            // The firewall is one hop, and the ping began with 64.
            assert_eq!(frame[22], 63, "TTL");
            answer[26..30].copy_from_slice(&address);
            answer[30..34].copy_from_slice(&frame[26..30]);
            answer[34] = 0;
            answer[36..38].fill(0);
            let sum = checksum::of(&answer[34..end]);
            answer[36..38].copy_from_slice(&sum.to_be_bytes());
        }
        _ => return None,
    }
    Some(answer)
}
