// SPDX-License-Identifier: Apache-2.0
//! The system calls that rustix has no safe face for.
#![allow(unsafe_code, reason = "socket options of AF_PACKET")]

use std::ffi::c_int;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// ETH_P_ALL in network byte order.
#[allow(clippy::cast_possible_truncation, reason = "ETH_P_ALL is 3")]
const EVERY_PROTOCOL: u16 = (libc::ETH_P_ALL as u16).to_be();

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// A raw, non-blocking packet socket that receives nothing yet.
pub(super) fn socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no pointers.
    let fd = check(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
    // SAFETY: the fd is new and ours.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sets a socket option to a plain old value.
fn set<T: Copy>(fd: &OwnedFd, level: c_int, option: c_int, value: T) -> io::Result<()> {
    let len = libc::socklen_t::try_from(size_of::<T>()).unwrap_or(0);
    // SAFETY: the kernel reads `len` bytes of `value`, which lives through the call.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            len,
        )
    })?;
    Ok(())
}

pub(super) fn set_flag(fd: &OwnedFd, option: c_int, on: bool) -> io::Result<()> {
    set(fd, libc::SOL_PACKET, option, c_int::from(on))
}

pub(super) fn set_version_2(fd: &OwnedFd) -> io::Result<()> {
    set(
        fd,
        libc::SOL_PACKET,
        libc::PACKET_VERSION,
        libc::tpacket_versions::TPACKET_V2 as c_int,
    )
}

pub(super) fn set_ring(fd: &OwnedFd, ring: c_int, request: libc::tpacket_req) -> io::Result<()> {
    set(fd, libc::SOL_PACKET, ring, request)
}

/// Frames being sent count against the socket's send buffer: have it hold a whole ring. Beyond the
/// system's limit only with CAP_NET_ADMIN; with less, `flush` says "try again" earlier.
pub(super) fn raise_send_buffer(fd: &OwnedFd, ring_bytes: usize) {
    let bytes = c_int::try_from(ring_bytes).unwrap_or(c_int::MAX / 2);
    if set(fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, bytes).is_err() {
        let _ = set(fd, libc::SOL_SOCKET, libc::SO_SNDBUF, bytes);
    }
}

/// Has frames that are longer than their receive slot kept whole for `recv` as well, as long as they
/// fit `bytes` of memory together: nothing is set aside, it is a limit. Beyond the system's limit only
/// with CAP_NET_ADMIN.
pub(super) fn keep_long_frames(fd: &OwnedFd, bytes: c_int) -> io::Result<()> {
    // The kernel doubles what it is told.
    if set(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, bytes / 2).is_err() {
        set(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, bytes / 2)?;
    }
    set_flag(fd, libc::PACKET_COPY_THRESH, true)
}

/// Interface index that the socket is bound to; none once its netdev is gone.
pub(super) fn bound_index(fd: &OwnedFd) -> io::Result<Option<u32>> {
    // SAFETY: all zeros is a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    let mut len = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).unwrap_or(0);
    // SAFETY: the kernel writes at most `len` bytes to `address`.
    check(unsafe { libc::getsockname(fd.as_raw_fd(), (&raw mut address).cast(), &raw mut len) })?;
    Ok(u32::try_from(address.sll_ifindex)
        .ok()
        .filter(|&index| index > 0))
}

fn index(ifindex: u32) -> io::Result<c_int> {
    match c_int::try_from(ifindex) {
        Ok(index) if index > 0 => Ok(index),
        _ => Err(io::Error::from_raw_os_error(libc::ENODEV)),
    }
}

/// Starts receiving all protocols of one netdev.
pub(super) fn bind(fd: &OwnedFd, ifindex: u32) -> io::Result<()> {
    // SAFETY: all zeros is a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).unwrap_or(0);
    address.sll_protocol = EVERY_PROTOCOL;
    address.sll_ifindex = index(ifindex)?;
    let len = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).unwrap_or(0);
    // SAFETY: the kernel reads `len` bytes of `address`, which lives through the call.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len) })?;
    Ok(())
}

/// Has the netdev promiscuous for as long as the socket is open.
pub(super) fn join_promiscuous(fd: &OwnedFd, ifindex: u32) -> io::Result<()> {
    let request = libc::packet_mreq {
        mr_ifindex: index(ifindex)?,
        mr_type: u16::try_from(libc::PACKET_MR_PROMISC).unwrap_or(0),
        mr_alen: 0,
        mr_address: [0; 8],
    };
    set(fd, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, request)
}

/// Frames and drops since the last call.
pub(super) fn statistics(fd: &OwnedFd) -> io::Result<libc::tpacket_stats> {
    let mut stats = libc::tpacket_stats {
        tp_packets: 0,
        tp_drops: 0,
    };
    let mut len = libc::socklen_t::try_from(size_of::<libc::tpacket_stats>()).unwrap_or(0);
    // SAFETY: the kernel writes at most `len` bytes to `stats`.
    check(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            (&raw mut stats).cast(),
            &raw mut len,
        )
    })?;
    Ok(stats)
}
