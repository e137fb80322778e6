//! Which items are taken when not all fit a budget. Items are taken whole and keep their order.

use super::rank::rank;
use crate::agents::context_manager::item::Item;
use crate::proto::opdbus::agent::context_manager::v1::Strategy;

/// The part of the budget that the oldest items get with [`Strategy::HeadTail`].
const HEAD_PART: u64 = 4;

/// True for each item that is taken.
pub(in super::super) fn select(
    items: &[Item],
    budget: u64,
    strategy: Strategy,
    query: &str,
) -> Vec<bool> {
    let mut selection = Selection { items, taken: vec![false; items.len()], left: budget };
    let newest_first = || (0..items.len()).rev();
    selection.take_fitting(newest_first().filter(|index| items[*index].pinned));
    selection.take_fitting(newest_first().filter(|index| items[*index].is_fixed()));
    match strategy {
        Strategy::Unspecified | Strategy::Tail => {}
        Strategy::HeadTail => {
            let for_tail = selection.left - selection.left / HEAD_PART;
            selection.left -= for_tail;
            selection.take_until_full(0..items.len());
            selection.left += for_tail;
        }
        Strategy::Relevance => {
            let scores = rank(query, items.iter().map(|item| item.text.as_str()));
            let mut best: Vec<usize> =
                newest_first().filter(|index| scores[*index] > 0.0).collect();
            // The sort is stable: of equals the newer comes first.
            best.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
            selection.take_fitting(best.into_iter());
        }
    }
    selection.take_until_full(newest_first());
    selection.taken
}

struct Selection<'a> {
    items: &'a [Item],
    taken: Vec<bool>,
    left: u64,
}

impl Selection<'_> {
    /// Takes each that fits.
    fn take_fitting(&mut self, order: impl Iterator<Item = usize>) {
        for index in order {
            self.take(index);
        }
    }

    /// Takes them up to the first that does not fit, so that there is no gap.
    fn take_until_full(&mut self, mut order: impl Iterator<Item = usize>) {
        // What is fixed and did not fit is no gap: it is not part of the run.
        while let Some(index) = order.next()
            && (self.take(index) || self.items[index].is_fixed())
        {}
    }

    fn take(&mut self, index: usize) -> bool {
        let tokens = self.items[index].tokens;
        if !self.taken[index] && tokens <= self.left {
            self.left -= tokens;
            self.taken[index] = true;
        }
        self.taken[index]
    }
}
