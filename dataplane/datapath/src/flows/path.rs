//! An entry: a flow, and what its frames come to.

use zerocopy::{FromZeros, Immutable, KnownLayout};

use crate::frame::origin::Mark;
use crate::frame::{FrameInfo, Goal};

/// Of two policies at most: the VLAN's and the attachment's own.
const POLICIES: usize = 2;

/// What a flow's frames come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromZeros, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct Path {
    pub(crate) goal: Goal,
    /// Longer frames are for the judges.
    pub(crate) max_frame: u32,
    /// Not 0: both judges let it pass.
    passes: u32,
    /// At the pod it comes from; [`Half::PASS`] for what comes from the wire.
    pub(crate) egress: Half,
    /// At the pod it goes to, if that is one of this worker.
    pub(crate) ingress: Half,
}

impl Path {
    /// What is known so far.
    pub(crate) fn new(goal: Goal, max_frame: u32, egress: Half, ingress: Half) -> Path {
        let both = egress.said() == Said::Pass && ingress.said() == Said::Pass;
        Path {
            goal,
            max_frame,
            passes: both.into(),
            egress,
            ingress,
        }
    }

    /// Whether both judges let it pass.
    #[inline(always)]
    pub(crate) fn passes(&self) -> bool {
        self.passes != 0
    }
}

/// What one attachment's policies say of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromZeros, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct Half {
    /// Rule slots that count each frame.
    counters: [u32; POLICIES],
    said: u32,
}

/// What was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    /// Nothing that is known: ask.
    Ask,
    /// It goes on.
    Pass,
    /// It is denied.
    Denied,
}

impl Half {
    /// Ask the policies.
    pub(crate) const ASK: Half = Half {
        counters: [u32::MAX; POLICIES],
        said: 0,
    };
    /// Nobody was asked: it passes.
    pub(crate) const PASS: Half = Half {
        said: 1,
        ..Half::ASK
    };

    /// What policies said that count in `counters`.
    pub(crate) fn new(passes: bool, counters: [Option<usize>; POLICIES]) -> Half {
        let number = |slot: Option<usize>| {
            slot.and_then(|slot| u32::try_from(slot).ok())
                .unwrap_or(u32::MAX)
        };
        Half {
            counters: counters.map(number),
            said: if passes { 1 } else { 2 },
        }
    }

    /// What they said.
    #[inline]
    pub(crate) fn said(self) -> Said {
        match self.said {
            1 => Said::Pass,
            2 => Said::Denied,
            _ => Said::Ask,
        }
    }

    /// The rule slots that count a frame; `u32::MAX`, which is none's number, for none.
    #[inline(always)]
    pub(crate) fn counters(&self) -> [u32; POLICIES] {
        self.counters
    }
}

/// One flow. The first line says whose it is, the second what comes of it; a pair of lines, which
/// the CPU fetches together.
#[derive(Debug, Clone, Copy, FromZeros, Immutable, KnownLayout)]
#[repr(C, align(128))]
pub(super) struct Entry {
    line: Line,
    path: Path,
    /// Not 0: it was used since it was last passed over.
    used: u32,
}

/// As [`FrameInfo::flow_words`] has it.
#[derive(Debug, Clone, Copy, FromZeros, Immutable, KnownLayout)]
#[repr(C, align(64))]
struct Line([u64; 8]);

const _: () = assert!(size_of::<Entry>() == 128);

impl Entry {
    /// Of the flow of `info`. It has to be used to be kept.
    pub(super) fn new(info: &FrameInfo, path: Path) -> Entry {
        Entry {
            line: Line(*info.flow_words()),
            path,
            used: 0,
        }
    }

    /// Whether it is of this frame's flow, and of the version of its mark.
    #[inline(always)]
    pub(super) fn is_of(&self, info: &FrameInfo) -> bool {
        // Without a branch, as nearly always all are equal, and without a call.
        let [a, b, c, d, e, f, g, h] = &self.line.0;
        let [p, q, r, s, t, u, v, w] = info.flow_words();
        let low = (a ^ p) | (b ^ q) | (c ^ r) | (d ^ s);
        let high = (e ^ t) | (f ^ u) | (g ^ v) | (h ^ w);
        low | high == 0
    }

    /// Whether it is of this version: entries of others are free.
    pub(super) fn is_version(&self, version: u32) -> bool {
        let [.., mark] = self.line.0;
        Mark::from_bits(mark).version() == u64::from(version)
    }

    /// Notes that it was used.
    #[inline(always)]
    pub(super) fn use_it(&mut self) {
        // Mostly it is noted: then the line is only read.
        if self.used == 0 {
            self.used = 1;
        }
    }

    /// Whether it was used since this was last asked.
    pub(super) fn was_used(&mut self) -> bool {
        std::mem::take(&mut self.used) != 0
    }

    /// What comes of it.
    #[inline(always)]
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Adds what its receiver says, and whose longer frames are for the judges.
    pub(super) fn add_ingress(&mut self, ingress: Half, max_frame: u32) {
        let Path {
            goal,
            max_frame: before,
            egress,
            ..
        } = self.path;
        self.path = Path::new(goal, max_frame.min(before), egress, ingress);
    }
}
