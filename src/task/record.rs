//! A task as the contract has it, which is also how it is stored. It changes nothing.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::origin::Origin;
use super::state::{Progress, Snapshot, State};
use crate::call::{Attested, Caller, Identity, OnDisconnect, Transport};
use crate::contract::{Operation, task_path};
use crate::error::{Error, ErrorKind};
use crate::proto::opdbus::v1 as proto;
use crate::storage::time;

/// No end that lies further away than this is foretold.
const FORETOLD_MAX: Duration = Duration::from_secs(10 * 365 * 86_400);
/// A moment as it is stored.
pub(super) fn micros(at: SystemTime) -> i64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

fn timestamp(at: SystemTime) -> prost_types::Timestamp {
    time::timestamp(micros(at))
}

fn moment(at: prost_types::Timestamp) -> SystemTime {
    // What lies before 1970 was not written by us.
    SystemTime::try_from(at).unwrap_or(UNIX_EPOCH)
}

pub(super) fn contract(origin: &Origin, now: &Snapshot) -> proto::Task {
    let is_over = now.state.is_final();
    let has_messages = now.first_seq < now.next_seq;
    proto::Task {
        id: origin.id.to_string(),
        agent: origin.operation.agent.clone(),
        operation: origin.operation.name.clone(),
        state: now.state.contract().into(),
        transport: origin.transport.name().to_owned(),
        session: origin.session.as_deref().unwrap_or_default().to_owned(),
        started_by_uid: origin.caller.uid().unwrap_or(u32::MAX),
        started_at: Some(timestamp(origin.started_at)),
        ended_at: now.ended_at.map(timestamp),
        deadline: origin.deadline.map(timestamp),
        expected_end: expected_end(now, SystemTime::now()).map(timestamp),
        progress: now.progress.as_ref().map(|progress| proto::TaskProgress {
            done: progress.done,
            total: progress.total,
            unit: progress.unit.to_string(),
        }),
        first_seq: if has_messages { now.first_seq } else { 0 },
        last_seq: now.next_seq - 1,
        bytes: now.bytes,
        failure: now.failure.as_ref().map(Into::into),
        cancelable: !is_over,
        object_path: task_path(&origin.id),
        on_disconnect: match origin.on_disconnect {
            OnDisconnect::Continue => proto::OnDisconnect::Continue,
            OnDisconnect::Cancel => proto::OnDisconnect::Cancel,
        }
        .into(),
    }
}

/// When it will have ended if it goes on as it did since it began.
pub(super) fn expected_end(now: &Snapshot, at: SystemTime) -> Option<SystemTime> {
    let progress = now.progress.as_ref().filter(|progress| progress.done > 0)?;
    if now.state.is_final() {
        return None;
    }
    let took = at.duration_since(now.began_at?).ok()?;
    let rest = (progress.total - progress.done) as f64 / progress.done as f64;
    let left = Duration::try_from_secs_f64(took.as_secs_f64() * rest).ok()?;
    if left > FORETOLD_MAX { None } else { at.checked_add(left) }
}

/// The task that a record tells of; `at` is when the service found it. None if it is no record that
/// this build can serve. One that had not ended did so with the service.
pub(super) fn restore(
    record: proto::Task,
    key: i64,
    operation: &Arc<Operation>,
    at: SystemTime,
) -> Option<(Origin, Snapshot)> {
    let on_disconnect = match record.on_disconnect() {
        proto::OnDisconnect::Cancel => OnDisconnect::Cancel,
        proto::OnDisconnect::Continue | proto::OnDisconnect::Unspecified => OnDisconnect::Continue,
    };
    let recorded = State::recorded(record.state());
    let transport = Transport::ALL.into_iter().find(|known| known.name() == record.transport)?;
    let identity = Identity::User { uid: record.started_by_uid, gid: None };
    let session = Some(record.session).filter(|session| !session.is_empty());
    let origin = Origin {
        id: record.id.into(),
        key,
        operation: Arc::clone(operation),
        caller: Arc::new(Caller::new(identity, Attested::Service, "")),
        transport,
        session: session.map(Into::into),
        on_disconnect,
        started_at: moment(record.started_at?),
        deadline: record.deadline.map(moment),
        is_transient: false,
    };
    let ended_with_service =
        || Error::new(ErrorKind::Unavailable, "the service ended while it ran");
    let next_seq = record.last_seq.checked_add(1)?;
    let now = Snapshot {
        state: recorded.unwrap_or(State::Failed),
        failure: match recorded {
            Some(_) => record.failure.map(Into::into),
            None => Some(ended_with_service()),
        },
        progress: record.progress.map(|progress| Progress {
            done: progress.done.min(progress.total),
            total: progress.total,
            unit: progress.unit.into(),
        }),
        began_at: None,
        ended_at: Some(record.ended_at.map_or(at, moment)),
        first_seq: if record.first_seq == 0 { next_seq } else { record.first_seq },
        next_seq,
        bytes: record.bytes,
    };
    Some((origin, now))
}
