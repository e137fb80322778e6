//! Compact, Uncompact and Dropped. What is left out is decided in `choice`; here it becomes a version.

use std::collections::{BTreeMap, HashMap};

use rusqlite::Connection;

use super::choice::compact::{Fate, Plan, compact};
use super::choice::{Features, tokens};
use super::fields;
use super::item::Item;
use super::space::Space;
use super::tables::{self, Change, Content, Head, Join, Placed, Wanted, expression};
use crate::error::{Error, ErrorKind};
use crate::proto::opdbus::agent::context_manager::v1::{
    Cause, CompactRequest, CompactResponse, DroppedRequest, DroppedResponse, Feature,
    UncompactRequest, UncompactResponse,
};
use crate::storage::Failure;

const KEEP_LAST: u32 = 4;

const DEFAULT_DROPPED: u32 = 50;
const MAX_DROPPED: u32 = 1000;

/// A request to compact, checked.
pub(super) struct Compact {
    name: String,
    plan: Plan,
    if_version: Option<i64>,
    pub(super) is_dry_run: bool,
}

/// What a compaction would do to a version.
pub(super) struct Proposal {
    head: Head,
    items: Vec<Item>,
    fates: Vec<Fate>,
}

impl Compact {
    pub(super) fn check(request: CompactRequest) -> Result<Self, Error> {
        fields::name("name", &request.name)?;
        if request.target_tokens == 0 {
            return Err(Error::invalid("target_tokens", "must be more than 0"));
        }
        let mut keep = Features::default();
        for (index, feature) in request.keep.iter().enumerate() {
            let feature = Feature::try_from(*feature).ok().and_then(Features::named);
            keep = keep.and(feature.ok_or_else(|| {
                Error::invalid(format!("keep[{index}]"), "is none that this version knows")
            })?);
        }
        let keep_last = request.keep_last.unwrap_or(KEEP_LAST);
        Ok(Self {
            name: request.name,
            plan: Plan {
                target: request.target_tokens,
                keep_last: usize::try_from(keep_last).unwrap_or(usize::MAX),
                keep,
            },
            if_version: fields::optional("if_version", request.if_version)?,
            is_dry_run: request.dry_run,
        })
    }

    /// Decides what is left out. That may take long, so it is no part of the write.
    pub(super) fn propose(
        &self,
        database: &Connection,
        space: &Space,
        now: i64,
    ) -> Result<Proposal, Failure> {
        let head = tables::require(database, space, &self.name, now)?;
        tables::check_version(&head, self.if_version)?;
        let items = tables::items(database, &head, head.version)?;
        let fates = compact(&items, &self.plan);
        Ok(Proposal { head, items, fates })
    }

    /// True if a conflict with the proposal is no conflict with the request.
    pub(super) fn may_repeat(&self, error: &Error) -> bool {
        self.if_version.is_none() && error.kind() == ErrorKind::Conflict
    }

    pub(super) fn target(&self) -> u64 {
        self.plan.target
    }
}

impl Proposal {
    /// What came of it, or would.
    pub(super) fn answer(&self, target: u64) -> CompactResponse {
        let version = self.head.version.unsigned_abs();
        let mut response = CompactResponse {
            version,
            from_version: version,
            before_tokens: self.head.tokens,
            ..CompactResponse::default()
        };
        for (item, fate) in self.items.iter().zip(&self.fates) {
            match fate {
                Fate::Keep => {
                    response.kept += 1;
                    response.after_tokens += item.tokens;
                }
                Fate::Shorten(text, _) => {
                    response.shortened += 1;
                    response.after_tokens += tokens::of_message(text);
                }
                Fate::Drop(_) => response.dropped += 1,
            }
        }
        response.target_reached = response.after_tokens <= target;
        response
    }

    /// True if it changes anything.
    pub(super) fn is_change(&self) -> bool {
        self.fates.iter().any(|fate| *fate != Fate::Keep)
    }

    /// Makes it the new version, which it gives.
    pub(super) fn apply(self, change: &mut Change<'_>) -> Result<u64, Failure> {
        let mut head = change.require(&self.head.name, Some(self.head.version))?;
        let mut places = Vec::new();
        let mut losses = HashMap::new();
        for (item, fate) in self.items.iter().zip(self.fates) {
            let content = match fate {
                Fate::Keep => Content::from(item),
                Fate::Shorten(text, loss) => {
                    losses.insert(item.id, loss);
                    change.add_shortened(item, &text)?
                }
                Fate::Drop(loss) => {
                    losses.insert(item.id, loss);
                    continue;
                }
            };
            let Item { id, position, pinned, .. } = *item;
            places.push(Placed { item: id, position, pinned, content });
        }
        change.put(&mut head, Cause::Compact, &places, &losses)?;
        Ok(head.version.unsigned_abs())
    }
}

/// A request to take compactions back, checked.
pub(super) struct Uncompact {
    name: String,
    to_version: Option<i64>,
    if_version: Option<i64>,
}

impl Uncompact {
    pub(super) fn check(request: UncompactRequest) -> Result<Self, Error> {
        fields::name("name", &request.name)?;
        Ok(Self {
            name: request.name,
            to_version: fields::optional("to_version", request.to_version)?,
            if_version: fields::optional("if_version", request.if_version)?,
        })
    }

    pub(super) fn apply(self, change: &mut Change<'_>) -> Result<UncompactResponse, Failure> {
        let mut head = change.require(&self.name, self.if_version)?;
        let compacted = tables::compacted(change.database(), &head)?;
        let to = self.to_version.or_else(|| compacted.last().copied());
        let Some(from) = to.and_then(|to| compacted.iter().position(|number| *number == to)) else {
            return Err(Error::invalid(
                "to_version",
                format_args!(
                    "must be a version that a compaction replaced since the context was last saved \
                     as a whole; these are {compacted:?}; Fork takes any version that is kept"
                ),
            )
            .into());
        };
        // What a later compaction took came after the earlier ones, so together they have everything;
        // of an item that was shortened twice, the earliest has the most.
        let now = tables::places(change.database(), &head, head.version)?;
        let mut whole: BTreeMap<i64, Placed> = BTreeMap::new();
        for number in &compacted[from..] {
            for place in tables::places(change.database(), &head, *number)? {
                let content = whole.get(&place.item).map_or(place.content, |known| known.content);
                whole.insert(place.item, Placed { content, ..place });
            }
        }
        let mut restored = whole.len();
        for place in now {
            let content = whole.get(&place.item).map_or(place.content, |known| known.content);
            if whole.insert(place.item, Placed { content, ..place }).is_some()
                && content == place.content
            {
                restored -= 1;
            }
        }
        if restored > 0 {
            let places: Vec<Placed> = whole.into_values().collect();
            change.put(&mut head, Cause::Uncompact, &places, &HashMap::new())?;
        }
        Ok(UncompactResponse {
            version: head.version.unsigned_abs(),
            restored: u32::try_from(restored).unwrap_or(u32::MAX),
            tokens: head.tokens,
            tokens_exact: false,
        })
    }
}

/// A request for what was left out, checked.
pub(super) struct Dropped {
    name: String,
    /// As FTS5 takes it.
    expression: Option<String>,
    version: Option<i64>,
    limit: usize,
}

impl Dropped {
    pub(super) fn check(request: DroppedRequest) -> Result<Self, Error> {
        fields::name("name", &request.name)?;
        fields::query("query", &request.query)?;
        let query = Some(request.query).filter(|query| !query.is_empty());
        Ok(Self {
            name: request.name,
            expression: query.map(|query| expression(&query, Join::Any)).transpose()?,
            version: fields::optional("version", request.version)?,
            limit: fields::count("limit", request.limit, DEFAULT_DROPPED, MAX_DROPPED)?,
        })
    }

    pub(super) fn apply(
        &self,
        database: &Connection,
        space: &Space,
        now: i64,
    ) -> Result<DroppedResponse, Failure> {
        let head = tables::require(database, space, &self.name, now)?;
        if let Some(version) = self.version {
            let version = tables::version(database, &head, "version", version)?;
            if version.cause() != Cause::Compact {
                return Err(Error::invalid("version", "was not made by a compaction").into());
            }
        }
        let wanted = Wanted {
            version: self.version,
            expression: self.expression.as_deref(),
            limit: self.limit,
        };
        let (items, total) = tables::left_out(database, space.uid, &head, &wanted)?;
        Ok(DroppedResponse { items, total })
    }
}
