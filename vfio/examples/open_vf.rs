// SPDX-License-Identifier: Apache-2.0
//! Opens a VF that is bound to vfio-pci and says what it is: `open_vf 0000:01:10.0 [iommufd]`.
//! Prints its ids, group and BARs, resets it, maps a ring, enables an interrupt, closes it.

use std::error::Error;
use std::{env, process};

use sluice_vfio::{
    Descriptors, Device, Iommu, IommuKind, PciAddr, RegOffset, Registers, VfioDevice,
};

fn main() {
    let mut arguments = env::args().skip(1);
    let Some(addr) = arguments.next() else {
        eprintln!("usage: open_vf ADDRESS [iommufd]");
        process::exit(2);
    };
    let kind = match arguments.next().as_deref() {
        Some("iommufd") => IommuKind::Iommufd,
        _ => IommuKind::Auto,
    };
    if let Err(error) = open(&addr, kind) {
        eprintln!("open_vf: {error}");
        process::exit(1);
    }
}

fn open(addr: &str, kind: IommuKind) -> Result<(), Box<dyn Error>> {
    let addr: PciAddr = addr.parse()?;
    let iommu = Iommu::open(kind)?;
    // Rings that outlive the device: the second time they are put back into an empty container.
    let mut kept = Vec::new();
    for round in 1..=2 {
        let mut device = VfioDevice::open(addr, &iommu)?;
        let (vendor, id) = device.ids();
        let (group, vectors) = (device.group(), device.vectors()?);
        println!(
            "{addr}: {vendor:04x}:{id:04x}, group {group}, {vectors} vectors, {:?}",
            iommu.kind()
        );
        for index in 0..6 {
            match device.bar_bytes(index)? {
                0 => {}
                bytes => println!("  BAR {index}: {bytes} bytes"),
            }
        }
        let registers = device.registers(0)?;
        let mut ring = device.ring::<[u64; 2]>(512)?;
        ring.store(511, [1, 2]);
        let interrupts = device.interrupts(1)?;
        device.set_bus_master(true)?;
        // 82576: the VF's status register (datasheet section 8.28).
        println!(
            "  ring at {}, last {:?}, {} interrupt, register 8: {:#x}",
            ring.iova(),
            ring.load(511),
            interrupts.len(),
            registers.read32(RegOffset(8))
        );
        match VfioDevice::open(addr, &Iommu::open(kind)?) {
            Err(error) => println!("  a second time: {error}"),
            Ok(_) => return Err("the same VF could be opened twice".into()),
        }
        device.reset()?;
        drop((device, registers));
        println!(
            "  round {round} closed; the ring is still {:?}",
            ring.load(511)
        );
        kept.push(ring);
    }
    println!("{iommu:?}");
    Ok(())
}
