// SPDX-License-Identifier: Apache-2.0
//! Fuzz targets: each parser of untrusted bytes as one function of those bytes, which must never panic.
//!
//! `make fuzz` runs each for a minute under libFuzzer (`fuzz/targets`); `cargo test` runs each over its seeds
//! (`fuzz/seeds`) and over what was found before (`fuzz/found`). The functions assert what must hold
//! besides: what a queue hands out is within bounds, two ways to judge a frame agree.
#![forbid(unsafe_code)]

mod attach;
mod cni;
mod frame;
mod messages;
mod policy;
mod ring;

/// Fuzz target.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Name of the target and of its folder of seeds.
    pub name: &'static str,
    /// Function that takes the input.
    pub body: fn(&[u8]),
}

/// Every fuzz target.
pub const TARGETS: [Target; 6] = [
    Target {
        name: "frame",
        body: frame::body,
    },
    Target {
        name: "messages",
        body: messages::body,
    },
    Target {
        name: "ring",
        body: ring::body,
    },
    Target {
        name: "policy",
        body: policy::body,
    },
    Target {
        name: "cni",
        body: cni::body,
    },
    Target {
        name: "attach",
        body: attach::body,
    },
];

/// Runs one target by its name.
///
/// # Panics
/// There is no such target, or it found something.
pub fn run(name: &str, bytes: &[u8]) {
    let mut targets = TARGETS.iter();
    let target = targets.find(|target| target.name == name);
    let Some(target) = target else {
        panic!("there is no target {name}");
    };
    (target.body)(bytes);
}

/// Reader of the input, a few bytes at a time; yields zeros once it is used up.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut taken = [0; N];
        let (front, rest) = self.0.split_at(N.min(self.0.len()));
        taken[..front.len()].copy_from_slice(front);
        self.0 = rest;
        taken
    }

    fn u8(&mut self) -> u8 {
        u8::from_le_bytes(self.take())
    }

    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }
}
