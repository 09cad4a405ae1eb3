// SPDX-License-Identifier: Apache-2.0
//! A tap device (Documentation/networking/tuntap.rst in the kernel's source).
#![allow(unsafe_code, reason = "the ioctl that makes a tap of /dev/net/tun")]

use std::ffi::{c_char, c_int};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::packet_mmap::{GsoInfo, VNET_HDR_BYTES, VnetHdr};
use crate::error::Error;

/// Configuration of a tap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TapConfig {
    /// Whether the kernel may leave checksums and TCP segmentation to us (IFF_VNET_HDR with
    /// TUN_F_CSUM, TSO4 and TSO6), which [`TapFrame`] then says of each frame. Without it every
    /// frame comes complete and no longer than the device's MTU.
    pub offload: bool,
}

/// A received frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TapFrame {
    /// Bytes of the frame in the buffer. As many as the buffer has: the frame may have been cut.
    pub len: usize,
    /// See [`RxFrame::csum_not_ready`](crate::packet_mmap::RxFrame::csum_not_ready); only with
    /// [`TapConfig::offload`].
    pub csum_not_ready: Option<(u16, u16)>,
    /// The frame is to be cut into segments; only with [`TapConfig::offload`].
    pub gso: Option<GsoInfo>,
}

/// A tap device, from the side of its user: what the kernel sends on it is received here. Tags are
/// among the frames' bytes in both directions. The device goes when this is dropped.
#[derive(Debug)]
pub struct Tap {
    fd: OwnedFd,
    name: String,
    offload: bool,
}

impl Tap {
    /// Makes the tap `name` (1 to 15 bytes; `%d` in it becomes a number) in the calling thread's
    /// network namespace, or takes it over if it exists and nobody uses it. Needs CAP_NET_ADMIN.
    ///
    /// # Errors
    /// [`Error::Tap`] with the step that the kernel refused.
    pub fn open(name: &str, config: TapConfig) -> Result<Tap, Error> {
        let fail = |step: &'static str| {
            move |source: io::Error| Error::Tap {
                name: name.to_owned(),
                step,
                source,
            }
        };
        let bad_name = name.is_empty() || name.len() >= libc::IFNAMSIZ || name.contains('\0');
        if bad_name {
            return Err(fail("the name (1 to 15 bytes)")(Errno::INVAL.into()));
        }
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = rustix::fs::open("/dev/net/tun", flags, Mode::empty())
            .map_err(|errno| fail("opening /dev/net/tun")(errno.into()))?;
        let name = attach(&fd, name, config.offload).map_err(fail("TUNSETIFF"))?;
        if config.offload {
            let flags = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6;
            set_offload(&fd, flags).map_err(|source| Error::Tap {
                name: name.clone(),
                step: "TUNSETOFFLOAD",
                source,
            })?;
        }
        Ok(Tap {
            fd,
            name,
            offload: config.offload,
        })
    }

    /// The device's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Receives one frame into `buffer`; `None` if there is none.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<Option<TapFrame>> {
        let mut header = [0; VNET_HDR_BYTES];
        let result = if self.offload {
            let mut parts = [IoSliceMut::new(&mut header), IoSliceMut::new(buffer)];
            rustix::io::readv(&self.fd, &mut parts)
        } else {
            rustix::io::read(&self.fd, buffer)
        };
        let len = match result {
            Ok(len) => len,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        if !self.offload {
            return Ok(Some(TapFrame {
                len,
                csum_not_ready: None,
                gso: None,
            }));
        }
        let VnetHdr {
            csum_not_ready,
            gso,
        } = VnetHdr::parse(header);
        Ok(Some(TapFrame {
            len: len.saturating_sub(VNET_HDR_BYTES),
            csum_not_ready,
            gso,
        }))
    }

    /// Sends one frame, checksums filled in. False if the kernel's queue is full.
    ///
    /// # Errors
    /// What the kernel said: EIO while the device is down, EINVAL for a frame below 14 bytes.
    pub fn send(&self, frame: &[u8]) -> io::Result<bool> {
        let header = [0; VNET_HDR_BYTES];
        let result = if self.offload {
            rustix::io::writev(&self.fd, &[IoSlice::new(&header), IoSlice::new(frame)])
        } else {
            rustix::io::write(&self.fd, frame)
        };
        match result {
            Ok(_) => Ok(true),
            Err(Errno::AGAIN | Errno::NOBUFS | Errno::INTR) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl AsFd for Tap {
    /// Readable when a frame is waiting.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Makes the fd a tap; returns the device's name. `name` is shorter than IFNAMSIZ.
fn attach(fd: &OwnedFd, name: &str, offload: bool) -> io::Result<String> {
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | if offload { libc::IFF_VNET_HDR } else { 0 };
    // SAFETY: all zeros is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = c_char::from_ne_bytes([from]);
    }
    request.ifr_ifru.ifru_flags = i16::try_from(flags).unwrap_or(0);
    // SAFETY: the kernel reads and writes one ifreq.
    if unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETIFF, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let name = request.ifr_name.iter().map(|c| c.to_ne_bytes()[0]);
    Ok(String::from_utf8_lossy(&name.take_while(|&c| c != 0).collect::<Vec<_>>()).into_owned())
}

fn set_offload(fd: &OwnedFd, flags: u32) -> io::Result<()> {
    // SAFETY: the argument is a number.
    let result: c_int = unsafe {
        libc::ioctl(
            fd.as_raw_fd(),
            libc::TUNSETOFFLOAD,
            libc::c_ulong::from(flags),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
