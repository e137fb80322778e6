//! BulkRemember and BulkRecall: many keys in one call, in pieces of a bounded size.

use std::sync::Arc;

use prost::Message as _;
use rusqlite::Connection;

use super::change::Change;
use super::fields::{self, Scope};
use super::remember::Remember;
use super::{Memory, place, recall, time};
use crate::call::Context;
use crate::contract::{Replies, Requests};
use crate::error::Error;
use crate::proto::opdbus::agent::memory::v1::{
    BulkError, BulkRecallItem, BulkRecallRequest, BulkRecallResponse, BulkRememberRequest,
    BulkRememberResponse,
};
use crate::storage::Failure;

/// How many elements of a stream one write stores, and how many bytes of them unless one alone has more.
const CHUNK: usize = 256;
const CHUNK_BYTES: usize = 1024 * 1024;

/// How many refusals are told.
const MAX_ERRORS: usize = 100;

/// How many keys a BulkRecall names at most.
const MAX_KEYS: usize = 10_000;

/// How many bytes one piece of a BulkRecall has at most, unless one value alone has more.
const PIECE_BYTES: usize = 256 * 1024;

/// How many keys of one piece are read on the calling thread, as one is; more go to a thread for long
/// reads.
const INLINE: usize = 16;

/// Elements of a stream that are stored in one write.
pub(super) struct Batch<T> {
    elements: Vec<T>,
    bytes: u64,
    /// All elements are one write.
    is_atomic: bool,
    most: usize,
    most_bytes: u64,
}

impl<T> Batch<T> {
    pub(super) fn new(memory: &Memory, is_atomic: bool) -> Self {
        let config = &memory.shared.config;
        let (most, most_bytes) = if is_atomic {
            let most = usize::try_from(config.max_atomic).unwrap_or(usize::MAX);
            (most, config.max_atomic_bytes)
        } else {
            (CHUNK, CHUNK_BYTES as u64)
        };
        Self { elements: Vec::new(), bytes: 0, is_atomic, most, most_bytes }
    }

    /// Adds an element of `bytes`; gives those that are to be written before, or with it.
    pub(super) fn add(&mut self, element: T, bytes: usize) -> Result<Option<Vec<T>>, Error> {
        self.elements.push(element);
        self.bytes += bytes as u64;
        if !self.is_atomic {
            let is_full = self.elements.len() >= self.most || self.bytes >= self.most_bytes;
            return Ok(is_full.then(|| self.take()));
        }
        if self.elements.len() > self.most {
            let problem = "so many elements at most are stored all at once; send fewer, or not so";
            return Err(Error::limit("memory.max_atomic", self.most, problem));
        }
        if self.bytes > self.most_bytes {
            let problem = "so many bytes at most are stored all at once; send fewer, or not so";
            return Err(Error::limit("memory.max_atomic_bytes", self.most_bytes, problem));
        }
        Ok(None)
    }

    /// What is left to write.
    pub(super) fn take(&mut self) -> Vec<T> {
        self.bytes = 0;
        std::mem::take(&mut self.elements)
    }
}

/// What was refused of a stream.
#[derive(Default)]
pub(super) struct Refused {
    pub(super) count: u64,
    pub(super) errors: Vec<BulkError>,
}

impl Refused {
    pub(super) fn add(&mut self, number: u64, key: &str, error: &Error) {
        self.count += 1;
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(BulkError {
                number,
                key: key.to_owned(),
                reason: error.kind().reason().to_owned(),
                message: error.message().to_owned(),
            });
        }
    }

    pub(super) fn extend(&mut self, other: Self) {
        self.count += other.count;
        let room = MAX_ERRORS - self.errors.len();
        self.errors.extend(other.errors.into_iter().take(room));
    }
}

/// One value of a stream.
struct Numbered {
    number: u64,
    scope: Scope,
    key: String,
    remember: Remember,
}

pub(super) async fn remember(
    memory: &Memory,
    context: &Context,
    mut requests: Requests<BulkRememberRequest>,
) -> Result<BulkRememberResponse, Error> {
    let Some(mut request) = requests.next().await? else {
        return Ok(BulkRememberResponse::default());
    };
    let is_atomic = request.atomic;
    let mut batch = Batch::new(memory, is_atomic);
    let (mut answer, mut refused) = (BulkRememberResponse::default(), Refused::default());
    let mut number = 1;
    loop {
        if request.atomic && !is_atomic {
            return Err(Error::invalid(
                "atomic",
                format_args!("is said in message {number}; only the first one may"),
            ));
        }
        let size = request.encoded_len();
        let full = match check(context, number, request) {
            Ok(element) => batch.add(element, size)?,
            Err((_, error)) if is_atomic => {
                return Err(place::within(FACT, place_of(number), &error));
            }
            Err((key, error)) => {
                refused.add(number, &key, &error);
                None
            }
        };
        if let Some(full) = full {
            answer.remembered += store(memory, full, is_atomic, &mut refused).await?;
        }
        match requests.next().await? {
            Some(next) => request = next,
            None => break,
        }
        number += 1;
    }
    answer.remembered += store(memory, batch.take(), is_atomic, &mut refused).await?;
    // Those that were found wrong at once come before those that a write refused.
    refused.errors.sort_by_key(|error| error.number);
    Ok(BulkRememberResponse { failed: refused.count, errors: refused.errors, ..answer })
}

fn check(
    context: &Context,
    number: u64,
    request: BulkRememberRequest,
) -> Result<Numbered, (String, Error)> {
    let at = "remember.";
    let Some(request) = request.remember else {
        return Err((String::new(), Error::invalid("remember", "is missing")));
    };
    let key = request.key.clone();
    let checked = Scope::of(context, at, request.scope, &request.namespace)
        .and_then(|scope| Ok((scope, Remember::check(at, request)?)));
    match checked {
        Ok((scope, remember)) => Ok(Numbered { number, scope, key, remember }),
        Err(error) => Err((key, error)),
    }
}

/// Stores the elements in one write; gives how many were stored.
async fn store(
    memory: &Memory,
    elements: Vec<Numbered>,
    is_atomic: bool,
    refused: &mut Refused,
) -> Result<u64, Error> {
    let Some(scope) = elements.first().map(|first| first.scope.clone()) else { return Ok(0) };
    let work = move |change: &mut Change<'_>| {
        let (mut stored, mut refused) = (0, Refused::default());
        for Numbered { number, scope, key, remember } in elements {
            change.scope = scope;
            let outcome = if is_atomic {
                let stored = remember.apply(change);
                Ok(stored.map_err(|failure| place::failed(FACT, place_of(number), failure))?)
            } else {
                change.attempt(|change| remember.apply(change))?
            };
            match outcome {
                Ok(_) => stored += 1,
                Err(error) => refused.add(number, &key, &error),
            }
        }
        Ok((stored, refused))
    };
    let (stored, more) = memory.change(scope, work).await?;
    refused.extend(more);
    Ok(stored)
}

/// The fact that says which message met an error.
const FACT: &str = "number";

fn place_of(number: u64) -> String {
    format!("message {number}")
}

pub(super) async fn recall(
    memory: &Memory,
    context: &Context,
    request: BulkRecallRequest,
    replies: Replies<BulkRecallResponse>,
) -> Result<(), Error> {
    let scope = Scope::of(context, "", request.scope, &request.namespace)?;
    let keys = request.keys;
    if keys.len() > MAX_KEYS {
        return Err(Error::invalid(
            "keys",
            format_args!("must be {MAX_KEYS} at most, not {}", keys.len()),
        ));
    }
    for (index, key) in keys.iter().enumerate() {
        fields::key_of_list(index, key)?;
    }
    let keys: Arc<[String]> = keys.into();
    let mut next = 0;
    while next < keys.len() {
        let items = if keys.len() - next <= INLINE {
            memory.store.read(|snapshot| piece(snapshot, &scope, &keys[next..], time::now()))?
        } else {
            let (scope, keys) = (scope.clone(), Arc::clone(&keys));
            let query =
                move |snapshot: &Connection| piece(snapshot, &scope, &keys[next..], time::now());
            memory.store.scan(query).await?
        };
        next += items.len();
        context.progress(next as u64, keys.len() as u64, "keys");
        replies.send(BulkRecallResponse { items }).await?;
    }
    Ok(())
}

/// The values of the first of `keys`.
fn piece(
    database: &Connection,
    scope: &Scope,
    keys: &[String],
    now: i64,
) -> Result<Vec<BulkRecallItem>, Failure> {
    let (mut items, mut bytes) = (Vec::new(), 0);
    for key in keys {
        let entry = recall::newest(database, scope, key, now)?;
        let item = BulkRecallItem { key: key.clone(), entry };
        bytes += item.encoded_len();
        if bytes > PIECE_BYTES && !items.is_empty() {
            break;
        }
        items.push(item);
    }
    Ok(items)
}
