//! Keeps a flood of refusals from filling the disk: of those that are the same the first is recorded,
//! and the others of the same second together. Nothing is written here.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::{Duration, Instant, SystemTime};

use super::event::{Event, Sameness};
use super::record::{Kind, Record};

/// For how long refusals that are the same become one record.
const WINDOW: Duration = Duration::from_secs(1);

/// How many kinds are told apart in that time; those of further ones are only counted.
const MAX_KINDS: usize = 64;

/// The refusals since the last time that they were recorded.
#[derive(Default)]
pub(super) struct Refusals {
    since: Option<Instant>,
    kinds: HashMap<Sameness, (Event, u64)>,
    others: u64,
}

/// What is to be done about one refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Advice {
    /// It is the first of its kind: record it, or say that it could not be with
    /// [`Refusals::uncounted`].
    Record,
    /// Nothing; it is counted.
    Nothing,
}

impl Refusals {
    /// Takes note of one. The second value is true if a window has begun with it.
    pub(super) fn add(&mut self, event: &Event) -> (Advice, bool) {
        let begins = self.since.is_none();
        self.since.get_or_insert_with(Instant::now);
        let is_full = self.kinds.len() >= MAX_KINDS;
        let advice = match self.kinds.entry(event.sameness()) {
            Entry::Occupied(mut known) => {
                known.get_mut().1 += 1;
                Advice::Nothing
            }
            Entry::Vacant(_) if is_full => {
                self.others += 1;
                Advice::Nothing
            }
            Entry::Vacant(place) => {
                place.insert((event.clone(), 0));
                Advice::Record
            }
        };
        (advice, begins)
    }

    /// Counts one that was to be recorded and could not be.
    pub(super) fn uncounted(&mut self, event: &Event) {
        match self.kinds.get_mut(&event.sameness()) {
            Some((_, count)) => *count += 1,
            None => self.others += 1,
        }
    }

    /// How long until they are to be taken; `None` if there are none.
    pub(super) fn due(&self) -> Option<Duration> {
        self.since.map(|since| WINDOW.saturating_sub(since.elapsed()))
    }

    /// The records of what was counted since the last time.
    pub(super) fn take(&mut self) -> Vec<Record> {
        let now = SystemTime::now();
        let counted = self.kinds.drain().map(|(_, counted)| counted);
        let mut records: Vec<Record> = counted
            .filter(|(_, count)| *count > 0)
            .map(|(event, count)| {
                Event { time: now, digest: None, duration: None, ..event }.record(count)
            })
            .collect();
        if self.others > 0 {
            records.push(Record {
                time: super::event::time(now),
                kind: Kind::Refused,
                decision: "refuse".to_owned(),
                rule: format!("of other kinds, beyond {MAX_KINDS} within a second"),
                count: Some(self.others),
                ..Record::default()
            });
        }
        self.others = 0;
        self.since = None;
        records
    }
}
