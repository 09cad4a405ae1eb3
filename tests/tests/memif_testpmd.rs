//! DPDK's testpmd as the memif peer, in both roles: frames come back intact and in order, both
//! sides count the same, and either side may be killed and started again.
//!
//! testpmd runs with one port, which forwards to itself with the MAC addresses swapped. It uses
//! ordinary pages, so nothing has to be configured.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::cast_possible_truncation, reason = "patterns wrap on purpose")]

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sluice_memif::{Address, EndpointConfig, FrameList, LinkChange, Memif, Role};
use sluice_tests::{Netns, Process, program_or_skip, root_or_skip, wait_for};

/// Without progress for so long, something is broken; a busy machine only makes it slow.
const PATIENCE: Duration = Duration::from_secs(60);
/// Frames on their way at most: less than any ring or mempool here holds, so none may be lost.
const WINDOW: u32 = 64;

/// One testpmd at a time: each polls a core.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn can_run(name: &str) -> bool {
    program_or_skip(name, "dpdk-testpmd") && root_or_skip(name)
}

fn name() -> String {
    static SERIAL: AtomicU32 = AtomicU32::new(0);
    format!(
        "sg-{}-{}",
        std::process::id(),
        SERIAL.fetch_add(1, Ordering::Relaxed)
    )
}

/// A running testpmd with one memif port.
struct Testpmd {
    process: Process,
    prefix: String,
    output: File,
}

/// What testpmd counted on its port.
#[derive(Debug, PartialEq, Eq)]
struct Counted {
    rx: u64,
    tx: u64,
}

impl Testpmd {
    /// `role` and `memif` (more of its arguments) are testpmd's.
    fn start(mut command: Command, role: &str, socket: &str, memif: &str, queues: u16) -> Testpmd {
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
            .arg(format!(
                "--vdev=net_memif0,role={role},socket={socket}{memif}"
            ))
            .args([
                "--",
                "-i",
                "--forward-mode=macswap",
                "--total-num-mbufs=16384",
            ])
            // Else it drops what arrived before it was told to start.
            .args(["--no-lsc-interrupt", "--no-flush-rx"])
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

    fn plain() -> Command {
        Command::new("dpdk-testpmd")
    }

    fn say(&mut self, line: &str) {
        let stdin = self.process.child().stdin.as_mut().unwrap();
        writeln!(stdin, "{line}").expect("testpmd reads its commands");
    }

    fn printed(&mut self) -> String {
        use std::io::Seek;
        let mut text = Vec::new();
        self.output.rewind().unwrap();
        self.output.read_to_end(&mut text).unwrap();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Ends it in good order and gives what it counted on its present connection.
    fn quit(mut self) -> Counted {
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

    /// Kills it as a crash would.
    fn kill(mut self) {
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

fn open(role: Role, socket: &str, queues: u16) -> Memif {
    let mut config = EndpointConfig::new(role, "sluice");
    config.queue_pairs = queues;
    let address = if socket.starts_with('/') {
        Address::Path(socket.into())
    } else {
        Address::Abstract(socket.to_owned())
    };
    Memif::open(config, address).unwrap()
}

fn up(memif: &mut Memif) {
    let mut heard = Vec::new();
    let up = wait_for("the link", PATIENCE, || {
        heard.extend(std::iter::from_fn(|| memif.change()));
        memif.is_up().then_some(())
    });
    assert!(up.is_ok(), "{heard:?}");
}

fn down(memif: &mut Memif) {
    wait_for("the link to go down", PATIENCE, || {
        matches!(memif.change(), Some(LinkChange::Down { .. })).then_some(())
    })
    .unwrap();
}

/// Frame number `n`: addresses, an experimental ethertype, the number, then bytes that depend on
/// it and on their place.
fn frame(n: u32, len: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..len)
        .map(|at| (n as usize * 13 + at * 7) as u8)
        .collect();
    bytes[..6].copy_from_slice(&[0x02, 0, 0, 0, 0, 0x0a]);
    bytes[6..12].copy_from_slice(&[0x02, 0, 0, 0, 0, 0x0b]);
    bytes[12..14].copy_from_slice(&[0x88, 0xb5]);
    bytes[14..18].copy_from_slice(&n.to_be_bytes());
    bytes
}

/// As testpmd sends it back.
fn swapped(n: u32, len: usize) -> Vec<u8> {
    let mut bytes = frame(n, len);
    let (destination, source) = bytes[..12].split_at_mut(6);
    destination.swap_with_slice(source);
    bytes
}

/// Sends `count` frames and checks each that comes back, on every queue by itself. With `sleeping`,
/// waits in poll instead of polling the rings.
fn echo(memif: &mut Memif, count: u32, len: usize, sleeping: bool) {
    let mut frames = FrameList::default();
    for queue in 0..memif.queues().0 {
        let (mut sent, mut back) = (0, 0);
        let mut progress = Instant::now();
        while back < count {
            assert!(
                progress.elapsed() < PATIENCE,
                "queue {queue}: {back} of {sent} frames of {len} bytes came back"
            );
            while sent < count && sent - back < WINDOW && memif.send(queue, &[&frame(sent, len)]) {
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
                    "frame {back} of {len} bytes differs"
                );
                back += 1;
                progress = Instant::now();
                frames.recycle(got);
            }
        }
    }
}

/// What we counted, over all queues.
fn counted(memif: &mut Memif) -> Counted {
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

/// Both sides up, in the order that testpmd needs: as a client it connects once, when its port
/// starts.
fn both(ours: Role, memif: &str, queues: u16) -> (Testpmd, Memif) {
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

/// A server's thread has bound its socket long before a testpmd is through its start, but that is
/// no promise: ask.
fn wait_until_listening(server: &mut Memif) {
    std::thread::sleep(Duration::from_millis(100));
    assert!(server.change().is_none(), "the server listens at once");
}

fn echoes(ours: Role, memif: &str, queues: u16, sizes: &[usize], count: u32, sleeping: bool) {
    let _alone = alone();
    let (testpmd, mut endpoint) = both(ours, memif, queues);
    for &len in sizes {
        echo(&mut endpoint, count, len, sleeping);
    }
    let ours = counted(&mut endpoint);
    let total = u64::from(count) * sizes.len() as u64 * u64::from(queues);
    assert_eq!(
        ours,
        Counted {
            rx: total,
            tx: total
        }
    );
    assert_eq!(testpmd.quit(), ours);
}

const SIZES: [usize; 6] = [60, 64, 65, 590, 1514, 1518];

#[test]
fn testpmd_client_echoes() {
    if can_run("testpmd_client_echoes") {
        echoes(Role::Server, "", 1, &SIZES, 5000, false);
    }
}

#[test]
fn testpmd_server_echoes() {
    if can_run("testpmd_server_echoes") {
        echoes(Role::Client, "", 1, &SIZES, 5000, false);
    }
}

#[test]
fn testpmd_client_echoes_on_four_queues() {
    if can_run("testpmd_client_echoes_on_four_queues") {
        echoes(Role::Server, ",rsize=8", 4, &[64, 1514], 2000, false);
    }
}

#[test]
fn testpmd_server_echoes_on_four_queues() {
    if can_run("testpmd_server_echoes_on_four_queues") {
        echoes(Role::Client, "", 4, &[64, 1514], 2000, false);
    }
}

#[test]
fn testpmd_client_echoes_chained_frames() {
    if can_run("testpmd_client_echoes_chained_frames") {
        echoes(Role::Server, "", 1, &[2049, 4096, 9000], 1000, false);
    }
}

#[test]
fn testpmd_server_echoes_chained_frames() {
    if can_run("testpmd_server_echoes_chained_frames") {
        echoes(Role::Client, "", 1, &[2049, 4096, 9000], 1000, false);
    }
}

#[test]
fn testpmd_client_wakes_a_sleeper() {
    if can_run("testpmd_client_wakes_a_sleeper") {
        echoes(Role::Server, "", 1, &[64], 5000, true);
    }
}

#[test]
fn testpmd_server_wakes_a_sleeper() {
    if can_run("testpmd_server_wakes_a_sleeper") {
        echoes(Role::Client, "", 1, &[64], 5000, true);
    }
}

#[test]
fn testpmd_with_the_secret_is_let_in_and_another_is_not() {
    if !can_run("testpmd_with_the_secret_is_let_in_and_another_is_not") {
        return;
    }
    let _alone = alone();
    let socket = name();
    let mut config = EndpointConfig::new(Role::Server, "sluice");
    config.secret = sluice_memif::Secret::new("open-sesame");
    let mut server = Memif::open(config, Address::Abstract(socket.clone())).unwrap();
    wait_until_listening(&mut server);
    let wrong = Testpmd::start(Testpmd::plain(), "client", &socket, ",secret=sesame", 1);
    wait_for("the wrong secret to be refused", PATIENCE, || {
        let refused = |c| matches!(c, LinkChange::Notice { what } if what == "Incorrect secret");
        server.change().is_some_and(refused).then_some(())
    })
    .unwrap();
    assert!(!server.is_up());
    wrong.quit();
    let right = Testpmd::start(
        Testpmd::plain(),
        "client",
        &socket,
        ",secret=open-sesame",
        1,
    );
    up(&mut server);
    echo(&mut server, 500, 64, false);
    right.quit();
}

#[test]
fn testpmd_in_a_network_namespace_is_reached_from_a_thread_in_there() {
    if !can_run("testpmd_in_a_network_namespace_is_reached_from_a_thread_in_there") {
        return;
    }
    let _alone = alone();
    let pod = Netns::new("pod").unwrap();
    let socket = name();
    let testpmd = Testpmd::start(pod.command("dpdk-testpmd"), "server", &socket, "", 1);
    let theirs = socket.clone();
    // The endpoint's thread is born in the namespace of the one that starts it.
    let mut inside = pod
        .enter(move || Ok(open(Role::Client, &theirs, 1)))
        .unwrap();
    up(&mut inside);
    echo(&mut inside, 500, 64, false);
    let mut outside = open(Role::Client, &socket, 1);
    let refused = wait_for("the refusal", PATIENCE, || outside.change()).unwrap();
    assert!(matches!(refused, LinkChange::Notice { what } if what.contains("nobody listens")));
    drop(inside);
    testpmd.quit();
}

#[test]
fn testpmd_meets_us_at_a_path_in_both_roles() {
    if !can_run("testpmd_meets_us_at_a_path_in_both_roles") {
        return;
    }
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memif.sock");
    let path = path.to_str().unwrap();
    let mut server = open(Role::Server, path, 1);
    wait_until_listening(&mut server);
    let by_path = ",socket-abstract=no";
    let testpmd = Testpmd::start(Testpmd::plain(), "client", path, by_path, 1);
    up(&mut server);
    echo(&mut server, 500, 64, false);
    testpmd.quit();
    drop(server);
    assert!(!folder.path().join("memif.sock").exists());

    let testpmd = Testpmd::start(Testpmd::plain(), "server", path, by_path, 1);
    let mut client = open(Role::Client, path, 1);
    up(&mut client);
    echo(&mut client, 500, 64, false);
    testpmd.quit();
}

#[test]
fn testpmd_client_may_be_killed_and_started_again() {
    if !can_run("testpmd_client_may_be_killed_and_started_again") {
        return;
    }
    let _alone = alone();
    let socket = name();
    let mut server = open(Role::Server, &socket, 1);
    wait_until_listening(&mut server);
    for _ in 0..3 {
        let testpmd = Testpmd::start(Testpmd::plain(), "client", &socket, "", 1);
        up(&mut server);
        echo(&mut server, 2000, 64, false);
        // With frames on their way.
        server.send(0, &[&frame(0, 64)]);
        server.flush();
        testpmd.kill();
        down(&mut server);
    }
}

#[test]
fn testpmd_server_may_be_killed_and_started_again() {
    if !can_run("testpmd_server_may_be_killed_and_started_again") {
        return;
    }
    let _alone = alone();
    let socket = name();
    let mut client = open(Role::Client, &socket, 1);
    for _ in 0..3 {
        let testpmd = Testpmd::start(Testpmd::plain(), "server", &socket, "", 1);
        up(&mut client);
        echo(&mut client, 2000, 64, false);
        client.send(0, &[&frame(0, 64)]);
        client.flush();
        testpmd.kill();
        down(&mut client);
    }
}

/// Our side as a process of its own, so that it can be killed: this test's binary once more, told
/// by the environment what to do. Says `ready` when frames came back, then goes on echoing.
fn our_process(test: &str, role: &str, socket: &str) -> Process {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env("SLUICE_TEST_ROLE", role)
        .env("SLUICE_TEST_SOCKET", socket)
        .stdout(Stdio::piped());
    Process::start(&mut command).unwrap()
}

/// If this is such a process: does what it is for and does not return.
fn be_our_process() {
    let (Ok(role), Ok(socket)) = (
        std::env::var("SLUICE_TEST_ROLE"),
        std::env::var("SLUICE_TEST_SOCKET"),
    ) else {
        return;
    };
    let mut memif = open(
        if role == "server" {
            Role::Server
        } else {
            Role::Client
        },
        &socket,
        1,
    );
    if role == "server" {
        wait_until_listening(&mut memif);
    }
    println!("opened");
    up(&mut memif);
    echo(&mut memif, 1000, 64, false);
    println!("ready");
    loop {
        echo(&mut memif, 1000, 64, false);
    }
}

fn wait_for_line(process: &mut Process, line: &str) {
    use std::io::{BufRead, BufReader};
    // Read byte by byte from the pipe itself: nothing is lost between two calls.
    let stdout = process.child().stdout.as_mut().unwrap();
    let mut lines = BufReader::with_capacity(1, stdout).lines();
    let found = lines.any(|text| text.is_ok_and(|text| text.contains(line)));
    assert!(found, "our process ended before it said {line}");
}

#[test]
fn our_client_may_be_killed_and_started_again() {
    be_our_process();
    if !can_run("our_client_may_be_killed_and_started_again") {
        return;
    }
    let _alone = alone();
    let socket = name();
    let testpmd = Testpmd::start(Testpmd::plain(), "server", &socket, "", 1);
    for _ in 0..3 {
        let mut ours = our_process(
            "our_client_may_be_killed_and_started_again",
            "client",
            &socket,
        );
        wait_for_line(&mut ours, "ready");
        ours.kill();
    }
    testpmd.quit();
}

#[test]
fn our_server_may_be_killed_and_started_again() {
    be_our_process();
    if !can_run("our_server_may_be_killed_and_started_again") {
        return;
    }
    let _alone = alone();
    let socket = name();
    let mut testpmd: Option<Testpmd> = None;
    for round in 0..3 {
        let mut ours = our_process(
            "our_server_may_be_killed_and_started_again",
            "server",
            &socket,
        );
        wait_for_line(&mut ours, "opened");
        // Now and then it crashes on the rings that it freed when its peer was killed: then the
        // next one is a new one, as it would be in a pod.
        let alive = testpmd
            .as_mut()
            .is_some_and(|testpmd| testpmd.process.alive());
        match &mut testpmd {
            // A testpmd client connects when its port starts, and only then.
            Some(testpmd) if alive => {
                for line in ["stop", "port stop 0", "port start 0", "start"] {
                    testpmd.say(line);
                }
            }
            _ => {
                let started = Testpmd::start(Testpmd::plain(), "client", &socket, "", 1);
                testpmd = Some(started);
            }
        }
        wait_for_line(&mut ours, "ready");
        // The last time testpmd goes first: without a peer its counters are gone.
        if round == 2
            && let Some(testpmd) = testpmd.take()
        {
            assert!(testpmd.quit().rx >= 1000);
        }
        ours.kill();
    }
}
