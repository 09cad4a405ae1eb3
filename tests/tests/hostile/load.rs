// SPDX-License-Identifier: Apache-2.0
//! Attacks by load: floods, many connections, and frames that change while they are judged.

use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use sluice_memif::FrameList;
use sluice_memif::msg::Message;
use sluice_packet::Mac;
use sluice_packet::build::FrameBuilder;

use super::fake_client::{Descriptor, FakeClient, HEAD, SLOTS, TAIL, TO_ENGINE, Target, init};
use super::vlan_peer::{DENIED, PORTS, VlanPeer};

/// Makes a frame from the attacker to the other pod of its VLAN.
fn frame(from: Mac, to: Mac, port: u16) -> Vec<u8> {
    FrameBuilder::new(to, from)
        .ipv4(Ipv4Addr::new(10, 21, 0, 66), Ipv4Addr::new(10, 21, 0, 2))
        .udp(4000, port)
        .payload(&[7; 18])
        .build()
}

/// Floods at full speed with frames for nobody and for the other pod. Returns the number of frames sent.
pub(crate) fn flood(target: &Target, own: Mac, peer: Mac, time: Duration) -> Result<u64> {
    let mut sent = 0;
    for to in [peer, Mac([0xff; 6]), Mac([2, 0, 0, 0, 0, 0x99])] {
        let client = FakeClient::connected(target)?;
        client.post_all()?;
        let start = Instant::now();
        sent += client.flood(&frame(own, to, *PORTS.start()), || {
            start.elapsed() > time / 3
        })?;
    }
    Ok(sent)
}

/// Connects and reads nothing while there are frames for it, with its eventfds full, so that a write to them
/// would block for ever.
pub(crate) fn stop_reading(target: &Target, time: Duration) -> Result<()> {
    let client = FakeClient::connected(target)?;
    client.post_all()?;
    client.ask_for_wakeups()?;
    for event in client.events() {
        rustix::io::write(event.as_fd(), &(u64::MAX - 1).to_le_bytes())?;
        // The engine's own description of it blocks, too, from now on.
        rustix::io::ioctl_fionbio(event, false)?;
    }
    std::thread::sleep(time);
    Ok(())
}

/// Connects and disconnects `times` times.
pub(crate) fn reconnect(target: &Target, times: u32) -> Result<u32> {
    for done in 0..times {
        // The engine may still be busy with the end of the one before.
        let again = || FakeClient::connected(target).ok();
        if sluice_tests::wait_for("another connection", Duration::from_secs(10), again).is_err() {
            return Ok(done);
        }
    }
    Ok(times)
}

/// Connects and sends nonsense for `time`, as often as the engine lets it. Returns how often that was.
pub(crate) fn nonsense(target: &Target, time: Duration) -> u64 {
    let (start, mut times) = (Instant::now(), 0);
    while start.elapsed() < time {
        if let Ok(client) = FakeClient::open(target) {
            let _ = client.raw(&[0xee; 128], &[]);
            times += u64::from(client.hear().is_ok());
        }
    }
    times
}

/// Connects and breaks its ring for `time`, as often as the engine lets it. Returns how often that was.
pub(crate) fn broken_rings(target: &Target, time: Duration) -> u64 {
    let (start, mut times) = (Instant::now(), 0);
    while start.elapsed() < time {
        let broken = FakeClient::connected(target).and_then(|client| {
            client.index(TO_ENGINE, HEAD, SLOTS * 3)?;
            client.hear()
        });
        times += u64::from(broken.is_ok());
    }
    times
}

/// Connects and sends one packet without a byte. Returns the client, which stays connected.
pub(crate) fn empty_packet(target: &Target) -> Result<FakeClient> {
    let client = FakeClient::connected(target)?;
    let descriptor = Descriptor {
        offset: FakeClient::buffer(0) as u32,
        ..Descriptor::default()
    };
    client.describe(TO_ENGINE, 0, descriptor)?;
    client.index(TO_ENGINE, HEAD, 1)?;
    Ok(client)
}

/// Opens `many` connections that begin the handshake and then say nothing more. Returns their number.
pub(crate) fn crowd(target: &Target, many: usize) -> Result<usize> {
    let mut crowd = Vec::new();
    for _ in 0..many {
        // The engine takes some at once and then so many a second: others wait at its socket.
        let room = || target.channel().ok();
        let channel = sluice_tests::wait_for("room at the socket", Duration::from_secs(10), room)?;
        let _ = channel.send(&Message::Init(init()), None);
        crowd.push(channel);
    }
    // One that means it is served among them.
    let good = || FakeClient::connected(target).ok();
    sluice_tests::wait_for("an honest connection", Duration::from_secs(10), good)?;
    Ok(crowd.len())
}

/// Rewrites its frames while they are judged: an allowed port becomes a denied one, and back. Nothing denied may
/// come through. Returns the number of frames that came, and of those rewritten in time to be denied.
pub(crate) fn rewrite(target: &Target, own: Mac, peer: &mut VlanPeer) -> Result<(u64, u64)> {
    let client = FakeClient::connected(target)?;
    let good = frame(own, peer.mac(), *PORTS.start());
    let bad = frame(own, peer.mac(), DENIED);
    let at = good
        .iter()
        .zip(&bad)
        .position(|(a, b)| a != b)
        .unwrap_or_default();
    for slot in 0..SLOTS {
        client.memory.copy_out(FakeClient::buffer(slot), &good)?;
        let descriptor = Descriptor {
            length: good.len() as u32,
            offset: FakeClient::buffer(slot) as u32,
            ..Descriptor::default()
        };
        client.describe(TO_ENGINE, slot, descriptor)?;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let flipper = std::thread::spawn({
        let (stop, memory) = (Arc::clone(&stop), client.memory.clone());
        let (good, bad) = (good[at..at + 2].to_vec(), bad[at..at + 2].to_vec());
        move || {
            while !stop.load(Ordering::Relaxed) {
                for bytes in [&bad, &good] {
                    for slot in 0..16 {
                        let _ = memory.copy_out(FakeClient::buffer(slot) + at, bytes);
                    }
                }
            }
        }
    });
    let denied_before = peer.denied();
    let mut frames = FrameList::default();
    let (mut came, start) = (0, Instant::now());
    while start.elapsed() < Duration::from_secs(2) {
        let tail = client.read_index(TO_ENGINE, TAIL)?;
        client.index(TO_ENGINE, HEAD, tail.wrapping_add(SLOTS / 2))?;
        came += peer.take(&mut frames)?;
    }
    stop.store(true, Ordering::Relaxed);
    let _ = flipper.join();
    Ok((came, peer.denied() - denied_before))
}
