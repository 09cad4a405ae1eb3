//! From written rules to tables.
//!
//! A match is a product of number sets, one per coordinate ([`region`]). For every coordinate the
//! boundaries of all rules' sets cut its numbers into intervals ([`search`]), and each interval has a
//! row of bits, one per rule that holds in it ([`rows`]). Judging a key is one search per coordinate
//! ([`columns`]), the AND of the rows found, and the lowest bit set ([`matcher`]): the same searches for
//! every key, whatever a sender chooses to send.
//!
//! Above 1024 rules, rows are cut into blocks of 512 bits, a cache line each. A row says which of its
//! blocks are not empty, so that few of them are looked at; in the worst case, a key that nearly
//! matches a rule in every block, all of them are.

mod columns;
mod matcher;
mod ranges;
mod region;
mod rows;
mod search;

pub(crate) use matcher::Matcher;
pub(crate) use region::Region;

/// Keys that are searched side by side.
pub(crate) const LANES: usize = 16;
