//! Items as the agent handles them: those of a version, and those that are about to be stored.

use super::time::timestamp;
use crate::proto::opdbus::agent::context_manager::v1::{DroppedItem, Item as ItemMessage, Role};

/// How much an item matters when nobody said.
pub(super) const IMPORTANCE: f64 = 0.5;

/// An item of a version.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// Its number in the context.
    pub(super) id: i64,
    /// The row that holds its text.
    pub(super) content: i64,
    pub(super) position: i64,
    pub(super) pinned: bool,
    pub(super) role: Role,
    /// Microseconds since the epoch.
    pub(super) created_at: i64,
    pub(super) source: String,
    pub(super) importance: f64,
    pub(super) tokens: u64,
    pub(super) shortened: bool,
    pub(super) text: String,
}

impl Item {
    /// True if compactions keep it whole and budgets take it first.
    pub(super) fn is_fixed(&self) -> bool {
        self.pinned || self.role == Role::System
    }

    pub(super) fn into_message(self) -> ItemMessage {
        ItemMessage {
            id: self.id.unsigned_abs(),
            role: self.role.into(),
            text: self.text,
            created_at: Some(timestamp(self.created_at)),
            pinned: self.pinned,
            source: self.source,
            importance: self.importance,
            tokens: self.tokens,
            shortened: self.shortened,
        }
    }

    /// How it reads in a list of what was left out.
    pub(super) fn as_dropped(&self) -> DroppedItem {
        DroppedItem { id: self.id.unsigned_abs(), tokens: self.tokens, pinned: self.pinned }
    }
}

/// An item to store, checked.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Draft {
    pub(super) role: Role,
    pub(super) text: String,
    /// Microseconds since the epoch.
    pub(super) created_at: Option<i64>,
    pub(super) pinned: bool,
    pub(super) source: String,
    pub(super) importance: Option<f64>,
    pub(super) shortened: bool,
}

impl Draft {
    /// A text that nobody in particular says.
    pub(super) fn of_text(text: String) -> Self {
        Self {
            role: Role::Unspecified,
            text,
            created_at: None,
            pinned: false,
            source: String::new(),
            importance: None,
            shortened: false,
        }
    }
}

/// The name of a role in texts; empty if it is not said.
pub(super) const fn role_name(role: Role) -> &'static str {
    match role {
        Role::Unspecified => "",
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    }
}

/// The role with this name.
pub(super) fn role_of(name: &str) -> Option<Role> {
    const ROLES: [Role; 5] =
        [Role::Unspecified, Role::System, Role::User, Role::Assistant, Role::Tool];
    ROLES.into_iter().find(|role| role_name(*role) == name)
}
