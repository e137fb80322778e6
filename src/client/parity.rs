//! Compares the answers that one call without side effects gets over two clients, whatever ways they take.
//! Which calls are worth it, its user says.

use std::borrow::Cow;

use bytes::Bytes;

use super::call::{Call, CallOptions, Payload, Rpc};
use super::error::Error;
use super::shadow::{self, Compared, Volatile, differences};
use super::{AgentClient, Failure};
use crate::contract::{Idempotency, Operation};
use crate::error::ErrorKind;

/// What comparing one call found.
#[derive(Clone, Debug)]
pub struct Parity {
    /// The error that both gave, if they did.
    pub error: Option<ErrorKind>,
    /// Where they differ.
    pub differences: Vec<Difference>,
    /// The places that were not compared, since they differ from call to call over one way.
    pub volatile: usize,
}

/// Where two answers differ, without the values themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The place, as `entries[3].version`; `error` if only one of them is one.
    pub field: String,
    /// What the one has there, as `text of 12 bytes, sha256 3f1a9c22` or `nothing`.
    pub one: String,
    /// What the other has there.
    pub other: String,
}

/// How often a call is made to know what of its answer differs from call to call.
const ROUNDS: usize = 3;

/// Makes a call over `one`, over `other` and over `one` again, and compares. What differs between the two
/// answers over one way is left out. As long as there are differences this is repeated, a few times:
/// what differs only now and then differs over one way as well.
///
/// # Errors
/// `InvalidArgument` for an operation that has side effects or a stream; that a service cannot be reached
/// or is too busy, which says nothing of either way.
///
/// # Cancel safety
/// The call that is under way is given up.
pub async fn compare(
    one: &AgentClient,
    other: &AgentClient,
    operation: &Operation,
    request: Bytes,
    options: &CallOptions,
) -> Result<Parity, Error> {
    if operation.idempotency != Idempotency::NoSideEffects || operation.is_streaming() {
        let text = format!(
            "operation: {}.{} has side effects or a stream, and is not called twice",
            operation.agent, operation.name
        );
        return Err(Failure::new(ErrorKind::InvalidArgument, text).into());
    }
    let call = Call {
        rpc: Cow::Owned(Rpc::from(operation)),
        request: Payload::Message(request),
        options: options.clone(),
    };
    let read = |answer: Result<Payload, Error>| -> Result<Compared, Error> {
        if shadow::says_nothing(&answer)
            && let Err(error) = answer
        {
            return Err(error);
        }
        Ok(answer.and_then(|answer| {
            let decoded = shadow::decode(&operation.output, &answer);
            decoded.map_err(|problem| Failure::internal(problem).into())
        }))
    };
    let mut volatile = Volatile::default();
    let mut parity = Parity { error: None, differences: Vec::new(), volatile: 0 };
    for _ in 0..ROUNDS {
        let first = read(one.call(call.clone()).await)?;
        let second = read(other.call(call.clone()).await)?;
        let again = read(one.call(call.clone()).await)?;
        volatile.learn(&differences(&first, &again));
        let (left_out, found): (Vec<_>, Vec<_>) =
            differences(&first, &second).into_iter().partition(|place| volatile.holds(place));
        parity.error = match &first {
            Err(Error::Failed(failure)) => Some(failure.kind),
            Err(Error::Unreachable(_)) | Ok(_) => None,
        };
        parity.differences = found
            .into_iter()
            .map(|place| Difference { field: place.field, one: place.one, other: place.other })
            .collect();
        parity.volatile = left_out.len();
        if parity.differences.is_empty() {
            break;
        }
    }
    Ok(parity)
}
