//! Which calls of a batch wait for which. It knows neither what they do nor how they end.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use bytes::Bytes;

/// Who waits for whom. Calls go by their position in the batch.
#[derive(Debug)]
pub(super) struct Order {
    /// For each call, those that wait for it.
    pub(super) followers: Vec<Vec<usize>>,
    /// For each call, for how many it waits.
    pub(super) waits_for: Vec<usize>,
}

/// What a call works on.
#[derive(Debug)]
pub(super) struct Access<'a> {
    pub(super) agent: &'a str,
    /// The thing; `None`: perhaps everything that the agent has.
    pub(super) key: Option<Bytes>,
    pub(super) writes: bool,
}

impl Order {
    /// An order in which nobody waits.
    pub(super) fn new(calls: usize) -> Self {
        Self { followers: vec![Vec::new(); calls], waits_for: vec![0; calls] }
    }

    /// Lets `follower` wait for `call`.
    pub(super) fn add(&mut self, call: usize, follower: usize) {
        self.followers[call].push(follower);
        self.waits_for[follower] += 1;
    }

    /// The calls as they would run one after the other: always the first one that waits for nothing
    /// any more.
    ///
    /// # Errors
    /// Some calls that wait for each other in a circle, each for the next and the last for the first.
    pub(super) fn sequence(&self) -> Result<Vec<usize>, Vec<usize>> {
        let mut waits_for = self.waits_for.clone();
        let free = (0..waits_for.len()).filter(|call| waits_for[*call] == 0);
        let mut ready: BinaryHeap<Reverse<usize>> = free.map(Reverse).collect();
        let mut sequence = Vec::with_capacity(waits_for.len());
        while let Some(Reverse(call)) = ready.pop() {
            sequence.push(call);
            for follower in &self.followers[call] {
                waits_for[*follower] -= 1;
                if waits_for[*follower] == 0 {
                    ready.push(Reverse(*follower));
                }
            }
        }
        if sequence.len() == waits_for.len() { Ok(sequence) } else { Err(self.circle(&waits_for)) }
    }

    /// A circle among the calls that still wait.
    fn circle(&self, waits_for: &[usize]) -> Vec<usize> {
        // Each of them waits for another one of them: going on like that must come to a circle.
        let mut before = HashMap::new();
        for (call, followers) in self.followers.iter().enumerate() {
            if waits_for[call] > 0 {
                before.extend(followers.iter().map(|follower| (*follower, call)));
            }
        }
        let mut seen = vec![false; waits_for.len()];
        let mut path = Vec::new();
        let mut next = waits_for.iter().position(|count| *count > 0);
        while let Some(call) = next {
            if std::mem::replace(&mut seen[call], true) {
                let start = path.iter().position(|seen| *seen == call).unwrap_or_default();
                return path.split_off(start);
            }
            path.push(call);
            next = before.get(&call).copied();
        }
        path
    }

    /// Lets calls on the same thing keep the order of `sequence`, unless both only read.
    pub(super) fn keep(&mut self, sequence: &[usize], accesses: &[Option<Access<'_>>]) {
        let mut agents: HashMap<&str, Vec<usize>> = HashMap::new();
        for call in sequence {
            let Some(access) = &accesses[*call] else { continue };
            // Those that a later call may have to wait for.
            let earlier = agents.entry(access.agent).or_default();
            for other in earlier.iter() {
                if accesses[*other].as_ref().is_some_and(|other| other.conflicts(access)) {
                    self.add(*other, *call);
                }
            }
            // Who must wait for one of those that this write waits for, must wait for the write too.
            if access.writes {
                earlier.retain(|other| {
                    access.key.is_some()
                        && accesses[*other].as_ref().is_some_and(|other| other.key != access.key)
                });
            }
            earlier.push(*call);
        }
    }
}

impl Access<'_> {
    /// True if the one may see or undo what the other does. Both are calls of one agent.
    fn conflicts(&self, other: &Self) -> bool {
        let apart = matches!((&self.key, &other.key), (Some(a), Some(b)) if a != b);
        (self.writes || other.writes) && !apart
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(calls: usize, edges: &[(usize, usize)]) -> Order {
        let mut order = Order::new(calls);
        edges.iter().for_each(|(call, follower)| order.add(*call, *follower));
        order
    }

    #[test]
    fn the_first_that_can_comes_first() {
        let order = order(5, &[(3, 0), (0, 4), (2, 1)]);
        assert_eq!(order.sequence().unwrap(), [2, 1, 3, 0, 4]);
    }

    #[test]
    fn a_circle_is_found_and_not_those_that_only_wait_for_it() {
        let order = order(6, &[(4, 2), (5, 4), (2, 5), (2, 0), (0, 1), (3, 5)]);
        let mut circle = order.sequence().unwrap_err();
        circle.sort_unstable();
        assert_eq!(circle, [2, 4, 5]);
    }

    #[test]
    fn writes_are_ordered_with_what_touches_the_same() {
        let access = |agent: &'static str, key: &'static str, writes: bool| {
            let key = (!key.is_empty()).then(|| Bytes::from(key));
            Some(Access { agent, key, writes })
        };
        let accesses = [
            access("m", "a", true),
            access("m", "b", true),
            access("m", "a", false),
            access("m", "a", false),
            access("m", "", false),
            access("m", "a", true),
            access("x", "a", true),
            None,
            access("m", "", true),
            access("m", "b", false),
        ];
        let mut order = Order::new(accesses.len());
        let sequence: Vec<usize> = (0..accesses.len()).collect();
        order.keep(&sequence, &accesses);
        let waits: Vec<Vec<usize>> = (0..accesses.len())
            .map(|call| (0..call).filter(|other| order.followers[*other].contains(&call)).collect())
            .collect();
        let expected: [&[usize]; 10] =
            [&[], &[], &[0], &[0], &[0, 1], &[0, 2, 3, 4], &[], &[], &[1, 4, 5], &[8]];
        assert_eq!(waits, expected);
    }
}
