// SPDX-License-Identifier: Apache-2.0
//! Memory tables: what is taken, and what is refused before it is mapped.

use std::os::fd::AsFd;

use rustix::fs::{MemfdFlags, fcntl_add_seals};

use super::*;
use crate::testing::{GUEST, GuestMemory, USER};

const MIB: u64 = 1 << 20;

fn fd(memory: &GuestMemory) -> OwnedFd {
    memory.as_fd().try_clone_to_owned().unwrap()
}

fn table() -> MemoryTable {
    MemoryTable::new(16 * MIB)
}

#[test]
fn addresses_of_both_kinds_are_found_and_bounded() {
    let memory = GuestMemory::new(4 * MIB as usize);
    let spec = RegionSpec {
        bytes: MIB,
        file_offset: MIB,
        ..memory.spec()
    };
    let mut table = table();
    table.add(spec, fd(&memory)).unwrap();
    let found = table.memory();
    let piece = found.find(GUEST + 100, 50).unwrap();
    assert_eq!((piece.region, piece.offset), (0, MIB as usize + 100));
    assert!(found.find(GUEST + MIB - 50, 50).is_some());
    assert!(found.find(GUEST + MIB, 0).is_some(), "no byte is touched");
    for (address, len) in [
        (GUEST + MIB - 49, 50),
        (GUEST - 1, 1),
        (GUEST + MIB, 1),
        (u64::MAX, 2),
        (0, u32::MAX),
        (GUEST, u32::MAX),
    ] {
        assert!(found.find(address, len).is_none(), "{address:#x} {len}");
    }
    assert!(found.find_user(USER, MIB as usize).is_some());
    for (address, len) in [
        (USER, MIB as usize + 1),
        (USER - 1, 1),
        (USER + MIB, 1),
        (u64::MAX, usize::MAX),
    ] {
        assert!(found.find_user(address, len).is_none(), "{address:#x}");
    }
    assert_eq!(found.bytes(), MIB);
    assert!(found.can_shrink());
}

#[test]
fn a_region_beyond_its_file_is_refused() {
    let memory = GuestMemory::new(MIB as usize);
    for (offset, bytes) in [(0, MIB + 1), (1, MIB), (2 * MIB, 1)] {
        let spec = RegionSpec {
            bytes,
            file_offset: offset,
            ..memory.spec()
        };
        let refused = table().add(spec, fd(&memory)).unwrap_err();
        assert!(matches!(refused, Refusal::RegionShort { .. }), "{refused}");
    }
}

#[test]
fn sums_that_overflow_are_refused() {
    let memory = GuestMemory::new(MIB as usize);
    let all = memory.spec();
    let bad = [
        RegionSpec { bytes: 0, ..all },
        RegionSpec {
            guest_address: u64::MAX - 10,
            ..all
        },
        RegionSpec {
            user_address: u64::MAX - 10,
            ..all
        },
    ];
    for spec in bad {
        let refused = table().add(spec, fd(&memory)).unwrap_err();
        assert!(matches!(refused, Refusal::RegionWraps(_)), "{refused}");
    }
    for (bytes, offset) in [(u64::MAX, 1), (1, u64::MAX)] {
        let spec = RegionSpec {
            bytes,
            file_offset: offset,
            ..all
        };
        assert!(table().add(spec, fd(&memory)).is_err());
    }
}

#[test]
fn regions_may_touch_but_not_overlap() {
    let memory = GuestMemory::new(2 * MIB as usize);
    let half = RegionSpec {
        bytes: MIB,
        ..memory.spec()
    };
    let upper = RegionSpec {
        guest_address: GUEST + MIB,
        user_address: USER + MIB,
        file_offset: MIB,
        ..half
    };
    let mut table = table();
    table.add(half, fd(&memory)).unwrap();
    table.add(upper, fd(&memory)).unwrap();
    for spec in [
        RegionSpec {
            user_address: USER + 10 * MIB,
            ..half
        },
        RegionSpec {
            guest_address: GUEST + 10 * MIB,
            ..half
        },
        RegionSpec {
            guest_address: GUEST + 2 * MIB - 1,
            user_address: USER + 10 * MIB,
            ..half
        },
    ] {
        let refused = table.add(spec, fd(&memory)).unwrap_err();
        assert!(matches!(refused, Refusal::RegionOverlap(..)), "{refused}");
    }
    assert!(table.remove(&half).is_ok());
    assert!(matches!(
        table.remove(&half),
        Err(Refusal::RegionUnknown(_))
    ));
    assert!(table.add(half, fd(&memory)).is_ok());
}

#[test]
fn there_is_a_limit_of_bytes_and_of_regions() {
    let memory = GuestMemory::new(32 * MIB as usize);
    let refused = table().add(memory.spec(), fd(&memory)).unwrap_err();
    assert!(matches!(refused, Refusal::MemoryLimit { .. }), "{refused}");
    let far = RegionSpec {
        bytes: MIB,
        file_offset: 100 << 40,
        ..memory.spec()
    };
    let refused = table().add(far, fd(&memory)).unwrap_err();
    assert!(matches!(refused, Refusal::MemoryLimit { .. }), "{refused}");
    let mut table = table();
    let region = |n: u64| RegionSpec {
        guest_address: GUEST + n * 4096,
        user_address: USER + n * 4096,
        bytes: 4096,
        file_offset: n * 4096,
    };
    for n in 0..MAX_REGIONS as u64 {
        table.add(region(n), fd(&memory)).unwrap();
    }
    let refused = table.add(region(99), fd(&memory)).unwrap_err();
    assert!(matches!(refused, Refusal::RegionCount), "{refused}");
}

#[test]
fn files_pipes_and_folders_are_not_memory() {
    let memory = GuestMemory::new(MIB as usize);
    let file = OwnedFd::from(tempfile::tempfile_in(".").unwrap());
    let folder = OwnedFd::from(std::fs::File::open("/").unwrap());
    let (pipe, _other) = std::io::pipe().unwrap();
    for other in [file, folder, OwnedFd::from(pipe)] {
        let refused = table().add(memory.spec(), other).unwrap_err();
        assert!(matches!(refused, Refusal::RegionNotMemory), "{refused}");
    }
}

#[test]
fn a_table_that_is_refused_leaves_nothing() {
    let memory = GuestMemory::new(MIB as usize);
    let mut table = table();
    table.add(memory.spec(), fd(&memory)).unwrap();
    let twice = vec![(memory.spec(), fd(&memory)), (memory.spec(), fd(&memory))];
    assert!(table.replace(twice).is_err());
    assert!(table.memory().find(GUEST, 1).is_none());
    table.replace(vec![(memory.spec(), fd(&memory))]).unwrap();
    assert!(table.memory().find(GUEST, 1).is_some());
}

#[test]
fn seals_are_seen() {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = GuestMemory::with(flags, MIB as usize);
    fcntl_add_seals(&memory, rustix::fs::SealFlags::SHRINK).unwrap();
    let mut table = table();
    table.add(memory.spec(), fd(&memory)).unwrap();
    assert!(!table.memory().can_shrink());
}
