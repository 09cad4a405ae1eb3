// SPDX-License-Identifier: Apache-2.0
//! Compiler from written rules to tables: bit vector classification (T. V. Lakshman and D. Stiliadis,
//! "High-speed policy-based packet forwarding", SIGCOMM 1998), aggregated above 1024 rules (F. Baboescu
//! and G. Varghese, "Scalable packet classification", SIGCOMM 2001).
//!
//! A match is a product of number sets, one per coordinate ([`region`]). For every coordinate the
//! boundaries of all rules' sets cut its numbers into intervals ([`search`]), and each interval has a
//! row of bits, one per rule that holds in it ([`rows`]). Judging a key is one search per coordinate
//! ([`columns`]), the AND of the rows found, and the lowest bit set ([`matcher`]): the same searches for
//! every key, whatever a sender chooses to send.
//!
//! Above 1024 rules, rows are cut into blocks of 512 bits, a cache line each. An aggregate word says
//! which blocks of a row are not empty, so that few of them are read; in the worst case, a key that nearly
//! matches a rule in every block, all of them are read.

mod columns;
mod matcher;
mod ranges;
mod region;
mod rows;
mod search;

pub(crate) use matcher::Matcher;
pub(crate) use region::Region;

/// Number of keys that are searched side by side.
pub(crate) const LANES: usize = 16;
