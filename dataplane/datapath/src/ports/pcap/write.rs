// SPDX-License-Identifier: Apache-2.0
//! Writer of a pcap file, frame by frame.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use super::PcapError;
use super::checked::ETHERNET;
use crate::ports::tagged::Tagged;

/// Snapshot length that the header names, in bytes: more than any frame has.
const SNAP_LEN: u32 = 65535;

/// Growing pcap file: little-endian, time stamps in microseconds.
#[derive(Debug)]
pub(super) struct PcapWriter {
    path: PathBuf,
    file: BufWriter<File>,
    frames: u64,
}

impl PcapWriter {
    /// Creates or truncates the file at `path` and writes its header.
    pub(super) fn create(path: PathBuf) -> Result<PcapWriter, PcapError> {
        let made =
            File::create(&path).and_then(|mut file| file.write_all(&file_header()).map(|()| file));
        match made {
            Ok(file) => Ok(PcapWriter {
                path,
                file: BufWriter::new(file),
                frames: 0,
            }),
            Err(source) => Err(PcapError::Write { path, source }),
        }
    }

    /// Returns the number of frames written.
    pub(super) fn frames(&self) -> u64 {
        self.frames
    }

    /// Appends a frame.
    pub(super) fn write(&mut self, frame: &Tagged<'_>) -> Result<(), PcapError> {
        let written = self.try_write(frame);
        self.frames += u64::from(written.is_ok());
        self.with_path(written)
    }

    /// Writes what is buffered to the file.
    pub(super) fn flush(&mut self) -> Result<(), PcapError> {
        let flushed = self.file.flush();
        self.with_path(flushed)
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

    fn with_path(&self, result: std::io::Result<()>) -> Result<(), PcapError> {
        result.map_err(|source| PcapError::Write {
            path: self.path.clone(),
            source,
        })
    }
}

/// Header of a pcap file of Ethernet frames, version 2.4.
fn file_header() -> [u8; 24] {
    let mut header = [0; 24];
    header[0..4].copy_from_slice(&0xa1b2_c3d4_u32.to_le_bytes());
    header[4..6].copy_from_slice(&2_u16.to_le_bytes());
    header[6..8].copy_from_slice(&4_u16.to_le_bytes());
    // Time zone and accuracy stay 0.
    header[16..20].copy_from_slice(&SNAP_LEN.to_le_bytes());
    header[20..24].copy_from_slice(&ETHERNET.to_le_bytes());
    header
}
