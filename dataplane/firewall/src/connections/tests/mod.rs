// SPDX-License-Identifier: Apache-2.0
//! Tests of the tracker as a whole.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod floods;
mod naive;
mod related;
mod reports;
mod rules;

use super::testing::segment;
use super::*;

/// Tracker for a few connections.
fn tracker() -> Tracker {
    let config = Config {
        v4: 1000,
        v6: 1000,
        pairs: 64,
        attachments: 16,
        timeouts: Timeouts::default(),
    };
    Tracker::new(&config, Tick(0)).unwrap()
}

fn paths(n: u64) -> Paths {
    let path = |destination| Path {
        destination,
        rules: [u32::MAX; 4],
    };
    Paths {
        opener: path(n),
        responder: path(n + 1),
    }
}

/// Opening of a connection that the pod alone may open.
const BY_POD: Opening = Opening {
    paths: Paths {
        opener: Path {
            destination: 1,
            rules: [1, 2, 3, 4],
        },
        responder: Path {
            destination: 2,
            rules: [5, 6, 7, 8],
        },
    },
    tracking: Tracking::Window,
    from_pod: true,
    rederivable: false,
};

/// Opening of a connection from outside.
const BY_REMOTE: Opening = Opening {
    from_pod: false,
    rederivable: true,
    ..BY_POD
};

/// TCP frame of 10.0.0.1 port 40000 to 10.0.0.2 port 80.
fn tcp(event: Event, seq: u32, ack: u32, data: u32) -> TrackedFrame {
    TrackedFrame {
        segment: segment(event, seq, ack, 1000, data),
        ..testing::frame(6, event)
    }
}

/// TCP frame of the other direction.
fn tcp_back(event: Event, seq: u32, ack: u32, data: u32) -> TrackedFrame {
    testing::reply(&tcp(event, seq, ack, data), event)
}

/// Frame with another source port.
fn port(frame: TrackedFrame, port: u16) -> TrackedFrame {
    let mut frame = frame;
    if frame.src_port == 40_000 {
        frame.src_port = port;
    } else {
        frame.dst_port = port;
    }
    frame
}

fn open(tracker: &mut Tracker, now: Tick, frame: &TrackedFrame, opens: &Opening) {
    assert_eq!(tracker.lookup(now, frame), Answer::New);
    let inserted = tracker.insert(now, frame, opens);
    assert!(matches!(inserted, Inserted::Opened { .. }), "{inserted:?}");
}

fn passes(tracker: &mut Tracker, now: Tick, frame: &TrackedFrame) -> bool {
    matches!(tracker.lookup(now, frame), Answer::Known { .. })
}

/// Opens a TCP connection from `client` port with sequence numbers 100 and 500, up to established.
fn establish(tracker: &mut Tracker, now: Tick, client: u16, opens: &Opening) {
    open(
        tracker,
        now,
        &port(tcp(Event::Syn, 100, 0, 0), client),
        opens,
    );
    let answer = port(tcp_back(Event::SynAck, 500, 101, 0), client);
    assert!(passes(tracker, now, &answer));
    assert!(passes(
        tracker,
        now,
        &port(tcp(Event::Ack, 101, 501, 0), client)
    ));
}
