//! Hands out the answers of a commit. To wake a task from another thread costs more than most writes
//! do, so the writer wakes one of the waiting tasks, and that one wakes the others from its own thread.

use std::sync::{Arc, Mutex, PoisonError};

use super::writer::Job;
use crate::error::Error;

/// Writes whose outcome is known and whose callers have not been told yet.
#[derive(Default)]
pub(super) struct Answers(Mutex<Vec<Answered>>);

struct Answered {
    job: Box<dyn Job>,
    commit: Result<(), Arc<Error>>,
}

impl Answers {
    /// Takes the writes of one commit and its outcome, and wakes one of their callers.
    pub(super) fn take(&self, jobs: &mut Vec<Box<dyn Job>>, commit: Result<(), Error>) {
        let commit = commit.map_err(Arc::new);
        let answered = jobs.drain(..).map(|job| Answered { job, commit: commit.clone() });
        self.lock().extend(answered);
        // A caller that is gone wakes nobody.
        while let Some(answered) = self.next() {
            if answered.tell() {
                break;
            }
        }
    }

    /// Tells all callers that are left.
    fn tell_all(&self) {
        while let Some(answered) = self.next() {
            answered.tell();
        }
    }

    fn next(&self) -> Option<Answered> {
        self.lock().pop()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Answered>> {
        // No code of a job runs under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Answered {
    fn tell(self) -> bool {
        self.job.answer(self.commit.as_ref().copied().map_err(AsRef::as_ref))
    }
}

/// What everybody who waits for an answer holds until it is there. It tells the others when it is
/// dropped, so that a caller who was woken and goes away without looking keeps no one waiting.
pub(super) struct Waiting<'a>(pub(super) &'a Answers);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.tell_all();
    }
}
