//! Import: keys from lines of text that come in pieces.

use super::line::{self, Line};
use super::lines::{Lines, Taken};
use crate::agents::memory::bulk::{Batch, Refused};
use crate::agents::memory::change::{Change, Version};
use crate::agents::memory::fields::{self, Scope};
use crate::agents::memory::{Memory, place, time, value};
use crate::call::Context;
use crate::contract::Requests;
use crate::error::{Error, ErrorKind};
use crate::proto::opdbus::agent::memory::v1::{
    ImportConflict, ImportOptions, ImportRequest, ImportResponse,
};
use crate::storage::Failure;

/// The fact that says which line met an error.
const FACT: &str = "line";

/// A line that has been checked.
struct Entry {
    number: u64,
    scope: Scope,
    key: String,
    value: Vec<u8>,
    tags: Vec<u8>,
    stored: Option<(i64, i64)>,
    expires_at: Option<i64>,
}

/// What became of lines.
#[derive(Default)]
struct Outcome {
    imported: u64,
    skipped: u64,
    refused: Refused,
}

/// An import in its course.
struct Import<'a> {
    memory: &'a Memory,
    context: &'a Context,
    options: ImportOptions,
    conflict: ImportConflict,
    batch: Batch<Entry>,
    outcome: Outcome,
}

pub(in super::super) async fn import(
    memory: &Memory,
    context: &Context,
    mut requests: Requests<ImportRequest>,
) -> Result<ImportResponse, Error> {
    let Some(first) = requests.next().await? else { return Ok(ImportResponse::default()) };
    let mut import = Import::begin(memory, context, first.options.unwrap_or_default())?;
    let mut lines = Lines::default();
    let mut data = first.data;
    loop {
        while let Some(taken) = lines.take(&mut data) {
            import.line(taken).await?;
        }
        let Some(next) = requests.next().await? else { break };
        if next.options.is_some() {
            return Err(Error::invalid("options", "are said again; only the first message may"));
        }
        data = next.data;
    }
    if let Some(taken) = lines.rest() {
        import.line(taken).await?;
    }
    let rest = import.batch.take();
    import.store(rest).await?;
    let Outcome { imported, skipped, refused } = import.outcome;
    let Refused { count: failed, mut errors } = refused;
    errors.sort_by_key(|error| error.number);
    Ok(ImportResponse { imported, skipped, failed, errors })
}

impl<'a> Import<'a> {
    fn begin(
        memory: &'a Memory,
        context: &'a Context,
        options: ImportOptions,
    ) -> Result<Self, Error> {
        super::check_format("options.format", options.format)?;
        let conflict = ImportConflict::try_from(options.on_conflict)
            .map_err(|_unknown| Error::invalid("options.on_conflict", "is none there is"))?;
        // Before anything is read, so that a wrong scope does not fail each line.
        Scope::of(context, "options.", options.scope, &options.namespace)?;
        let batch = Batch::new(memory, options.atomic || options.dry_run);
        Ok(Self { memory, context, options, conflict, batch, outcome: Outcome::default() })
    }

    async fn line(&mut self, taken: Taken) -> Result<(), Error> {
        let Taken { number, line } = taken;
        let entry = match line {
            Ok(bytes) if bytes.trim_ascii().is_empty() => return Ok(()),
            Ok(bytes) => {
                let size = bytes.len();
                self.check(number, &bytes).map(|entry| (entry, size))
            }
            Err(error) => Err((String::new(), error)),
        };
        match entry {
            Ok((entry, size)) => match self.batch.add(entry, size)? {
                Some(full) => self.store(full).await,
                None => Ok(()),
            },
            Err((_, error)) if self.options.atomic => {
                Err(place::within(FACT, place_of(number), &error))
            }
            Err((key, error)) => {
                self.outcome.refused.add(number, &key, &error);
                Ok(())
            }
        }
    }

    fn check(&self, number: u64, bytes: &[u8]) -> Result<Entry, (String, Error)> {
        let line = Line::read(bytes).map_err(|error| (String::new(), error))?;
        let key = line.key.clone();
        self.entry(number, line).map_err(|error| (key, error))
    }

    fn entry(&self, number: u64, line: Line) -> Result<Entry, Error> {
        let Line { key, namespace, value, tags, created_at, updated_at, expires_at, .. } = line;
        fields::key("", &key)?;
        let chosen = &self.options.namespace;
        let namespace = if chosen.is_empty() { &namespace } else { chosen };
        let time_of =
            |field, text: Option<String>| text.map(|text| line::time(field, &text)).transpose();
        let updated_at = time_of("updated_at", updated_at)?;
        let created_at = time_of("created_at", created_at)?.or(updated_at);
        let now = time::now();
        // Nothing was stored in the future, nor changed before it was made.
        let stored = created_at.map(|created_at| {
            let updated_at = updated_at.unwrap_or(now).min(now);
            (created_at.min(updated_at), updated_at)
        });
        Ok(Entry {
            number,
            scope: Scope::of(self.context, "", self.options.scope, namespace)?,
            value: value::encode("", Some(line::value(value)?))?,
            tags: fields::tags("", tags)?,
            stored,
            expires_at: time_of("expires_at", expires_at)?,
            key,
        })
    }

    /// Stores the entries in one write.
    async fn store(&mut self, entries: Vec<Entry>) -> Result<(), Error> {
        let Some(scope) = entries.first().map(|first| first.scope.clone()) else { return Ok(()) };
        let (conflict, atomic, dry_run) =
            (self.conflict, self.options.atomic, self.options.dry_run);
        let work = move |change: &mut Change<'_>| {
            let store = |change: &mut Change<'_>| store(change, &entries, conflict, atomic);
            if dry_run { change.rehearse(store) } else { store(change) }
        };
        let outcome = self.memory.change(scope, work).await?;
        self.outcome.imported += outcome.imported;
        self.outcome.skipped += outcome.skipped;
        self.outcome.refused.extend(outcome.refused);
        Ok(())
    }
}

fn store(
    change: &mut Change<'_>,
    entries: &[Entry],
    conflict: ImportConflict,
    atomic: bool,
) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    for entry in entries {
        change.scope = entry.scope.clone();
        let stored = if atomic {
            let stored = put(change, entry, conflict);
            Ok(stored.map_err(|failure| place::failed(FACT, place_of(entry.number), failure))?)
        } else {
            change.attempt(|change| put(change, entry, conflict))?
        };
        match stored {
            Ok(true) => outcome.imported += 1,
            Ok(false) => outcome.skipped += 1,
            Err(error) => outcome.refused.add(entry.number, &entry.key, &error),
        }
    }
    Ok(outcome)
}

/// Stores one entry; false if it is left out.
fn put(change: &mut Change<'_>, entry: &Entry, conflict: ImportConflict) -> Result<bool, Failure> {
    if entry.expires_at.is_some_and(|end| end <= change.now) {
        return Ok(false);
    }
    let old = change.entry(&entry.key)?;
    if old.is_some_and(|old| old.is_live(change.now)) {
        match conflict {
            ImportConflict::Unspecified | ImportConflict::Skip => return Ok(false),
            ImportConflict::Overwrite => {}
            ImportConflict::Fail => {
                let problem = format!("the key {} exists", entry.key);
                return Err(Error::new(ErrorKind::AlreadyExists, problem).into());
            }
        }
    }
    let Entry { value, tags, expires_at, stored, .. } = entry;
    let new = Version { value, tags, expires_at: *expires_at, stored: *stored };
    change.put(&entry.key, old.as_ref(), &new).map(|_| true)
}

fn place_of(number: u64) -> String {
    format!("line {number}")
}
