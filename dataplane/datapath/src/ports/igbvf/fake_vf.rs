// SPDX-License-Identifier: Apache-2.0
//! An 82576's VF with its PF and the wire, in memory: what QEMU's `igb` was seen to do, as far as the
//! driver can tell.
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use sluice_packet::Mac;
use sluice_vfio::emulated::{Bus, EmulatedDevice, RegisterModel};
use sluice_vfio::{Iova, PciAddr, RegOffset};

use super::regs::*;

/// The VF's and the PF's side of it.
#[derive(Debug, Default)]
pub(super) struct Vf {
    registers: BTreeMap<u32, u32>,
    /// Mailbox bits as the VF sees them.
    mailbox: u32,
    memory: [u32; 16],
    rx_head: u32,
    tx_head: u32,
    pub(super) pf: Pf,
    /// Frames that went out on the wire, a port VLAN's tag in place.
    pub(super) wire: Vec<Vec<u8>>,
    /// Frames that found no descriptor.
    pub(super) missed: usize,
    /// Whether the device does not answer: reads are all ones, writes are lost.
    pub(super) removed: bool,
    /// Frames received since the last reset of the function by others.
    pub(super) received: u32,
    /// Whether the NIC sends nothing of what it is given, and is never done.
    pub(super) stuck: bool,
}

/// The PF's driver.
#[derive(Debug)]
pub(super) struct Pf {
    pub(super) up: bool,
    pub(super) admin_mac: Option<Mac>,
    pub(super) own_mac: Option<Mac>,
    pub(super) port_vlan: Option<u16>,
    pub(super) refuses_vlans: bool,
    pub(super) vlans: BTreeSet<u16>,
    pub(super) hashes: Vec<u32>,
    /// Whether it trusts the VF.
    pub(super) trusts: bool,
    /// Further MAC addresses of the VF, of which it has room for two.
    pub(super) macs: Vec<Mac>,
    pub(super) longest: u32,
    /// Whether it knows the VF.
    pub(super) knows: bool,
    /// First words of what it was asked, in order.
    pub(super) asked: Vec<u32>,
}

impl Default for Pf {
    fn default() -> Pf {
        Pf {
            up: true,
            admin_mac: Some(MAC),
            own_mac: None,
            port_vlan: None,
            refuses_vlans: false,
            vlans: BTreeSet::new(),
            hashes: Vec::new(),
            trusts: false,
            macs: Vec::new(),
            longest: 0,
            knows: false,
            asked: Vec::new(),
        }
    }
}

pub(super) const MAC: Mac = Mac([2, 0, 0, 0, 0x0a, 1]);

pub(super) fn device(vf: Vf) -> EmulatedDevice<Vf> {
    let addr: PciAddr = "0000:01:10.0".parse().expect("an address");
    EmulatedDevice::new(addr, IDS, 16384, vf)
}

impl Pf {
    /// Answers a message: its first word, and the MAC address if it is to be told one.
    fn answer(&mut self, message: &[u32; 16]) -> (u32, Option<Mac>) {
        let word = message[0];
        self.asked.push(word);
        let kind = word & 0xffff;
        if kind == MSG_RESET {
            self.knows = true;
            self.vlans.clear();
            self.hashes.clear();
            return match self.admin_mac {
                Some(mac) => (kind | MSG_ACK | MSG_CTS, Some(mac)),
                None => (kind | MSG_NACK | MSG_CTS, None),
            };
        }
        if !self.knows {
            return (kind | MSG_NACK, None);
        }
        let done = match kind {
            MSG_SET_MAC if word & (MSG_MAC_CLEAR | MSG_MAC_ADD) == MSG_MAC_CLEAR => {
                self.macs.clear();
                true
            }
            MSG_SET_MAC if word & MSG_MAC_ADD != 0 => {
                let [a, b, c, d] = message[1].to_le_bytes();
                let [e, f, ..] = message[2].to_le_bytes();
                let granted = self.trusts && self.macs.len() < 2;
                if granted {
                    self.macs.push(Mac([a, b, c, d, e, f]));
                }
                granted
            }
            MSG_SET_MAC => {
                let [a, b, c, d] = message[1].to_le_bytes();
                let [e, f, ..] = message[2].to_le_bytes();
                self.own_mac = Some(Mac([a, b, c, d, e, f]));
                self.admin_mac.is_none()
            }
            MSG_SET_MULTICAST => {
                let count = (word >> 16 & 0xff) as usize;
                let words = message[1..]
                    .iter()
                    .flat_map(|word| [word & 0xffff, word >> 16]);
                self.hashes = words.take(count).collect();
                true
            }
            MSG_SET_VLAN => {
                self.vlans.insert((message[1] & 0xfff) as u16);
                self.port_vlan.is_none() && !self.refuses_vlans
            }
            MSG_SET_LPE => {
                self.longest = message[1];
                true
            }
            _ => false,
        };
        let verdict = if done { MSG_ACK } else { MSG_NACK };
        (kind | verdict | MSG_CTS, None)
    }
}

impl Vf {
    /// A VF of this PF.
    pub(super) fn of(pf: Pf) -> Vf {
        Vf {
            pf,
            ..Vf::default()
        }
    }

    fn register(&self, offset: RegOffset) -> u32 {
        self.registers.get(&offset.0).copied().unwrap_or(0)
    }

    fn runs(&self, control: RegOffset) -> bool {
        self.register(control) & QUEUE_ENABLE != 0 && self.pf.up && self.pf.knows
    }

    fn ring(&self, [low, high]: [RegOffset; 2]) -> u64 {
        u64::from(self.register(high)) << 32 | u64::from(self.register(low))
    }

    /// The PF goes down: it tells its VFs that they are forgotten, and hears nothing more.
    pub(super) fn pf_down(&mut self, bus: &Bus) {
        (self.pf.up, self.pf.knows) = (false, false);
        self.say(0x0100, bus);
    }

    pub(super) fn pf_up(&mut self) {
        self.pf.up = true;
    }

    /// The PF is reset under the VF, and says so by its own bits alone.
    pub(super) fn pf_reset(&mut self) {
        self.pf.knows = false;
        self.mailbox |= MBX_RSTD;
    }

    /// Root resets the function alone (FLR).
    pub(super) fn function_reset(&mut self) {
        self.received = 0;
        self.reset_function();
    }

    /// The PF says something unasked.
    pub(super) fn say(&mut self, word: u32, bus: &Bus) {
        self.memory[0] = word;
        self.mailbox |= MBX_PFSTS;
        self.interrupt(IVAR_MISC, bus);
    }

    fn interrupt(&mut self, entry: RegOffset, bus: &Bus) {
        let is_on = self.register(entry) & IVAR_VALID != 0;
        if is_on && self.register(EIMS) & 1 != 0 {
            // As EIAM says.
            self.registers.insert(EIMS.0, 0);
            bus.signal(0);
        }
    }

    /// A frame arrives for the VF.
    pub(super) fn arrive(&mut self, frame: &[u8], tci: Option<u16>, bus: &Bus) {
        if !self.runs(RXDCTL) || self.rx_head == self.register(RDT) {
            self.missed += 1;
            return;
        }
        let at = self.ring([RDBAL, RDBAH]) + u64::from(self.rx_head) * 16;
        let buffer = bus.read64(Iova(at)).expect("a descriptor that is mapped");
        let stripped = match tci {
            Some(tci) => RX_VP | u64::from(tci) << 48,
            None => 0,
        };
        let room = (self.register(SRRCTL) & 0x7f) as usize * 1024;
        assert!(frame.len() <= room, "a frame longer than a buffer");
        assert!(bus.write(Iova(buffer), frame));
        self.received += 1;
        self.done(RX_DD | RX_EOP | (frame.len() as u64) << 32 | stripped, bus);
    }

    /// The next descriptor is written back, true or not.
    pub(super) fn done(&mut self, word: u64, bus: &Bus) {
        if self.rx_head == self.register(RDT) {
            self.missed += 1;
            return;
        }
        let at = self.ring([RDBAL, RDBAH]) + u64::from(self.rx_head) * 16;
        assert!(bus.write(Iova(at), &0u64.to_le_bytes()));
        assert!(bus.write(Iova(at + 8), &word.to_le_bytes()));
        self.rx_head = (self.rx_head + 1) % (self.register(RDLEN) / 16);
        self.interrupt(IVAR0, bus);
    }

    /// Sends up to the tail.
    fn transmit(&mut self, bus: &Bus) {
        while self.runs(TXDCTL) && !self.stuck && self.tx_head != self.register(TDT) {
            let at = self.ring([TDBAL, TDBAH]) + u64::from(self.tx_head) * 16;
            let buffer = bus.read64(Iova(at)).expect("a descriptor that is mapped");
            let command = bus
                .read64(Iova(at + 8))
                .expect("a descriptor that is mapped");
            assert_eq!(
                command & TX_DATA,
                TX_DATA,
                "not a whole frame in a data descriptor"
            );
            let len = (command & 0xffff) as usize;
            assert_eq!(command >> TX_PAYLEN_SHIFT, len as u64);
            assert!(len >= TX_SHORTEST, "a frame that the NIC does not take");
            let mut frame = vec![0; len];
            assert!(bus.read(Iova(buffer), &mut frame));
            if let Some(vid) = self.pf.port_vlan {
                frame.splice(12..12, [0x81, 0x00].into_iter().chain(vid.to_be_bytes()));
            }
            self.wire.push(frame);
            if command & TX_RS != 0 {
                assert!(bus.write(Iova(at + 8), &(command | TX_DD).to_le_bytes()));
            }
            self.tx_head = (self.tx_head + 1) % (self.register(TDLEN) / 16);
        }
    }

    fn reset_function(&mut self) {
        self.registers.clear();
        (self.mailbox, self.rx_head, self.tx_head) = (0, 0, 0);
        self.pf.knows = false;
    }
}

impl RegisterModel for Vf {
    fn read32(&mut self, offset: RegOffset, _: &Bus) -> u32 {
        if self.removed {
            return u32::MAX;
        }
        if offset == V2PMAILBOX {
            let bits = self.mailbox;
            self.mailbox &= !MBX_CLEARING;
            return bits;
        }
        match offset {
            STATUS => STATUS_LU,
            RegOffset(at) if (VMBMEM.0..VMBMEM.0 + 64).contains(&at) => {
                self.memory[(at - VMBMEM.0) as usize / 4]
            }
            // The counts of a VF never clear.
            GPRC => self.received,
            GPTC => u32::try_from(self.wire.len())
                .unwrap_or(0)
                .wrapping_add(u32::MAX - 2),
            _ => self.register(offset),
        }
    }

    fn write32(&mut self, offset: RegOffset, value: u32, bus: &Bus) {
        if self.removed {
            return;
        }
        match offset {
            CTRL if value & CTRL_RST != 0 => self.reset_function(),
            V2PMAILBOX => {
                self.mailbox = self.mailbox & !MBX_VFU | value & MBX_VFU;
                if value & MBX_REQ != 0 && self.pf.up {
                    let message = self.memory;
                    let (word, mac) = self.pf.answer(&message);
                    self.memory = [0; 16];
                    self.memory[0] = word;
                    if let Some(Mac([a, b, c, d, e, f])) = mac {
                        self.memory[1] = u32::from_le_bytes([a, b, c, d]);
                        self.memory[2] = u32::from_le_bytes([e, f, 0, 0]);
                    }
                    self.mailbox |= MBX_PFACK | MBX_PFSTS;
                }
            }
            RegOffset(at) if (VMBMEM.0..VMBMEM.0 + 64).contains(&at) => {
                self.memory[(at - VMBMEM.0) as usize / 4] = value;
            }
            EIMC => {
                let left = self.register(EIMS) & !value;
                self.registers.insert(EIMS.0, left);
            }
            RDH => self.rx_head = value,
            TDH => self.tx_head = value,
            TDT => {
                self.registers.insert(offset.0, value);
                self.transmit(bus);
            }
            // Head and tail count only once the queue runs.
            RDT if self.register(RXDCTL) & QUEUE_ENABLE == 0 => {}
            _ => {
                self.registers.insert(offset.0, value);
            }
        }
    }

    fn reset(&mut self, _: &Bus) {
        self.reset_function();
    }
}
