// SPDX-License-Identifier: Apache-2.0
//! Memory shared with a peer that does what it wants.
#![allow(
    clippy::cast_possible_truncation,
    reason = "the numbers of a test are small"
)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::fs::{MemfdFlags, SealFlags};
use sluice_mem::{Error, OutOfRange, SharedRegion, SharedTable, sigbus};

const PAGE: usize = 4096;

fn unsealed(len: u64) -> OwnedFd {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = rustix::fs::memfd_create("sluice-test", flags).unwrap();
    rustix::fs::ftruncate(&fd, len).unwrap();
    fd
}

#[test]
fn what_one_side_writes_the_other_reads() {
    let (ours, fd) = SharedRegion::create_sealed("sluice-test", 3 * PAGE).unwrap();
    let theirs = SharedRegion::map(fd, ours.len()).unwrap();
    for len in [0, 1, 15, 16, 60, 64, 128, 300, 1514, 2 * PAGE] {
        for offset in [0, 1, 63, 3 * PAGE - len] {
            let frame: Vec<u8> = (0..len).map(|n| (n * 7 + len) as u8).collect();
            ours.copy_out(offset, &frame).unwrap();
            let mut copy = vec![0; len];
            theirs.copy_in(offset, &mut copy).unwrap();
            assert_eq!(copy, frame);
        }
    }
    theirs.write16(32, *b"0123456789abcdef").unwrap();
    assert_eq!(ours.read16(32).unwrap(), *b"0123456789abcdef");
    ours.store_u16(6, 0xbeef, Ordering::Release).unwrap();
    ours.store_u32(12, 0xdead_beef, Ordering::SeqCst).unwrap();
    assert_eq!(theirs.load_u16(6, Ordering::Acquire).unwrap(), 0xbeef);
    assert_eq!(theirs.load_u32(12, Ordering::SeqCst).unwrap(), 0xdead_beef);
}

#[test]
fn nothing_outside_is_ever_touched() {
    let len = PAGE + 100;
    let (region, _fd) = SharedRegion::create_sealed("sluice-test", len).unwrap();
    let refused = |offset, len| OutOfRange {
        offset,
        len,
        region_len: PAGE + 100,
    };
    let mut buffer = [0xaa; 64];
    for offset in [
        len - 63,
        len,
        len + 1,
        usize::MAX - 63,
        usize::MAX - 62,
        usize::MAX,
    ] {
        assert_eq!(
            region.copy_in(offset, &mut buffer),
            Err(refused(offset, 64))
        );
        assert_eq!(region.copy_out(offset, &buffer), Err(refused(offset, 64)));
    }
    assert_eq!(buffer, [0xaa; 64], "a refused copy writes nothing");
    assert_eq!(region.copy_in(len, &mut []), Ok(()));
    assert_eq!(region.read16(len - 15), Err(refused(len - 15, 16)));
    assert_eq!(
        region.write16(len - 15, [0; 16]),
        Err(refused(len - 15, 16))
    );
    let order = Ordering::Relaxed;
    for offset in [1, 3, len - 1, len, usize::MAX] {
        assert_eq!(region.load_u16(offset, order), Err(refused(offset, 2)));
        assert_eq!(region.store_u16(offset, 1, order), Err(refused(offset, 2)));
    }
    for offset in [1, 2, len - 2, len, usize::MAX - 3] {
        assert_eq!(region.load_u32(offset, order), Err(refused(offset, 4)));
        assert_eq!(region.store_u32(offset, 1, order), Err(refused(offset, 4)));
    }
    assert!(region.contains(0, len) && !region.contains(1, len) && !region.contains(2, usize::MAX));
}

#[test]
fn an_integer_is_loaded_whole_while_the_peer_writes() {
    let (ours, fd) = SharedRegion::create_sealed("sluice-test", PAGE).unwrap();
    let theirs = SharedRegion::map(fd, PAGE).unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for n in (0..=u16::MAX)
                .cycle()
                .take_while(|_| !stop.load(Ordering::Relaxed))
            {
                let both = u32::from(n) << 16 | u32::from(!n);
                theirs.store_u32(8, both, Ordering::Release).unwrap();
            }
        });
        for _ in 0..200_000 {
            let both = ours.load_u32(8, Ordering::Acquire).unwrap();
            let (high, low) = ((both >> 16) as u16, both as u16);
            assert!(both == 0 || high == !low, "{both:#x}");
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn made_memory_cannot_be_resized_by_the_peer() {
    let (region, fd) = SharedRegion::create_sealed("sluice-test", PAGE).unwrap();
    let seals = rustix::fs::fcntl_get_seals(&fd).unwrap();
    assert!(seals.contains(SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL));
    assert!(rustix::fs::ftruncate(&fd, 0).is_err());
    assert!(rustix::fs::ftruncate(&fd, 2 * PAGE as u64).is_err());
    assert!(!region.is_dead());
}

#[test]
fn a_region_beyond_its_file_is_refused() {
    for len in [0, PAGE + 1, usize::MAX] {
        let error = SharedRegion::map(unsealed(PAGE as u64), len).unwrap_err();
        assert!(matches!(error, Error::RegionLength { .. }), "{error}");
    }
    let error = SharedRegion::create_sealed("sluice-test", 0).unwrap_err();
    assert!(matches!(error, Error::RegionLength { .. }), "{error}");
    assert!(SharedRegion::create_sealed("sluice-test", usize::MAX).is_err());
}

#[test]
fn a_page_taken_away_costs_that_region_only() {
    sigbus::install().unwrap();
    sigbus::install().unwrap();
    let fd = unsealed(4 * PAGE as u64);
    let victim = SharedRegion::map(rustix::io::dup(&fd).unwrap(), 4 * PAGE).unwrap();
    let (other, _fd) = SharedRegion::create_sealed("sluice-test", PAGE).unwrap();
    victim.copy_out(0, &[1; 4 * PAGE]).unwrap();
    rustix::fs::ftruncate(&fd, PAGE as u64).unwrap();

    let mut buffer = [0xff; 100];
    victim.copy_in(0, &mut buffer).unwrap();
    assert_eq!(buffer, [1; 100]);
    assert!(!victim.is_dead(), "the page that is left can be used");

    victim.copy_in(2 * PAGE - 50, &mut buffer).unwrap();
    assert_eq!(buffer, [0; 100], "zeros where pages were");
    assert!(victim.is_dead());
    victim.copy_out(PAGE, &[7; 3 * PAGE]).unwrap();
    victim.store_u16(3 * PAGE, 5, Ordering::Release).unwrap();
    assert_eq!(victim.load_u16(3 * PAGE, Ordering::Acquire).unwrap(), 5);
    assert!(victim.clone().is_dead());
    assert!(!other.is_dead());

    // The place in the table starts afresh with its next region.
    drop(victim);
    let next = SharedRegion::map(unsealed(PAGE as u64), PAGE).unwrap();
    assert!(!next.is_dead());
}

/// Huge pages that the kernel may hand out for the time of a test.
struct HugePages(String);

const OVERCOMMIT: &str = "/proc/sys/vm/nr_overcommit_hugepages";

impl HugePages {
    fn allow() -> Option<HugePages> {
        let before = std::fs::read_to_string(OVERCOMMIT).ok()?;
        let count: u64 = before.trim().parse().ok()?;
        std::fs::write(OVERCOMMIT, (count + 2).to_string()).ok()?;
        Some(HugePages(before))
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        let _ = std::fs::write(OVERCOMMIT, self.0.trim());
    }
}

#[test]
fn a_huge_page_taken_away_costs_that_region_only() {
    const HUGE: usize = 2 << 20;
    let name = "a_huge_page_taken_away_costs_that_region_only";
    sigbus::install().unwrap();
    let Some(_allowed) = HugePages::allow() else {
        return eprintln!("SKIP {name}: the kernel's huge pages cannot be set");
    };
    let flags = rustix::fs::MemfdFlags::HUGETLB | rustix::fs::MemfdFlags::HUGE_2MB;
    let Ok(fd) = rustix::fs::memfd_create("sluice-test", flags) else {
        return eprintln!("SKIP {name}: no huge pages of 2 MiB");
    };
    rustix::fs::ftruncate(&fd, 2 * HUGE as u64).unwrap();
    let victim = SharedRegion::map_pages(rustix::io::dup(&fd).unwrap(), 2 * HUGE, HUGE);
    let Ok(victim) = victim else {
        return eprintln!("SKIP {name}: no huge page is free");
    };
    victim.copy_out(0, &[1; 100]).unwrap();
    victim.copy_out(HUGE + 5000, &[2; 100]).unwrap();
    rustix::fs::ftruncate(&fd, HUGE as u64).unwrap();
    let mut buffer = [0xff; 100];
    victim.copy_in(HUGE + 5000, &mut buffer).unwrap();
    assert_eq!(buffer, [0; 100], "zeros where the page was");
    assert!(victim.is_dead());
    victim.copy_in(0, &mut buffer).unwrap();
    assert_eq!(buffer, [1; 100]);
}

#[test]
fn faults_elsewhere_still_end_the_process() {
    if std::env::var_os("SLUICE_TEST_FAULT").is_some() {
        fault_outside_every_region();
    }
    let status = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "faults_elsewhere_still_end_the_process",
            "--test-threads=1",
        ])
        .env("SLUICE_TEST_FAULT", "1")
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    assert_eq!(signal, Some(libc::SIGBUS), "{status}");
}

#[allow(unsafe_code, reason = "causes the fault that is to be tested")]
fn fault_outside_every_region() {
    sigbus::install().unwrap();
    let (_region, _fd) = SharedRegion::create_sealed("sluice-test", PAGE).unwrap();
    let fd = unsealed(0);
    use rustix::mm::{MapFlags, ProtFlags};
    let flags = MapFlags::SHARED;
    // SAFETY: a new mapping at an address that the kernel chooses.
    let page =
        unsafe { rustix::mm::mmap(std::ptr::null_mut(), PAGE, ProtFlags::READ, flags, &fd, 0) };
    // SAFETY: reading it is a fault, not undefined behaviour, as the read is volatile and its value
    // is not used.
    unsafe { page.unwrap().cast::<u8>().read_volatile() };
}

#[test]
fn a_table_is_inside_and_its_numbers_go_round() {
    let len = PAGE;
    let (region, fd) = SharedRegion::create_sealed("sluice-test", len).unwrap();
    let theirs = SharedRegion::map(fd, len).unwrap();
    let table = SharedTable::new(region.clone(), 64, 3).unwrap();
    assert_eq!(table.mask(), 7);
    table.write(9, *b"0123456789abcdef");
    assert_eq!(theirs.read16(64 + 16).unwrap(), *b"0123456789abcdef");
    table.write_first_half(1, *b"ABCDEFGH");
    assert_eq!(table.read(u16::MAX - 6), *b"ABCDEFGH89abcdef");
    for number in [0, 7, 8, u16::MAX] {
        table.prefetch(number);
        table.prefetch_to_write(number);
    }
    assert!(SharedTable::new(region.clone(), len - 128, 3).is_ok());
    for (offset, log2) in [
        (len - 112, 3),
        (len, 0),
        (usize::MAX - 15, 1),
        (8, 1),
        (0, 9),
        (0, 16),
        (0, u8::MAX),
    ] {
        let table = SharedTable::new(region.clone(), offset, log2);
        assert!(table.is_err(), "{offset} {log2}");
    }
}
