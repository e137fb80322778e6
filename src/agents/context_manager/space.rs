//! Whose contexts a call sees: the user's own, or those of one of his sessions. Whether a session is
//! the caller's was checked before.

use std::sync::Arc;

use super::time;
use crate::call::{Context, SessionScope};
use crate::error::{Error, ErrorKind};
use crate::proto::opdbus::agent::context_manager::v1::Scope;

/// Whose contexts are meant.
#[derive(Clone, Debug)]
pub(super) struct Space {
    pub(super) uid: u32,
    /// As [`Run::session`] writes it; empty for the user's own contexts.
    pub(super) session: Arc<str>,
}

impl Space {
    /// The contexts of a user alone.
    pub(super) fn user(uid: u32) -> Self {
        Self { uid, session: Arc::default() }
    }
}

/// The time from the opening of the store to its end. Sessions do not outlive it, and a client may
/// choose the id of an earlier one again, so the stored name of a session begins with the run's.
#[derive(Clone, Debug)]
pub(super) struct Run(Arc<str>);

impl Run {
    /// A run that begins.
    pub(super) fn begin() -> Self {
        Self(format!("{:020}", time::now()).into())
    }

    /// The contexts of a session.
    pub(super) fn session(&self, session: &SessionScope) -> Space {
        Space { uid: session.uid, session: format!("{}/{}", self.0, session.id).into() }
    }

    /// What the stored names of this run's sessions are not below, and what they are below.
    pub(super) fn bounds(&self) -> (String, String) {
        (format!("{}/", self.0), format!("{}0", self.0))
    }

    /// The contexts that a call means by `scope`.
    ///
    /// # Errors
    /// `Unauthenticated` if nobody vouches for the caller; `InvalidArgument` if the scope is not known,
    /// or is a session and the call is made in none.
    pub(super) fn space(&self, context: &Context, scope: i32) -> Result<Space, Error> {
        let uid = context.caller.uid().ok_or_else(|| {
            Error::new(ErrorKind::Unauthenticated, "the contexts of nobody cannot be reached")
        })?;
        let scope = Scope::try_from(scope)
            .map_err(|_| Error::invalid("scope", "is none that this version knows"))?;
        match scope {
            Scope::Unspecified | Scope::User => Ok(Space::user(uid)),
            Scope::Session => {
                context.session_scope().map(|session| self.session(&session)).ok_or_else(|| {
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
