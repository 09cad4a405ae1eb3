// SPDX-License-Identifier: Apache-2.0
//! pcapng files (draft-ietf-opsawg-pcapng): blocks, of which those with a packet become frames.

use super::checked::{Defect, TRUNCATED, check_link, take};
use super::fields::{ByteOrder, Fields};
use crate::ports::frame_list::FrameList;

/// Type of the section header block, the same in both byte orders.
pub(super) const SECTION_HEADER: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
/// Byte-order magic of a section header, at `MAGIC_AT`.
const MAGIC: u32 = 0x1a2b_3c4d;
/// Offset of the byte-order magic in a section header block.
const MAGIC_AT: usize = 8;
/// Bytes of a block's type and its two total lengths.
const FRAMING: usize = 12;

const INTERFACE_DESCRIPTION: u32 = 1;
/// Obsolete, but still met in old captures.
const PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

/// Byte order of a section and the link types of the interfaces described so far.
struct Section {
    order: ByteOrder,
    links: Vec<u32>,
}

impl Section {
    /// Opens the section whose header block `bytes` begin with.
    fn open(bytes: &[u8]) -> Result<Section, Defect> {
        let Some(magic) = bytes.get(MAGIC_AT..).and_then(<[u8]>::first_chunk) else {
            return Err(Defect::File(TRUNCATED.to_owned()));
        };
        let order = ByteOrder::of_magic(*magic, MAGIC).ok_or_else(|| {
            Defect::File(format!("byte-order magic {magic:02x?} in a section header"))
        })?;
        Ok(Section {
            order,
            links: Vec::new(),
        })
    }

    /// Splits the first block off `bytes`: its type, its body, and the bytes behind it.
    fn split_block<'a>(&self, bytes: &'a [u8]) -> Result<(u32, &'a [u8], &'a [u8]), Defect> {
        let truncated = || Defect::Frame(TRUNCATED.to_owned());
        let mut fields = Fields::new(bytes, self.order);
        let kind = fields.u32().ok_or_else(truncated)?;
        let total = fields.len().ok_or_else(truncated)?;
        let body = total
            .checked_sub(FRAMING)
            .filter(|body| body % 4 == 0)
            .ok_or_else(|| Defect::Frame(format!("block length {total}")))?;
        let body = fields.bytes(body).ok_or_else(truncated)?;
        let trailer = fields.len().ok_or_else(truncated)?;
        if trailer != total {
            return Err(Defect::Frame(format!(
                "block length {total} at its start, {trailer} at its end"
            )));
        }
        Ok((kind, body, fields.rest()))
    }

    /// Takes one block: an interface is remembered, a packet becomes a frame, others are skipped.
    fn read_block(&mut self, kind: u32, body: &[u8], frames: &mut FrameList) -> Result<(), Defect> {
        let fields = Fields::new(body, self.order);
        let packet = match kind {
            INTERFACE_DESCRIPTION => {
                let link = { fields }.u16();
                let link = link.ok_or_else(|| Defect::Frame(TRUNCATED.to_owned()))?;
                self.links.push(u32::from(link));
                return Ok(());
            }
            ENHANCED_PACKET => Packet::enhanced(fields),
            PACKET => Packet::obsolete(fields),
            SIMPLE_PACKET => Packet::simple(fields),
            _ => return Ok(()),
        };
        let packet = packet.ok_or_else(|| Defect::Frame(TRUNCATED.to_owned()))?;
        let interface = usize::try_from(packet.interface).ok();
        let link = interface.and_then(|interface| self.links.get(interface));
        let Some(link) = link else {
            return Err(Defect::Frame(format!(
                "its interface {} is not described",
                packet.interface
            )));
        };
        check_link(*link)?;
        take(frames, packet.data, packet.original_len)
    }
}

/// Packet of a block of any of the three kinds.
struct Packet<'a> {
    interface: u32,
    data: &'a [u8],
    original_len: u32,
}

impl<'a> Packet<'a> {
    fn enhanced(mut fields: Fields<'a>) -> Option<Packet<'a>> {
        let interface = fields.u32()?;
        Packet::after_interface(interface, fields)
    }

    fn obsolete(mut fields: Fields<'a>) -> Option<Packet<'a>> {
        let interface = u32::from(fields.u16()?);
        let _drops = fields.u16()?;
        Packet::after_interface(interface, fields)
    }

    /// Reads time stamp, both lengths and data, which these two kinds have in common.
    fn after_interface(interface: u32, mut fields: Fields<'a>) -> Option<Packet<'a>> {
        let _time = fields.bytes(8)?;
        let captured = fields.len()?;
        let original_len = fields.u32()?;
        Some(Packet {
            interface,
            data: fields.bytes(captured)?,
            original_len,
        })
    }

    /// Reads a packet of interface 0 whose captured length is not written: the block's padding is
    /// cut off by the original length.
    fn simple(mut fields: Fields<'a>) -> Option<Packet<'a>> {
        let original_len = fields.u32()?;
        let padded = fields.rest();
        let len = padded.len().min(usize::try_from(original_len).ok()?);
        Some(Packet {
            interface: 0,
            data: &padded[..len],
            original_len,
        })
    }
}

/// Appends the packets of the pcapng file `bytes` to `frames`.
pub(super) fn parse(bytes: &[u8], frames: &mut FrameList) -> Result<(), Defect> {
    let mut section = Section::open(bytes)?;
    let mut rest = bytes;
    while !rest.is_empty() {
        if rest.starts_with(&SECTION_HEADER) {
            section = Section::open(rest)?;
        }
        let (kind, body, behind) = section.split_block(rest)?;
        section.read_block(kind, body, frames)?;
        rest = behind;
    }
    Ok(())
}
