//! Shells that are kept open, with their folder, variables and functions, for one text after the other.
//! What a request says about a shell is checked here; how one is driven is `kept`'s.

mod kept;
mod kind;
mod life;
mod marker;
mod table;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::policy::{self, Program};
use super::programs::check_tag;
use super::{record, run};
use crate::agents::WorkerSettings;
use crate::call::{Context, SessionScope};
use crate::contract::Replies;
use crate::error::{Error, ErrorKind};
use crate::process::{Limits, Runner, Spec};
use crate::proto::opdbus::agent::commands::v1::{
    CloseShellRequest, CloseShellResponse, ListShellsRequest, ListShellsResponse, OpenShellRequest,
    OpenShellResponse, Run, RunInShellRequest, RunInShellResponse, Stdin,
};
use crate::storage::time;

use kept::Kept;
use kind::Kind;
use life::{Life, Order, Text};
use table::{Entry, State, Table, gone};

/// How many bytes a text for a shell has at most (`commands.script_bytes`).
const SCRIPT_BYTES: usize = 1 << 20;
/// How many orders wait for a shell at most: one text, and those who close it.
const ORDERS: usize = 8;
/// How many chunks wait for the reader of a text's output.
const CHUNKS: usize = 4;
/// How long before the call's own deadline a text's time is over, so that the call can still say so.
const BEFORE_DEADLINE: Duration = Duration::from_secs(1);

/// The shells of a worker.
pub(super) struct Shells {
    runner: Runner,
    settings: Arc<ArcSwap<WorkerSettings>>,
    table: Arc<Table>,
}

impl Shells {
    pub(super) fn new(runner: Runner, settings: Arc<ArcSwap<WorkerSettings>>) -> Self {
        Self { runner, settings, table: Arc::default() }
    }

    /// Opens a shell.
    pub(super) async fn open(
        &self,
        context: &Context,
        request: OpenShellRequest,
    ) -> Result<OpenShellResponse, Error> {
        let kinds = Kind::named(&request.shell)?;
        let asked = request.run.clone().unwrap_or_default();
        without_input(&asked)?;
        check_tag(&request.tag)?;
        let settings = self.settings.load_full();
        let place = self.table.reserve(settings.commands.max_shells)?;
        let mut started = Err(Error::internal("no shell is asked for"));
        for &kind in kinds {
            let config = &settings.commands;
            let spec = run::spec(vec![kind.name().into()], &request.directory, &asked, config)?;
            started = self.start(context, &settings, kind, spec).await;
            let is_missing = |error: &Error| error.kind() == ErrorKind::BackendMissing;
            if !started.as_ref().is_err_and(is_missing) {
                break;
            }
        }
        let Started { kind, limits, kept, directory } = started?;
        let (orders, received) = mpsc::channel(ORDERS);
        let now = time::now();
        let entry = Arc::new(Entry {
            id: place.id.clone(),
            shell: kind.name(),
            tag: request.tag,
            pid: u32::try_from(kept.running.pid()).unwrap_or_default(),
            opened_at: now,
            sandbox: record::sandbox(kept.running.report()),
            limits,
            session: context.session_scope(),
            orders,
            state: Mutex::new(State { directory, used_at: now, busy: false, runs: 0 }),
        });
        place.show(&entry);
        let shell = entry.shown();
        let idle = settings.commands.shell_idle;
        tokio::spawn(Life { kept, entry, place, orders: received, idle }.live());
        Ok(OpenShellResponse { shell: Some(shell) })
    }

    async fn start(
        &self,
        context: &Context,
        settings: &Arc<WorkerSettings>,
        kind: Kind,
        spec: Spec,
    ) -> Result<Started, Error> {
        // What is fixed for each shell is nothing to judge; the texts come later.
        let program = Program { is_text: true, reads_input: false };
        let judge = policy::judge(Arc::clone(settings), context, program);
        let judged = tokio::task::spawn_blocking(move || judge(&spec).map(|()| spec)).await;
        let mut spec = judged.map_err(|_| Error::internal("judging a shell broke off"))??;
        spec.argv = kind.argv().into_iter().map(Into::into).collect();
        let limits = spec.limits.clone();
        let (kept, directory) = Kept::start(&self.runner, kind, spec).await?;
        Ok(Started { kind, limits, kept, directory })
    }

    /// Runs a text in a shell. If the call is given up, the text is interrupted.
    pub(super) async fn run(
        &self,
        context: &Context,
        request: RunInShellRequest,
        replies: Replies<RunInShellResponse>,
    ) -> Result<(), Error> {
        let RunInShellRequest { id, script, timeout } = request;
        let until = until(run::time(timeout, "timeout")?, context.deadline)?;
        check(&script)?;
        let entry = self.table.get(&id)?;
        entry.claim()?;
        let (to, mut printed) = mpsc::channel(CHUNKS);
        let (done, outcome) = oneshot::channel();
        let order = Order::Run(Text { script, until, to, done });
        // Only those who close it can be before this one.
        entry.orders.try_send(order).map_err(|_| gone(&id))?;
        while let Some(chunk) = printed.recv().await {
            let chunk = Some(record::chunk(chunk));
            replies.send(RunInShellResponse { chunk, done: None }).await?;
        }
        let done = outcome.await.map_err(|_| gone(&id))??;
        replies.send(RunInShellResponse { chunk: None, done: Some(done) }).await
    }

    /// Ends a shell.
    pub(super) async fn close(
        &self,
        _context: &Context,
        request: CloseShellRequest,
    ) -> Result<CloseShellResponse, Error> {
        let entry = self.table.get(&request.id)?;
        let ended = entry.close().await?;
        Ok(CloseShellResponse { ended: Some(record::ended(&ended, &entry.limits)) })
    }

    /// Lists the shells.
    pub(super) async fn list(
        &self,
        _context: &Context,
        _request: ListShellsRequest,
    ) -> Result<ListShellsResponse, Error> {
        let shells = self.table.all().iter().map(|entry| entry.shown()).collect();
        std::future::ready(Ok(ListShellsResponse { shells })).await
    }

    /// Ends the shells of a session.
    pub(super) async fn session_ended(&self, session: &SessionScope) {
        let mut shells = self.table.all();
        shells.retain(|entry| entry.session.as_ref() == Some(session));
        let ends = shells.iter().map(|entry| entry.close());
        for ended in join_all(ends).await {
            // One that has ended meanwhile is not there to be closed.
            if let Err(error) = ended
                && error.kind() != ErrorKind::NotFound
            {
                tracing::warn!(%error, "a shell of a session that has ended");
            }
        }
    }

    /// How many shells there are.
    pub(super) fn count(&self) -> usize {
        self.table.count()
    }
}

/// A shell that was started.
struct Started {
    kind: Kind,
    limits: Limits,
    kept: Kept,
    directory: String,
}

/// A shell reads its orders where a program has its input.
fn without_input(run: &Run) -> Result<(), Error> {
    let none = |field: &str| Err(Error::invalid(field, "a shell that is kept has none"));
    match run.stdin() {
        Stdin::Unspecified | Stdin::Null => {}
        Stdin::Pipe | Stdin::Terminal => return none("run.stdin"),
    }
    match () {
        () if !run.input.is_empty() => none("run.input"),
        () if run.terminal.is_some() => none("run.terminal"),
        () if run.keep_bytes != 0 => none("run.keep_bytes"),
        () => Ok(()),
    }
}

fn check(script: &str) -> Result<(), Error> {
    if script.contains('\0') {
        return Err(Error::invalid("script", "has a zero byte"));
    }
    if script.len() > SCRIPT_BYTES {
        let text = format!("script: has {} bytes", script.len());
        return Err(Error::limit("commands.script_bytes", SCRIPT_BYTES, text));
    }
    Ok(())
}

/// When the time of a text is over.
fn until(timeout: Option<Duration>, deadline: Option<Instant>) -> Result<Option<Instant>, Error> {
    if timeout.is_some_and(|timeout| timeout.is_zero()) {
        return Err(Error::invalid("timeout", "must be more than 0"));
    }
    let now = Instant::now();
    // One that is beyond all times is none.
    let asked = timeout.and_then(|timeout| now.checked_add(timeout));
    let before = deadline.map(|deadline| {
        let left = deadline.saturating_duration_since(now);
        now + (left - BEFORE_DEADLINE.min(left / 2))
    });
    Ok(asked.into_iter().chain(before).min())
}
