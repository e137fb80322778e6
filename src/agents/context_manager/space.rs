//! Whose contexts a call sees: the user's own, or those of one of his sessions. Whether a session is
//! the caller's was checked before.

use std::sync::Arc;

use crate::call::{Context, SessionScope};
use crate::error::{Error, ErrorKind};
use crate::proto::opdbus::agent::context_manager::v1::Scope;

/// Whose contexts are meant.
#[derive(Clone, Debug)]
pub(super) struct Space {
    pub(super) uid: u32,
    /// The session's id; empty for the user's own contexts.
    pub(super) session: Arc<str>,
}

impl Space {
    /// The contexts of a user alone.
    pub(super) fn user(uid: u32) -> Self {
        Self { uid, session: Arc::default() }
    }

    /// The contexts of a session.
    pub(super) fn session(session: &SessionScope) -> Self {
        Self { uid: session.uid, session: Arc::clone(&session.id) }
    }

    /// The contexts that a call means by `scope`.
    ///
    /// # Errors
    /// `Unauthenticated` if nobody vouches for the caller; `InvalidArgument` if the scope is not known,
    /// or is a session and the call is made in none.
    pub(super) fn of(context: &Context, scope: i32) -> Result<Self, Error> {
        let uid = context.caller.uid().ok_or_else(|| {
            Error::new(ErrorKind::Unauthenticated, "the contexts of nobody cannot be reached")
        })?;
        let scope = Scope::try_from(scope)
            .map_err(|_| Error::invalid("scope", "is none that this version knows"))?;
        match scope {
            Scope::Unspecified | Scope::User => Ok(Self::user(uid)),
            Scope::Session => {
                context.session_scope().map(|session| Self::session(&session)).ok_or_else(|| {
                    Error::invalid(
                        "session-id",
                        "must name a session for this scope: as the metadata opdbus-session-id on \
                         gRPC, as the option session-id on D-Bus",
                    )
                })
            }
        }
    }
}
