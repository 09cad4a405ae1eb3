// SPDX-License-Identifier: Apache-2.0
//! Endpoints against peers that are played by hand and do not behave.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::cast_possible_truncation, reason = "patterns wrap on purpose")]
#![allow(missing_docs, reason = "tests")]

mod link;

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use link::{PATIENCE, address, carry, change, notice, open, until, up};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use sluice_memif::layout::{COOKIE, Direction, RingSpec, ring_bytes};
use sluice_memif::msg::{AddRing, Init, Message, VERSION};
use sluice_memif::{
    Address, Channel, FrameList, LinkChange, Listener, Refusal, Role, Text, connect,
};

/// A client by hand.
struct Stranger {
    channel: Channel,
    memory: OwnedFd,
    /// Kept open, as a peer would.
    events: Vec<OwnedFd>,
}

const LOG2: u8 = 4;
const RING: u64 = ring_bytes(LOG2).next_multiple_of(64);
const BYTES: u64 = 65_536;

fn spec(direction: Direction, index: u16, offset: u64) -> RingSpec {
    RingSpec {
        direction,
        index,
        region: 0,
        offset: offset as u32,
        log2: LOG2,
    }
}

fn init() -> Message {
    Message::Init(Init {
        version: VERSION,
        id: 0,
        mode: 0,
        secret: None,
        name: Text::new("x"),
    })
}

impl Stranger {
    /// Connects, and has good memory for two rings.
    fn new(address: &Address) -> Stranger {
        Stranger::with_memory(address, MemfdFlags::ALLOW_SEALING)
    }

    fn with_memory(address: &Address, flags: MemfdFlags) -> Stranger {
        let mut channel = None;
        until("the listener", || {
            channel = connect(address).ok();
            channel.is_some()
        });
        let memory = memfd_create("stranger", flags).unwrap();
        ftruncate(&memory, BYTES).unwrap();
        let stranger = Stranger {
            channel: channel.unwrap(),
            memory,
            events: Vec::new(),
        };
        stranger.poke(0, &COOKIE.to_le_bytes());
        stranger.poke(RING, &COOKIE.to_le_bytes());
        assert!(matches!(stranger.hear(), Message::Hello(_)));
        stranger
    }

    fn poke(&self, offset: u64, bytes: &[u8]) {
        rustix::io::pwrite(&self.memory, bytes, offset).unwrap();
    }

    fn peek16(&self, offset: u64) -> u16 {
        let mut bytes = [0; 2];
        rustix::io::pread(&self.memory, &mut bytes, offset).unwrap();
        u16::from_le_bytes(bytes)
    }

    /// The next message.
    fn hear(&self) -> Message {
        let mut received = None;
        until("a message", || {
            received = self.channel.receive().unwrap();
            received.is_some()
        });
        received.unwrap().message
    }

    /// Sends, and expects ACK or CONNECTED.
    fn say(&mut self, message: &Message) {
        match message {
            Message::AddRegion { .. } => {
                self.channel
                    .send(message, Some(self.memory.as_fd()))
                    .unwrap();
            }
            Message::AddRing(_) => {
                let event = eventfd(0, EventfdFlags::NONBLOCK).unwrap();
                self.channel.send(message, Some(event.as_fd())).unwrap();
                self.events.push(event);
            }
            _ => self.channel.send(message, None).unwrap(),
        }
        let answer = self.hear();
        assert!(
            matches!(answer, Message::Ack | Message::Connected { .. }),
            "{answer:?}"
        );
    }

    /// Message with which the server refuses.
    fn refused(&self) -> String {
        match self.hear() {
            Message::Disconnect { reason, .. } => reason.to_string(),
            other => panic!("{other:?}"),
        }
    }

    fn prepare(&mut self) {
        self.say(&init());
        self.say(&Message::AddRegion {
            index: 0,
            size: BYTES,
        });
        self.say(&Message::AddRing(AddRing::from(&spec(
            Direction::ClientToServer,
            0,
            0,
        ))));
        self.say(&Message::AddRing(AddRing::from(&spec(
            Direction::ServerToClient,
            0,
            RING,
        ))));
    }

    fn connect(&mut self) {
        self.prepare();
        self.say(&Message::Connect {
            name: Text::new("x"),
        });
    }
}

#[test]
fn a_client_by_hand_is_served() {
    let address = address();
    let mut server = open(Role::Server, &address, |_| {});
    let mut stranger = Stranger::new(&address);
    stranger.connect();
    up(&mut server);
    // One frame of 64 bytes at 32768.
    stranger.poke(32_768, &[0xAB; 64]);
    let descriptor = |length: u32| {
        let mut raw = [0; 16];
        raw[4..8].copy_from_slice(&length.to_le_bytes());
        raw[8..12].copy_from_slice(&32_768_u32.to_le_bytes());
        raw
    };
    stranger.poke(128, &descriptor(64));
    stranger.poke(6, &1_u16.to_le_bytes());
    let mut frames = FrameList::default();
    until("the frame", || server.recv(0, 64, &mut frames) == 1);
    assert_eq!(frames.pop().unwrap(), [0xAB; 64]);
    assert_eq!(stranger.peek16(64), 1, "the tail follows");

    // And one with a length beyond its region: the end.
    stranger.poke(128 + 16, &descriptor(40_000));
    stranger.poke(6, &2_u16.to_le_bytes());
    until("the fault", || {
        server.recv(0, 64, &mut frames);
        !server.is_up()
    });
    let why = stranger.refused();
    assert!(
        why.contains("broken ring") && why.contains("40000"),
        "{why}"
    );
    assert!(matches!(change(&mut server), LinkChange::Down { reason } if reason == why));

    // The next one finds its place free.
    let mut stranger = Stranger::new(&address);
    stranger.connect();
    up(&mut server);
}

#[test]
fn memory_and_fds_that_are_wrong_are_refused_by_name() {
    let address = address();
    let mut server = open(Role::Server, &address, |_| {});

    let mut s = Stranger::with_memory(&address, MemfdFlags::empty());
    s.say(&init());
    let region = Message::AddRegion {
        index: 0,
        size: BYTES,
    };
    s.channel.send(&region, Some(s.memory.as_fd())).unwrap();
    assert!(s.refused().contains("cannot be sealed"));

    let mut s = Stranger::new(&address);
    s.say(&init());
    let beyond = Message::AddRegion {
        index: 0,
        size: BYTES + 1,
    };
    s.channel.send(&beyond, Some(s.memory.as_fd())).unwrap();
    assert!(s.refused().contains("its file has 65536"));

    let mut s = Stranger::new(&address);
    s.say(&init());
    let folder = std::fs::File::open("/").unwrap();
    s.channel.send(&region, Some(folder.as_fd())).unwrap();
    assert!(s.refused().contains("not a memfd"));

    let mut s = Stranger::new(&address);
    s.say(&init());
    s.say(&region);
    let ring = Message::AddRing(AddRing::from(&spec(Direction::ClientToServer, 0, 0)));
    let (pipe, _other) = std::io::pipe().unwrap();
    s.channel.send(&ring, Some(pipe.as_fd())).unwrap();
    assert!(s.refused().contains("not an eventfd but pipe"));

    let mut s = Stranger::new(&address);
    s.prepare();
    s.poke(RING, &[0; 4]);
    s.channel
        .send(
            &Message::Connect {
                name: Text::new("x"),
            },
            None,
        )
        .unwrap();
    assert!(s.refused().contains("cookie 0x00000000"));

    let s = Stranger::new(&address);
    s.channel.send(&Message::Ack, None).unwrap();
    assert!(s.refused().contains("ACK came where INIT was due"));

    let mut s = Stranger::new(&address);
    s.connect();
    up(&mut server);
    s.channel
        .send(
            &Message::Connect {
                name: Text::new("x"),
            },
            None,
        )
        .unwrap();
    assert!(
        s.refused()
            .contains("CONNECT came where DISCONNECT was due")
    );
    assert!(matches!(change(&mut server), LinkChange::Down { .. }));
}

#[test]
fn an_unsealed_region_is_taken_if_allowed() {
    let address = address();
    let mut server = open(Role::Server, &address, |c| c.allow_unsealed = true);
    let mut s = Stranger::with_memory(&address, MemfdFlags::empty());
    s.connect();
    up(&mut server);
}

#[test]
fn memory_torn_away_ends_one_connection_only() {
    sluice_mem::sigbus::install().unwrap();
    let address = address();
    let mut server = open(Role::Server, &address, |c| c.allow_unsealed = true);
    let mut s = Stranger::with_memory(&address, MemfdFlags::empty());
    s.connect();
    up(&mut server);
    let mut descriptor = [0; 16];
    descriptor[4..8].copy_from_slice(&64_u32.to_le_bytes());
    descriptor[8..12].copy_from_slice(&32_768_u32.to_le_bytes());
    s.poke(128, &descriptor);
    s.poke(6, &1_u16.to_le_bytes());
    // The rings are left, the frame is not.
    ftruncate(&s.memory, 4096).unwrap();
    let mut frames = FrameList::default();
    until("the fault", || {
        server.recv(0, 64, &mut frames);
        !server.is_up()
    });
    assert!(s.refused().contains("shared memory is gone"));
    assert!(matches!(change(&mut server), LinkChange::Down { .. }));
    let mut next = Stranger::new(&address);
    next.connect();
    up(&mut server);
}

#[test]
fn the_silent_are_sent_away() {
    let address = address();
    let mut server = open(Role::Server, &address, |c| {
        c.handshake_limit = Duration::from_millis(100)
    });
    let start = Instant::now();
    let mut halfway = Stranger::new(&address);
    halfway.say(&init());
    let silent = Stranger::new(&address);
    assert!(silent.refused().contains("not finished within 100 ms"));
    assert!(halfway.refused().contains("not finished within 100 ms"));
    assert!(start.elapsed() >= Duration::from_millis(100));
    notice(&mut server, "not finished");
}

#[test]
fn many_that_only_open_do_not_starve_one_that_means_it() {
    let address = address();
    let mut server = open(Role::Server, &address, |_| {});
    let strangers: Vec<Stranger> = (0..50).map(|_| Stranger::new(&address)).collect();
    let start = Instant::now();
    let mut client = open(Role::Client, &address, |_| {});
    up(&mut client);
    up(&mut server);
    assert!(
        start.elapsed() < Duration::from_secs(4),
        "before any deadline"
    );
    carry(&mut client, &mut server, 0, 100, 64);
    // The first was dropped, the last still wait.
    assert!(
        strangers[0]
            .refused()
            .contains("dropped for newer handshakes")
    );
    assert!(strangers[49].channel.receive().unwrap().is_none());
}

#[test]
fn nonsense_again_and_again_meets_longer_and_longer_pauses() {
    let address = address();
    let config = sluice_memif::EndpointConfig::new(Role::Server, "s");
    let server = sluice_memif::endpoint::spawn(config, address.clone(), |_| {}).unwrap();
    let start = Instant::now();
    let mut told = 0;
    while start.elapsed() < Duration::from_secs(2) {
        let stranger = Stranger::new(&address);
        stranger.channel.send(&Message::Ack, None).unwrap();
        assert!(stranger.refused().contains("ACK came where INIT was due"));
        told += 1;
    }
    // Three at once, then after 20, 40, 80, 160, 320, 500, 500, ... ms.
    assert!((4..=20).contains(&told), "{told} in {:?}", start.elapsed());
    let counts = server.counts();
    assert_eq!((counts.refused, counts.made), (told, 0));
    assert_eq!(counts.pauses, told - 3);
    assert!(!counts.pause_left.is_zero(), "{counts:?}");
    // Whoever means it comes in when the pause is over.
    let mut client = open(Role::Client, &address, |_| {});
    up(&mut client);
    assert_eq!(server.counts().made, 1);
}

#[test]
fn a_client_that_breaks_its_ring_again_and_again_meets_pauses_too() {
    let address = address();
    let mut server = open(Role::Server, &address, |_| {});
    let start = Instant::now();
    for _ in 0..8 {
        let mut s = Stranger::new(&address);
        s.connect();
        up(&mut server);
        s.channel.send(&Message::Ack, None).unwrap();
        assert!(s.refused().contains("ACK came where DISCONNECT was due"));
        assert!(matches!(change(&mut server), LinkChange::Down { .. }));
    }
    // 20, 40, 80 and 160 ms passed before the last four of them.
    assert!(start.elapsed() >= Duration::from_millis(300));
}

#[test]
fn a_stranger_during_a_connection_is_told_at_once() {
    let address = address();
    let mut server = open(Role::Server, &address, |_| {});
    let mut client = open(Role::Client, &address, |_| {});
    up(&mut client);
    up(&mut server);
    let late = Stranger::new(&address);
    late.channel.send(&init(), None).unwrap();
    assert_eq!(late.refused(), "Already connected");
    carry(&mut client, &mut server, 0, 100, 64);
}

#[test]
fn of_two_handshakes_the_first_to_finish_wins() {
    let address = address();
    let mut server = open(Role::Server, &address, |_| {});
    let (mut a, mut b) = (Stranger::new(&address), Stranger::new(&address));
    a.prepare();
    b.prepare();
    b.say(&Message::Connect {
        name: Text::new("b"),
    });
    up(&mut server);
    a.channel
        .send(
            &Message::Connect {
                name: Text::new("a"),
            },
            None,
        )
        .unwrap();
    assert_eq!(a.refused(), "Already connected");
}

#[test]
fn peers_that_are_not_admitted_hear_why() {
    struct Nobody(Address);
    impl sluice_memif::Opener for Nobody {
        fn listen(&mut self) -> Result<Listener, sluice_memif::OpenError> {
            Listener::bind(&self.0)
        }
        fn connect(&mut self) -> Result<Channel, sluice_memif::OpenError> {
            connect(&self.0)
        }
        fn admit(&mut self, peer: sluice_memif::PeerCred) -> Result<(), Refusal> {
            assert_eq!(peer.pid, std::process::id());
            Err(Refusal::NotAdmitted("wrong namespace".to_owned()))
        }
    }
    let address = address();
    let config = sluice_memif::EndpointConfig::new(Role::Server, "s");
    let _server = sluice_memif::Memif::open(config, Nobody(address.clone())).unwrap();
    let mut client = open(Role::Client, &address, |_| {});
    notice(&mut client, "not admitted: wrong namespace");
}

#[test]
fn a_kick_thread_that_the_peer_holds_ends_with_the_connection() {
    let address = address();
    let mut server = open(Role::Server, &address, |_| {});
    let mut s = Stranger::new(&address);
    s.connect();
    up(&mut server);
    // The server-to-client ring's eventfd: blocking, and full.
    let event = &s.events[1];
    rustix::fs::fcntl_setfl(event, rustix::fs::OFlags::empty()).unwrap();
    rustix::io::write(event, &(u64::MAX - 1).to_ne_bytes()).unwrap();
    // One buffer, posted; interrupts are on.
    let mut posted = [0; 16];
    posted[4..8].copy_from_slice(&2048_u32.to_le_bytes());
    posted[8..12].copy_from_slice(&32_768_u32.to_le_bytes());
    s.poke(RING + 128, &posted);
    s.poke(RING + 6, &1_u16.to_le_bytes());
    let start = Instant::now();
    until("room", || server.send(0, &[&[1; 64]]));
    server.flush();
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "nobody waits for the peer"
    );
    assert_eq!(s.peek16(RING + 64), 1);
    std::thread::sleep(Duration::from_millis(20));
    let threads = || {
        std::fs::read_dir("/proc/self/task")
            .unwrap()
            .filter_map(|task| {
                let comm = task.ok()?.path().join("comm");
                std::fs::read_to_string(comm).ok()
            })
            .filter(|name| name.trim() == "memif-kick")
            .count()
    };
    let before = threads();
    assert!(before > 0);
    s.channel.send(&Message::disconnect("bye"), None).unwrap();
    assert!(matches!(change(&mut server), LinkChange::Down { reason } if reason.contains("bye")));
    // Other tests have such threads too, but only this one is stuck: its eventfd is drained.
    let mut counter = [0; 8];
    rustix::fs::fcntl_setfl(event, rustix::fs::OFlags::NONBLOCK).unwrap();
    let left = rustix::io::read(event, &mut counter).map(|_| u64::from_ne_bytes(counter));
    assert!(
        left.is_err() || left.is_ok_and(|left| left <= 1),
        "the thread was freed"
    );
}

#[test]
fn a_server_that_does_not_answer_is_left() {
    let address = address();
    let listener = Listener::bind(&address).unwrap();
    let mut client = open(Role::Client, &address, |c| {
        c.handshake_limit = Duration::from_millis(100)
    });
    notice(&mut client, "not finished within 100 ms");
    // It comes again.
    let mut seen = 0;
    until("three attempts", || {
        seen += usize::from(listener.accept().unwrap().is_some());
        seen == 3
    });
}

#[test]
fn a_server_that_answers_wrongly_is_left() {
    let address = address();
    let listener = Listener::bind(&address).unwrap();
    let mut client = open(Role::Client, &address, |_| {});
    let mut channel = None;
    until("the client", || {
        channel = listener.accept().unwrap();
        channel.is_some()
    });
    let channel = channel.unwrap();
    channel.send(&Message::Ack, None).unwrap();
    notice(&mut client, "ACK came where HELLO was due");
    let mut reason = None;
    until("its reason", || {
        reason = channel.receive().unwrap();
        reason.is_some()
    });
    assert!(matches!(
        reason.unwrap().message,
        Message::Disconnect { .. }
    ));
}

#[test]
fn hundreds_of_handshakes_leave_nothing_open() {
    if std::env::var_os("SLUICE_MEMIF_ALONE").is_none() {
        let alone = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "hundreds_of_handshakes_leave_nothing_open",
                "--test-threads=1",
            ])
            .env("SLUICE_MEMIF_ALONE", "1")
            .status()
            .unwrap();
        assert!(alone.success());
        return;
    }
    let address = address();
    let mut server = open(Role::Server, &address, |_| {});
    let open_fds = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let mut round = |finish: bool| {
        let mut s = Stranger::new(&address);
        s.prepare();
        if finish {
            s.say(&Message::Connect {
                name: Text::new("x"),
            });
            up(&mut server);
            drop(s);
            assert!(matches!(change(&mut server), LinkChange::Down { .. }));
        }
    };
    round(true);
    let before = open_fds();
    let start = Instant::now();
    for n in 0..500 {
        round(n % 4 == 0);
    }
    until("the last to be closed", || {
        server.change();
        open_fds() <= before
    });
    assert!(start.elapsed() < PATIENCE);
}
