//! Who reads a task and who waits for room in it. Each costs the others nothing: a message wakes those
//! that wait for one, and the writer looks at nobody but the reader that holds it back. Wakers are
//! handed out, for the caller to wake once its lock is free.

use std::task::Waker;

/// Where one reader stands.
pub(super) struct Reader {
    /// The number of the message that it reads next.
    pub(super) next: u64,
    /// True if messages that it has not read must not be dropped.
    pub(super) holds: bool,
    /// What it was last told of the task's changes; none if it does not want to know.
    pub(super) told: Option<Changes>,
    /// True while it lets some time pass before it hears of progress again.
    pub(super) rests: bool,
    waker: Option<Waker>,
}

/// Counts what happens to a task besides messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// Changes that readers hear of at once.
    pub(super) states: u64,
    /// Changes that may come often.
    pub(super) steps: u64,
}

impl Reader {
    pub(super) fn new(next: u64, holds: bool, told: Option<Changes>) -> Self {
        Self { next, holds, told, rests: false, waker: None }
    }
}

/// All readers of a task, and its writers.
#[derive(Default)]
pub(super) struct Readers {
    slots: Vec<Option<Reader>>,
    free: Vec<usize>,
    /// The slots of those with a waker, each once.
    waiting: Vec<usize>,
    /// The slots of those that hold.
    holding: Vec<usize>,
    writers: Vec<Waker>,
}

impl Readers {
    pub(super) fn add(&mut self, reader: Reader) -> usize {
        let holds = reader.holds;
        let id = match self.free.pop() {
            Some(id) => {
                self.slots[id] = Some(reader);
                id
            }
            None => {
                self.slots.push(Some(reader));
                self.slots.len() - 1
            }
        };
        if holds {
            self.holding.push(id);
        }
        id
    }

    /// Removes a reader and gives the writers that it may have held back.
    pub(super) fn remove(&mut self, id: usize) -> Vec<Waker> {
        let Some(reader) = self.slots.get_mut(id).and_then(Option::take) else { return Vec::new() };
        self.free.push(id);
        if reader.waker.is_some() {
            self.waiting.retain(|waiting| *waiting != id);
        }
        if !reader.holds {
            return Vec::new();
        }
        self.holding.retain(|holding| *holding != id);
        self.writers()
    }

    pub(super) fn get_mut(&mut self, id: usize) -> Option<&mut Reader> {
        self.slots.get_mut(id)?.as_mut()
    }

    /// Has the reader woken at the next message or change.
    pub(super) fn wait(&mut self, id: usize, waker: &Waker) {
        let Some(reader) = self.slots.get_mut(id).and_then(Option::as_mut) else { return };
        match &mut reader.waker {
            Some(known) => known.clone_from(waker),
            none => {
                *none = Some(waker.clone());
                self.waiting.push(id);
            }
        }
    }

    /// Has the writer woken when a reader that holds has read or is gone.
    pub(super) fn wait_for_room(&mut self, waker: &Waker) {
        if !self.writers.iter().any(|known| known.will_wake(waker)) {
            self.writers.push(waker.clone());
        }
    }

    /// True if a message with a number below `first` has a reader that must not miss it.
    pub(super) fn hold(&self, first: u64) -> bool {
        self.holding
            .iter()
            .any(|id| self.slots[*id].as_ref().is_some_and(|reader| reader.next < first))
    }

    /// The writers that wait for room.
    pub(super) fn writers(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.writers)
    }

    /// The readers that wait.
    pub(super) fn waiting(&mut self) -> Vec<Waker> {
        let Self { slots, waiting, .. } = self;
        let wakers = waiting.drain(..).filter_map(|id| slots[id].as_mut()?.waker.take());
        wakers.collect()
    }

    /// The readers that wait and are `interested`.
    pub(super) fn waiting_for(&mut self, interested: impl Fn(&Reader) -> bool) -> Vec<Waker> {
        let mut wakers = Vec::new();
        let Self { slots, waiting, .. } = self;
        waiting.retain(|id| {
            let Some(reader) = slots[*id].as_mut().filter(|reader| interested(reader)) else {
                return true;
            };
            wakers.extend(reader.waker.take());
            false
        });
        wakers
    }
}
