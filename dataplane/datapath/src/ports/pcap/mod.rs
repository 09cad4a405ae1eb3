// SPDX-License-Identifier: Apache-2.0
//! A port on capture files: what it receives comes from a file, what it is sent goes to a file.
//! Golden tests stand on it.
//!
//! Files in may be pcap (micro- or nanoseconds) or pcapng; files out are pcap. Tags are in the bytes
//! of both. A file in is read and checked as a whole when the port is opened, so that receiving
//! cannot fail and allocates nothing. Times are not replayed: frames come as fast as they are asked
//! for, and the n-th frame out is written n microseconds after the epoch, so that equal traffic
//! makes equal files.

mod checked;
mod fields;
mod pcapng;
mod read;
mod write;

use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use sluice_mem::{Burst, Mbuf};

use self::read::read_frames;
use self::write::PcapWriter;
use super::frame_list::FrameList;
use super::tagged::Tagged;
use crate::drops::DropReason;
use crate::frame::FrameInfo;
use crate::frame::tagging::Tagging;
use crate::ports::seam::{PodPort, PortContext, PortFault, Sent, Uplink, Wake};

/// Files of a pcap port.
#[derive(Debug, Clone, Default)]
pub struct PcapConfig {
    /// The frames to receive; `None`: none ever come.
    pub read: Option<PathBuf>,
    /// File for the frames sent, which is made or overwritten; `None`: they are swallowed.
    pub write: Option<PathBuf>,
}

/// Error of a capture file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PcapError {
    /// The file in cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// Error of the system call.
        source: std::io::Error,
    },
    /// The file in is no capture, or not of Ethernet.
    #[error("{} is not a capture that can be replayed: {problem}", path.display())]
    Header {
        /// Path of the file.
        path: PathBuf,
        /// Fault that was found in it.
        problem: String,
    },
    /// A frame of the file in is wrong.
    #[error("{}, frame {frame}: {problem}", path.display())]
    Frame {
        /// Path of the file.
        path: PathBuf,
        /// Number of the frame, from 1 as tcpdump and Wireshark count.
        frame: usize,
        /// Fault that was found in it.
        problem: String,
    },
    /// The file out cannot be made.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// Path of the file.
        path: PathBuf,
        /// Error of the system call.
        source: std::io::Error,
    },
}

/// Progress of a pcap port, shared with its owner: the port itself is with a worker.
#[derive(Debug, Default)]
pub struct PcapProgress {
    frames_in: u64,
    received: AtomicU64,
    written: AtomicU64,
    problem: OnceLock<String>,
}

impl PcapProgress {
    /// Whether every frame of the file in has been received.
    pub fn finished(&self) -> bool {
        self.received() == self.frames_in
    }

    /// Frames received so far.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Acquire)
    }

    /// Frames written so far, and in the file: it can be read.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// Returns the error that ended the writing, if it failed.
    pub fn problem(&self) -> Option<&str> {
        self.problem.get().map(String::as_str)
    }
}

/// Both files, and how far they are.
#[derive(Debug)]
struct Files {
    name: String,
    frames: FrameList,
    next: usize,
    out: Option<PcapWriter>,
    progress: Arc<PcapProgress>,
}

impl Files {
    fn open(config: PcapConfig) -> Result<Files, PcapError> {
        let name = config.read.as_ref().or(config.write.as_ref());
        let name = name.map_or_else(|| "none".to_owned(), |path| path.display().to_string());
        let frames = config
            .read
            .as_deref()
            .map(read_frames)
            .transpose()?
            .unwrap_or_default();
        let out = config.write.map(PcapWriter::create).transpose()?;
        let progress = PcapProgress {
            frames_in: frames.len() as u64,
            ..PcapProgress::default()
        };
        Ok(Files {
            name,
            frames,
            next: 0,
            out,
            progress: Arc::new(progress),
        })
    }

    fn receive(&mut self, context: &mut PortContext<'_>, out: &mut Burst) {
        while out.room() > 0 {
            let Some(frame) = self.frames.get(self.next) else {
                break;
            };
            // A file can wait: without an mbuf the frame is received later, not lost.
            let Some(mut mbuf) = context.pools.alloc_for(frame.len()) else {
                break;
            };
            let fits = mbuf.copy_from(frame);
            debug_assert!(fits, "alloc_for gives room for what it is asked for");
            FrameInfo::begin(&mut mbuf, None);
            self.next += 1;
            if let Err(mbuf) = out.push(mbuf) {
                context.pools.free(mbuf);
                break;
            }
        }
        self.progress
            .received
            .store(self.next as u64, Ordering::Release);
    }

    /// Whether nothing is left to receive.
    fn is_dry(&self) -> bool {
        self.next == self.frames.len()
    }

    /// Writes a frame; false once writing has failed.
    fn write(&mut self, frame: &Tagged<'_>) -> bool {
        let Some(out) = &mut self.out else {
            return true;
        };
        if self.progress.problem().is_some() {
            return false;
        }
        let written = out.write(frame);
        self.note(written)
    }

    /// Brings what was written into the file.
    fn flush(&mut self) {
        let Some(out) = &mut self.out else { return };
        let flushed = out.flush();
        let frames = out.frames();
        if self.note(flushed) {
            self.progress.written.store(frames, Ordering::Release);
        }
    }

    fn note(&self, result: Result<(), PcapError>) -> bool {
        if let Err(error) = &result {
            self.progress.problem.get_or_init(|| error.to_string());
        }
        result.is_ok()
    }
}

/// An uplink on capture files.
#[derive(Debug)]
pub struct PcapUplink {
    files: Files,
    mtu: u32,
}

impl PcapUplink {
    /// Opens both files; `mtu` is what the uplink shows, in bytes.
    ///
    /// # Errors
    /// A file cannot be opened, or the file in is not a whole and sound capture of Ethernet.
    pub fn open(config: PcapConfig, mtu: u32) -> Result<PcapUplink, PcapError> {
        Ok(PcapUplink {
            files: Files::open(config)?,
            mtu,
        })
    }

    /// Returns the progress, which any thread may read.
    pub fn progress(&self) -> Arc<PcapProgress> {
        Arc::clone(&self.files.progress)
    }
}

impl Wake for PcapUplink {
    fn wake_fds(&self, _add: &mut dyn FnMut(BorrowedFd<'_>)) {}

    fn arm(&mut self) -> bool {
        self.files.is_dry()
    }

    fn disarm(&mut self) {}
}

impl Uplink for PcapUplink {
    fn driver(&self) -> &'static str {
        "pcap"
    }

    fn device(&self) -> &str {
        &self.files.name
    }

    fn mtu(&self) -> u32 {
        self.mtu
    }

    fn rx_burst(&mut self, context: &mut PortContext<'_>, out: &mut Burst) {
        self.files.receive(context, out);
    }

    fn tx_burst(&mut self, context: &mut PortContext<'_>, burst: &mut Burst) -> Sent {
        let mut sent = Sent::default();
        for mbuf in burst.iter() {
            let frame = Tagged::to_wire(mbuf);
            if self.files.write(&frame) {
                sent.add(frame.len());
            } else {
                context.drops.add(DropReason::TxError, 1);
            }
        }
        self.files.flush();
        context.pools.free_burst(burst);
        sent
    }
}

/// A pod on capture files: what the pod says is read from one, what it is given goes to the other.
#[derive(Debug)]
pub struct PcapPort {
    files: Files,
}

impl PcapPort {
    /// Opens both files.
    ///
    /// # Errors
    /// As for [`PcapUplink::open`].
    pub fn open(config: PcapConfig) -> Result<PcapPort, PcapError> {
        Ok(PcapPort {
            files: Files::open(config)?,
        })
    }

    /// Returns the progress, which any thread may read.
    pub fn progress(&self) -> Arc<PcapProgress> {
        Arc::clone(&self.files.progress)
    }
}

impl Wake for PcapPort {
    fn wake_fds(&self, _add: &mut dyn FnMut(BorrowedFd<'_>)) {}

    fn arm(&mut self) -> bool {
        self.files.is_dry()
    }

    fn disarm(&mut self) {}
}

impl PodPort for PcapPort {
    fn rx_burst(
        &mut self,
        context: &mut PortContext<'_>,
        out: &mut Burst,
    ) -> Result<(), PortFault> {
        self.files.receive(context, out);
        Ok(())
    }

    fn deliver(&mut self, frames: &[Mbuf], tagging: Tagging) -> Result<Sent, PortFault> {
        let mut sent = Sent::default();
        for mbuf in frames {
            let frame = Tagged::to_pod(mbuf, tagging);
            if !self.files.write(&frame) {
                let reason = self
                    .files
                    .progress
                    .problem()
                    .unwrap_or("cannot write")
                    .to_owned();
                return Err(PortFault { reason });
            }
            sent.add(frame.len());
        }
        Ok(sent)
    }

    fn flush(&mut self) {
        self.files.flush();
    }
}

#[cfg(test)]
mod tests;
