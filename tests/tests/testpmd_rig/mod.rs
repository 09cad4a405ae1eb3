// SPDX-License-Identifier: Apache-2.0
//! Running testpmd with one port that sends everything back, and the traffic for it.
#![allow(dead_code, reason = "each test binary uses its part of it")]
#![allow(clippy::cast_possible_truncation, reason = "patterns wrap on purpose")]

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sluice_memif::{Address, EndpointConfig, FrameList, LinkChange, Memif, Role};
use sluice_tests::{Process, program_or_skip, root_or_skip, wait_for};

/// Time without progress after which something is broken: a busy machine only makes it slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Maximum number of frames under way: fewer than any ring or mempool here holds, so none may be lost.
pub(crate) const WINDOW: u32 = 64;

/// Takes the lock that lets one testpmd run at a time, as each polls a core.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn can_run(name: &str) -> bool {
    program_or_skip(name, "dpdk-testpmd") && root_or_skip(name)
}

pub(crate) fn name() -> String {
    static SERIAL: AtomicU32 = AtomicU32::new(0);
    format!(
        "sg-{}-{}",
        std::process::id(),
        SERIAL.fetch_add(1, Ordering::Relaxed)
    )
}

/// A running testpmd with one memif port.
pub(crate) struct Testpmd {
    process: Process,
    prefix: String,
    output: File,
}

/// Counters of testpmd's port.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) rx: u64,
    pub(crate) tx: u64,
}

impl Testpmd {
    /// Starts testpmd with this `role` and these further arguments of its memif.
    pub(crate) fn start(
        command: Command,
        role: &str,
        socket: &str,
        memif: &str,
        queues: u16,
    ) -> Testpmd {
        let vdev = format!("net_memif0,role={role},socket={socket}{memif}");
        Testpmd::start_on(command, &vdev, queues, &["--no-lsc-interrupt"])
    }

    /// Starts testpmd on this virtual device, with these further arguments.
    pub(crate) fn start_on(
        mut command: Command,
        vdev: &str,
        queues: u16,
        further: &[&str],
    ) -> Testpmd {
        let prefix = name();
        let mut output = tempfile::tempfile().unwrap();
        command
            .args([
                "--no-pci",
                "--no-huge",
                "--no-shconf",
                "--no-telemetry",
                "-m",
                "192",
            ])
            .args(["--lcores", "0@(0-1),1@(0-1)", "--file-prefix", &prefix])
            .arg(format!("--vdev={vdev}"))
            .args([
                "--",
                "-i",
                "--forward-mode=macswap",
                "--total-num-mbufs=16384",
            ])
            // Else it drops what arrived before it was told to start.
            .arg("--no-flush-rx")
            .args(further)
            .args([format!("--rxq={queues}"), format!("--txq={queues}")])
            .stdin(Stdio::piped())
            .stdout(output.try_clone().unwrap())
            .stderr(output.try_clone().unwrap());
        let process = Process::start(&mut command).unwrap();
        output.flush().unwrap();
        let mut testpmd = Testpmd {
            process,
            prefix,
            output,
        };
        testpmd.say("start");
        testpmd
    }

    pub(crate) fn plain() -> Command {
        Command::new("dpdk-testpmd")
    }

    pub(crate) fn say(&mut self, line: &str) {
        let stdin = self.process.child().stdin.as_mut().unwrap();
        writeln!(stdin, "{line}").unwrap();
    }

    pub(crate) fn printed(&mut self) -> String {
        use std::io::Seek;
        let mut text = Vec::new();
        self.output.rewind().unwrap();
        self.output.read_to_end(&mut text).unwrap();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Ends testpmd in good order and returns its counters of the present connection.
    pub(crate) fn quit(mut self) -> Counted {
        self.say("stop");
        self.say("show port stats 0");
        self.say("quit");
        let ended = wait_for("testpmd to quit", PATIENCE, || {
            (!self.process.alive()).then_some(())
        });
        let text = self.printed();
        assert!(ended.is_ok(), "{text}");
        let of = |field: &str| -> Option<u64> {
            let statistics = text.split("NIC statistics for port 0").nth(1)?;
            statistics
                .split(field)
                .nth(1)?
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        };
        match (of("RX-packets:"), of("TX-packets:")) {
            (Some(rx), Some(tx)) => Counted { rx, tx },
            _ => panic!("no statistics in what testpmd printed:\n{text}"),
        }
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.process.alive()
    }

    /// Kills testpmd with SIGKILL, as a crash would.
    pub(crate) fn kill(mut self) {
        self.process.kill();
    }
}

impl Drop for Testpmd {
    fn drop(&mut self) {
        if std::thread::panicking() && self.process.alive() {
            // What it counted says which way frames got lost.
            for line in ["stop", "show port stats 0", "quit"] {
                self.say(line);
            }
            let _ = wait_for("testpmd", Duration::from_secs(3), || {
                (!self.process.alive()).then_some(())
            });
        }
        self.process.kill();
        if std::thread::panicking() {
            eprintln!("testpmd printed:\n{}", self.printed());
        }
        // All that is left of it with --no-shconf.
        let _ = std::fs::remove_dir(format!("/var/run/dpdk/{}", self.prefix));
    }
}

pub(crate) fn open(role: Role, socket: &str, queues: u16) -> Memif {
    let mut config = EndpointConfig::new(role, "sluice");
    config.queue_pairs = queues;
    let address = if socket.starts_with('/') {
        Address::Path(socket.into())
    } else {
        Address::Abstract(socket.to_owned())
    };
    Memif::open(config, address).unwrap()
}

pub(crate) fn up(memif: &mut Memif) {
    let mut heard = Vec::new();
    let up = wait_for("the link", PATIENCE, || {
        heard.extend(std::iter::from_fn(|| memif.change()));
        memif.is_up().then_some(())
    });
    assert!(up.is_ok(), "{heard:?}");
}

pub(crate) fn down(memif: &mut Memif) {
    wait_for("the link to go down", PATIENCE, || {
        matches!(memif.change(), Some(LinkChange::Down { .. })).then_some(())
    })
    .unwrap();
}

/// Makes frame number `n`: addresses, an experimental EtherType, the number, then bytes that depend on it and on
/// their offset.
pub(crate) fn frame(n: u32, len: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..len)
        .map(|at| (n as usize * 13 + at * 7) as u8)
        .collect();
    bytes[..6].copy_from_slice(&[0x02, 0, 0, 0, 0, 0x0a]);
    bytes[6..12].copy_from_slice(&[0x02, 0, 0, 0, 0, 0x0b]);
    bytes[12..14].copy_from_slice(&[0x88, 0xb5]);
    bytes[14..18].copy_from_slice(&n.to_be_bytes());
    bytes
}

/// Makes frame number `n` as testpmd sends it back.
pub(crate) fn swapped(n: u32, len: usize) -> Vec<u8> {
    let mut bytes = frame(n, len);
    let (destination, source) = bytes[..12].split_at_mut(6);
    destination.swap_with_slice(source);
    bytes
}

/// Sends `count` frames and checks each that comes back, on every queue by itself. With `sleeping`,
/// waits in poll instead of polling the rings.
pub(crate) fn echo(memif: &mut Memif, count: u32, len: usize, sleeping: bool) {
    let mut frames = FrameList::default();
    // testpmd drops what finds its ring full: no more are on their way than that holds.
    let ring = memif.connection().unwrap().rx[0].ring_size();
    let window = (ring / len.div_ceil(2048)).clamp(1, WINDOW as usize) as u32;
    for queue in 0..memif.queues().0 {
        let (mut sent, mut back) = (0, 0);
        let mut progress = Instant::now();
        while back < count {
            assert!(
                progress.elapsed() < PATIENCE,
                "queue {queue}: {back} of {sent} frames of {len} bytes came back"
            );
            while sent < count && sent - back < window && memif.send(queue, &[&frame(sent, len)]) {
                sent += 1;
            }
            memif.flush();
            if memif.recv(queue, 64, &mut frames) == 0 {
                if sleeping {
                    if memif.arm() {
                        // DPDK's producer has no fence: a wake-up can be lost, the cap bounds it.
                        let cap = Timespec {
                            tv_sec: 0,
                            tv_nsec: 1_000_000,
                        };
                        poll(&mut [PollFd::new(&*memif, PollFlags::IN)], Some(&cap)).unwrap();
                    }
                    memif.disarm();
                } else {
                    // testpmd may want this very core.
                    std::thread::yield_now();
                }
                if memif.change().is_some() {
                    assert!(memif.is_up(), "the link went down");
                }
            }
            while let Some(got) = frames.pop() {
                assert!(
                    got == swapped(back, len),
                    "queue {queue}: frame {back} of {len} bytes differs: {} bytes, {:02x?}",
                    got.len(),
                    &got[..got.len().min(32)]
                );
                back += 1;
                progress = Instant::now();
                frames.recycle(got);
            }
        }
    }
}

/// Returns our own counters, over all queues.
pub(crate) fn counted(memif: &mut Memif) -> Counted {
    let connection = memif.connection().unwrap();
    Counted {
        rx: connection
            .rx
            .iter()
            .map(|queue| queue.counters().packets)
            .sum(),
        tx: connection
            .tx
            .iter()
            .map(|queue| queue.counters().packets)
            .sum(),
    }
}

/// Starts both sides in the order that testpmd needs: as a client it connects once, when its port starts.
pub(crate) fn both(ours: Role, memif: &str, queues: u16) -> (Testpmd, Memif) {
    let socket = name();
    let mut endpoint = open(ours, &socket, queues);
    let role = match ours {
        Role::Server => {
            wait_until_listening(&mut endpoint);
            "client"
        }
        Role::Client => "server",
    };
    let testpmd = Testpmd::start(Testpmd::plain(), role, &socket, memif, queues);
    up(&mut endpoint);
    assert_eq!(
        endpoint.queues(),
        (usize::from(queues), usize::from(queues))
    );
    (testpmd, endpoint)
}

/// Waits until a server's thread has bound its socket. A testpmd takes longer to start, but that is no guarantee.
pub(crate) fn wait_until_listening(server: &mut Memif) {
    std::thread::sleep(Duration::from_millis(100));
    assert!(server.change().is_none(), "the server listens at once");
}
