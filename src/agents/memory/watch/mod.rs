//! Watch: one stream of what happens to keys, from the history first and then as it happens.

mod event;
mod feeds;
mod keys;
mod replay;

use crate::agents::memory::Memory;
use crate::agents::memory::fields::Scope;
use crate::agents::memory::time;
use crate::contract::{Replies, encode};
use crate::error::Error;
use crate::proto::opdbus::agent::memory::v1::{WatchEvent, WatchRequest, WatchResponse};

pub(super) use event::Event;
pub(super) use feeds::{Changed, Feeds};
pub(super) use keys::glob;
pub(super) use replay::{revision, revisions};

use feeds::{News, Watcher};
use keys::Keys;
use replay::{Page, Replay};

/// Where a stream begins.
enum Begin {
    Now,
    With(u64),
    Current,
}

/// Tells what happens until nobody listens any more, or nothing more can happen.
pub(super) async fn watch(
    memory: &Memory,
    scope: Scope,
    request: WatchRequest,
    replies: &Replies<WatchResponse>,
) -> Result<(), Error> {
    let keys = Keys::check(request.keys)?;
    let begin = match (request.since_revision, request.current) {
        (None, false) => Begin::Now,
        (None, true) => Begin::Current,
        (Some(since), false) => Begin::With(since),
        (Some(_), true) => {
            return Err(Error::invalid("current", "cannot be given together with since_revision"));
        }
    };
    let shared = &memory.shared;
    let watcher = shared.feeds.join(&scope, keys, shared.config.max_watchers)?;
    let mut stream = Stream { memory, scope, watcher, replies, values: request.values, told: 0 };
    stream.begin(begin).await?;
    stream.go_on().await
}

struct Stream<'a> {
    memory: &'a Memory,
    scope: Scope,
    watcher: Watcher,
    replies: &'a Replies<WatchResponse>,
    values: bool,
    /// The revision up to which all was told.
    told: i64,
}

impl Stream<'_> {
    async fn begin(&mut self, begin: Begin) -> Result<(), Error> {
        let revision = self.revision()?;
        match begin {
            Begin::Now => self.told = revision,
            Begin::Current => return self.state().await,
            Begin::With(since) => {
                self.told = i64::try_from(since)
                    .ok()
                    .filter(|since| *since <= revision)
                    .ok_or_else(|| {
                        Error::invalid(
                            "since_revision",
                            format_args!("{since} lies in the future; the newest is {revision}"),
                        )
                    })?;
                if self.catch_up().await? {
                    return Ok(());
                }
            }
        }
        self.tell(WatchEvent::Synced, 0).await
    }

    async fn go_on(&mut self) -> Result<(), Error> {
        loop {
            match self.watcher.next().await {
                News::Event(event) if event.revision > self.told => {
                    self.replies.send_encoded(event.message(self.values)?).await?;
                    self.told = event.revision;
                }
                // The history told it already.
                News::Event(_) => {}
                News::Lags => {
                    self.catch_up().await?;
                }
                News::Closed => return Ok(()),
            }
        }
    }

    /// Tells what happened until now; true if that needed the keys as they are.
    async fn catch_up(&mut self) -> Result<bool, Error> {
        let mut stated = false;
        loop {
            let (scope, keys, told) = (self.scope.clone(), self.watcher.keys().clone(), self.told);
            let page = self
                .memory
                .store
                .scan(move |database| replay::replay(database, &scope, &keys, told))
                .await?;
            match page {
                Replay::Page(Page { events, revision, more }) => {
                    for event in events {
                        self.replies.send_encoded(event.message(self.values)?).await?;
                    }
                    self.told = revision;
                    if !more {
                        return Ok(stated);
                    }
                }
                Replay::Gap => {
                    let revision = self.revision()?;
                    let from = std::mem::replace(&mut self.told, revision);
                    self.tell(WatchEvent::Gap, from).await?;
                    self.state_as_of(self.told).await?;
                    stated = true;
                }
            }
        }
    }

    fn revision(&self) -> Result<i64, Error> {
        let uid = self.scope.uid;
        self.memory.store.read(|database| revision(database, uid))
    }

    /// Tells the keys as they are now, and what happened while it did.
    async fn state(&mut self) -> Result<(), Error> {
        self.told = self.revision()?;
        self.state_as_of(self.told).await?;
        self.catch_up().await.map(drop)
    }

    async fn state_as_of(&self, revision: i64) -> Result<(), Error> {
        let mut after: Option<String> = None;
        loop {
            let (scope, keys) = (self.scope.clone(), self.watcher.keys().clone());
            let page = self
                .memory
                .store
                .scan(move |database| {
                    let now = time::now();
                    replay::state(database, &scope, &keys, after.as_deref(), revision, now)
                })
                .await?;
            for event in page.events {
                self.replies.send_encoded(event.message(self.values)?).await?;
            }
            if page.after.is_none() {
                return self.tell(WatchEvent::Synced, 0).await;
            }
            after = page.after;
        }
    }

    /// Tells something that is about the stream, not about a key.
    async fn tell(&self, event: WatchEvent, from_revision: i64) -> Result<(), Error> {
        let message = WatchResponse {
            event: event.into(),
            revision: self.told.unsigned_abs(),
            from_revision: from_revision.unsigned_abs(),
            ..WatchResponse::default()
        };
        self.replies.send_encoded(encode(&message)?).await
    }
}
