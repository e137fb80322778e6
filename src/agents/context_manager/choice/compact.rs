//! Compaction by extraction: what repeats goes first, then the middle of long tool outputs, then the
//! sentences that matter least. Texts are quoted, never rewritten, and nothing is stored here.

use std::collections::HashSet;

use super::Features;
use super::pieces::{GAP_TOKENS, Piece, join, score};
use super::tokens::{self, MESSAGE, estimate};
use crate::agents::context_manager::item::Item;
use crate::proto::opdbus::agent::context_manager::v1::{Reason, Role};

/// Shorter texts may repeat: a second "yes" answers a second question.
const DUPLICATE_BYTES: usize = 40;

/// Tool outputs that take more tokens are cut, to so many at their beginning and end each.
const LONG_OUTPUT: u64 = 400;
const OUTPUT_END: u64 = 120;

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
