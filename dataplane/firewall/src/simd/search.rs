// SPDX-License-Identifier: Apache-2.0
//! Searches whose every index is in range by the way they are built: from a number to the id of its class.

use crate::simd::{Isa, Node8, Node16};

/// Node of a search tree: separators, each one less than the start of an interval.
pub(crate) trait Node: Copy + 'static {
    /// Number that is searched for.
    type Number: Copy + Ord;
    /// Separators of a node; it has one child more.
    const WIDTH: usize;
    /// Node of up to [`Node::WIDTH`] starts, ascending, none of them zero. What fills it up is less than no
    /// number.
    fn new(starts: impl Iterator<Item = Self::Number>) -> Self;
    /// Number of this node's starts that are not greater than `number`.
    fn rank<I: Isa>(&self, isa: I, number: Self::Number) -> usize;
}

macro_rules! node {
    ($node:ident, $width:literal, $number:ty, $signed:ty, $rank:ident) => {
        impl Node for $node {
            type Number = $number;
            const WIDTH: usize = $width;

            fn new(starts: impl Iterator<Item = $number>) -> Self {
                let mut node = [<$signed>::MAX; $width];
                for (place, start) in node.iter_mut().zip(starts) {
                    *place = start.saturating_sub(1).cast_signed() ^ <$signed>::MIN;
                }
                $node(node)
            }

            #[inline(always)]
            fn rank<I: Isa>(&self, isa: I, number: $number) -> usize {
                isa.$rank(self, number.cast_signed() ^ <$signed>::MIN)
            }
        }
    };
}
node!(Node16, 16, u32, i32, rank16);
node!(Node8, 8, u64, i64, rank8);

/// Breadth-first tree over interval starts: k-ary search (B. Schlegel, R. Gemulla and W. Lehner, "k-Ary
/// search on modern processors", DaMoN 2009). A node is a cache line, compared at once; all searches take
/// the same number of steps.
///
/// Invariant: a child that a step can lead to is there. A step counts starts of the node alone, never what
/// fills it up, and a level has a node, the last one an id, for each start of the level above.
pub(crate) struct Tree<N> {
    /// Nodes, level after level, the root first.
    nodes: Box<[N]>,
    /// Index of each level's first node.
    levels: Box<[usize]>,
    /// Id of each interval, at least one.
    ids: Box<[u32]>,
}

impl<N: Node> Tree<N> {
    /// Builds the search over intervals that begin at `starts`, ascending, the first at zero; each with its
    /// id.
    ///
    /// # Panics
    /// If there are no intervals, or not as many ids.
    pub(crate) fn new(starts: &[N::Number], ids: &[u32]) -> Tree<N> {
        let count = starts.len();
        assert!(count > 0 && count == ids.len(), "an id for each interval");
        let children = N::WIDTH + 1;
        // Intervals below a child, by level from the root.
        let mut steps = vec![1];
        while let Some(&step) = steps.last()
            && step * children < count
        {
            steps.push(step * children);
        }
        let mut nodes = Vec::new();
        let mut levels = Vec::new();
        for step in steps.into_iter().rev() {
            levels.push(nodes.len());
            nodes.extend((0..count).step_by(step * children).map(|first| {
                let behind_first = starts[first..].iter().step_by(step).skip(1);
                N::new(behind_first.take(N::WIDTH).copied())
            }));
        }
        Tree {
            nodes: nodes.into(),
            levels: levels.into(),
            ids: ids.into(),
        }
    }

    /// Bytes of nodes and ids.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.nodes) + size_of_val(&*self.ids)
    }

    /// Writes the ids of the numbers that `number` takes out of `keys`.
    ///
    /// # Panics
    /// If there are fewer `ids` than keys.
    #[inline(always)]
    pub(crate) fn find_all<I: Isa, K>(
        &self,
        isa: I,
        keys: &[K],
        ids: &mut [u32],
        number: impl Fn(&K) -> N::Number,
    ) {
        let ids = &mut ids[..keys.len()];
        match *self.levels {
            [a] => self.walk(isa, keys, ids, number, [a]),
            [a, b] => self.walk(isa, keys, ids, number, [a, b]),
            [a, b, c] => self.walk(isa, keys, ids, number, [a, b, c]),
            [a, b, c, d] => self.walk(isa, keys, ids, number, [a, b, c, d]),
            _ => {
                for (id, key) in ids.iter_mut().zip(keys) {
                    let number = number(key);
                    let mut at = 0;
                    for level in &self.levels {
                        at = self.step(isa, *level, at, number);
                    }
                    *id = self.id(at);
                }
            }
        }
    }

    /// Walks of all keys through `D` levels. Each takes its steps alone: a core overlaps several, since no
    /// branch depends on what is found, and side by side in one loop LLVM would make vectors of them.
    #[inline(always)]
    fn walk<I: Isa, K, const D: usize>(
        &self,
        isa: I,
        keys: &[K],
        ids: &mut [u32],
        number: impl Fn(&K) -> N::Number,
        levels: [usize; D],
    ) {
        for (id, key) in ids.iter_mut().zip(keys) {
            let number = number(key);
            let mut at = 0;
            for level in levels {
                at = self.step(isa, level, at, number);
            }
            *id = self.id(at);
        }
    }

    /// Index of the child, in the level below, of the node at `at` of a level.
    #[inline(always)]
    fn step<I: Isa>(&self, isa: I, level: usize, at: usize, number: N::Number) -> usize {
        debug_assert!(level + at < self.nodes.len());
        // SAFETY: `level` and `at` come from the levels above, by the invariant of the type, which `new`
        // sets up and nothing changes.
        let node = unsafe { self.nodes.get_unchecked(level + at) };
        at * (N::WIDTH + 1) + node.rank(isa, number)
    }

    /// Id of the interval that the last step led to.
    #[inline(always)]
    fn id(&self, at: usize) -> u32 {
        debug_assert!(at < self.ids.len());
        // SAFETY: `at` comes from the last level, by the invariant of the type, which `new` sets up and
        // nothing changes.
        unsafe { *self.ids.get_unchecked(at) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Kernel, LANES, Simd};

    /// Ids by the definition: that of the last start that is not greater.
    fn expected<T: Ord>(starts: &[T], ids: &[u32], number: &T) -> u32 {
        ids[starts.partition_point(|start| start <= number) - 1]
    }

    struct Find<'a, N: Node>(&'a Tree<N>, &'a [N::Number], &'a mut Vec<u32>);

    impl<N: Node> Kernel for Find<'_, N> {
        #[inline(always)]
        fn run<I: Isa>(self, isa: I) {
            let Find(tree, numbers, found) = self;
            found.resize(numbers.len(), 0);
            for (numbers, found) in numbers.chunks(LANES).zip(found.chunks_mut(LANES)) {
                tree.find_all(isa, numbers, found, |number| *number);
            }
        }
    }

    /// Trees of every depth, searched for every start, its neighbours and both ends.
    #[test]
    fn trees_find_the_interval() {
        for count in [
            1_u32, 2, 8, 9, 10, 16, 17, 18, 288, 289, 290, 4913, 4914, 90_000,
        ] {
            let step = u32::MAX / count;
            let mut starts: Vec<u32> = (0..count).map(|number| number * step).collect();
            if count > 1 {
                // The number that fills nodes up is a start as well.
                starts.pop();
                starts.push(u32::MAX);
            }
            let ids: Vec<u32> = (0..count).map(|id| id * 3).collect();
            let mut numbers: Vec<u32> = starts
                .iter()
                .flat_map(|start| [start.saturating_sub(1), *start, start.saturating_add(1)])
                .collect();
            numbers.extend([0, 1, u32::MAX - 1, u32::MAX]);
            let wide = |numbers: &[u32]| -> Vec<u64> {
                let stretch = |number: &u32| u64::from(*number) << 32 | u64::from(*number);
                numbers.iter().map(stretch).collect()
            };
            let tree = Tree::<Node16>::new(&starts, &ids);
            let (wide_starts, wide_numbers) = (wide(&starts), wide(&numbers));
            let wide_tree = Tree::<Node8>::new(&wide_starts, &ids);
            for simd in Simd::available() {
                let (mut found, mut wide_found) = (Vec::new(), Vec::new());
                simd.run(Find(&tree, &numbers, &mut found));
                simd.run(Find(&wide_tree, &wide_numbers, &mut wide_found));
                for (index, (number, wide)) in numbers.iter().zip(&wide_numbers).enumerate() {
                    assert_eq!(
                        found[index],
                        expected(&starts, &ids, number),
                        "{count} {number}"
                    );
                    assert_eq!(
                        wide_found[index],
                        expected(&wide_starts, &ids, wide),
                        "{wide}"
                    );
                }
            }
        }
    }
}
