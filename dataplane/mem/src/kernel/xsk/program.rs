// SPDX-License-Identifier: Apache-2.0
//! The XDP program that gives a netdev's frames to AF_XDP sockets: six instructions, put together here,
//! loaded by bpf(2) and attached through a BPF link, which ends with its fd, however this process does.
//!
//! A frame of a queue without a socket is dropped and not passed on: the host's stack must see none.
#![allow(unsafe_code, reason = "bpf(2) has no safe wrapper")]

use std::ffi::c_long;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use zerocopy::{Immutable, IntoBytes};

use super::XdpMode;

const BPF_MAP_CREATE: c_long = 0;
const BPF_MAP_UPDATE_ELEM: c_long = 2;
const BPF_PROG_LOAD: c_long = 5;
const BPF_LINK_CREATE: c_long = 28;
const BPF_LINK_DETACH: c_long = 34;

const BPF_MAP_TYPE_XSKMAP: u32 = 17;
const BPF_PROG_TYPE_XDP: u32 = 6;
/// Attach type BPF_XDP.
const BPF_XDP: u32 = 37;
/// Attach flags of if_link.h.
const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;
/// Action for frames that no socket takes.
const XDP_DROP: i32 = 1;
/// Helper bpf_redirect_map.
const REDIRECT_MAP: i32 = 51;
/// Offset of rx_queue_index in struct xdp_md.
const RX_QUEUE_INDEX: i16 = 16;

/// Name of map and program, as `bpftool` shows it.
const NAME: [u8; 16] = *b"sluicegate_xsk\0\0";
/// The helper asks for no particular licence.
const LICENCE: &[u8] = b"Apache-2.0\0";

/// Instruction: `struct bpf_insn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoBytes, Immutable)]
#[repr(C)]
struct Instruction {
    code: u8,
    /// Destination register, and source register from bit 4 on.
    registers: u8,
    offset: i16,
    immediate: i32,
}

impl Instruction {
    const fn new(code: u8, dst: u8, src: u8, offset: i16, immediate: i32) -> Instruction {
        Instruction {
            code,
            registers: dst | src << 4,
            offset,
            immediate,
        }
    }
}

/// The program: `return bpf_redirect_map(map, ctx->rx_queue_index, XDP_DROP)`.
const fn instructions(map: RawFd) -> [Instruction; 6] {
    const LOAD_WORD: u8 = 0x61;
    const LOAD_DOUBLE_WORD: u8 = 0x18;
    const MOVE_IMMEDIATE: u8 = 0xb7;
    const CALL: u8 = 0x85;
    const EXIT: u8 = 0x95;
    /// The double word is the map of an fd.
    const MAP_FD: u8 = 1;
    [
        Instruction::new(LOAD_WORD, 2, 1, RX_QUEUE_INDEX, 0),
        Instruction::new(LOAD_DOUBLE_WORD, 1, MAP_FD, 0, map),
        Instruction::new(0, 0, 0, 0, 0),
        Instruction::new(MOVE_IMMEDIATE, 3, 0, 0, XDP_DROP),
        Instruction::new(CALL, 0, 0, 0, REDIRECT_MAP),
        Instruction::new(EXIT, 0, 0, 0, 0),
    ]
}

/// Attributes of BPF_MAP_CREATE, as far as they are used.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    name: [u8; 16],
}

/// Attributes of BPF_MAP_UPDATE_ELEM.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct MapUpdate {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Attributes of BPF_PROG_LOAD, as far as they are used.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct ProgramLoad {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    licence: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

/// Attributes of BPF_LINK_CREATE, as far as they are used.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct LinkCreate {
    program_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
}

/// Attributes of BPF_LINK_DETACH.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct LinkDetach {
    link_fd: u32,
}

/// The program on a netdev, and the map from its queues to sockets. Ends with its drop.
#[derive(Debug)]
pub(super) struct XdpProgram {
    map: OwnedFd,
    link: OwnedFd,
    mode: XdpMode,
}

impl XdpProgram {
    /// Loads the program and attaches it to the netdev of index `ifindex` in the calling thread's network
    /// namespace. Until [`XdpProgram::serve`] every frame that comes is dropped. `queues` is the number of
    /// receive queues, 1 and more.
    ///
    /// # Errors
    /// The step that the kernel refused, with its answer: EPERM without CAP_BPF and CAP_NET_ADMIN, EBUSY or
    /// EEXIST where another program is on the netdev, EOPNOTSUPP where its driver has no XDP of its own.
    pub(super) fn attach(
        ifindex: u32,
        queues: u32,
        mode: XdpMode,
    ) -> Result<XdpProgram, (&'static str, io::Error)> {
        let map = MapCreate {
            map_type: BPF_MAP_TYPE_XSKMAP,
            key_size: 4,
            value_size: 4,
            max_entries: queues.max(1),
            map_flags: 0,
            inner_map_fd: 0,
            numa_node: 0,
            name: NAME,
        };
        let map = new_fd(BPF_MAP_CREATE, &map).map_err(|error| ("BPF_MAP_CREATE", error))?;
        let instructions = instructions(map.as_raw_fd());
        let program = ProgramLoad {
            program_type: BPF_PROG_TYPE_XDP,
            instruction_count: 6,
            instructions: instructions.as_ptr() as u64,
            licence: LICENCE.as_ptr() as u64,
            log_level: 0,
            log_size: 0,
            log_buffer: 0,
            kernel_version: 0,
            flags: 0,
            name: NAME,
        };
        let program = new_fd(BPF_PROG_LOAD, &program).map_err(|error| ("BPF_PROG_LOAD", error))?;
        let link = LinkCreate {
            program_fd: number(&program),
            target_ifindex: ifindex,
            attach_type: BPF_XDP,
            flags: match mode {
                XdpMode::Native => XDP_FLAGS_DRV_MODE,
                XdpMode::Generic => XDP_FLAGS_SKB_MODE,
            },
        };
        let link = new_fd(BPF_LINK_CREATE, &link).map_err(|error| ("BPF_LINK_CREATE", error))?;
        Ok(XdpProgram { map, link, mode })
    }

    /// Mode in which the program runs.
    pub(super) fn mode(&self) -> XdpMode {
        self.mode
    }

    /// Takes the program off the netdev at once, also where another process holds its fd.
    pub(super) fn detach(self) {
        let detach = LinkDetach {
            link_fd: number(&self.link),
        };
        // Before Linux 5.11 there is no such command: then the drop does it.
        let _ = bpf(BPF_LINK_DETACH, &detach);
    }

    /// Gives the frames of one receive queue to a socket that is bound to it.
    ///
    /// # Errors
    /// The kernel's answer: E2BIG for a queue that the map was not made for.
    pub(super) fn serve(&self, queue: u32, socket: impl AsFd) -> io::Result<()> {
        let value = number(&socket);
        let update = MapUpdate {
            map_fd: number(&self.map),
            padding: 0,
            key: (&raw const queue) as u64,
            value: (&raw const value) as u64,
            flags: 0,
        };
        bpf(BPF_MAP_UPDATE_ELEM, &update).map(drop)
    }
}

/// An fd as attributes hold it.
fn number(fd: &impl AsFd) -> u32 {
    u32::try_from(fd.as_fd().as_raw_fd()).unwrap_or(u32::MAX)
}

fn new_fd(command: c_long, attributes: &(impl IntoBytes + Immutable)) -> io::Result<OwnedFd> {
    let fd = bpf(command, attributes)?;
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: bpf(2) has just made this fd for these commands; nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn bpf(command: c_long, attributes: &(impl IntoBytes + Immutable)) -> io::Result<c_long> {
    let bytes = attributes.as_bytes();
    // SAFETY: the kernel reads as many bytes of attributes as it is told, and what they point to: arrays
    // and locals of the callers, which live through the call. It writes to none of them.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, bytes.as_ptr(), bytes.len()) };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(answer)
}
