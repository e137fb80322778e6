//! The commands of a worker, by id: those that run, and for a while those that have ended.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::command::Command;
use crate::error::Error;

/// The commands.
#[derive(Default)]
pub(super) struct Table(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    commands: HashMap<Box<str>, Arc<Command>>,
    /// How many places are taken.
    running: usize,
    /// How many commands there have been.
    numbers: u64,
}

/// One of the places for programs that run. Dropping it gives it back.
pub(super) struct Place(Arc<Table>);

impl Table {
    /// Takes a place.
    ///
    /// # Errors
    /// `LimitExceeded` naming `commands.max_running` if there is none.
    pub(super) fn place(self: &Arc<Self>, max_running: usize) -> Result<Place, Error> {
        let mut entries = self.lock();
        if entries.running >= max_running {
            let text = format!("{} commands of this user run already", entries.running);
            return Err(Error::limit("commands.max_running", max_running, text));
        }
        entries.running += 1;
        Ok(Place(Arc::clone(self)))
    }

    pub(super) fn running(&self) -> usize {
        self.lock().running
    }

    /// A number that no command has had, higher than all before.
    pub(super) fn number(&self) -> u64 {
        let mut entries = self.lock();
        entries.numbers += 1;
        entries.numbers
    }

    pub(super) fn add(&self, command: Arc<Command>) {
        self.lock().commands.insert(command.id.clone(), command);
    }

    pub(super) fn find(&self, id: &str) -> Option<Arc<Command>> {
        self.lock().commands.get(id).cloned()
    }

    pub(super) fn forget(&self, id: &str) {
        self.lock().commands.remove(id);
    }

    /// Every command, the latest first.
    pub(super) fn all(&self) -> Vec<Arc<Command>> {
        let mut all: Vec<_> = self.lock().commands.values().cloned().collect();
        all.sort_by_key(|command| std::cmp::Reverse(command.number));
        all
    }

    /// Forgets those that ended first, until no more than `max_kept` of those that have ended are left.
    pub(super) fn trim(&self, max_kept: usize) {
        let mut entries = self.lock();
        let ended = entries.commands.values().filter_map(|command| {
            let ended_at = command.ended_at()?;
            Some((ended_at, command.number, command.id.clone()))
        });
        let mut ended: Vec<_> = ended.collect();
        ended.sort();
        let over = ended.len().saturating_sub(max_kept);
        for (_, _, id) in ended.drain(..over) {
            entries.commands.remove(&id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        // Every change leaves a table that is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.lock().running -= 1;
    }
}
