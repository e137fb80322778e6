//! Compaction by extraction: what repeats goes first, then the middle of long tool outputs, then the
//! sentences that matter least. Texts are quoted, never rewritten, and nothing is stored here.

use std::collections::{HashMap, HashSet};

use super::Features;
use super::rank::words;
use super::tokens::{self, MESSAGE, estimate};
use super::units::units;
use crate::agents::context_manager::item::{IMPORTANCE, Item};
use crate::proto::opdbus::agent::context_manager::v1::{Reason, Role};

/// Shorter texts may repeat: a second "yes" answers a second question.
const DUPLICATE_BYTES: usize = 40;

/// Tool outputs that take more tokens are cut, to so many at their beginning and end each.
const LONG_OUTPUT: u64 = 400;
const OUTPUT_END: u64 = 120;

/// What stands where sentences were left out, and what it costs at most, blanks included.
const GAP: &str = "[…]";
const GAP_TOKENS: u64 = 6;

/// Lifts what the caller wants kept above all else.
const WANTED: f64 = 10.0;

/// How much the newest gain over the oldest.
const RECENCY: f64 = 0.2;

/// What a compaction is to reach.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Plan {
    pub(in super::super) target: u64,
    /// How many of the last items stay whole.
    pub(in super::super) keep_last: usize,
    /// Sentences with these stay before others.
    pub(in super::super) keep: Features,
}

/// What becomes of an item.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super) enum Fate {
    Keep,
    /// It goes on with this text.
    Shorten(String, Loss),
    Drop(Loss),
}

/// Why something is left out, and how much the item looks like something to keep.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in super::super) struct Loss {
    pub(in super::super) reason: Reason,
    pub(in super::super) score: f64,
}

/// Decides for each item.
pub(in super::super) fn compact(items: &[Item], plan: &Plan) -> Vec<Fate> {
    let mut state = Compaction::new(items, plan);
    if state.is_over() {
        state.drop_repeated();
    }
    if state.is_over() {
        state.cut_outputs();
    }
    if state.is_over() {
        state.extract();
    }
    if !items.is_empty() && state.drafts.iter().all(|draft| draft.text.is_none()) {
        // A context that lost everything would be worse than one that is over its target.
        state.keep_whole(items.len() - 1);
    }
    state.fates()
}

/// An item in the course of it.
struct Draft {
    is_protected: bool,
    /// `None` when it is dropped.
    text: Option<String>,
    tokens: u64,
    reason: Reason,
}

struct Compaction<'a> {
    items: &'a [Item],
    plan: &'a Plan,
    drafts: Vec<Draft>,
}

impl<'a> Compaction<'a> {
    fn new(items: &'a [Item], plan: &'a Plan) -> Self {
        let first_of_last = items.len().saturating_sub(plan.keep_last);
        let drafts = items.iter().enumerate().map(|(index, item)| Draft {
            is_protected: item.is_fixed() || index >= first_of_last,
            text: Some(item.text.clone()),
            tokens: item.tokens,
            reason: Reason::Unspecified,
        });
        Self { items, plan, drafts: drafts.collect() }
    }

    fn is_over(&self) -> bool {
        self.drafts.iter().map(|draft| draft.tokens).sum::<u64>() > self.plan.target
    }

    fn keep_whole(&mut self, index: usize) {
        let item = &self.items[index];
        let draft = &mut self.drafts[index];
        draft.text = Some(item.text.clone());
        draft.tokens = item.tokens;
        draft.reason = Reason::Unspecified;
    }

    fn drop(&mut self, index: usize, reason: Reason) {
        let draft = &mut self.drafts[index];
        if !draft.is_protected && draft.text.is_some() {
            draft.text = None;
            draft.tokens = 0;
            draft.reason = reason;
        }
    }

    /// Drops what stands again further down, and outputs of which there is a newer one.
    fn drop_repeated(&mut self) {
        let mut texts = HashSet::new();
        let mut sources = HashSet::new();
        let items = self.items;
        for (index, item) in items.iter().enumerate().rev() {
            let text = item.text.split_whitespace().collect::<Vec<_>>().join(" ");
            if text.len() >= DUPLICATE_BYTES && !texts.insert((item.role, text)) {
                self.drop(index, Reason::Duplicate);
            }
            if item.role == Role::Tool
                && !item.source.is_empty()
                && !sources.insert(item.source.as_str())
            {
                self.drop(index, Reason::Superseded);
            }
        }
    }

    /// Cuts long tool outputs to their beginning and end.
    fn cut_outputs(&mut self) {
        for (item, draft) in self.items.iter().zip(&mut self.drafts) {
            if item.role == Role::Tool
                && !draft.is_protected
                && draft.tokens > LONG_OUTPUT
                && let Some(text) = &draft.text
            {
                let cut = head_and_tail(text);
                draft.tokens = tokens::of_message(&cut);
                draft.text = Some(cut);
                draft.reason = Reason::Cut;
            }
        }
    }

    /// Keeps the best sentences of what is not protected.
    fn extract(&mut self) {
        let pieces = self.scored();
        let mut order: Vec<usize> = (0..pieces.len()).collect();
        // The sort is stable: of equals the newer comes first.
        order.reverse();
        order.sort_by(|a, b| pieces[*b].score.total_cmp(&pieces[*a].score));
        let fixed: u64 =
            self.drafts.iter().filter(|draft| draft.is_protected).map(|draft| draft.tokens).sum();
        let mut left = self.plan.target.saturating_sub(fixed);
        let mut kept = vec![false; pieces.len()];
        let mut has_piece = vec![false; self.items.len()];
        for index in order {
            let piece = &pieces[index];
            let is_kept = |neighbour: Option<usize>| {
                neighbour.is_some_and(|neighbour| {
                    kept.get(neighbour) == Some(&true) && pieces[neighbour].item == piece.item
                })
            };
            let is_beside = is_kept(index.checked_sub(1)) || is_kept(index.checked_add(1));
            let joining = match (has_piece[piece.item], is_beside) {
                // One gap before it and one after it.
                (false, _) => MESSAGE + 2 * GAP_TOKENS,
                (true, false) => GAP_TOKENS,
                (true, true) => 0,
            };
            if piece.tokens + joining <= left {
                left -= piece.tokens + joining;
                kept[index] = true;
                has_piece[piece.item] = true;
            }
        }
        let texts = join(&pieces, &kept, self.items.len());
        for (text, draft) in texts.into_iter().zip(&mut self.drafts) {
            if draft.is_protected || draft.text.is_none() {
                continue;
            }
            match text {
                Some(text) if draft.text.as_ref() == Some(&text) => {}
                Some(text) => {
                    draft.tokens = tokens::of_message(&text);
                    draft.text = Some(text);
                    draft.reason = Reason::Extracted;
                }
                None => {
                    (draft.text, draft.tokens) = (None, 0);
                    draft.reason = Reason::RankedLow;
                }
            }
        }
    }

    /// The pieces of every item that is not protected, with their scores.
    fn scored(&self) -> Vec<Piece> {
        let texts = self.drafts.iter().enumerate().filter_map(|(index, draft)| {
            if draft.is_protected { None } else { Some((index, draft.text.as_deref()?)) }
        });
        score(self.items, self.plan, texts)
    }

    fn fates(self) -> Vec<Fate> {
        let touched = self.items.iter().enumerate().zip(&self.drafts);
        let touched = touched.filter(|(_, draft)| draft.reason != Reason::Unspecified);
        let texts = touched.map(|((index, item), _)| (index, item.text.as_str()));
        let mut scores = vec![0.0_f64; self.items.len()];
        for piece in score(self.items, self.plan, texts) {
            scores[piece.item] = scores[piece.item].max(piece.score);
        }
        let fate = |(draft, score): (Draft, f64)| {
            let loss = Loss { reason: draft.reason, score };
            match draft.text {
                _ if draft.reason == Reason::Unspecified => Fate::Keep,
                Some(text) => Fate::Shorten(text, loss),
                None => Fate::Drop(loss),
            }
        };
        self.drafts.into_iter().zip(scores).map(fate).collect()
    }
}

/// A piece of an item's text.
struct Piece {
    item: usize,
    text: String,
    tokens: u64,
    score: f64,
}

/// Cuts texts and scores their pieces: how much of what all speak of a piece holds, and its features.
fn score<'t>(
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
fn join(pieces: &[Piece], kept: &[bool], items: usize) -> Vec<Option<String>> {
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

/// The beginning and the end of a text, with a line between that says how much is missing.
fn head_and_tail(text: &str) -> String {
    let head = prefix(text.split_inclusive('\n'));
    let tail = prefix(text[head..].split_inclusive('\n').rev());
    let (head, rest) = text.split_at(head);
    let (missing, tail) = rest.split_at(rest.len() - tail);
    let line_end = if head.is_empty() || head.ends_with('\n') { "" } else { "\n" };
    format!("{head}{line_end}[… {} bytes left out by compaction …]\n{tail}", missing.len())
}

/// How many bytes of lines fit; of a first line that does not fit, none.
fn prefix<'t>(lines: impl Iterator<Item = &'t str>) -> usize {
    let mut left = OUTPUT_END;
    let mut length = 0;
    for line in lines {
        let tokens = estimate(line);
        if tokens > left {
            break;
        }
        left -= tokens;
        length += line.len();
    }
    length
}
