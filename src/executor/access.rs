//! Who may call what: the one place where that is decided.

use std::borrow::Cow;

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
    /// Decides on one call; gives the rule that allows it, for the audit log.
    ///
    /// # Errors
    /// `Unauthenticated` if nobody vouches for the caller, `AccessDenied` if the policy refuses; the
    /// error bears the rule.
    pub(super) fn authorize(
        self,
        caller: &Caller,
        operation: &Operation,
    ) -> Result<Cow<'static, str>, Error> {
        match (self, caller.identity) {
            (Self::AllowLocal, Identity::User { .. }) => Ok(Cow::Borrowed(ALLOW_LOCAL)),
            (Self::AllowLocal, Identity::Unknown) => Err(Error::new(
                ErrorKind::Unauthenticated,
                "the service cannot tell which user is calling",
            )
            .refused_by(ALLOW_LOCAL)),
            (Self::DenyAll, _) => Err(Error::new(
                ErrorKind::AccessDenied,
                format!("{}.{} is not allowed", operation.agent, operation.name),
            )
            .refused_by("executor.policy: deny-all")),
        }
    }
}

const ALLOW_LOCAL: &str = "executor.policy: allow-local";
