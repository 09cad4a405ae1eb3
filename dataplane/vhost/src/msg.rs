// SPDX-License-Identifier: Apache-2.0
//! Messages of the vhost-user protocol, as bytes: pure, without sockets.
//!
//! A message is a header of three words (request, flags, size of the payload) and a payload, in the
//! machine's byte order (QEMU, docs/interop/vhost-user). A front end sends requests; the only thing
//! that a back end sends is an answer.

use crate::region::RegionSpec;

/// Bytes of a header.
pub const HEADER_LEN: usize = 12;
/// Most bytes of a payload. The longest that is understood, a table of [`MAX_TABLE`] regions, has 264.
pub const MAX_PAYLOAD: usize = 1024;
/// Most regions of one memory table, and so most file descriptors of one message.
pub const MAX_TABLE: usize = 8;

/// Version in the lowest two bits of a header's flags.
const VERSION: u32 = 1;
const VERSION_MASK: u32 = 0x3;
/// Flag of an answer.
const FLAG_REPLY: u32 = 0x4;
/// Flag of a request that wants to be answered whatever it is.
const FLAG_NEED_REPLY: u32 = 0x8;
/// Bit of a ring's file descriptor message that says that there is none.
const NO_FD: u64 = 1 << 8;

/// Reason why bytes are not a message. The connection cannot go on, since what follows may be anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Protocol version other than 1, or a flag that a request cannot have.
    #[error("header flags {0:#x}: a request of protocol version 1 has 0x1 or 0x9")]
    Flags(u32),
    /// Payload longer than any request has.
    #[error(
        "{request} announces a payload of {size} bytes: no request has more than {MAX_PAYLOAD}"
    )]
    Size {
        /// Name of the request.
        request: Name,
        /// Bytes announced.
        size: u32,
    },
    /// Payload of another length than its request has.
    #[error("{request} with a payload of {size} bytes, which it cannot have")]
    Payload {
        /// Name of the request.
        request: Name,
        /// Bytes that came.
        size: usize,
    },
    /// Memory table of too many regions, or of none.
    #[error("a memory table of {0} regions: from 1 to {MAX_TABLE} are possible")]
    Table(u32),
}

/// Name of a request, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name(pub u32);

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const NAMES: [&str; 43] = [
            "GET_FEATURES",
            "SET_FEATURES",
            "SET_OWNER",
            "RESET_OWNER",
            "SET_MEM_TABLE",
            "SET_LOG_BASE",
            "SET_LOG_FD",
            "SET_VRING_NUM",
            "SET_VRING_ADDR",
            "SET_VRING_BASE",
            "GET_VRING_BASE",
            "SET_VRING_KICK",
            "SET_VRING_CALL",
            "SET_VRING_ERR",
            "GET_PROTOCOL_FEATURES",
            "SET_PROTOCOL_FEATURES",
            "GET_QUEUE_NUM",
            "SET_VRING_ENABLE",
            "SEND_RARP",
            "NET_SET_MTU",
            "SET_BACKEND_REQ_FD",
            "IOTLB_MSG",
            "SET_VRING_ENDIAN",
            "GET_CONFIG",
            "SET_CONFIG",
            "CREATE_CRYPTO_SESSION",
            "CLOSE_CRYPTO_SESSION",
            "POSTCOPY_ADVISE",
            "POSTCOPY_LISTEN",
            "POSTCOPY_END",
            "GET_INFLIGHT_FD",
            "SET_INFLIGHT_FD",
            "GPU_SET_SOCKET",
            "RESET_DEVICE",
            "VRING_KICK",
            "GET_MAX_MEM_SLOTS",
            "ADD_MEM_REG",
            "REM_MEM_REG",
            "SET_STATUS",
            "GET_STATUS",
            "GET_SHARED_OBJECT",
            "SET_DEVICE_STATE_FD",
            "CHECK_DEVICE_STATE",
        ];
        let index = (self.0 as usize).checked_sub(1);
        match index.and_then(|index| NAMES.get(index)) {
            Some(name) => f.write_str(name),
            None => write!(f, "request {}", self.0),
        }
    }
}

/// Header of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Number of the request.
    pub request: u32,
    /// Whether it wants to be answered whatever it is.
    pub need_reply: bool,
    /// Bytes of the payload, at most [`MAX_PAYLOAD`].
    pub size: usize,
}

impl Header {
    /// Reads a header.
    ///
    /// # Errors
    /// Another version, a flag of an answer, or a payload longer than [`MAX_PAYLOAD`].
    pub fn decode(bytes: &[u8; HEADER_LEN]) -> Result<Header, MessageError> {
        let word = |at: usize| u32_at(bytes, at).unwrap_or_default();
        let (request, flags, size) = (word(0), word(4), word(8));
        if flags & !FLAG_NEED_REPLY != VERSION || flags & VERSION_MASK != VERSION {
            return Err(MessageError::Flags(flags));
        }
        let too_long = || MessageError::Size {
            request: Name(request),
            size,
        };
        let bytes = usize::try_from(size).map_err(|_| too_long())?;
        if bytes > MAX_PAYLOAD {
            return Err(too_long());
        }
        Ok(Header {
            request,
            need_reply: flags & FLAG_NEED_REPLY != 0,
            size: bytes,
        })
    }
}

/// State of a ring, as SET_VRING_NUM, SET_VRING_BASE, GET_VRING_BASE and SET_VRING_ENABLE carry it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingState {
    /// Index of the ring.
    pub index: u32,
    /// Number, by the request: size, index or switch.
    pub num: u32,
}

/// Addresses of a ring's three parts in the front end's address space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingAddresses {
    /// Index of the ring.
    pub index: u32,
    /// Flags; bit 0 asks for a log of dirty pages, which is not offered.
    pub flags: u32,
    /// Address of the descriptor table.
    pub descriptors: u64,
    /// Address of the used ring.
    pub used: u64,
    /// Address of the available ring.
    pub available: u64,
}

/// File descriptor of a ring, as SET_VRING_KICK, SET_VRING_CALL and SET_VRING_ERR announce it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingFd {
    /// Index of the ring.
    pub index: u32,
    /// Whether a file descriptor comes with it.
    pub has_fd: bool,
}

/// Request of a front end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Asks for the features of the device.
    GetFeatures,
    /// Chooses among them.
    SetFeatures(u64),
    /// The front end owns the device.
    SetOwner,
    /// The front end no longer owns the device: all rings stop.
    ResetOwner,
    /// Replaces all memory.
    SetMemTable(Vec<RegionSpec>),
    /// Sets the size of a ring.
    SetVringNum(RingState),
    /// Sets the addresses of a ring.
    SetVringAddr(RingAddresses),
    /// Sets the next index of a ring.
    SetVringBase(RingState),
    /// Stops a ring and asks for its next index.
    GetVringBase(RingState),
    /// Gives the eventfd by which the front end interrupts.
    SetVringKick(RingFd),
    /// Gives the eventfd by which the front end is interrupted.
    SetVringCall(RingFd),
    /// Gives the eventfd of errors, which is not used.
    SetVringErr(RingFd),
    /// Asks for the features of the protocol.
    GetProtocolFeatures,
    /// Chooses among them.
    SetProtocolFeatures(u64),
    /// Asks for the number of queue pairs.
    GetQueueNum,
    /// Switches a ring on or off.
    SetVringEnable(RingState),
    /// Resets the device: all rings stop and are forgotten.
    ResetDevice,
    /// Asks for the number of memory regions that are possible.
    GetMaxMemSlots,
    /// Adds a memory region.
    AddMemReg(RegionSpec),
    /// Removes a memory region.
    RemMemReg(RegionSpec),
    /// Sets the device status; 0 resets the device.
    SetStatus(u64),
    /// Asks for the device status.
    GetStatus,
    /// Request that is not known, or that belongs to a feature that is not offered.
    Unsupported(Name),
}

impl Request {
    /// Reads a request.
    ///
    /// # Errors
    /// The payload is not one that the request has.
    pub fn decode(header: Header, payload: &[u8]) -> Result<Request, MessageError> {
        let name = Name(header.request);
        let wrong = || MessageError::Payload {
            request: name,
            size: payload.len(),
        };
        let word = || {
            exactly(payload, 8)
                .and_then(|payload| u64_at(payload, 0))
                .ok_or_else(wrong)
        };
        let state = || ring_state(payload).ok_or_else(wrong);
        let fd = || -> Result<RingFd, MessageError> {
            let word = word()?;
            Ok(RingFd {
                #[allow(clippy::cast_possible_truncation, reason = "eight bits")]
                index: (word & 0xff) as u32,
                has_fd: word & NO_FD == 0,
            })
        };
        let region = || {
            let payload = exactly(payload, 40).ok_or_else(wrong)?;
            region_at(payload, 8).ok_or_else(wrong)
        };
        let empty = |request| exactly(payload, 0).map(|_| request).ok_or_else(wrong);
        match header.request {
            1 => empty(Request::GetFeatures),
            2 => word().map(Request::SetFeatures),
            3 => empty(Request::SetOwner),
            4 => empty(Request::ResetOwner),
            5 => table(payload).ok_or_else(wrong)?.map(Request::SetMemTable),
            8 => state().map(Request::SetVringNum),
            9 => ring_addresses(payload)
                .map(Request::SetVringAddr)
                .ok_or_else(wrong),
            10 => state().map(Request::SetVringBase),
            11 => state().map(Request::GetVringBase),
            12 => fd().map(Request::SetVringKick),
            13 => fd().map(Request::SetVringCall),
            14 => fd().map(Request::SetVringErr),
            15 => empty(Request::GetProtocolFeatures),
            16 => word().map(Request::SetProtocolFeatures),
            17 => empty(Request::GetQueueNum),
            18 => state().map(Request::SetVringEnable),
            34 => empty(Request::ResetDevice),
            36 => empty(Request::GetMaxMemSlots),
            37 => region().map(Request::AddMemReg),
            38 => region().map(Request::RemMemReg),
            39 => word().map(Request::SetStatus),
            40 => empty(Request::GetStatus),
            _ => Ok(Request::Unsupported(name)),
        }
    }

    /// Range of the number of file descriptors that the request can carry.
    pub fn fds(&self) -> std::ops::RangeInclusive<usize> {
        match self {
            Request::SetMemTable(regions) => regions.len()..=regions.len(),
            Request::AddMemReg(_) => 1..=1,
            // QEMU sends the region's file descriptor once more.
            Request::RemMemReg(_) => 0..=1,
            Request::SetVringKick(fd) | Request::SetVringCall(fd) | Request::SetVringErr(fd) => {
                let count = usize::from(fd.has_fd);
                count..=count
            }
            Request::Unsupported(_) => 0..=MAX_TABLE,
            _ => 0..=0,
        }
    }
}

/// Encodes an answer to request `request` with a payload of one word.
pub fn reply_word(request: u32, word: u64) -> [u8; HEADER_LEN + 8] {
    let mut bytes = [0; HEADER_LEN + 8];
    let header = [request, VERSION | FLAG_REPLY, 8];
    for (to, from) in bytes.chunks_exact_mut(4).zip(header) {
        to.copy_from_slice(&from.to_ne_bytes());
    }
    bytes[HEADER_LEN..].copy_from_slice(&word.to_ne_bytes());
    bytes
}

/// Encodes the answer to GET_VRING_BASE.
pub fn reply_state(state: RingState) -> [u8; HEADER_LEN + 8] {
    let [a, b, c, d] = state.index.to_ne_bytes();
    let [e, f, g, h] = state.num.to_ne_bytes();
    reply_word(11, u64::from_ne_bytes([a, b, c, d, e, f, g, h]))
}

fn exactly(bytes: &[u8], len: usize) -> Option<&[u8]> {
    (bytes.len() == len).then_some(bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u64::from_ne_bytes(*bytes))
}

fn ring_state(payload: &[u8]) -> Option<RingState> {
    let payload = exactly(payload, 8)?;
    Some(RingState {
        index: u32_at(payload, 0)?,
        num: u32_at(payload, 4)?,
    })
}

fn ring_addresses(payload: &[u8]) -> Option<RingAddresses> {
    // The last word is the address of the log, which is not offered.
    let payload = exactly(payload, 40)?;
    Some(RingAddresses {
        index: u32_at(payload, 0)?,
        flags: u32_at(payload, 4)?,
        descriptors: u64_at(payload, 8)?,
        used: u64_at(payload, 16)?,
        available: u64_at(payload, 24)?,
    })
}

fn region_at(payload: &[u8], at: usize) -> Option<RegionSpec> {
    Some(RegionSpec {
        guest_address: u64_at(payload, at)?,
        bytes: u64_at(payload, at + 8)?,
        user_address: u64_at(payload, at + 16)?,
        file_offset: u64_at(payload, at + 24)?,
    })
}

/// Memory table; `None`: its payload is not as long as its count says.
fn table(payload: &[u8]) -> Option<Result<Vec<RegionSpec>, MessageError>> {
    let count = u32_at(payload, 0)?;
    let regions = usize::try_from(count).unwrap_or(usize::MAX);
    if !(1..=MAX_TABLE).contains(&regions) {
        return Some(Err(MessageError::Table(count)));
    }
    // QEMU sends the regions that there are, others a whole table.
    if payload.len() < 8 + 32 * regions || payload.len() > 8 + 32 * MAX_TABLE {
        return None;
    }
    let region = |n| region_at(payload, 8 + 32 * n);
    (0..regions).map(region).collect::<Option<Vec<_>>>().map(Ok)
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking, and its numbers are small"
)]
mod tests;
