// SPDX-License-Identifier: Apache-2.0
//! Registers, descriptors and mailbox messages of the 82576's VF (Intel 82576EB datasheet: registers
//! in section 8, descriptors in 7.1.5 and 7.2.2.3, mailbox in 7.8.2.9).

use sluice_vfio::RegOffset;

/// Vendor and device id of the VF.
pub(super) const IDS: (u16, u16) = (0x8086, 0x10ca);

// -- Control.
pub(super) const CTRL: RegOffset = RegOffset(0x0000);
pub(super) const STATUS: RegOffset = RegOffset(0x0008);
/// CTRL: resets the function's queues and mailbox.
pub(super) const CTRL_RST: u32 = 1 << 26;
/// STATUS: link up, as the PF's.
pub(super) const STATUS_LU: u32 = 1 << 1;

// -- Interrupts.
pub(super) const EIMS: RegOffset = RegOffset(0x1524);
pub(super) const EIMC: RegOffset = RegOffset(0x1528);
pub(super) const EIAC: RegOffset = RegOffset(0x152c);
pub(super) const EIAM: RegOffset = RegOffset(0x1530);
pub(super) const IVAR0: RegOffset = RegOffset(0x1700);
pub(super) const IVAR_MISC: RegOffset = RegOffset(0x1740);
/// IVAR: the entry counts; its low bits name the vector.
pub(super) const IVAR_VALID: u32 = 0x80;

// -- Mailbox.
pub(super) const V2PMAILBOX: RegOffset = RegOffset(0x0c40);
pub(super) const VMBMEM: RegOffset = RegOffset(0x0800);

// -- Queue 0.
pub(super) const RDBAL: RegOffset = RegOffset(0x2800);
pub(super) const RDBAH: RegOffset = RegOffset(0x2804);
pub(super) const RDLEN: RegOffset = RegOffset(0x2808);
pub(super) const SRRCTL: RegOffset = RegOffset(0x280c);
pub(super) const RDH: RegOffset = RegOffset(0x2810);
/// Receive descriptor tail: the receive doorbell.
pub const RDT: RegOffset = RegOffset(0x2818);
pub(super) const RXDCTL: RegOffset = RegOffset(0x2828);
pub(super) const TDBAL: RegOffset = RegOffset(0x3800);
pub(super) const TDBAH: RegOffset = RegOffset(0x3804);
pub(super) const TDLEN: RegOffset = RegOffset(0x3808);
pub(super) const TDH: RegOffset = RegOffset(0x3810);
/// Transmit descriptor tail: the transmit doorbell.
pub const TDT: RegOffset = RegOffset(0x3818);
pub(super) const TXDCTL: RegOffset = RegOffset(0x3828);
/// RXDCTL and TXDCTL: the queue runs.
pub(super) const QUEUE_ENABLE: u32 = 1 << 25;
/// RXDCTL and TXDCTL: prefetch 8, host 8, write back each descriptor at once: a VF's write-back stalls
/// with more (82576 specification update, erratum on WTHRESH).
pub(super) const THRESHOLDS: u32 = 8 | 8 << 8 | 1 << 16;
/// SRRCTL: advanced descriptors, one buffer each.
pub(super) const SRRCTL_ADVANCED: u32 = 1 << 25;
/// SRRCTL: without a free descriptor a frame is dropped, and holds nobody else up.
pub(super) const SRRCTL_DROP: u32 = 1 << 31;

// -- Statistics, since the PF was reset; they do not clear when read.
pub(super) const GPRC: RegOffset = RegOffset(0x0f10);
pub(super) const GPTC: RegOffset = RegOffset(0x0f14);
pub(super) const GORC: RegOffset = RegOffset(0x0f18);
pub(super) const GOTC: RegOffset = RegOffset(0x0f34);
pub(super) const MPRC: RegOffset = RegOffset(0x0f3c);

// -- Mailbox bits.
/// The VF has a message in the buffer.
pub(super) const MBX_REQ: u32 = 1 << 0;
/// The VF has read the PF's message.
pub(super) const MBX_ACK: u32 = 1 << 1;
/// The buffer is the VF's.
pub(super) const MBX_VFU: u32 = 1 << 2;
/// The PF has a message in the buffer; clears when read.
pub(super) const MBX_PFSTS: u32 = 1 << 4;
/// The PF has read the VF's message; clears when read.
pub(super) const MBX_PFACK: u32 = 1 << 5;
/// The PF is being reset.
pub(super) const MBX_RSTI: u32 = 1 << 6;
/// The PF has been reset; clears when read.
pub(super) const MBX_RSTD: u32 = 1 << 7;
/// Bits that a read clears: every read must be remembered.
pub(super) const MBX_CLEARING: u32 = MBX_PFSTS | MBX_PFACK | MBX_RSTD;

// -- Messages: the first word's low 16 bits.
pub(super) const MSG_RESET: u32 = 0x01;
pub(super) const MSG_SET_MAC: u32 = 0x02;
pub(super) const MSG_SET_MULTICAST: u32 = 0x03;
pub(super) const MSG_SET_VLAN: u32 = 0x04;
pub(super) const MSG_SET_LPE: u32 = 0x05;
/// SET_MAC: forget all further unicast filters of the VF (Linux `igb`, from 4.16 on).
pub(super) const MSG_MAC_CLEAR: u32 = 1 << 16;
/// SET_MAC: add a further unicast filter; the PF grants it to a trusted VF alone.
pub(super) const MSG_MAC_ADD: u32 = 2 << 16;
/// SET_VLAN: add, in place of remove.
pub(super) const MSG_VLAN_ADD: u32 = 1 << 16;
/// In an answer: done.
pub(super) const MSG_ACK: u32 = 1 << 31;
/// In an answer: refused.
pub(super) const MSG_NACK: u32 = 1 << 30;
/// From the PF: it knows this VF, and goes on serving it.
pub(super) const MSG_CTS: u32 = 1 << 29;
/// Most multicast hashes of one message.
pub(super) const MOST_HASHES: usize = 30;

// -- Receive descriptors as the NIC writes them back: the second word.
/// The NIC is done with it.
pub(super) const RX_DD: u64 = 1 << 0;
/// Descriptor holds the end of a frame.
pub(super) const RX_EOP: u64 = 1 << 1;
/// A tag was taken off, and is in the last 16 bits.
pub(super) const RX_VP: u64 = 1 << 3;
/// CRC, symbol, sequence or receive error.
pub(super) const RX_ERRORS: u64 = 1 << 24 | 1 << 25 | 1 << 26 | 1 << 31;

// -- Transmit descriptors: the second word.
/// An advanced data descriptor of a whole frame, to which the NIC adds the frame check sequence.
pub(super) const TX_DATA: u64 = 0x0030_0000 | 1 << 29 | 1 << 24 | 1 << 25;
/// The NIC says when it is done.
pub(super) const TX_RS: u64 = 1 << 27;
/// The payload's length begins here.
pub(super) const TX_PAYLEN_SHIFT: u32 = 32 + 14;
/// The NIC is done with it.
pub(super) const TX_DD: u64 = 1 << 32;
/// Shortest frame that the NIC takes.
pub(super) const TX_SHORTEST: usize = 17;
