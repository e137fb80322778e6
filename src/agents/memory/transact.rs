//! Transact: compares versions and runs one of two lists of actions.

use super::change::Change;
use super::forget::Forget;
use super::increment::Increment;
use super::recall::Recall;
use super::remember::Remember;
use super::{fields, place};
use crate::error::Error;
use crate::proto::opdbus::agent::memory::v1 as proto;
use crate::proto::opdbus::agent::memory::v1::action::Action as Asked;
use crate::proto::opdbus::agent::memory::v1::action_result::Result as Outcome;
use crate::proto::opdbus::agent::memory::v1::{ActionResult, TransactRequest, TransactResponse};
use crate::storage::Failure;

/// How many comparisons, and how many actions in each list, a transaction has at most.
const MAX_ACTIONS: usize = 128;

/// How many actions of a list are patterns at most: each may look at all of a user's keys, and all
/// other writes wait for a transaction.
const MAX_PATTERNS: usize = 1;

/// A request that has been checked.
pub(super) struct Transact {
    compare: Vec<proto::Compare>,
    success: Vec<Action>,
    failure: Vec<Action>,
}

enum Action {
    Remember(Remember),
    Forget(Forget),
    Increment(Increment),
    Recall(Recall),
}

impl Transact {
    pub(super) fn check(request: TransactRequest) -> Result<Self, Error> {
        let TransactRequest { compare, success, failure, .. } = request;
        check_length("compare", compare.len())?;
        for (index, compare) in compare.iter().enumerate() {
            fields::key(&format!("compare[{index}]."), &compare.key)?;
        }
        Ok(Self {
            compare,
            success: check_list("success", success)?,
            failure: check_list("failure", failure)?,
        })
    }

    pub(super) fn apply(&self, change: &mut Change<'_>) -> Result<TransactResponse, Failure> {
        let mut succeeded = true;
        for compare in &self.compare {
            let current = change.live(&compare.key)?.map_or(0, |entry| entry.version);
            succeeded &= compare.version == current.unsigned_abs();
        }
        let (name, actions) =
            if succeeded { ("success", &self.success) } else { ("failure", &self.failure) };
        let mut results = Vec::with_capacity(actions.len());
        for (index, action) in actions.iter().enumerate() {
            let outcome = action
                .apply(change)
                .map_err(|failure| place::failed("action", format!("{name}[{index}]"), failure))?;
            results.push(ActionResult { result: Some(outcome) });
        }
        Ok(TransactResponse { succeeded, results })
    }
}

impl Action {
    fn check(at: &str, action: proto::Action) -> Result<Self, Error> {
        let nested = |name: &str| format!("{at}.{name}.");
        match action.action {
            Some(Asked::Remember(request)) => {
                let at = nested("remember");
                no_scope(&at, request.scope, &request.namespace)?;
                Remember::check(&at, request).map(Self::Remember)
            }
            Some(Asked::Forget(request)) => {
                let at = nested("forget");
                no_scope(&at, request.scope, &request.namespace)?;
                Forget::check(&at, request).map(Self::Forget)
            }
            Some(Asked::Increment(request)) => {
                let at = nested("increment");
                no_scope(&at, request.scope, &request.namespace)?;
                Increment::check(&at, request).map(Self::Increment)
            }
            Some(Asked::Recall(request)) => {
                let at = nested("recall");
                no_scope(&at, request.scope, &request.namespace)?;
                Recall::check(&at, request).map(Self::Recall)
            }
            None => {
                Err(Error::invalid(at, "must be one of remember, forget, increment and recall"))
            }
        }
    }

    fn apply(&self, change: &mut Change<'_>) -> Result<Outcome, Failure> {
        Ok(match self {
            Self::Remember(action) => Outcome::Remember(action.apply(change)?),
            Self::Forget(action) => Outcome::Forget(action.apply(change)?),
            Self::Increment(action) => Outcome::Increment(action.apply(change)?),
            Self::Recall(action) => Outcome::Recall(action.apply(
                change.database,
                change.config,
                &change.scope,
                change.now,
            )?),
        })
    }
}

fn check_list(name: &str, actions: Vec<proto::Action>) -> Result<Vec<Action>, Error> {
    check_length(name, actions.len())?;
    let mut checked = Vec::with_capacity(actions.len());
    let mut patterns = 0;
    for (index, action) in actions.into_iter().enumerate() {
        let action = Action::check(&format!("{name}[{index}]"), action)?;
        patterns += usize::from(matches!(&action, Action::Forget(forget) if forget.is_glob()));
        if patterns > MAX_PATTERNS {
            return Err(Error::invalid(
                format!("{name}[{index}].forget.glob"),
                "is the second one; a list has at most one pattern, because each looks at many keys",
            ));
        }
        checked.push(action);
    }
    Ok(checked)
}

fn check_length(name: &str, length: usize) -> Result<(), Error> {
    if length > MAX_ACTIONS {
        return Err(Error::invalid(
            name,
            format_args!("must be {MAX_ACTIONS} at most, not {length}"),
        ));
    }
    Ok(())
}

fn no_scope(at: &str, scope: i32, namespace: &str) -> Result<(), Error> {
    let field = match (scope, namespace) {
        (0, "") => return Ok(()),
        (0, _) => "namespace",
        (_, _) => "scope",
    };
    Err(Error::invalid(format!("{at}{field}"), "must be empty; the transaction names it"))
}
