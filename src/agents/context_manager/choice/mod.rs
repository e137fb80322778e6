//! What fits a budget and what matters most: token estimates, ranking, selection, compaction, shares.
//! All of it is pure: no database, no clock, no request.

pub(super) mod compact;
mod features;
mod pieces;
mod rank;
pub(super) mod select;
pub(super) mod share;
pub(super) mod tokens;
mod units;

pub(super) use features::Features;

#[cfg(test)]
mod tests;
