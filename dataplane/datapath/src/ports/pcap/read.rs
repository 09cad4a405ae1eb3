//! Reader of whole capture files, pcap (draft-ietf-opsawg-pcap) and pcapng.
//!
//! Both formats are read here by hand: the package pcap-file brings two further generations of
//! procedural-macro packages, and its parsers check time stamps that are of no use here.

use std::path::Path;

use super::PcapError;
use super::fields::{ByteOrder, Fields};
use super::pcapng::{self, SECTION_HEADER};
use crate::ports::frame_list::FrameList;

/// Longest frame that fits an mbuf, in bytes.
const FRAME_MAX: usize = 10240;
/// Magic numbers of pcap files with time stamps in microseconds and in nanoseconds.
const PCAP_MAGICS: [u32; 2] = [0xa1b2_c3d4, 0xa1b2_3c4d];
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

/// Reads every frame of the capture file at `path`.
pub(super) fn read_frames(path: &Path) -> Result<FrameList, PcapError> {
    let bytes = std::fs::read(path).map_err(|source| PcapError::Read {
        path: path.to_owned(),
        source,
    })?;
    let mut frames = FrameList::default();
    let parsed = if bytes.starts_with(&SECTION_HEADER) {
        pcapng::parse(&bytes, &mut frames)
    } else {
        parse_pcap(&bytes, &mut frames)
    };
    match parsed {
        Ok(()) => Ok(frames),
        Err(Defect::File(problem)) => Err(PcapError::Header {
            path: path.to_owned(),
            problem,
        }),
        Err(Defect::Frame(problem)) => Err(PcapError::Frame {
            path: path.to_owned(),
            frame: frames.len() + 1,
            problem,
        }),
    }
}

fn parse_pcap(bytes: &[u8], frames: &mut FrameList) -> Result<(), Defect> {
    let order = bytes.first_chunk().and_then(|magic| {
        PCAP_MAGICS
            .iter()
            .find_map(|known| ByteOrder::of_magic(*magic, *known))
    });
    let Some(order) = order else {
        return Err(Defect::File("no pcap or pcapng header".to_owned()));
    };
    let mut fields = Fields::new(bytes, order);
    // Magic, version, time zone, accuracy and snapshot length: nothing of them matters here.
    let link = fields.bytes(20).and_then(|_| fields.u32());
    check_link(link.ok_or_else(|| Defect::File(TRUNCATED.to_owned()))?)?;
    while !fields.is_empty() {
        let (data, original_len) =
            next_packet(&mut fields).ok_or_else(|| Defect::Frame(TRUNCATED.to_owned()))?;
        take(frames, data, original_len)?;
    }
    Ok(())
}

/// Reads one record: the captured bytes, and the length that the frame had on the wire.
fn next_packet<'a>(fields: &mut Fields<'a>) -> Option<(&'a [u8], u32)> {
    let _time = fields.bytes(8)?;
    let captured = fields.len()?;
    let original_len = fields.u32()?;
    Some((fields.bytes(captured)?, original_len))
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
