//! What reads bytes of others, each as one function of such bytes that may never panic.
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

/// Something that is fuzzed.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, and that of its seeds' folder.
    pub name: &'static str,
    /// The function.
    pub body: fn(&[u8]),
}

/// All of them.
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

/// Takes the front of the input, a few bytes at a time; zeros when it is used up.
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
