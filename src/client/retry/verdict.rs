//! What a failure lets a client do: whether the call can have begun, and whether another try, the same
//! way or another, can have another outcome. It is all here, as one table.

use crate::client::{Error, Failure};
use crate::contract::Idempotency;
use crate::error::ErrorKind;

/// Whether the call may have been carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It was not.
    None,
    /// Nobody knows.
    Unknown,
}

/// What may come of another try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    /// Another outcome, the same way or another.
    AnyWay,
    /// Another outcome, but only after the time that the service names.
    WhenTold,
    /// Another outcome, but only over another way.
    OtherWay,
    /// Another outcome, over gRPC alone: D-Bus has nothing more to give.
    OverGrpc,
    /// The same.
    Same,
}

/// What a failure says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) effect: Effect,
    pub(crate) again: Again,
    /// True if it is the way that failed, rather than the call.
    pub(crate) is_ways: bool,
}

impl Verdict {
    const fn new(effect: Effect, again: Again, is_ways: bool) -> Self {
        Self { effect, again, is_ways }
    }

    /// The verdict on an error.
    pub(crate) fn on(error: &Error) -> Self {
        match error {
            Error::Unreachable(_) => Self::new(Effect::None, Again::AnyWay, true),
            Error::Failed(failure) if failure.lost && failure.kind == ErrorKind::Unavailable => {
                Self::new(Effect::Unknown, Again::AnyWay, true)
            }
            // The time is over for every way, or the call was given up for another reason.
            Error::Failed(failure) if failure.lost => {
                let is_ways = failure.kind == ErrorKind::DeadlineExceeded;
                Self::new(Effect::Unknown, Again::Same, is_ways)
            }
            Error::Failed(failure) => Self::said(failure),
        }
    }

    /// The verdict on what the service itself said.
    fn said(failure: &Failure) -> Self {
        match failure.kind {
            ErrorKind::Unavailable | ErrorKind::BackendUnavailable => {
                Self::new(Effect::None, Again::AnyWay, false)
            }
            // A quota or size does not go away by waiting; where waiting helps, the service says so.
            ErrorKind::LimitExceeded => Self::new(Effect::None, Again::WhenTold, false),
            ErrorKind::UnknownAgent | ErrorKind::UnknownOperation => {
                Self::new(Effect::None, Again::OtherWay, false)
            }
            ErrorKind::Migrated => Self::new(Effect::None, Again::OverGrpc, false),
            ErrorKind::AccessDenied
            | ErrorKind::Unauthenticated
            | ErrorKind::ApprovalRequired
            | ErrorKind::InvalidArgument => Self::new(Effect::None, Again::Same, false),
            ErrorKind::AlreadyExists
            | ErrorKind::BackendFailed
            | ErrorKind::BackendMissing
            | ErrorKind::Cancelled
            | ErrorKind::Conflict
            | ErrorKind::DeadlineExceeded
            | ErrorKind::Internal
            | ErrorKind::NotFound
            | ErrorKind::PathOutsideRoot
            | ErrorKind::SandboxUnavailable => Self::new(Effect::Unknown, Again::Same, false),
        }
    }

    /// True if making the call a second time has no effect that making it once has not.
    pub(crate) const fn is_safe(self, idempotency: Idempotency, has_request_id: bool) -> bool {
        match (self.effect, idempotency) {
            (Effect::None, _)
            | (Effect::Unknown, Idempotency::NoSideEffects | Idempotency::Idempotent) => true,
            (Effect::Unknown, Idempotency::Unknown) => has_request_id,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Attempt;

    fn unreachable() -> Error {
        Error::Unreachable(vec![Attempt { target: "gRPC".into(), problem: "refused".into() }])
    }

    #[test]
    fn what_cannot_have_begun_may_be_made_again_whatever_it_is() {
        for error in [
            unreachable(),
            Failure::new(ErrorKind::Unavailable, "stopping").into(),
            Failure::new(ErrorKind::UnknownOperation, "what").into(),
        ] {
            assert!(Verdict::on(&error).is_safe(Idempotency::Unknown, false), "{error}");
        }
    }

    #[test]
    fn what_may_have_been_carried_out_needs_a_reason() {
        let verdict = Verdict::on(&Failure::lost("reset").into());
        assert_eq!((verdict.again, verdict.is_ways), (Again::AnyWay, true));
        assert!(!verdict.is_safe(Idempotency::Unknown, false));
        assert!(verdict.is_safe(Idempotency::Unknown, true));
        assert!(verdict.is_safe(Idempotency::Idempotent, false));
        assert!(verdict.is_safe(Idempotency::NoSideEffects, false));
    }

    #[test]
    fn a_refusal_or_the_end_of_the_time_is_not_tried_anywhere_else() {
        for kind in [
            ErrorKind::AccessDenied,
            ErrorKind::Unauthenticated,
            ErrorKind::ApprovalRequired,
            ErrorKind::DeadlineExceeded,
            ErrorKind::Cancelled,
            ErrorKind::NotFound,
            ErrorKind::Internal,
        ] {
            let verdict = Verdict::on(&Failure::new(kind, "no").into());
            assert_eq!(verdict.again, Again::Same, "{kind:?}");
        }
        let time = Failure::no_answer(std::time::Duration::from_secs(1)).into();
        assert_eq!(Verdict::on(&time).again, Again::Same);
    }

    #[test]
    fn only_what_the_way_did_counts_against_the_way() {
        for kind in ErrorKind::ALL {
            let verdict = Verdict::on(&Failure::new(kind, "said").into());
            assert!(!verdict.is_ways, "{kind:?}");
        }
        assert!(Verdict::on(&unreachable()).is_ways);
    }
}
