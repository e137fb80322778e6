//! Which groups users are in, by the system's database. Asking it may take long, as where it is a
//! directory in the network: it is asked apart from the calls, and what it says is kept for a while.

use std::collections::HashMap;
use std::ffi::CString;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::unistd::{User, getgrouplist};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::error::{Error, ErrorKind};

/// How long an answer holds. Who is taken out of a group may act as a member for so long.
const KEPT: Duration = Duration::from_secs(60);

/// How many users are remembered. Past it all are forgotten and asked for again.
const MAX_USERS: usize = 4096;

/// How many questions are asked at once.
const QUESTIONS: usize = 4;

/// What a client is told to wait when the database does not answer.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// When each user was asked about, and his groups.
type Known = HashMap<u32, (Instant, Arc<[u32]>)>;

/// The groups of users.
pub(super) struct Groups {
    known: Mutex<Known>,
    questions: Semaphore,
}

impl Groups {
    pub(super) fn new() -> Self {
        Self { known: Mutex::default(), questions: Semaphore::new(QUESTIONS) }
    }

    /// The groups of a user, if they were asked for a short while ago.
    pub(super) fn known(&self, uid: u32) -> Option<Arc<[u32]>> {
        let known = self.lock();
        let (since, groups) = known.get(&uid)?;
        (since.elapsed() < KEPT).then(|| Arc::clone(groups))
    }

    /// The groups of a user, the primary one among them. A user whom the database does not know is in
    /// none.
    ///
    /// # Errors
    /// `Unavailable` if the database does not answer.
    ///
    /// # Cancel safety
    /// A question that was put is not taken back; its answer is lost.
    pub(super) async fn of(&self, uid: u32) -> Result<Arc<[u32]>, Error> {
        if let Some(groups) = self.known(uid) {
            return Ok(groups);
        }
        let closed = |_| Error::internal("the questions about groups are closed");
        let _question = self.questions.acquire().await.map_err(closed)?;
        // Somebody else may have asked meanwhile.
        if let Some(groups) = self.known(uid) {
            return Ok(groups);
        }
        let answer = tokio::task::spawn_blocking(move || ask(uid)).await;
        let answer = answer.map_err(|_| Error::internal("a question about groups panicked"))?;
        let groups: Arc<[u32]> = answer.map_err(|error| {
            tracing::warn!(uid, %error, "the system does not say which groups a user is in");
            let problem = "the groups of the caller are not known now";
            Error::new(ErrorKind::Unavailable, problem).with_retry_after(RETRY_AFTER)
        })?;
        let mut known = self.lock();
        if known.len() >= MAX_USERS {
            known.clear();
        }
        known.insert(uid, (Instant::now(), Arc::clone(&groups)));
        Ok(groups)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // Each use is one operation, so a panic elsewhere leaves nothing half-done.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ask(uid: u32) -> nix::Result<Arc<[u32]>> {
    let Some(user) = User::from_uid(uid.into())? else { return Ok(Arc::default()) };
    let name = CString::new(user.name).map_err(|_| nix::Error::EINVAL)?;
    let groups = getgrouplist(&name, user.gid)?;
    Ok(groups.into_iter().map(nix::unistd::Gid::as_raw).collect())
}
