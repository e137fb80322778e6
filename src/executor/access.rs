//! Who may call what: the one place where that is decided.

use crate::call::{Caller, Identity};
use crate::contract::Operation;
use crate::error::{Error, ErrorKind};

/// Who may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Every user of this machine may call every operation, as himself.
    AllowLocal,
    /// Nobody may call anything.
    DenyAll,
}

impl Policy {
    /// Decides on one call.
    ///
    /// # Errors
    /// `Unauthenticated` if nobody vouches for the caller, `AccessDenied` if the policy refuses.
    pub(super) fn authorize(self, caller: &Caller, operation: &Operation) -> Result<(), Error> {
        match (self, caller.identity) {
            (Self::AllowLocal, Identity::User { .. }) => Ok(()),
            (Self::AllowLocal, Identity::Unknown) => Err(Error::new(
                ErrorKind::Unauthenticated,
                "the service cannot tell which user is calling",
            )),
            (Self::DenyAll, _) => Err(Error::new(
                ErrorKind::AccessDenied,
                format!("{}.{} is not allowed", operation.agent, operation.name),
            )),
        }
    }
}
