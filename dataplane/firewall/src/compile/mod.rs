// SPDX-License-Identifier: Apache-2.0
//! Compiler from written rules to tables: bit vector classification (T. V. Lakshman and D. Stiliadis,
//! "High-speed policy-based packet forwarding", SIGCOMM 1998), grouped by place above 1024 rules.
//!
//! A match is a product of number sets, one per coordinate ([`region`]). The boundaries of all rules' sets
//! cut a coordinate into intervals, whose numbers are ranks ([`axis`]); intervals in which the same rules
//! hold are one class. A key's classes are found by one search per coordinate ([`search`], [`columns`]); a
//! coordinate that no rule mentions is not searched.
//!
//! * **Up to 1024 rules** a class has a row of bits, one per rule. The lowest bit of the AND of a key's rows
//!   is its rule ([`flat`]).
//! * **Beyond**, rules are grouped by place into blocks of 512 ([`group`]); a class has one row in each block
//!   ([`sweep`]), and a *line*, one cache line that says which blocks are live (have a row that is not
//!   empty) and where each one's row is. The AND of a key's lines leaves few blocks, in each of which the
//!   lowest bit of the AND is the block's best rule; the best of all blocks decides ([`blocks`]). Where the
//!   rules lie never touches their meaning.
//! * **Beyond 30 blocks**, as many as a line has room for, there are pages of blocks and a line over the
//!   pages in the same form. What does not fit into 30 pages is several tables.
//!
//! Rules that an earlier one hides are left out where that is found cheaply ([`page`]).
//!
//! # Bounds
//! **Time**: one search per coordinate, whatever a sender sends; then at most all blocks, one row of each
//! coordinate in each: whatever the rules and the key, a key costs at most `rules / 512` rounds, rounded up,
//! and one more for every 32,000 ranges in a coordinate. **Memory**: in each coordinate at most two rows and
//! two lines for every range written (four with pages), 64 bytes each; sums of what is written, never
//! products.

mod axis;
mod blocks;
mod columns;
mod distinct;
mod flat;
mod group;
mod matcher;
mod page;
mod ranges;
mod region;
mod rows;
mod samples;
mod search;
mod size;
mod sweep;
#[cfg(test)]
mod tests;

pub(crate) use matcher::Matcher;
pub(crate) use region::Region;
