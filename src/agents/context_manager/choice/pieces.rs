//! The pieces of texts: how much each matters, and how those that are kept are put together again.
//! Which are kept is decided elsewhere.

use std::collections::HashMap;

use super::Features;
use super::compact::Plan;
use super::rank::words;
use super::tokens::estimate;
use super::units::units;
use crate::agents::context_manager::item::{IMPORTANCE, Item};

/// What stands where sentences were left out, and what it costs at most, blanks included.
const GAP: &str = "[…]";
pub(super) const GAP_TOKENS: u64 = 6;

/// Lifts what the caller wants kept above all else.
const WANTED: f64 = 10.0;

/// How much the newest gain over the oldest.
const RECENCY: f64 = 0.2;

/// A piece of an item's text.
pub(super) struct Piece {
    /// The item's place in the list.
    pub(super) item: usize,
    text: String,
    pub(super) tokens: u64,
    pub(super) score: f64,
}

/// Cuts texts and scores their pieces: how much of what all speak of a piece holds, and its features.
pub(super) fn score<'t>(
    items: &[Item],
    plan: &Plan,
    texts: impl Iterator<Item = (usize, &'t str)>,
) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut vocabulary: HashMap<String, usize> = HashMap::new();
    // For each term how many pieces it is in, and for each piece its terms, each once.
    let mut spread: Vec<u32> = Vec::new();
    let mut terms_of = Vec::new();
    for (item, text) in texts {
        for unit in units(text) {
            let mut terms = Vec::new();
            for word in words(unit.text) {
                let next = vocabulary.len();
                terms.push(*vocabulary.entry(word).or_insert(next));
            }
            terms.sort_unstable();
            terms.dedup();
            spread.resize(vocabulary.len(), 0);
            for term in &terms {
                spread[*term] += 1;
            }
            let mut features = Features::of(unit.text);
            if unit.is_code {
                features = features.and(Features::CODE);
            }
            let wanted = if features.shares(plan.keep) { WANTED } else { 0.0 };
            let age = fraction(item, items.len());
            let score =
                wanted + features.boost() + RECENCY * age + items[item].importance - IMPORTANCE;
            let text = unit.text.to_owned();
            pieces.push(Piece { item, tokens: estimate(&text), text, score });
            terms_of.push(terms);
        }
    }
    let count = f64::from(u32::try_from(pieces.len()).unwrap_or(u32::MAX));
    let weights: Vec<f64> = spread
        .into_iter()
        .map(f64::from)
        .map(|spread| (1.0 + spread).ln() * (1.0 + count / spread).ln())
        .collect();
    let central: Vec<f64> = terms_of
        .iter()
        .map(|terms| {
            let length = f64::from(u32::try_from(terms.len()).unwrap_or(u32::MAX));
            terms.iter().map(|term| weights[*term]).sum::<f64>() / length.max(1.0).sqrt()
        })
        .collect();
    let most = central.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    for (piece, central) in pieces.iter_mut().zip(central) {
        // A gap that an earlier compaction left says nothing.
        piece.score = if piece.text.trim() == GAP { -WANTED } else { piece.score + central / most };
    }
    pieces
}

fn fraction(index: usize, count: usize) -> f64 {
    let part = |number: usize| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
    part(index + 1) / part(count.max(1))
}

/// Joins the kept pieces of each item; `None` for an item of which nothing is kept.
pub(super) fn join(pieces: &[Piece], kept: &[bool], items: usize) -> Vec<Option<String>> {
    let mut texts: Vec<Option<String>> = vec![None; items];
    let mut has_gap = vec![false; items];
    for (piece, kept) in pieces.iter().zip(kept) {
        let gap = &mut has_gap[piece.item];
        if *kept {
            let text = texts[piece.item].get_or_insert_default();
            if std::mem::take(gap) {
                push_gap(text);
            }
            text.push_str(&piece.text);
        } else {
            *gap = true;
        }
    }
    for (text, gap) in texts.iter_mut().zip(has_gap) {
        if let Some(text) = text
            && gap
        {
            push_gap(text);
            text.truncate(text.trim_end().len());
        }
    }
    texts
}

fn push_gap(text: &mut String) {
    let starts_line = text.is_empty() || text.ends_with('\n');
    if !starts_line && !text.ends_with(char::is_whitespace) {
        text.push(' ');
    }
    if !text.trim_end().ends_with(GAP) {
        text.push_str(GAP);
        text.push(if starts_line { '\n' } else { ' ' });
    }
}
