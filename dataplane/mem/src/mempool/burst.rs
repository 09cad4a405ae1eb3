// SPDX-License-Identifier: Apache-2.0
//! [`Burst`]: up to 64 mbufs in order, inline.
#![allow(
    unsafe_code,
    reason = "an inline array of which the first `len` mbufs exist"
)]

use std::fmt;
use std::mem::MaybeUninit;
use std::num::NonZeroU64;
use std::ptr;
use std::slice;

use super::handles;
use super::mbuf::Mbuf;

/// Most mbufs of a burst.
pub const BURST: usize = 64;

/// At most [`BURST`] mbufs, in order. Dropping one drops its mbufs the slow way: give them to a
/// port or to `free_burst` instead.
pub struct Burst {
    /// Of `mbufs`, the first so many exist; never above [`BURST`].
    len: usize,
    /// Most mbufs that [`Burst::room`] grants; at most [`BURST`].
    most: usize,
    mbufs: [MaybeUninit<Mbuf>; BURST],
}

impl Burst {
    /// An empty burst. Writes nothing but the lengths.
    #[inline]
    pub const fn new() -> Burst {
        Burst::with_room(BURST)
    }

    /// An empty burst that says it has room for `most` mbufs, at most [`BURST`]: whoever fills it stops
    /// there.
    #[inline]
    pub const fn with_room(most: usize) -> Burst {
        Burst {
            len: 0,
            most: if most < BURST { most } else { BURST },
            mbufs: [const { MaybeUninit::uninit() }; BURST],
        }
    }

    /// Number of mbufs.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has none.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of mbufs that still fit.
    #[inline(always)]
    pub fn room(&self) -> usize {
        self.most.saturating_sub(self.len)
    }

    /// Appends an mbuf.
    ///
    /// # Errors
    /// The mbuf itself, if there is no room.
    #[inline]
    pub fn push(&mut self, mbuf: Mbuf) -> Result<(), Mbuf> {
        let Some(slot) = self.mbufs.get_mut(self.len) else {
            return Err(mbuf);
        };
        slot.write(mbuf);
        self.len += 1;
        Ok(())
    }

    /// Takes the last mbuf.
    #[inline]
    pub fn pop(&mut self) -> Option<Mbuf> {
        let top = self.len.checked_sub(1)?;
        self.len = top;
        // SAFETY: the mbuf at `top` existed, and is behind the length now.
        Some(unsafe { self.mbufs[top].assume_init_read() })
    }

    /// The mbufs as a slice.
    #[inline(always)]
    pub fn as_slice(&self) -> &[Mbuf] {
        // SAFETY: the first `len` exist.
        unsafe { slice::from_raw_parts(self.mbufs.as_ptr().cast(), self.len) }
    }

    /// The mbufs as a slice, to be changed or put into another order.
    #[inline(always)]
    pub fn as_mut_slice(&mut self) -> &mut [Mbuf] {
        // SAFETY: the first `len` exist.
        unsafe { slice::from_raw_parts_mut(self.mbufs.as_mut_ptr().cast(), self.len) }
    }

    /// The mbufs in order.
    #[inline(always)]
    pub fn iter(&self) -> slice::Iter<'_, Mbuf> {
        self.as_slice().iter()
    }

    /// The mbufs in order, to be changed.
    #[inline(always)]
    pub fn iter_mut(&mut self) -> slice::IterMut<'_, Mbuf> {
        self.as_mut_slice().iter_mut()
    }

    /// Takes mbuf `at` out and puts the last one into its place; `None` if there is no such mbuf.
    #[inline]
    pub fn swap_remove(&mut self, at: usize) -> Option<Mbuf> {
        if at >= self.len {
            return None;
        }
        let last = self.len - 1;
        self.as_mut_slice().swap(at, last);
        self.pop()
    }

    /// Takes the first `n` mbufs out, or all if there are fewer; what the iterator has not handed
    /// out when it is dropped is dropped with it. The others move to the front.
    #[inline]
    pub fn drain_front(&mut self, n: usize) -> DrainFront<'_> {
        let end = n.min(self.len);
        let all = self.len;
        // While the iterator lives the burst counts as empty, so that leaking the iterator leaks
        // mbufs and does not double them.
        self.len = 0;
        DrainFront {
            burst: self,
            next: 0,
            end,
            all,
        }
    }

    /// Moves mbufs from the front of `other` to the end of this burst, until it is full or `other`
    /// is empty.
    #[inline]
    pub fn append(&mut self, other: &mut Burst) {
        let n = self.room().min(other.len);
        let from = other.mbufs.as_mut_ptr();
        // SAFETY: the length is at most BURST.
        let to = unsafe { self.mbufs.as_mut_ptr().add(self.len) };
        // SAFETY: `n` mbufs exist in `other` and there is room for them here; two distinct bursts.
        unsafe { ptr::copy_nonoverlapping(from, to, n) };
        // SAFETY: `n` is at most the length of `other`.
        let rest = unsafe { from.add(n) };
        // SAFETY: the rest of `other` moves down over what was moved out, and the lengths say so.
        unsafe { ptr::copy(rest, from, other.len - n) };
        self.len += n;
        other.len -= n;
    }

    /// Keeps the mbufs for which `keep` says so, in order, and gives each of the others to `removed`
    /// with what was said of it. `keep` is told which number among those kept it will have.
    #[inline(always)]
    pub fn retain_or<Why>(
        &mut self,
        mut keep: impl FnMut(usize, &mut Mbuf) -> Result<(), Why>,
        mut removed: impl FnMut(Mbuf, Why),
    ) {
        let mut walk = Walk {
            next: 0,
            kept: 0,
            all: self.len,
            burst: self,
        };
        // For the duration the burst counts as empty; `walk` sets the length when it ends, and also
        // if a closure panics.
        walk.burst.len = 0;
        while walk.next < walk.all {
            // SAFETY: `next` is below `all`, which is at most BURST.
            let slot = unsafe { walk.burst.mbufs.get_unchecked_mut(walk.next) };
            // SAFETY: mbufs from `next` to `all` exist.
            let mbuf = unsafe { slot.assume_init_mut() };
            match keep(walk.kept, mbuf) {
                Ok(()) => {
                    if walk.kept != walk.next {
                        // SAFETY: the mbuf moves to a slot that was moved out of; `next` passes it.
                        unsafe {
                            let mbuf = walk.burst.mbufs[walk.next].assume_init_read();
                            walk.burst.mbufs[walk.kept].write(mbuf);
                        }
                    }
                    walk.next += 1;
                    walk.kept += 1;
                }
                Err(why) => {
                    // SAFETY: it exists, and `next` passes it before anything else can happen.
                    let mbuf = unsafe { walk.burst.mbufs[walk.next].assume_init_read() };
                    walk.next += 1;
                    removed(mbuf, why);
                }
            }
        }
    }

    /// Appends the mbufs of `handles`; the caller has made sure that there is room.
    ///
    /// # Safety
    /// As for [`Mbuf::from_free`], for each of the handles; the caller takes them off the free stack.
    #[inline(always)]
    pub(crate) unsafe fn extend_fresh(&mut self, fresh: NonZeroU64, handles: &[u32]) {
        let Some(slots) = self.mbufs.get_mut(self.len..self.len + handles.len()) else {
            return;
        };
        // SAFETY: the caller says that the handles are those of free buffers, and taken.
        unsafe { handles::to_mbufs(fresh, handles, slots) };
        self.len += handles.len();
    }

    /// Copies the handles of all mbufs to `slots`, which is as long as the burst, and returns the
    /// bits in which any of them differs from `fresh`. In one pass, as bursts are freed so often.
    #[inline(always)]
    pub(crate) fn copy_handles(&self, slots: &mut [u32], fresh: NonZeroU64) -> u64 {
        debug_assert_eq!(slots.len(), self.len);
        handles::of_mbufs(self.as_slice(), fresh, slots)
    }

    /// Empties the burst without freeing its mbufs: their handles are free buffers now.
    #[inline(always)]
    pub(crate) fn forget_all(&mut self) {
        self.len = 0;
    }
}

/// The end of [`Burst::retain_or`], however it comes.
struct Walk<'a> {
    /// Mbufs from here to `all` have not been looked at.
    next: usize,
    /// Mbufs below are kept.
    kept: usize,
    all: usize,
    burst: &'a mut Burst,
}

impl Drop for Walk<'_> {
    #[inline]
    fn drop(&mut self) {
        let rest = self.all - self.next;
        if rest > 0 {
            let mbufs = self.burst.mbufs.as_mut_ptr();
            let (from, to) = (mbufs.wrapping_add(self.next), mbufs.wrapping_add(self.kept));
            // SAFETY: a closure panicked: `rest` mbufs exist from `next` on and move down to the
            // end of those kept.
            unsafe { ptr::copy(from, to, rest) };
        }
        self.burst.len = self.kept + rest;
    }
}

/// See [`Burst::drain_front`].
#[derive(Debug)]
pub struct DrainFront<'a> {
    /// Burst of length 0, in which the mbufs from `next` to `all` exist.
    burst: &'a mut Burst,
    next: usize,
    end: usize,
    all: usize,
}

impl Iterator for DrainFront<'_> {
    type Item = Mbuf;

    #[inline]
    fn next(&mut self) -> Option<Mbuf> {
        if self.next == self.end {
            return None;
        }
        let at = self.next;
        self.next += 1;
        // SAFETY: `at` is below `end`, which is at most BURST.
        let slot = unsafe { self.burst.mbufs.get_unchecked(at) };
        // SAFETY: the mbuf exists, and `next` has passed it.
        Some(unsafe { slot.assume_init_read() })
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.end - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for DrainFront<'_> {}

impl Drop for DrainFront<'_> {
    #[inline]
    fn drop(&mut self) {
        while self.next().is_some() {}
        let rest = self.all - self.end;
        let mbufs = self.burst.mbufs.as_mut_ptr();
        // SAFETY: `end` is at most BURST.
        let from = unsafe { mbufs.add(self.end) };
        // SAFETY: `rest` mbufs exist from `end` on and move to the front, which was moved out of.
        unsafe { ptr::copy(from, mbufs, rest) };
        self.burst.len = rest;
    }
}

impl Default for Burst {
    fn default() -> Burst {
        Burst::new()
    }
}

impl Drop for Burst {
    #[inline]
    fn drop(&mut self) {
        if self.len > 0 {
            self.drop_all();
        }
    }
}

impl Burst {
    #[cold]
    #[inline(never)]
    fn drop_all(&mut self) {
        while self.pop().is_some() {}
    }
}

impl<'a> IntoIterator for &'a Burst {
    type Item = &'a Mbuf;
    type IntoIter = slice::Iter<'a, Mbuf>;

    #[inline]
    fn into_iter(self) -> slice::Iter<'a, Mbuf> {
        self.iter()
    }
}

impl<'a> IntoIterator for &'a mut Burst {
    type Item = &'a mut Mbuf;
    type IntoIter = slice::IterMut<'a, Mbuf>;

    #[inline]
    fn into_iter(self) -> slice::IterMut<'a, Mbuf> {
        self.iter_mut()
    }
}

impl fmt::Debug for Burst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}
