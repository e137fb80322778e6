//! How many questions are put at once, in all and for each user. Who gets none is told the limit.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::Error;

/// What a refused client is told to wait before it tries again.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// The places for questions.
pub(super) struct Places {
    max: usize,
    max_per_caller: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by_uid: HashMap<u32, usize>,
}

/// A place; dropping it frees it.
pub(super) struct Place<'a> {
    places: &'a Places,
    uid: u32,
}

impl Places {
    pub(super) fn new(max: usize, max_per_caller: usize) -> Self {
        Self { max, max_per_caller, taken: Mutex::default() }
    }

    /// A place for a question about a call of this user.
    ///
    /// # Errors
    /// `LimitExceeded` if there is none.
    pub(super) fn take(&self, uid: u32) -> Result<Place<'_>, Error> {
        let mut taken = self.lock();
        let full = |key, limit| {
            let text = "too many calls wait for what polkit says";
            Err(Error::limit(key, limit, text).with_retry_after(RETRY_AFTER))
        };
        if taken.by_uid.get(&uid).is_some_and(|own| *own >= self.max_per_caller) {
            return full("polkit.max_questions_per_caller", self.max_per_caller);
        }
        if taken.all >= self.max {
            return full("polkit.max_questions", self.max);
        }
        taken.all += 1;
        *taken.by_uid.entry(uid).or_default() += 1;
        Ok(Place { places: self, uid })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        // Each use leaves the numbers whole, so a panic elsewhere leaves nothing half-done.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.all -= 1;
        if let Some(own) = taken.by_uid.get_mut(&self.uid) {
            *own -= 1;
            if *own == 0 {
                taken.by_uid.remove(&self.uid);
            }
        }
    }
}
