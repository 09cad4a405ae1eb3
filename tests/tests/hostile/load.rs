//! Attacks by how much and how often, and by what changes while it is looked at.

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

use super::stranger::{Descriptor, HEAD, SLOTS, Stranger, TAIL, TO_ENGINE, Target, init};
use super::witness::{DENIED, PORTS, Witness};

/// A frame of the attacker's to the witness.
fn frame(from: Mac, to: Mac, port: u16) -> Vec<u8> {
    FrameBuilder::new(to, from)
        .ipv4(Ipv4Addr::new(10, 21, 0, 66), Ipv4Addr::new(10, 21, 0, 2))
        .udp(4000, port)
        .payload(&[7; 18])
        .build()
}

/// Floods at full speed, with what nobody wants and with what somebody does. Frames sent.
pub(crate) fn flood(target: &Target, own: Mac, witness: Mac, time: Duration) -> Result<u64> {
    let mut sent = 0;
    for to in [witness, Mac([0xff; 6]), Mac([2, 0, 0, 0, 0, 0x99])] {
        let stranger = Stranger::connected(target)?;
        stranger.post_all()?;
        let start = Instant::now();
        sent += stranger.flood(&frame(own, to, *PORTS.start()), || {
            start.elapsed() > time / 3
        })?;
    }
    Ok(sent)
}

/// Connects and reads nothing, while the witness has frames for it; and has its eventfds full, so that whoever
/// writes them would wait for ever.
pub(crate) fn stop_reading(target: &Target, time: Duration) -> Result<()> {
    let stranger = Stranger::connected(target)?;
    stranger.post_all()?;
    stranger.ask_for_wakeups()?;
    for event in stranger.events() {
        rustix::io::write(event.as_fd(), &(u64::MAX - 1).to_le_bytes())?;
        // The engine's own description of it blocks, too, from now on.
        rustix::io::ioctl_fionbio(event, false)?;
    }
    std::thread::sleep(time);
    Ok(())
}

/// Connects and hangs up, again and again.
pub(crate) fn reconnect(target: &Target, times: u32) -> Result<u32> {
    for done in 0..times {
        // The engine may still be busy with the end of the one before.
        let again = || Stranger::connected(target).ok();
        if sluice_tests::wait_for("another connection", Duration::from_secs(10), again).is_err() {
            return Ok(done);
        }
    }
    Ok(times)
}

/// Many at once that say a little and then nothing more.
pub(crate) fn crowd(target: &Target, many: usize) -> Result<usize> {
    let mut crowd = Vec::new();
    for _ in 0..many {
        let channel = target.channel()?;
        let _ = channel.send(&Message::Init(init()), None);
        crowd.push(channel);
    }
    // One that means it is served among them.
    let good = || Stranger::connected(target).ok();
    sluice_tests::wait_for("an honest connection", Duration::from_secs(10), good)?;
    Ok(crowd.len())
}

/// Rewrites its frames while they are judged: a port that is allowed becomes one that is not, and back.
/// Nothing denied may come through. Frames that came, and frames that were rewritten in time to be denied.
pub(crate) fn rewrite(target: &Target, own: Mac, witness: &mut Witness) -> Result<(u64, u64)> {
    let stranger = Stranger::connected(target)?;
    let good = frame(own, witness.mac(), *PORTS.start());
    let bad = frame(own, witness.mac(), DENIED);
    let at = good
        .iter()
        .zip(&bad)
        .position(|(a, b)| a != b)
        .unwrap_or_default();
    for slot in 0..SLOTS {
        stranger.memory.copy_out(Stranger::buffer(slot), &good)?;
        let descriptor = Descriptor {
            length: good.len() as u32,
            offset: Stranger::buffer(slot) as u32,
            ..Descriptor::default()
        };
        stranger.describe(TO_ENGINE, slot, descriptor)?;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let flipper = std::thread::spawn({
        let (stop, memory) = (Arc::clone(&stop), stranger.memory.clone());
        let (good, bad) = (good[at..at + 2].to_vec(), bad[at..at + 2].to_vec());
        move || {
            while !stop.load(Ordering::Relaxed) {
                for bytes in [&bad, &good] {
                    for slot in 0..16 {
                        let _ = memory.copy_out(Stranger::buffer(slot) + at, bytes);
                    }
                }
            }
        }
    });
    let denied_before = witness.denied();
    let mut frames = FrameList::default();
    let (mut came, start) = (0, Instant::now());
    while start.elapsed() < Duration::from_secs(2) {
        let tail = stranger.read_index(TO_ENGINE, TAIL)?;
        stranger.index(TO_ENGINE, HEAD, tail.wrapping_add(SLOTS / 2))?;
        came += witness.take(&mut frames)?;
    }
    stop.store(true, Ordering::Relaxed);
    let _ = flipper.join();
    Ok((came, witness.denied() - denied_before))
}
