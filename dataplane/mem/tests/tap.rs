// SPDX-License-Identifier: Apache-2.0
//! Taps, with the kernel's stack at the other end.
#![allow(
    clippy::cast_possible_truncation,
    reason = "the numbers of a test are small"
)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod netns;

use std::net::UdpSocket;
use std::time::Duration;

use netns::{checksum, enter, ip, udp_checksum, udp_frame, wait_for, without_ipv6};
use sluice_mem::Error;
use sluice_mem::tap::{Tap, TapConfig};

const HERE: [u8; 4] = [10, 9, 0, 1];
const THERE: [u8; 4] = [10, 9, 0, 2];

/// The device's kernel side has HERE and knows THERE's MAC.
fn up(tap: &Tap) {
    without_ipv6();
    let name = tap.name();
    ip(&format!("link set {name} address 02:00:00:00:00:01 up"));
    ip(&format!("addr add 10.9.0.1/24 dev {name}"));
    ip(&format!(
        "neigh add 10.9.0.2 lladdr 02:00:00:00:00:02 dev {name} nud permanent"
    ));
}

fn exchange(tap: &Tap, offload: bool) {
    up(tap);
    let kernel = UdpSocket::bind("10.9.0.1:7000").unwrap();
    kernel
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();

    assert!(
        tap.send(&udp_frame(THERE, HERE, 7000, b"to the kernel"))
            .unwrap()
    );
    let mut buffer = [0; 2048];
    let (len, from) = kernel.recv_from(&mut buffer).unwrap();
    assert_eq!(
        (&buffer[..len], from.to_string().as_str()),
        (&b"to the kernel"[..], "10.9.0.2:4000")
    );

    assert_eq!(tap.recv(&mut buffer).unwrap(), None);
    kernel.send_to(b"from the kernel", "10.9.0.2:9").unwrap();
    let frame = wait_for("a frame", || tap.recv(&mut buffer).unwrap());
    assert_eq!(frame.len, 42 + 15);
    assert_eq!(&buffer[42..frame.len], b"from the kernel");
    assert_eq!(frame.csum_not_ready, offload.then_some((34, 6)));
    assert!(frame.gso.is_none());
    if let Some((start, offset)) = frame.csum_not_ready {
        let (start, field) = (usize::from(start), usize::from(start + offset));
        let sum = checksum(&[&buffer[start..frame.len]]);
        buffer[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    }
    assert_eq!(udp_checksum(HERE, THERE, &buffer[34..frame.len]), 0);
}

#[test]
fn without_offload_every_frame_is_complete() {
    if enter("without_offload_every_frame_is_complete") {
        let tap = Tap::open("sluice%d", TapConfig::default()).unwrap();
        assert_eq!(tap.name(), "sluice0");
        exchange(&tap, false);
    }
}

#[test]
fn with_offload_a_frame_says_what_is_left_to_do() {
    if enter("with_offload_a_frame_says_what_is_left_to_do") {
        exchange(
            &Tap::open("pod", TapConfig { offload: true }).unwrap(),
            true,
        );
    }
}

#[test]
fn a_tap_goes_with_its_handle() {
    if enter("a_tap_goes_with_its_handle") {
        let tap = Tap::open("pod", TapConfig::default()).unwrap();
        let index = nix::net::if_::if_nametoindex("pod").unwrap();
        assert!(index > 0);
        let error = Tap::open("pod", TapConfig::default()).unwrap_err();
        assert!(
            matches!(
                error,
                Error::Tap {
                    step: "TUNSETIFF",
                    ..
                }
            ),
            "{error}"
        );
        assert!(
            tap.send(&udp_frame(THERE, HERE, 1, &[])).is_err(),
            "the device is down"
        );
        drop(tap);
        wait_for("the device to go", || {
            nix::net::if_::if_nametoindex("pod").err()
        });
        for name in ["", "a name of 16 byt", "nul\0"] {
            let error = Tap::open(name, TapConfig::default()).unwrap_err();
            assert!(error.to_string().contains("1 to 15 bytes"), "{error}");
        }
    }
}
