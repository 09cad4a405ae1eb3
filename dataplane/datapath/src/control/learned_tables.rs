// SPDX-License-Identifier: Apache-2.0
//! Learned MAC addresses of all segments, as control keeps them from one version of the tables to the
//! next.

use std::collections::BTreeMap;
use std::sync::Arc;

use sluice_packet::{Mac, Vid};

use crate::ids::{AttachmentId, SegmentId};
use crate::pipeline::learn::slot;
use crate::pipeline::learned::LearnedTable;

/// Tables by segment, of those in which somebody learns.
#[derive(Debug, Default)]
pub(crate) struct LearnedTables {
    tables: BTreeMap<SegmentId, Arc<LearnedTable>>,
    /// Tables that became too small, with those that stand for them: workers may still enter addresses
    /// in the old ones.
    grown: Vec<(Arc<LearnedTable>, Arc<LearnedTable>)>,
}

impl LearnedTables {
    /// Returns the table of a segment whose attachments may learn `entries` addresses together; `None` if
    /// they may not learn any. A table that is too small is replaced by one of at least twice its size
    /// with the same addresses.
    pub(crate) fn of(&mut self, id: SegmentId, entries: usize) -> Option<Arc<LearnedTable>> {
        if entries == 0 {
            return None;
        }
        let table = self
            .tables
            .entry(id)
            .or_insert_with(|| Arc::new(LearnedTable::new(entries)));
        if table.entries() < entries {
            let larger = Arc::new(LearnedTable::new(entries.max(2 * table.entries())));
            larger.adopt(table);
            let small = std::mem::replace(table, Arc::clone(&larger));
            self.grown.push((small, larger));
        }
        Some(Arc::clone(table))
    }

    /// Drops the tables of segments in which nobody learns any more.
    pub(crate) fn retain(&mut self, learns: impl Fn(&SegmentId) -> bool) {
        self.tables.retain(|id, _| learns(id));
    }

    /// Enters what was learned in tables that were replaced meanwhile, now that no worker has them.
    pub(crate) fn finish_growing(&mut self) {
        for (small, larger) in self.grown.drain(..) {
            larger.adopt(&small);
        }
    }

    /// Removes the addresses of an attachment.
    pub(crate) fn forget(&self, id: AttachmentId) {
        self.tables
            .values()
            .for_each(|table| table.remove_slot(slot(id)));
    }

    /// Returns the addresses of an attachment, with their VLANs.
    pub(crate) fn of_attachment(&self, id: AttachmentId) -> Vec<(Vid, Mac)> {
        let mut found = Vec::new();
        for (segment, table) in &self.tables {
            let vid = Vid::new(segment.vid()).unwrap_or(Vid::UNTAGGED);
            let macs = table.of_slot(slot(id));
            found.extend(macs.into_iter().map(|mac| (vid, mac)));
        }
        found.sort_unstable();
        found
    }
}
