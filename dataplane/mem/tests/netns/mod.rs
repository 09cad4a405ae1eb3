// SPDX-License-Identifier: Apache-2.0
//! Network namespaces for one thread, and what is said of a test that cannot have one.
#![allow(
    unreachable_pub,
    dead_code,
    reason = "a module of several tests, none uses all of it"
)]

use std::io::Write as _;
use std::process::Command;

use nix::sched::{CloneFlags, unshare};

/// Puts the calling thread into a network namespace of its own, which goes with the thread. False,
/// with the reason on record, if this machine or user cannot.
pub fn enter(test: &str) -> bool {
    let reason = match unshare(CloneFlags::CLONE_NEWNET) {
        Err(errno) => format!("unshare(CLONE_NEWNET): {errno}; run as root"),
        Ok(()) if Command::new("ip").arg("-V").output().is_err() => {
            "the program ip is missing; install iproute2".to_owned()
        }
        Ok(()) => return true,
    };
    println!("SKIP {test}: {reason}");
    if let Some(log) = std::env::var_os("SLUICE_SKIP_LOG") {
        let log = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(log);
        writeln!(log.unwrap(), "{test}: {reason}").unwrap();
    }
    false
}

/// Runs `ip` in the calling thread's namespace.
pub fn ip(arguments: &str) {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .unwrap();
    let says = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {says}");
}

/// Switches IPv6 off in the calling thread's namespace, as its announcements would come between the
/// test's frames.
pub fn without_ipv6() {
    for which in ["all", "default"] {
        let file = format!("/proc/sys/net/ipv6/conf/{which}/disable_ipv6");
        let _ = std::fs::write(file, "1");
    }
}

/// An Ethernet frame with an IPv4 UDP datagram, checksums right, for 02::1 from 02::2.
pub fn udp_frame(src: [u8; 4], dst: [u8; 4], port: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00];
    let udp_len = 8 + payload.len() as u16;
    let mut ip = vec![0x45, 0];
    ip.extend((20 + udp_len).to_be_bytes());
    ip.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
    ip.extend(src);
    ip.extend(dst);
    let sum = checksum(&[&ip]);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    frame.extend(ip);
    let mut udp = Vec::new();
    udp.extend(4000u16.to_be_bytes());
    udp.extend(port.to_be_bytes());
    udp.extend(udp_len.to_be_bytes());
    udp.extend([0, 0]);
    udp.extend(payload);
    let sum = udp_checksum(src, dst, &udp);
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
    frame.extend(udp);
    frame
}

/// The checksum of a UDP datagram over IPv4 (RFC 768); 0 over one that holds a right one.
pub fn udp_checksum(src: [u8; 4], dst: [u8; 4], udp: &[u8]) -> u16 {
    let mut pseudo = [src, dst].concat();
    pseudo.extend([0, 17]);
    pseudo.extend((udp.len() as u16).to_be_bytes());
    checksum(&[&pseudo, udp])
}

/// The Internet checksum (RFC 1071) over even-sized parts and a last one of any size.
pub fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u32;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Calls `look` until it says something, for 5 s at most.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..5_000 {
        if let Some(found) = look() {
            return found;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    panic!("waited 5 s in vain for {what}");
}
