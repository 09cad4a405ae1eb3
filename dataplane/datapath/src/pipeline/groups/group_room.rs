// SPDX-License-Identifier: Apache-2.0
//! Memory of a worker's table of memberships, made by control: it comes with a command, and what it
//! takes the place of goes back with the answer.

use super::table::{END, Node};
use crate::pipeline::tables::Tables;

/// Nodes, and buckets, of a chunk.
pub(super) const CHUNK: usize = 1024;

/// Piece of a table of memberships.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) nodes: Box<[Node]>,
    /// First node of each chain.
    pub(super) buckets: Box<[u32]>,
}

impl Chunk {
    fn new() -> Chunk {
        Chunk {
            nodes: vec![Node::free(); CHUNK].into(),
            buckets: vec![END; CHUNK].into(),
        }
    }
}

/// Room for more memberships.
#[derive(Debug)]
pub(crate) struct GroupRoom {
    /// Chunks that are new.
    chunks: Vec<Chunk>,
    /// List for them and for those that are there; empty.
    list: Vec<Chunk>,
}

impl GroupRoom {
    /// Makes what a table of `there` chunks needs beyond them for the attachments of `tables`, each of
    /// which may join `limit` groups; `None` if that is nothing.
    pub(crate) fn for_tables(
        tables: &Tables,
        limit: usize,
        there: usize,
    ) -> Option<Box<GroupRoom>> {
        let attachments = tables.attachments.iter().flatten().count();
        let memberships = attachments * limit + tables.static_groups.len();
        let needed = memberships.div_ceil(CHUNK);
        let missing = needed.checked_sub(there).filter(|&missing| missing > 0)?;
        Some(Box::from(GroupRoom {
            chunks: (0..missing).map(|_| Chunk::new()).collect(),
            list: Vec::with_capacity(needed),
        }))
    }

    /// Moves the new chunks to the end of `chunks`, whose list stays here. Does nothing if more are
    /// there than control knew of: then there is room.
    pub(super) fn extend(&mut self, chunks: &mut Vec<Chunk>) {
        if self.list.capacity() < chunks.len() + self.chunks.len() {
            return;
        }
        self.list.append(chunks);
        self.list.append(&mut self.chunks);
        std::mem::swap(&mut self.list, chunks);
    }
}
