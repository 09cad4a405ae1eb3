//! Reading a whole capture file.

use std::borrow::Cow;
use std::path::Path;

use pcap_file::DataLink;
use pcap_file::pcap::PcapParser;
use pcap_file::pcapng::{Block, PcapNgParser};

use super::PcapError;
use crate::ports::frame_list::FrameList;

/// Longest frame that fits an mbuf, in bytes.
const FRAME_MAX: usize = 10240;
/// The type of a pcapng file's first block, the same in both byte orders.
const PCAPNG_MAGIC: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

/// The frames of the capture file at `path`.
pub(super) fn read_frames(path: &Path) -> Result<FrameList, PcapError> {
    let bytes = std::fs::read(path).map_err(|source| PcapError::Read {
        path: path.to_owned(),
        source,
    })?;
    let mut frames = FrameList::default();
    let parsed = if bytes.starts_with(&PCAPNG_MAGIC) {
        parse_pcapng(&bytes, &mut frames)
    } else {
        parse_pcap(&bytes, &mut frames)
    };
    match parsed {
        Ok(()) => Ok(frames),
        Err(Wrong::File(problem)) => Err(PcapError::Header {
            path: path.to_owned(),
            problem,
        }),
        Err(Wrong::Frame(problem)) => Err(PcapError::Frame {
            path: path.to_owned(),
            frame: frames.len() + 1,
            problem,
        }),
    }
}

/// What is wrong: the file as such, or the frame after those that were read.
enum Wrong {
    File(String),
    Frame(String),
}

fn parse_pcap(bytes: &[u8], frames: &mut FrameList) -> Result<(), Wrong> {
    let (mut rest, parser) = PcapParser::new(bytes).map_err(|error| Wrong::File(said(&error)))?;
    check_link(parser.header().datalink)?;
    while !rest.is_empty() {
        let (after, packet) = parser
            .next_raw_packet(rest)
            .map_err(|error| Wrong::Frame(said(&error)))?;
        take(frames, &packet.data, packet.orig_len)?;
        rest = after;
    }
    Ok(())
}

fn parse_pcapng(bytes: &[u8], frames: &mut FrameList) -> Result<(), Wrong> {
    let (mut rest, mut parser) =
        PcapNgParser::new(bytes).map_err(|error| Wrong::File(said(&error)))?;
    while !rest.is_empty() {
        let (after, block) = parser
            .next_block(rest)
            .map_err(|error| Wrong::Frame(said(&error)))?;
        let (interface, data, original_len) = match block {
            Block::EnhancedPacket(packet) => {
                (packet.interface_id, packet.data, packet.original_len)
            }
            Block::Packet(packet) => (
                u32::from(packet.interface_id),
                packet.data,
                packet.original_len,
            ),
            // Its data has the padding behind it.
            Block::SimplePacket(packet) => {
                let len = packet.data.len().min(packet.original_len as usize);
                (
                    0,
                    Cow::Owned(packet.data[..len].to_vec()),
                    packet.original_len,
                )
            }
            _ => {
                rest = after;
                continue;
            }
        };
        let Some(interface) = parser.interfaces().get(interface as usize) else {
            return Err(Wrong::Frame(format!(
                "its interface {interface} is not described"
            )));
        };
        check_link(interface.linktype)?;
        take(frames, &data, original_len)?;
        rest = after;
    }
    Ok(())
}

fn take(frames: &mut FrameList, data: &[u8], original_len: u32) -> Result<(), Wrong> {
    if data.len() != original_len as usize {
        return Err(Wrong::Frame(format!(
            "{} of its {original_len} bytes were captured: capture with tcpdump -s 0",
            data.len()
        )));
    }
    if data.len() > FRAME_MAX {
        return Err(Wrong::Frame(format!(
            "it has {original_len} bytes, and an mbuf holds {FRAME_MAX}: \
             capture with segmentation offloads off"
        )));
    }
    frames.push(data);
    Ok(())
}

fn check_link(link: DataLink) -> Result<(), Wrong> {
    if link == DataLink::ETHERNET {
        return Ok(());
    }
    Err(Wrong::File(format!(
        "its link type is {link:?}, not ETHERNET: capture on one netdev"
    )))
}

fn said(error: &pcap_file::PcapError) -> String {
    match error {
        pcap_file::PcapError::IncompleteBuffer => "the file ends in the middle of it".to_owned(),
        other => other.to_string(),
    }
}
