// SPDX-License-Identifier: Apache-2.0
#![allow(clippy::unwrap_used, reason = "tests")]

use std::os::fd::AsFd;

use super::*;
use crate::Descriptors;

/// Register 0 holds an address; a write to register 8 makes the device copy eight bytes from there
/// to the word after, and raise vector 0.
#[derive(Default)]
struct Copier {
    from: u64,
    resets: u32,
}

impl RegisterModel for Copier {
    fn read32(&mut self, offset: RegOffset, _bus: &Bus) -> u32 {
        if offset.0 == 12 {
            self.resets
        } else {
            offset.0
        }
    }

    fn write32(&mut self, offset: RegOffset, value: u32, bus: &Bus) {
        match offset.0 {
            0 => self.from = self.from >> 32 << 32 | u64::from(value),
            4 => self.from = u64::from(value) << 32 | self.from & 0xffff_ffff,
            8 => {
                if let Some(word) = bus.read64(Iova(self.from)) {
                    bus.write(Iova(self.from + 8), &word.to_le_bytes());
                }
                bus.signal(0);
            }
            _ => {}
        }
    }

    fn reset(&mut self, _bus: &Bus) {
        self.resets += 1;
    }
}

fn copier() -> EmulatedDevice<Copier> {
    let addr = "0000:01:10.0".parse().unwrap();
    EmulatedDevice::new(addr, (0x8086, 0x10ca), 16384, Copier::default())
}

#[test]
fn a_doorbell_moves_memory_and_interrupts() {
    let mut device = copier();
    let model = device.model();
    let registers = device.registers(0).unwrap();
    assert!(device.registers(1).is_err());
    let mut ring = device.ring::<[u64; 2]>(256).unwrap();
    let interrupts = device.interrupts(1).unwrap();
    device.set_bus_master(true).unwrap();

    ring.store(5, [77, 0]);
    registers.write64(RegOffset(0), ring.iova().offset(5 * 16).0);
    registers.write32(RegOffset(8), 1);
    assert_eq!(ring.load(5), [77, 77]);
    let mut count = [0; 8];
    rustix::io::read(interrupts[0].as_fd(), &mut count).unwrap();
    assert_eq!(u64::from_ne_bytes(count), 1);
    assert_eq!(model.bus().take_faults(), []);
}

#[test]
fn what_is_not_mapped_is_refused_and_recorded() {
    let mut device = copier();
    let model = device.model();
    let ring = device.ring::<[u64; 2]>(256).unwrap();
    let iova = ring.iova();
    let bus = model.bus().clone();
    assert!(!bus.write(iova, &[1; 16]));
    assert_eq!(bus.take_faults(), [Fault::NotMaster { iova }]);

    device.set_bus_master(true).unwrap();
    assert!(bus.write(iova, &[1; 16]));
    // The last descriptor and the page behind.
    let over = iova.offset(4096 - 8);
    assert!(!bus.write(over, &[1; 16]));
    let mut buffer = [9; 3];
    assert!(!bus.read(iova.offset(4096), &mut buffer));
    assert_eq!(buffer, [9; 3]);
    assert!(!bus.signal(0));
    drop(ring);
    assert!(!bus.write(iova, &[1; 16]));
    let refused = |iova, len, write| Fault::NotMapped { iova, len, write };
    assert_eq!(
        bus.take_faults(),
        [
            refused(over, 16, true),
            refused(iova.offset(4096), 3, false),
            Fault::NoVector(0),
            refused(iova, 16, true),
        ]
    );
}

#[test]
fn outside_the_bar_and_the_order_of_the_end() {
    let mut device = copier();
    let model = device.model();
    let registers = device.registers(0).unwrap();
    assert_eq!(registers.read32(RegOffset(16380)), 16380);
    assert_eq!(registers.read32(RegOffset(16384)), u32::MAX);
    assert_eq!(registers.read32(RegOffset(2)), u32::MAX);
    assert_eq!(registers.read64(RegOffset(16380)), u64::MAX);
    registers.write32(RegOffset(u32::MAX - 3), 1);

    device.set_bus_master(true).unwrap();
    drop(device);
    let end = [
        Event::BusMaster(true),
        Event::BusMaster(false),
        Event::Reset,
        Event::Closed,
    ];
    assert_eq!(model.bus().take_events(), end);
    // The registers outlive the device.
    assert_eq!(registers.read32(RegOffset(12)), 1);
}
