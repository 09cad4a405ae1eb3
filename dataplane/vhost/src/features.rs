// SPDX-License-Identifier: Apache-2.0
//! Feature bits of the device (virtio 1.2) and of the protocol (QEMU, docs/interop/vhost-user), and
//! which of them are offered.
//!
//! Left out on purpose: checksum and segmentation offloads and the control queue, since every frame
//! is judged as it is; the log of dirty pages (live migration) and inflight descriptors, since the
//! state of a ring is its used index alone; requests of the back end, page faults by the front end,
//! and crypto sessions.

/// Several receive buffers may be merged for one frame (VIRTIO_NET_F_MRG_RXBUF).
pub const MRG_RXBUF: u64 = 1 << 15;
/// Several queue pairs (VIRTIO_NET_F_MQ).
pub const MQ: u64 = 1 << 22;
/// Descriptors may name a table of descriptors (VIRTIO_F_INDIRECT_DESC).
pub const INDIRECT_DESC: u64 = 1 << 28;
/// Features of the protocol are negotiated (VHOST_USER_F_PROTOCOL_FEATURES).
pub const PROTOCOL_FEATURES: u64 = 1 << 30;
/// Device of virtio 1.0 and later (VIRTIO_F_VERSION_1).
pub const VERSION_1: u64 = 1 << 32;
/// Buffers are used in the order in which they were made available (VIRTIO_F_IN_ORDER). They always
/// are; DPDK's front end takes a faster path if it knows.
pub const IN_ORDER: u64 = 1 << 35;

/// Features of the device that are offered, without [`MQ`].
pub const OFFERED: u64 = MRG_RXBUF | INDIRECT_DESC | PROTOCOL_FEATURES | VERSION_1 | IN_ORDER;

/// Feature bits of the protocol.
pub mod protocol {
    /// Several queue pairs.
    pub const MQ: u64 = 1 << 0;
    /// Every request can be answered (NEED_REPLY).
    pub const REPLY_ACK: u64 = 1 << 3;
    /// The device can be reset.
    pub const RESET_DEVICE: u64 = 1 << 13;
    /// Memory comes and goes region by region.
    pub const CONFIGURE_MEM_SLOTS: u64 = 1 << 15;
    /// The device status is passed on.
    pub const STATUS: u64 = 1 << 16;

    /// Features of the protocol that are offered.
    pub const OFFERED: u64 = MQ | REPLY_ACK | RESET_DEVICE | CONFIGURE_MEM_SLOTS | STATUS;
}

/// Features of the device that are offered with this number of queue pairs.
pub fn offered(queue_pairs: u16) -> u64 {
    if queue_pairs > 1 {
        OFFERED | MQ
    } else {
        OFFERED
    }
}

/// Bytes of the header before each frame: the count of merged buffers is part of it from virtio 1.0
/// on, and before that with merged buffers only.
pub fn header_bytes(features: u64) -> usize {
    if features & (VERSION_1 | MRG_RXBUF) == 0 {
        10
    } else {
        12
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_offered_that_is_not_done() {
        assert_eq!(offered(1), 0x9_5000_8000);
        assert_eq!(offered(4), 0x9_5040_8000);
        assert_eq!(protocol::OFFERED, 0x1_a009);
    }

    #[test]
    fn headers_have_a_count_of_buffers_from_virtio_1_on() {
        assert_eq!(header_bytes(0), 10);
        assert_eq!(header_bytes(MRG_RXBUF), 12);
        assert_eq!(header_bytes(VERSION_1), 12);
    }
}
