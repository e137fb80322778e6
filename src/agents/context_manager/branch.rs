//! Delete, Undelete, Fork and SetPinned: what happens to contexts and items as they are.

use std::collections::{HashMap, HashSet};

use super::fields;
use super::space::Space;
use super::tables::{self, Change, Head};
use crate::error::Error;
use crate::proto::opdbus::agent::context_manager::v1::{
    Cause, DeleteRequest, DeleteResponse, ForkRequest, ForkResponse, SetPinnedRequest,
    SetPinnedResponse, UndeleteRequest, UndeleteResponse,
};
use crate::storage::Failure;

/// How many versions one Delete names at most.
const MAX_DELETED_VERSIONS: usize = 100;

/// A request to delete, checked.
pub(super) struct Delete {
    name: String,
    if_version: Option<i64>,
    permanent: bool,
    /// Only these; all of the context when empty.
    versions: Vec<i64>,
}

impl Delete {
    pub(super) fn check(request: DeleteRequest) -> Result<Self, Error> {
        fields::name("name", &request.name)?;
        if request.versions.len() > MAX_DELETED_VERSIONS {
            let count = request.versions.len();
            let problem = format!("must be {MAX_DELETED_VERSIONS} at most, not {count}");
            return Err(Error::invalid("versions", problem));
        }
        let versions = request.versions.into_iter().enumerate();
        let versions = versions.map(|(at, version)| fields::number(&versions_field(at), version));
        Ok(Self {
            name: request.name,
            if_version: fields::optional("if_version", request.if_version)?,
            permanent: request.permanent,
            versions: versions.collect::<Result<_, _>>()?,
        })
    }

    pub(super) fn apply(&self, change: &mut Change<'_>) -> Result<DeleteResponse, Failure> {
        let head = change.require(&self.name, self.if_version)?;
        if !self.versions.is_empty() {
            self.delete_versions(change, &head)?;
            return Ok(DeleteResponse::default());
        }
        let undo_token = if self.permanent {
            change.delete_for_good(&head)?;
            String::new()
        } else {
            change.delete(&head)?.to_string()
        };
        Ok(DeleteResponse { undo_token })
    }

    fn delete_versions(&self, change: &mut Change<'_>, head: &Head) -> Result<(), Failure> {
        for (at, version) in self.versions.iter().enumerate() {
            if *version == head.version {
                let problem =
                    "is the current version; Save replaces it, Delete removes the context";
                return Err(Error::invalid(versions_field(at), problem).into());
            }
            tables::version(change.database(), head, &versions_field(at), *version)?;
            change.drop_version(head.id, *version)?;
        }
        Ok(())
    }
}

fn versions_field(at: usize) -> String {
    format!("versions[{at}]")
}

/// A request to undelete, checked.
pub(super) struct Undelete {
    undo: i64,
    new_name: Option<String>,
}

impl Undelete {
    pub(super) fn check(request: UndeleteRequest) -> Result<Self, Error> {
        let undo = request
            .undo_token
            .parse()
            .map_err(|_| Error::invalid("undo_token", "is none that Delete gave"))?;
        let new_name = Some(request.new_name).filter(|name| !name.is_empty());
        if let Some(name) = &new_name {
            fields::name("new_name", name)?;
        }
        Ok(Self { undo, new_name })
    }

    pub(super) fn apply(self, change: &mut Change<'_>) -> Result<UndeleteResponse, Failure> {
        let head = change.undelete(self.undo, self.new_name)?;
        Ok(UndeleteResponse { version: head.version.unsigned_abs(), name: head.name })
    }
}

/// A request to fork, checked.
pub(super) struct Fork {
    name: String,
    new_name: String,
    new_space: Space,
    version: Option<i64>,
}

impl Fork {
    /// `new_space` is where the new context will stand.
    pub(super) fn check(request: ForkRequest, new_space: Space) -> Result<Self, Error> {
        fields::name("name", &request.name)?;
        fields::name("new_name", &request.new_name)?;
        let version = fields::optional("version", request.version)?;
        Ok(Self { name: request.name, new_name: request.new_name, new_space, version })
    }

    pub(super) fn apply(&self, change: &mut Change<'_>) -> Result<ForkResponse, Failure> {
        let source = change.require(&self.name, None)?;
        let number = self.version.unwrap_or(source.version);
        tables::version(change.database(), &source, "version", number)?;
        let places = tables::places(change.database(), &source, number)?;
        let fork = change.within(self.new_space.clone(), |change| {
            change.must_be_free("new_name", &self.new_name)?;
            let mut fork = change.begin(&self.new_name)?;
            fork.next_item = source.next_item;
            fork.next_position = source
                .next_position
                .max(places.last().map_or(0, |place| place.position.saturating_add(1)));
            fork.tags = source.tags;
            change.put(&mut fork, Cause::Fork, &places, &HashMap::new())?;
            Ok::<_, Failure>(fork)
        })?;
        Ok(ForkResponse {
            version: fork.version.unsigned_abs(),
            items: u32::try_from(fork.items).unwrap_or(u32::MAX),
        })
    }
}

/// A request to pin, checked.
pub(super) struct SetPinned {
    name: String,
    ids: Vec<i64>,
    pinned: bool,
    if_version: Option<i64>,
}

impl SetPinned {
    pub(super) fn check(request: SetPinnedRequest) -> Result<Self, Error> {
        fields::name("name", &request.name)?;
        if request.ids.is_empty() {
            return Err(Error::invalid("ids", "must name an item"));
        }
        let ids = request.ids.into_iter().enumerate();
        let ids = ids.map(|(index, id)| fields::number(&format!("ids[{index}]"), id));
        Ok(Self {
            name: request.name,
            ids: ids.collect::<Result<_, _>>()?,
            pinned: request.pinned,
            if_version: fields::optional("if_version", request.if_version)?,
        })
    }

    pub(super) fn apply(&self, change: &mut Change<'_>) -> Result<SetPinnedResponse, Failure> {
        let mut head = change.require(&self.name, self.if_version)?;
        let mut places = tables::places(change.database(), &head, head.version)?;
        let there: HashSet<i64> = places.iter().map(|place| place.item).collect();
        if let Some(index) = self.ids.iter().position(|id| !there.contains(id)) {
            return Err(Error::invalid(
                format!("ids[{index}]"),
                format_args!("the current version has no item {}", self.ids[index]),
            )
            .into());
        }
        let ids: HashSet<i64> = self.ids.iter().copied().collect();
        let mut changed = 0;
        for place in &mut places {
            if ids.contains(&place.item) && place.pinned != self.pinned {
                place.pinned = self.pinned;
                changed += 1;
            }
        }
        if changed > 0 {
            change.put(&mut head, Cause::Pin, &places, &HashMap::new())?;
        }
        Ok(SetPinnedResponse { version: head.version.unsigned_abs(), changed })
    }
}
