//! How many connections there are, in all and of each user, so that neither the descriptors run out nor
//! one user takes them all. It accepts and closes nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::sys::resource::{Resource, getrlimit};

use crate::call::Caller;
use crate::error::Error;

/// The descriptors that are kept for everything but clients: databases, the bus, the log.
const OTHER_DESCRIPTORS: usize = 256;

/// The bounds, and what is taken of them.
pub(super) struct Places {
    all: usize,
    per_uid: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    /// By uid; `None` is everybody whom the kernel does not name.
    by_uid: HashMap<Option<u32>, usize>,
}

/// The place of one connection; dropping it frees it.
pub(super) struct Place {
    places: Arc<Places>,
    uid: Option<u32>,
}

impl Places {
    /// Places for `all` connections, at most `per_uid` of them for one user. Fewer, and a warning,
    /// if the process may not open so many files and those of `handshakes` beside them.
    pub(super) fn new(all: usize, per_uid: usize, handshakes: usize) -> Arc<Self> {
        let bounded = all.min(room().saturating_sub(handshakes).max(1));
        if bounded < all {
            tracing::warn!(
                "grpc.max_connections is {all}, but the limit on open files leaves room for \
                 {bounded} only; raise LimitNOFILE= of the unit to {} or more",
                all + handshakes + OTHER_DESCRIPTORS
            );
        }
        Arc::new(Self { all: bounded, per_uid, taken: Mutex::default() })
    }

    /// How many there are in all.
    pub(super) fn all(&self) -> usize {
        self.all
    }

    /// A place for a connection of `caller`.
    ///
    /// # Errors
    /// `LimitExceeded` if there is none.
    pub(super) fn take(self: &Arc<Self>, caller: &Caller) -> Result<Place, Error> {
        let uid = caller.uid();
        let mut taken = self.taken();
        if taken.all >= self.all {
            return Err(Error::limit("grpc.max_connections", self.all, "so many are open"));
        }
        let of_user = taken.by_uid.entry(uid).or_default();
        if *of_user >= self.per_uid {
            let problem = "the user has so many open";
            return Err(Error::limit("grpc.max_connections_per_uid", self.per_uid, problem));
        }
        *of_user += 1;
        taken.all += 1;
        Ok(Place { places: Arc::clone(self), uid })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // The counts are changed together and without a panic between.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.all -= 1;
        if let Some(of_user) = taken.by_uid.get_mut(&self.uid) {
            *of_user -= 1;
            if *of_user == 0 {
                taken.by_uid.remove(&self.uid);
            }
        }
    }
}

/// How many connections the limit on open files leaves room for.
fn room() -> usize {
    // Without an answer there is no reason to serve fewer; accepting copes with running out.
    let soft = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft);
    let soft = usize::try_from(soft).unwrap_or(usize::MAX);
    // Under a limit that is tiny, half of it is better than nothing.
    soft.saturating_sub(OTHER_DESCRIPTORS).max(soft / 2)
}
