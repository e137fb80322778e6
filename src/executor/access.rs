//! Who may call what: the one place where that is decided.

use crate::call::{Caller, Identity, Scope};
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

/// Holds a caller with a token or certificate to what that is limited to.
///
/// # Errors
/// `AccessDenied` if the operation lies outside.
pub(super) fn within_scope(caller: &Caller, operation: &Operation) -> Result<(), Error> {
    let allows = |scope: &Scope| scope.allows(&operation.agent, &operation.name, operation.risk);
    if caller.scope.as_deref().is_none_or(allows) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::AccessDenied,
        format!("{} is not for {}.{}", caller.attested, operation.agent, operation.name),
    ))
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
