// SPDX-License-Identifier: Apache-2.0
//! Reader of whole capture files, pcap (draft-ietf-opsawg-pcap) and pcapng.
//!
//! Both formats are read here by hand: the package pcap-file brings two further generations of
//! procedural-macro packages, and its parsers check time stamps that are of no use here.

use std::path::Path;

use super::PcapError;
use super::checked::{Defect, TRUNCATED, check_link, take};
use super::fields::{ByteOrder, Fields};
use super::pcapng::{self, SECTION_HEADER};
use crate::ports::frame_list::FrameList;

/// Magic numbers of pcap files with time stamps in microseconds and in nanoseconds.
const PCAP_MAGICS: [u32; 2] = [0xa1b2_c3d4, 0xa1b2_3c4d];

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
