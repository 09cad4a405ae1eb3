//! Writing a pcap file, frame by frame.
//!
//! pcap-file writes the file's header; its packet writer wants a frame in one piece and hides the
//! file behind it, so the 16 bytes in front of each frame are written here.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use pcap_file::pcap::PcapHeader;
use pcap_file::{DataLink, Endianness};

use super::PcapError;
use crate::ports::tagged::Tagged;

/// A pcap file that grows: little-endian, microseconds.
#[derive(Debug)]
pub(super) struct PcapWriter {
    path: PathBuf,
    file: BufWriter<File>,
    frames: u64,
}

impl PcapWriter {
    /// Makes or empties the file at `path` and writes its header.
    pub(super) fn create(path: PathBuf) -> Result<PcapWriter, PcapError> {
        let header = PcapHeader {
            datalink: DataLink::ETHERNET,
            endianness: Endianness::Little,
            ..PcapHeader::default()
        };
        let mut bytes = Vec::new();
        let made = header
            .write_to(&mut bytes)
            .map_err(std::io::Error::other)
            .and_then(|_| File::create(&path))
            .and_then(|mut file| file.write_all(&bytes).map(|()| file));
        match made {
            Ok(file) => Ok(PcapWriter {
                path,
                file: BufWriter::new(file),
                frames: 0,
            }),
            Err(source) => Err(PcapError::Write { path, source }),
        }
    }

    /// Frames written.
    pub(super) fn frames(&self) -> u64 {
        self.frames
    }

    /// Appends a frame.
    pub(super) fn write(&mut self, frame: &Tagged<'_>) -> Result<(), PcapError> {
        let written = self.try_write(frame);
        self.frames += u64::from(written.is_ok());
        self.named(written)
    }

    /// Brings everything into the file.
    pub(super) fn flush(&mut self) -> Result<(), PcapError> {
        let flushed = self.file.flush();
        self.named(flushed)
    }

    fn try_write(&mut self, frame: &Tagged<'_>) -> std::io::Result<()> {
        let number = |value: u64| u32::try_from(value).map_err(std::io::Error::other);
        let len = number(frame.len() as u64)?.to_le_bytes();
        self.file
            .write_all(&number(self.frames / 1_000_000)?.to_le_bytes())?;
        self.file
            .write_all(&number(self.frames % 1_000_000)?.to_le_bytes())?;
        self.file.write_all(&len)?;
        self.file.write_all(&len)?;
        frame
            .parts()
            .iter()
            .try_for_each(|part| self.file.write_all(part))
    }

    fn named(&self, result: std::io::Result<()>) -> Result<(), PcapError> {
        result.map_err(|source| PcapError::Write {
            path: self.path.clone(),
            source,
        })
    }
}
