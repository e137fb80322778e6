//! The calls that must be approved: asked for, decided, claimed, forgotten. Who may decide is not known
//! here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::broadcast;
use tokio::time::Instant;
use uuid::Uuid;

use super::Config;
use super::record::{Record, State, Wanted};
use crate::audit::Hash;
use crate::call::Approval;
use crate::contract::Operation;
use crate::error::{Error, ErrorKind};
use crate::metrics::{ApprovalEvent, Metrics};

/// How many changes a reader may be behind before it misses some.
const CHANGES_KEPT: usize = 256;

/// All of them.
pub(in crate::executor) struct Approvals {
    table: Mutex<Table>,
    changes: broadcast::Sender<Arc<Record>>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Table {
    records: HashMap<Box<str>, Record>,
    asked: u64,
}

/// What somebody decides.
pub(super) enum Ruling {
    Approve,
    Reject { reason: String },
}

impl Approvals {
    pub(in crate::executor) fn new(metrics: Arc<Metrics>) -> Self {
        Self { table: Mutex::default(), changes: broadcast::channel(CHANGES_KEPT).0, metrics }
    }

    /// Notes that a call must be approved. The same call, made again while it waits, is the same.
    ///
    /// # Errors
    /// `LimitExceeded` if there are too many, of this caller or in all.
    pub(super) fn ask(&self, wanted: Wanted, config: &Config) -> Result<Record, Error> {
        let mut table = self.swept();
        let of_caller = table.records.values().filter(|record| record.wanted.uid == wanted.uid);
        let known = of_caller.clone().find(|record| {
            record.state == State::Pending && record.is_for(&wanted.operation, wanted.digest)
        });
        if let Some(known) = known {
            return Ok(known.clone());
        }
        if of_caller.count() >= config.max_per_caller {
            let problem = "too many calls of this user wait for approval";
            return Err(Error::limit("approvals.max_per_caller", config.max_per_caller, problem));
        }
        if table.records.len() >= config.max {
            let problem = "too many calls wait for approval";
            return Err(Error::limit("approvals.max", config.max, problem));
        }
        table.asked += 1;
        // Nobody can guess it, although it opens nothing to anybody but its caller.
        let id: Box<str> = Uuid::new_v4().simple().to_string().into();
        let record = Record::new(table.asked, id.clone(), wanted, config.expire);
        table.records.insert(id, record.clone());
        self.tell(&record, ApprovalEvent::Asked);
        self.count(&table);
        Ok(record)
    }

    /// Uses up the approval `id` for a call.
    ///
    /// # Errors
    /// `NotFound` if the user has none with this id; `InvalidArgument` if it is for another call;
    /// `ApprovalRequired` if nobody has decided yet; `AccessDenied` if it was rejected.
    pub(super) fn claim(
        &self,
        id: &str,
        uid: u32,
        operation: &Operation,
        digest: Hash,
    ) -> Result<Approval, Error> {
        let mut table = self.swept();
        let found = table.records.get_mut(id).filter(|record| record.wanted.uid == uid);
        let record = found.ok_or_else(|| unknown(id))?;
        if !record.is_for(operation, digest) {
            let problem = "is for another call or another request; repeat the very same call";
            return Err(Error::invalid("approval-id", problem));
        }
        let by = match &record.state {
            State::Pending => return Err(required(record)),
            State::Rejected { reason, .. } => {
                let because = if reason.is_empty() { String::new() } else { format!(": {reason}") };
                let text = format!("the call was rejected{because}");
                return Err(Error::new(ErrorKind::AccessDenied, text).with_fact("approval_id", id));
            }
            State::Approved { by } => *by,
            State::Used { .. } | State::Expired => return Err(unknown(id)),
        };
        record.state = State::Used { by };
        let used = table.records.remove(id);
        if let Some(used) = used {
            self.tell(&used, ApprovalEvent::Used);
        }
        self.count(&table);
        Ok(Approval { id: id.into(), by })
    }

    /// Approves or rejects.
    ///
    /// # Errors
    /// `NotFound` if there is none with this id; `Conflict` if that was done already.
    pub(super) fn decide(
        &self,
        id: &str,
        by: u32,
        ruling: Ruling,
        config: &Config,
    ) -> Result<Record, Error> {
        let mut table = self.swept();
        let record = table.records.get_mut(id).ok_or_else(|| unknown(id))?;
        let conflict = |state: &'static str| {
            let text = format!("the call was {state} already");
            Err(Error::new(ErrorKind::Conflict, text).with_fact("state", state))
        };
        let (state, event) = match (&record.state, ruling) {
            (State::Pending, Ruling::Approve) => (State::Approved { by }, ApprovalEvent::Approved),
            (State::Pending | State::Approved { .. }, Ruling::Reject { reason }) => {
                (State::Rejected { by, reason }, ApprovalEvent::Rejected)
            }
            (State::Approved { .. }, Ruling::Approve) => return conflict("approved"),
            (State::Rejected { .. }, _) => return conflict("rejected"),
            (State::Used { .. } | State::Expired, _) => return Err(unknown(id)),
        };
        record.state = state;
        record.renew(config.expire);
        let record = record.clone();
        self.tell(&record, event);
        self.count(&table);
        Ok(record)
    }

    /// The one with this id.
    pub(super) fn find(&self, id: &str) -> Option<Record> {
        self.swept().records.get(id).cloned()
    }

    /// All of them, the newest first.
    pub(super) fn all(&self) -> Vec<Record> {
        let mut records: Vec<Record> = self.swept().records.values().cloned().collect();
        records.sort_unstable_by_key(|record| std::cmp::Reverse(record.number));
        records
    }

    /// Tells every change from now on.
    pub(super) fn changes(&self) -> broadcast::Receiver<Arc<Record>> {
        self.changes.subscribe()
    }

    /// Forgets those whose time is over.
    pub(in crate::executor) fn sweep(&self) {
        drop(self.swept());
    }

    fn swept(&self) -> MutexGuard<'_, Table> {
        // No use of it leaves it half-changed, whatever panics elsewhere.
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let over = table.records.extract_if(|_, record| record.expires <= now);
        let over: Vec<Record> = over.map(|(_, record)| record).collect();
        for mut record in over {
            record.state = State::Expired;
            self.tell(&record, ApprovalEvent::Expired);
        }
        self.count(&table);
        table
    }

    fn tell(&self, record: &Record, event: ApprovalEvent) {
        self.metrics.approval(event);
        let Wanted { uid, operation, .. } = &record.wanted;
        tracing::info!(
            approval_id = %record.id,
            agent = operation.agent,
            operation = operation.name,
            caller_uid = uid,
            state = ?record.state,
            "{}.{} for uid {uid}: approval {} is {}",
            operation.agent,
            operation.name,
            record.id,
            event.name()
        );
        // Nobody listens: then nobody misses it.
        self.changes.send(Arc::new(record.clone())).ok();
    }

    fn count(&self, table: &Table) {
        let pending = table.records.values().filter(|record| record.state == State::Pending);
        self.metrics.approvals_pending().set(i64::try_from(pending.count()).unwrap_or(i64::MAX));
    }
}

/// The answer to a call that must be approved.
pub(super) fn required(record: &Record) -> Error {
    Error::approval_required(record.wanted.preview.as_str())
        .with_fact("approval_id", &*record.id)
        .with_fact("expires", record.expiry())
}

pub(super) fn unknown(id: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no approval {id}"))
        .with_fact("approval_id", id)
}
