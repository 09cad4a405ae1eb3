// SPDX-License-Identifier: Apache-2.0
//! Checks of both capture formats: Ethernet only, whole frames only.

use crate::ports::frame_list::FrameList;

/// Longest frame that fits an mbuf, in bytes.
const FRAME_MAX: usize = 10240;
/// Link type of Ethernet, LINKTYPE_ETHERNET.
pub(super) const ETHERNET: u32 = 1;
/// Problem of a file that is shorter than its own lengths say.
pub(super) const TRUNCATED: &str = "the file ends in the middle of it";

/// Problem found while parsing: with the file as such, or with the frame after those read so far.
#[derive(Debug)]
pub(super) enum Defect {
    File(String),
    Frame(String),
}

/// Appends a frame, unless it was cut or is longer than an mbuf.
pub(super) fn take(frames: &mut FrameList, data: &[u8], original_len: u32) -> Result<(), Defect> {
    if data.len() != original_len as usize {
        return Err(Defect::Frame(format!(
            "{} of its {original_len} bytes were captured: capture with tcpdump -s 0",
            data.len()
        )));
    }
    if data.len() > FRAME_MAX {
        return Err(Defect::Frame(format!(
            "it has {original_len} bytes, and an mbuf holds {FRAME_MAX}: \
             capture with segmentation offloads off"
        )));
    }
    frames.push(data);
    Ok(())
}

/// Refuses captures of anything but Ethernet.
pub(super) fn check_link(link: u32) -> Result<(), Defect> {
    if link == ETHERNET {
        return Ok(());
    }
    Err(Defect::File(format!(
        "its link type is {link}, not ETHERNET ({ETHERNET}): capture on one netdev"
    )))
}
