//! One user's change of his contexts: the counters, and the heads of contexts. What a version has is
//! written in `versions`, and what goes to make room in `room`.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::Content;
use super::read::{self, Head, missing};
use crate::agents::context_manager::config::Config;
use crate::agents::context_manager::space::Space;
use crate::error::{Error, ErrorKind};
use crate::storage::Failure;

/// What each context counts beside its texts: about what its rows take.
pub(super) const CONTEXT_BYTES: i64 = 512;

/// A change in the course of one write.
pub(in super::super) struct Change<'a> {
    pub(super) database: &'a Connection,
    pub(in super::super) config: &'a Config,
    /// Whose contexts are changed.
    pub(super) space: Space,
    /// When it happens: one moment for all of it.
    pub(in super::super) now: i64,
    /// What it adds to the counters.
    pub(super) gained: Gained,
    /// True once the index of the user's words is known to be there.
    pub(super) has_index: bool,
}

/// What a change adds.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct Gained {
    pub(in super::super) contexts: i64,
    pub(in super::super) bytes: i64,
}

/// An item of a version to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Placed {
    pub(in super::super) item: i64,
    pub(in super::super) position: i64,
    pub(in super::super) pinned: bool,
    pub(in super::super) content: Content,
}

impl<'a> Change<'a> {
    /// Runs `work` as one change, and brings the counters up to date.
    pub(in super::super) fn run<T>(
        database: &'a Connection,
        config: &'a Config,
        space: Space,
        now: i64,
        work: impl FnOnce(&mut Self) -> Result<T, Failure>,
    ) -> Result<(T, Gained), Failure> {
        let gained = Gained::default();
        let mut change = Self { database, config, space, now, gained, has_index: false };
        let answer = work(&mut change)?;
        change.make_room()?;
        change.count(change.gained)?;
        Ok((answer, change.gained))
    }

    /// Does a part of the change in another space of the same user.
    pub(in super::super) fn within<T>(
        &mut self,
        space: Space,
        work: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let outer = std::mem::replace(&mut self.space, space);
        let answer = work(self);
        self.space = outer;
        answer
    }

    /// A number that this user never had.
    pub(super) fn revision(&self) -> Result<i64, Failure> {
        Ok(self
            .database
            .prepare_cached(
                "INSERT INTO usage (uid, revision, contexts, bytes) VALUES (?1, 1, 0, 0)
                 ON CONFLICT (uid) DO UPDATE SET revision = revision + 1 RETURNING revision",
            )?
            .query_row([self.space.uid], |row| row.get(0))?)
    }

    /// What the user has, without what this change has added so far.
    pub(super) fn usage(&self) -> Result<Gained, Failure> {
        let usage = self
            .database
            .prepare_cached("SELECT contexts, bytes FROM usage WHERE uid = ?1")?
            .query_row([self.space.uid], |row| {
                Ok(Gained { contexts: row.get(0)?, bytes: row.get(1)? })
            })
            .optional()?;
        Ok(usage.unwrap_or_default())
    }

    fn count(&self, gained: Gained) -> Result<(), Failure> {
        self.database
            .prepare_cached(
                "INSERT INTO usage (uid, revision, contexts, bytes) VALUES (?1, 0, ?2, ?3)
                 ON CONFLICT (uid) DO UPDATE SET contexts = contexts + ?2, bytes = bytes + ?3",
            )?
            .execute(params![self.space.uid, gained.contexts, gained.bytes])?;
        Ok(())
    }

    /// The context with this name, if it has the version that is asked for. One whose time is over goes
    /// for good now.
    pub(in super::super) fn find(&mut self, name: &str) -> Result<Option<Head>, Failure> {
        match read::head(self.database, &self.space, name)? {
            Some(head) if head.is_over(self.now) => {
                self.purge(head.id)?;
                self.gained.contexts -= 1;
                Ok(None)
            }
            found => Ok(found),
        }
    }

    /// The context with this name, which must be there and have the version that is asked for.
    pub(in super::super) fn require(
        &mut self,
        name: &str,
        if_version: Option<i64>,
    ) -> Result<Head, Failure> {
        let head = self.find(name)?.ok_or_else(|| missing(name))?;
        check_version(&head, if_version)?;
        Ok(head)
    }

    /// Begins a context without items; it has no version yet.
    pub(in super::super) fn begin(&mut self, name: &str) -> Result<Head, Failure> {
        self.must_have_room("no further context can be begun; delete some")?;
        self.database
            .prepare_cached(
                "INSERT INTO context (uid, session, name, version, base, next_item, next_position,
                 items, tokens, size, created_at, updated_at, tags)
                 VALUES (?1, ?2, ?3, 0, 0, 1, 0, 0, 0, 0, ?4, ?4, x'')",
            )?
            .execute(params![self.space.uid, self.space.session, name, self.now])?;
        self.gained.contexts += 1;
        self.gained.bytes += CONTEXT_BYTES;
        Ok(Head {
            id: self.database.last_insert_rowid(),
            name: name.to_owned(),
            version: 0,
            base: 0,
            next_item: 1,
            next_position: 0,
            items: 0,
            tokens: 0,
            size: 0,
            created_at: self.now,
            updated_at: self.now,
            expires_at: None,
            tags: Vec::new(),
            auto_save: false,
        })
    }

    fn must_have_room(&self, problem: &str) -> Result<(), Failure> {
        let max = self.config.max_contexts;
        let has = self.usage()?.contexts + self.gained.contexts;
        if u64::try_from(has).is_ok_and(|has| has >= max) {
            return Err(Error::limit("context_manager.max_contexts", max, problem).into());
        }
        Ok(())
    }

    /// Writes down what `head` says.
    pub(super) fn store_head(&self, head: &Head) -> Result<(), Failure> {
        self.database
            .prepare_cached(
                "UPDATE context SET version = ?2, next_item = ?3, next_position = ?4, items = ?5,
                 tokens = ?6, size = ?7, updated_at = ?8, expires_at = ?9, tags = ?10,
                 base = ?11, auto_save = ?12 WHERE id = ?1",
            )?
            .execute(params![
                head.id,
                head.version,
                head.next_item,
                head.next_position,
                head.items,
                head.tokens,
                head.size,
                head.updated_at,
                head.expires_at,
                head.tags,
                head.base,
                head.auto_save,
            ])?;
        Ok(())
    }

    /// Takes a context out of sight; the number brings it back.
    pub(in super::super) fn delete(&mut self, head: &Head) -> Result<i64, Failure> {
        let undo = self.revision()?;
        self.database
            .prepare_cached("UPDATE context SET undo = ?2, deleted_at = ?3 WHERE id = ?1")?
            .execute([head.id, undo, self.now])?;
        self.gained.contexts -= 1;
        Ok(undo)
    }

    /// Removes a context for good.
    pub(in super::super) fn delete_for_good(&mut self, head: &Head) -> Result<(), Failure> {
        self.purge(head.id)?;
        self.gained.contexts -= 1;
        Ok(())
    }

    /// Takes a context out of its session, with all its versions.
    pub(in super::super) fn give_to_user(&mut self, head: &Head) -> Result<(), Failure> {
        self.database
            .prepare_cached("UPDATE context SET session = '', auto_save = 0 WHERE id = ?1")?
            .execute([head.id])?;
        Ok(())
    }

    /// Brings a context back, under a new name if there is one.
    pub(in super::super) fn undelete(
        &mut self,
        undo: i64,
        new_name: Option<String>,
    ) -> Result<Head, Failure> {
        let deleted: Option<(i64, String)> = self
            .database
            .prepare_cached(
                "SELECT id, name FROM context WHERE uid = ?1 AND session = ?2 AND undo = ?3",
            )?
            .query_row(params![self.space.uid, self.space.session, undo], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        let (id, name) = deleted.ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                "undo_token: nothing can be brought back by it; it is none that Delete gave, or it \
                 was used, or what it stands for is gone for good",
            )
            .with_fact("field", "undo_token")
        })?;
        let name = new_name.unwrap_or(name);
        self.must_be_free("new_name", &name)?;
        self.must_have_room("the context cannot be brought back; delete another one")?;
        self.database
            .prepare_cached(
                "UPDATE context SET name = ?2, undo = NULL, deleted_at = NULL WHERE id = ?1",
            )?
            .execute(params![id, name])?;
        self.gained.contexts += 1;
        Ok(self.find(&name)?.ok_or_else(|| missing(&name))?)
    }

    /// Refuses a name that is taken.
    pub(in super::super) fn must_be_free(
        &mut self,
        field: &str,
        name: &str,
    ) -> Result<(), Failure> {
        match self.find(name)? {
            None => Ok(()),
            Some(head) => Err(taken(field, &head).into()),
        }
    }

    /// For queries within the change.
    pub(in super::super) const fn database(&self) -> &'a Connection {
        self.database
    }
}

/// Refuses if the version is not the one that is asked for.
pub(in super::super) fn check_version(head: &Head, if_version: Option<i64>) -> Result<(), Error> {
    match if_version {
        Some(version) if version != head.version => Err(Error::new(
            ErrorKind::Conflict,
            format!(
                "if_version: the context {:?} has version {}, not {version}; load it and try again",
                head.name, head.version
            ),
        )
        .with_fact("field", "if_version")
        .with_fact("current_version", head.version.to_string())),
        _ => Ok(()),
    }
}

/// The error for a name that is taken.
pub(in super::super) fn taken(field: &str, head: &Head) -> Error {
    Error::new(
        ErrorKind::AlreadyExists,
        format!("{field}: there is a context {:?} already, at version {}", head.name, head.version),
    )
    .with_fact("field", field)
    .with_fact("current_version", head.version.to_string())
}
