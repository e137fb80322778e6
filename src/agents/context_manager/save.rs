//! Save and Append: items become a version.

use std::collections::{HashMap, VecDeque};

use super::fields;
use super::item::{Draft, Item};
use super::tables::{self, Change, Content, Head, Placed, taken};
use super::time::{self, timestamp};
use crate::error::Error;
use crate::proto::opdbus::agent::context_manager::v1::{
    AppendRequest, AppendResponse, Cause, Role, SaveRequest, SaveResponse,
};
use crate::storage::Failure;

/// A context to store, checked.
pub(super) struct Save {
    pub(super) name: String,
    pub(super) items: Vec<Draft>,
    /// As they are stored.
    pub(super) tags: Vec<u8>,
    pub(super) if_version: Option<i64>,
    pub(super) if_absent: bool,
    /// Microseconds.
    pub(super) ttl: Option<i64>,
    pub(super) cause: Cause,
    /// Whether it is to be saved with the end of its session; as it was when not said.
    pub(super) auto_save: Option<bool>,
}

impl Save {
    pub(super) fn check(request: SaveRequest) -> Result<Self, Error> {
        fields::name("name", &request.name)?;
        fields::auto_save(request.auto_save, request.scope())?;
        let items = match request.content {
            Some(_) if !request.items.is_empty() => {
                return Err(Error::invalid("items", "must be empty when there is a content"));
            }
            None if request.items.is_empty() => {
                return Err(Error::invalid("items", "must have an item, if there is no content"));
            }
            None => fields::drafts(request.items)?,
            Some(content) if content.is_empty() => Vec::new(),
            Some(content) => {
                fields::check_text("content", &content)?;
                vec![Draft::of_text(content)]
            }
        };
        Ok(Self {
            name: request.name,
            items,
            tags: fields::tags(request.tags)?,
            if_version: fields::optional("if_version", request.if_version)?,
            if_absent: request.if_absent,
            ttl: time::ttl("", request.ttl)?,
            cause: Cause::Save,
            auto_save: Some(request.auto_save),
        })
    }

    /// Stores it; true if the context was not there before.
    pub(super) fn apply(self, change: &mut Change<'_>) -> Result<(Head, bool), Failure> {
        let found = match self.if_version {
            Some(_) => Some(change.require(&self.name, self.if_version)?),
            None => change.find(&self.name)?,
        };
        if let Some(head) = &found
            && self.if_absent
        {
            return Err(taken("name", head).into());
        }
        let created = found.is_none();
        let (mut head, old) = match found {
            Some(head) => {
                let old = tables::items(change.database(), &head, head.version)?;
                (head, old)
            }
            None => (change.begin(&self.name)?, Vec::new()),
        };
        let places = place(change, &mut head, &old, &self.items)?;
        head.next_position = position(places.len());
        head.tags = self.tags;
        head.expires_at = self.ttl.map(|ttl| change.now.saturating_add(ttl));
        head.auto_save = self.auto_save.unwrap_or(head.auto_save);
        change.put(&mut head, self.cause, &places, &HashMap::new())?;
        Ok((head, created))
    }
}

pub(super) fn saved((head, created): (Head, bool)) -> SaveResponse {
    SaveResponse {
        version: head.version.unsigned_abs(),
        created,
        tokens: head.tokens,
        tokens_exact: false,
        size_bytes: head.size,
        items: u32::try_from(head.items).unwrap_or(u32::MAX),
        expires_at: head.expires_at.map(timestamp),
    }
}

/// Gives each item its id: that of an old item that says the same, or a new one.
fn place(
    change: &mut Change<'_>,
    head: &mut Head,
    old: &[Item],
    items: &[Draft],
) -> Result<Vec<Placed>, Failure> {
    let mut known: HashMap<(Role, &str, &str), VecDeque<&Item>> = HashMap::new();
    for item in old {
        known.entry((item.role, &item.text, &item.source)).or_default().push_back(item);
    }
    let mut places = Vec::with_capacity(items.len());
    for (index, draft) in items.iter().enumerate() {
        let same = known
            .get_mut(&(draft.role, draft.text.as_str(), draft.source.as_str()))
            .and_then(VecDeque::pop_front);
        let (item, content) = match same {
            Some(item) => (item.id, keep(change, item, draft)?),
            None => (head.take_item(), change.add_content(draft)?),
        };
        places.push(Placed { item, position: position(index), pinned: draft.pinned, content });
    }
    Ok(places)
}

/// The content of an item that stays, with another time or importance if one is set.
fn keep(change: &mut Change<'_>, item: &Item, draft: &Draft) -> Result<Content, Failure> {
    let created_at = draft.created_at.unwrap_or(item.created_at);
    let importance = draft.importance.unwrap_or(item.importance);
    #[expect(clippy::float_cmp, reason = "any difference is one")]
    if created_at == item.created_at && importance == item.importance {
        return Ok(Content::from(item));
    }
    change.add_content(&Draft {
        created_at: Some(created_at),
        importance: Some(importance),
        shortened: item.shortened,
        ..draft.clone()
    })
}

fn position(index: usize) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX)
}

/// Items to add, checked.
pub(super) struct Append {
    name: String,
    items: Vec<Draft>,
    if_version: Option<i64>,
    create: bool,
    auto_save: bool,
}

impl Append {
    pub(super) fn check(request: AppendRequest) -> Result<Self, Error> {
        fields::name("name", &request.name)?;
        if request.items.is_empty() {
            return Err(Error::invalid("items", "must have an item"));
        }
        fields::auto_save(request.auto_save, request.scope())?;
        if request.auto_save && !request.create {
            return Err(Error::invalid("auto_save", "is only for a call with create"));
        }
        if request.create && request.if_version.is_some() {
            return Err(Error::invalid("create", "must be false with if_version"));
        }
        Ok(Self {
            name: request.name,
            items: fields::drafts(request.items)?,
            if_version: fields::optional("if_version", request.if_version)?,
            create: request.create,
            auto_save: request.auto_save,
        })
    }

    pub(super) fn apply(self, change: &mut Change<'_>) -> Result<AppendResponse, Failure> {
        let mut head = match change.find(&self.name)? {
            None if self.create => {
                let mut head = change.begin(&self.name)?;
                head.auto_save = self.auto_save;
                head
            }
            _ => change.require(&self.name, self.if_version)?,
        };
        let mut places = Vec::with_capacity(self.items.len());
        for draft in &self.items {
            let content = change.add_content(draft)?;
            let (item, position) = (head.take_item(), head.next_position);
            head.next_position += 1;
            places.push(Placed { item, position, pinned: draft.pinned, content });
        }
        change.put_more(&mut head, &places)?;
        Ok(AppendResponse {
            version: head.version.unsigned_abs(),
            ids: places.iter().map(|place| place.item.unsigned_abs()).collect(),
            tokens: head.tokens,
            tokens_exact: false,
            items: u32::try_from(head.items).unwrap_or(u32::MAX),
        })
    }
}
