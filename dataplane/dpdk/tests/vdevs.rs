// SPDX-License-Identifier: Apache-2.0
//! Ports on DPDK's software devices: frames, buffers that come home, and what EAL must leave alone.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    unsafe_code,
    reason = "tests; the SIGBUS action is read"
)]

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use sluice_dpdk::{Device, Eal, EalConfig, Error, Port, PortConfig};
use sluice_mem::{BURST, BufSize, Burst, HugePages, Mempool, PoolConfig, Pools};

/// The engine's pools, one pair for all tests of the process, and one test at a time, as they count buffers.
struct Rig {
    eal: &'static Eal,
    small: Mempool,
    large: Mempool,
    _alone: MutexGuard<'static, ()>,
}

fn eal_config() -> EalConfig {
    EalConfig {
        memory_mib: 64,
        // One, so that a thread that EAL moves is seen.
        cores: vec![*all_cores().last().unwrap()],
        huge_pages: true,
    }
}

fn rig() -> Rig {
    static ALONE: Mutex<()> = Mutex::new(());
    static POOLS: OnceLock<(Mempool, Mempool)> = OnceLock::new();
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let pool = |buffers, size| {
        Mempool::new(PoolConfig {
            buffers,
            size,
            numa_node: None,
            huge_pages: HugePages::Auto,
        })
        .unwrap()
    };
    let &(small, large) =
        POOLS.get_or_init(|| (pool(16_384, BufSize::Small), pool(2048, BufSize::Large)));
    let eal = Eal::start(&eal_config()).unwrap();
    Rig {
        eal,
        small,
        large,
        _alone: alone,
    }
}

impl Rig {
    fn config(&self, device: &str) -> PortConfig {
        PortConfig {
            device: device.parse().unwrap(),
            mac: None,
            macs: Vec::new(),
            groups: Vec::new(),
            promiscuous: true,
            mtu: 1500,
            vlans: Vec::new(),
            small: self.small,
            large: self.large,
            rx_descriptors: 512,
            tx_descriptors: 512,
        }
    }

    fn open(&self, device: &str) -> Port {
        Port::open(self.eal, self.config(device)).unwrap()
    }

    fn pools(&self) -> Pools {
        Pools::new(self.small, self.large, 1024)
    }

    /// Every buffer is free.
    fn assert_all_home(&self) {
        for pool in [self.small, self.large] {
            let counted = pool.conservation();
            assert!(counted.holds() && counted.in_flight == 0, "{counted:?}");
        }
    }
}

/// Frame of `len` bytes that says which it is.
fn frame(number: u32, len: usize) -> Vec<u8> {
    let mut frame = vec![0x5a; len];
    frame[..12].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1]);
    frame[12..14].copy_from_slice(&0x88b5_u16.to_be_bytes());
    frame[14..18].copy_from_slice(&number.to_be_bytes());
    frame
}

fn send(port: &mut Port, pools: &mut Pools, frames: &[Vec<u8>]) -> usize {
    let mut burst = Burst::new();
    for bytes in frames {
        let mut mbuf = pools.alloc_for(bytes.len()).unwrap();
        assert!(mbuf.copy_from(bytes));
        burst.push(mbuf).unwrap();
    }
    let sent = port.tx_burst(pools, &mut burst).frames;
    pools.free_burst(&mut burst);
    sent
}

fn receive(port: &mut Port, pools: &mut Pools) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let mut burst = Burst::new();
    port.rx_burst(pools, BURST, |mbuf, _| {
        frames.push(mbuf.data().to_vec());
        burst.push(mbuf).unwrap();
    });
    pools.free_burst(&mut burst);
    frames
}

fn sigbus_action() -> usize {
    // SAFETY: a zeroed sigaction is a valid one.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: reads the action into a structure of ours.
    let result = unsafe { libc::sigaction(libc::SIGBUS, std::ptr::null(), &raw mut action) };
    assert_eq!(result, 0);
    action.sa_sigaction
}

#[test]
fn a_ring_gives_back_every_frame_as_it_was() {
    let rig = rig();
    {
        let mut port = rig.open("net_ring0");
        assert_eq!(port.driver(), "net_ring");
        let mut pools = rig.pools();
        let mut next = 0;
        for round in 0..200 {
            let lens = [60, 64, 65, 1000, 1514];
            let frames: Vec<_> = (0..BURST)
                .map(|at| {
                    frame(
                        next + u32::try_from(at).unwrap(),
                        lens[(round + at) % lens.len()],
                    )
                })
                .collect();
            assert_eq!(send(&mut port, &mut pools, &frames), BURST);
            let back = receive(&mut port, &mut pools);
            assert_eq!(back, frames, "round {round}");
            next += 64;
        }
        // A short frame is padded with zeros.
        send(&mut port, &mut pools, &[frame(7, 20)]);
        let back = receive(&mut port, &mut pools);
        let mut padded = frame(7, 20);
        padded.resize(60, 0);
        assert_eq!(back, [padded]);
        let counters = rig_counters(&port, 12_801);
        assert_eq!((counters.rx_frames, counters.tx_frames), (12_801, 12_801));
        // Frames that are under way when the port is closed.
        send(&mut port, &mut pools, &vec![frame(1, 100); BURST]);
    }
    rig.assert_all_home();
    let strays = rig.small.conservation().strays;
    assert_eq!(strays, 0, "all went home by way of the port");
}

/// Counters once `frames` were received, or as they are after two seconds.
fn rig_counters(port: &Port, frames: u64) -> sluice_stats::NicCounters {
    let limit = Instant::now() + Duration::from_secs(2);
    while port.counters().rx_frames < frames && Instant::now() < limit {
        std::thread::sleep(Duration::from_millis(10));
    }
    port.counters()
}

#[test]
fn the_null_device_takes_and_makes_frames_by_the_million() {
    let rig = rig();
    {
        let mut port = rig.open("net_null0,size=64,copy=1");
        let mut pools = rig.pools();
        let mut forwarded = 0;
        while forwarded < 1_000_000 {
            let mut burst = Burst::new();
            port.rx_burst(&mut pools, BURST, |mbuf, tag| {
                assert!(mbuf.len() == 64 && tag.is_none());
                burst.push(mbuf).unwrap();
            });
            assert_eq!(burst.len(), BURST);
            forwarded += port.tx_burst(&mut pools, &mut burst).frames;
            assert!(burst.is_empty());
        }
    }
    rig.assert_all_home();
}

#[test]
fn large_mbufs_carry_jumbo_frames() {
    let rig = rig();
    {
        let mut config = rig.config("net_null1,size=9000");
        config.mtu = 9000;
        let mut port = Port::open(rig.eal, config).unwrap();
        assert_eq!(port.mtu(), 9000);
        let mut pools = rig.pools();
        let got = receive(&mut port, &mut pools);
        assert!(!got.is_empty() && got.iter().all(|frame| frame.len() == 9000));
        assert_eq!(send(&mut port, &mut pools, &[frame(1, 9014)]), 1);
    }
    rig.assert_all_home();
    let mut config = rig.config("net_ring3");
    config.mtu = 9000;
    let error = Port::open(rig.eal, config).unwrap_err().to_string();
    assert!(
        error.starts_with("net_ring3: rte_eth_dev_set_mtu failed: Operation not supported"),
        "{error}"
    );
    rig.assert_all_home();
}

#[test]
fn without_buffers_nothing_is_received_and_nothing_is_lost() {
    let rig = rig();
    {
        let mut port = rig.open("net_null2");
        let mut pools = rig.pools();
        let mut held = Vec::new();
        while let Some(mbuf) = pools.small.alloc() {
            held.push(mbuf);
        }
        assert!(receive(&mut port, &mut pools).is_empty());
        for mbuf in held.drain(..) {
            pools.free(mbuf);
        }
        assert_eq!(receive(&mut port, &mut pools).len(), BURST);
    }
    rig.assert_all_home();
}

#[test]
fn what_a_full_ring_does_not_take_waits_and_is_sent_in_order() {
    let rig = rig();
    {
        let mut port = rig.open("net_ring1");
        let mut pools = rig.pools();
        let mut taken = 0_u32;
        // net_ring's ring has 1024 places.
        while port.tx_room(&mut pools) > 0 {
            let frames: Vec<_> = (0..48).map(|at| frame(taken + at, 60)).collect();
            taken += u32::try_from(send(&mut port, &mut pools, &frames)).unwrap();
            assert!(taken < 5000, "the ring never fills");
        }
        let waiting = port.waiting();
        assert!(waiting > 0);
        let mut expected = 0;
        while expected < taken {
            for bytes in receive(&mut port, &mut pools) {
                assert_eq!(bytes, frame(expected, 60));
                expected += 1;
            }
            port.tx_room(&mut pools);
        }
        assert_eq!(port.waiting(), 0);
        while port.tx_room(&mut pools) > 0 {
            send(&mut port, &mut pools, &vec![frame(1, 60); 48]);
        }
        assert!(port.drop_waiting(&mut pools) > 0);
        assert_eq!(port.waiting(), 0);
        // And some that wait when the port is closed.
        send(&mut port, &mut pools, &vec![frame(1, 60); 48]);
        assert!(port.waiting() > 0);
    }
    rig.assert_all_home();
}

#[test]
fn capture_files_are_read_and_written() {
    let rig = rig();
    let folder = tempfile::tempdir().unwrap();
    let (read, written) = (
        folder.path().join("in.pcap"),
        folder.path().join("out.pcap"),
    );
    let frames: Vec<_> = (0..100)
        .map(|number| frame(number, 60 + number as usize))
        .collect();
    std::fs::write(&read, pcap_of(&frames)).unwrap();
    let device = format!(
        "net_pcap0,rx_pcap={},tx_pcap={}",
        read.display(),
        written.display()
    );
    {
        let mut port = rig.open(&device);
        let mut pools = rig.pools();
        let mut got = Vec::new();
        while got.len() < frames.len() {
            let more = receive(&mut port, &mut pools);
            assert!(!more.is_empty(), "{} of {}", got.len(), frames.len());
            got.extend(more);
        }
        assert_eq!(got, frames);
        for frames in frames.chunks(BURST) {
            assert_eq!(send(&mut port, &mut pools, frames), frames.len());
        }
    }
    rig.assert_all_home();
    let bytes = std::fs::read(&written).unwrap();
    let tail: usize = frames.iter().map(|frame| 16 + frame.len()).sum();
    assert_eq!(bytes.len(), 24 + tail);
    assert!(bytes.ends_with(&frames[99]));
}

fn pcap_of(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 1] {
        file.extend(word.to_le_bytes());
    }
    for frame in frames {
        let len = u32::try_from(frame.len()).unwrap();
        for word in [0, 0, len, len] {
            file.extend(word.to_le_bytes());
        }
        file.extend(frame);
    }
    file
}

#[test]
fn a_device_comes_and_goes_again_and_again() {
    let rig = rig();
    for _ in 0..50 {
        let mut port = rig.open("net_null3");
        let mut pools = rig.pools();
        assert_eq!(receive(&mut port, &mut pools).len(), BURST);
    }
    rig.assert_all_home();
}

#[test]
fn attach_and_detach_leave_the_sigbus_action_alone() {
    let rig = rig();
    sluice_mem::sigbus::install().unwrap();
    let ours = sigbus_action();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut looks = 0_u64;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                assert_eq!(sigbus_action(), ours, "DPDK took the action");
                looks += 1;
            }
            looks
        });
        for round in 0..20 {
            let ring = rig.open("net_ring2");
            let null = rig.open("net_null4");
            assert_eq!(sigbus_action(), ours, "round {round}");
            drop((ring, null));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(watcher.join().unwrap() > 100);
    });
    assert_eq!(sigbus_action(), ours);
}

#[test]
fn no_thread_but_eals_has_another_affinity() {
    // EAL is started by whichever test comes first: all other threads have the cores that they had.
    let rig = rig();
    drop(rig.open("net_null5"));
    let mut others = 0;
    for entry in std::fs::read_dir("/proc/self/task").unwrap() {
        let path = entry.unwrap().path();
        let name = std::fs::read_to_string(path.join("comm")).unwrap_or_default();
        let Ok(status) = std::fs::read_to_string(path.join("status")) else {
            continue;
        };
        if name.trim() == "dpdk" {
            assert_eq!(cores_of(&status), eal_config().cores);
        } else if !name.starts_with("eal-")
            && !name.starts_with("dpdk-")
            && !name.starts_with("rte")
        {
            assert_eq!(cores_of(&status), all_cores(), "thread {}", name.trim());
            others += 1;
        }
    }
    assert!(others >= 2);
}

/// Cores of the main thread, which nothing here changes.
fn all_cores() -> Vec<usize> {
    cores_of(&std::fs::read_to_string(format!("/proc/{}/status", std::process::id())).unwrap())
}

fn cores_of(status: &str) -> Vec<usize> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
        .unwrap();
    let ranges = line.trim().split(',').map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        first.parse().unwrap()..=last.parse::<usize>().unwrap()
    });
    ranges.flatten().collect()
}

#[test]
fn errors_have_dpdks_own_lines() {
    let rig = rig();
    let error = Port::open(rig.eal, rig.config("net_pcap1,rx_pcap=/nowhere.pcap")).unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("net_pcap1: rte_dev_probe failed: "),
        "{text}"
    );
    assert!(text.contains("/nowhere.pcap"), "{text}");
    let error = Port::open(rig.eal, rig.config("0000:7f:1f.7")).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("0000:7f:1f.7: rte_dev_probe failed: "),
        "{error}"
    );
    assert!("--no-huge".parse::<Device>().is_err());
    rig.assert_all_home();
}

#[test]
fn eal_is_started_once() {
    let rig = rig();
    assert!(rig.eal.version().starts_with("DPDK "));
    assert!(Eal::start(&eal_config()).is_ok());
    let other = EalConfig {
        memory_mib: 32,
        ..eal_config()
    };
    assert!(matches!(Eal::start(&other), Err(Error::OtherSettings)));
}
