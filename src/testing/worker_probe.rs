//! The `worker_probe` agent, which tests drive in workers. Part of a build only with feature `testing`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use nix::sys::resource::{Resource, getrlimit};
use serde::Serialize;
use tokio::time::Instant;

use crate::call::{Context, SessionScope};
use crate::contract::{Agent, Replies, Requests};
use crate::error::{Error, ErrorKind};
use crate::process::{self, Runner, Spec};
use crate::proto::opdbus::agent::worker_probe::v1::{
    BlockRequest, BlockResponse, BlocksRequest, BlocksResponse, ChatRequest, ChatResponse,
    CountRequest, CountResponse, EchoRequest, EchoResponse, FailRequest, FailResponse,
    StartProgramRequest, StartProgramResponse, StepsRequest, StepsResponse, SumRequest,
    SumResponse, WaitRequest, WaitResponse, WhoAmIRequest, WhoAmIResponse, WhoAmIThereRequest,
    WhoAmIThereResponse, WorkerProbeService, WorkerProbeServiceAgent,
};

/// The variables whose values are told.
const VARIABLES: [&str; 4] = ["HOME", "LOGNAME", "SHELL", "USER"];

/// The agent: what it was built from, and its counters.
pub(super) struct WorkerProbe {
    profile: String,
    cgroup: Option<PathBuf>,
    /// As JSON, and where in memory they are.
    settings: Box<dyn Fn() -> (String, u64) + Send + Sync>,
    runner: Runner,
    programs: Arc<AtomicUsize>,
    started: AtomicU64,
    finished: AtomicU64,
    cancelled: AtomicU64,
    blocks: AtomicU64,
    sessions_ended: Mutex<Vec<String>>,
}

/// Counts a wait as cancelled unless it was let finish.
struct Wait<'a>(&'a WorkerProbe, bool);

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let counter = if self.1 { &self.0.finished } else { &self.0.cancelled };
        counter.fetch_add(1, Ordering::SeqCst);
    }
}

impl WorkerProbeService for WorkerProbe {
    async fn who_am_i(
        &self,
        context: &Context,
        _request: WhoAmIRequest,
    ) -> Result<WhoAmIResponse, Error> {
        let left = context.deadline.map(|at| at.saturating_duration_since(Instant::now()));
        let status = proc("status")?;
        let (settings, settings_at) = (self.settings)();
        let mut gids: Vec<u32> = words(&status, "Groups:").collect();
        gids.sort_unstable();
        Ok(WhoAmIResponse {
            uid: nix::unistd::geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
            gids,
            pid: std::process::id(),
            cwd: std::env::current_dir().map_err(|error| broken(&error))?.display().to_string(),
            environment: std::env::vars_os()
                .map(|(name, _)| (name.to_string_lossy().into_owned(), ()))
                .collect::<BTreeMap<_, _>>()
                .into_keys()
                .collect(),
            capabilities: status
                .lines()
                .filter_map(|line| line.strip_prefix("Cap")?.split_once(":\t"))
                .map(|(set, value)| (set.to_owned(), value.to_owned()))
                .collect(),
            no_new_privs: words(&status, "NoNewPrivs:").eq([1]),
            descriptors: descriptors()?,
            cgroups: proc("cgroup")?.lines().map(str::to_owned).collect(),
            core_bytes: getrlimit(Resource::RLIMIT_CORE).map_or(u64::MAX, |(soft, _)| soft),
            files: getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft),
            profile: self.profile.clone(),
            caller_uid: context.caller.uid().unwrap_or(u32::MAX),
            transport: context.transport.name().to_owned(),
            session: context.session.as_deref().unwrap_or_default().to_owned(),
            traceparent: context.traceparent.as_deref().unwrap_or_default().to_owned(),
            left: left.and_then(|left| left.try_into().ok()),
            task_id: context.task_id.as_deref().unwrap_or_default().to_owned(),
            variables: VARIABLES
                .into_iter()
                .filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)))
                .collect(),
            session_keyring: session_keyring(),
            cgroup: self.cgroup.as_deref().unwrap_or(Path::new("")).display().to_string(),
            settings,
            settings_at,
        })
    }

    async fn who_am_i_there(
        &self,
        _context: &Context,
        _request: WhoAmIThereRequest,
    ) -> Result<WhoAmIThereResponse, Error> {
        let uid = nix::unistd::geteuid().as_raw();
        let profile = self.profile.clone();
        Ok(WhoAmIThereResponse { uid, pid: std::process::id(), profile })
    }

    async fn nothing(&self, _context: &Context, _request: ()) -> Result<(), Error> {
        Ok(())
    }

    async fn echo(&self, _context: &Context, request: EchoRequest) -> Result<EchoResponse, Error> {
        Ok(EchoResponse { data: request.data })
    }

    async fn wait(&self, _context: &Context, request: WaitRequest) -> Result<WaitResponse, Error> {
        let duration = duration(request.duration)?;
        self.started.fetch_add(1, Ordering::SeqCst);
        let mut wait = Wait(self, false);
        tokio::time::sleep(duration).await;
        wait.1 = true;
        Ok(WaitResponse {})
    }

    async fn fail(&self, _context: &Context, request: FailRequest) -> Result<FailResponse, Error> {
        assert_ne!(request.reason, "PANIC", "asked to panic");
        let kind = ErrorKind::ALL
            .into_iter()
            .find(|kind| kind.reason() == request.reason)
            .ok_or_else(|| Error::invalid("reason", "is no reason of an error"))?;
        Err(Error::new(kind, request.message)
            .with_fact("origin", "worker_probe")
            .with_retry_after(Duration::from_millis(1500)))
    }

    async fn block(
        &self,
        _context: &Context,
        request: BlockRequest,
    ) -> Result<BlockResponse, Error> {
        std::thread::sleep(duration(request.duration)?);
        Ok(BlockResponse {})
    }

    async fn count(
        &self,
        _context: &Context,
        _request: CountRequest,
    ) -> Result<CountResponse, Error> {
        let ended = self.sessions_ended.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(CountResponse {
            started: self.started.load(Ordering::SeqCst),
            finished: self.finished.load(Ordering::SeqCst),
            cancelled: self.cancelled.load(Ordering::SeqCst),
            sessions_ended: ended.clone(),
            blocks: self.blocks.load(Ordering::SeqCst),
        })
    }

    async fn blocks(
        &self,
        _context: &Context,
        request: BlocksRequest,
        replies: Replies<BlocksResponse>,
    ) -> Result<(), Error> {
        let block = Bytes::from(vec![b'x'; request.size_bytes as usize]);
        for _ in 0..request.count {
            replies.send(BlocksResponse { block: block.clone() }).await?;
            self.blocks.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    }

    async fn sum(
        &self,
        _context: &Context,
        mut requests: Requests<SumRequest>,
    ) -> Result<SumResponse, Error> {
        let mut sum = SumResponse::default();
        while let Some(request) = requests.next().await? {
            sum.bytes += request.data.len() as u64;
            sum.messages += 1;
        }
        Ok(sum)
    }

    async fn chat(
        &self,
        _context: &Context,
        mut requests: Requests<ChatRequest>,
        replies: Replies<ChatResponse>,
    ) -> Result<(), Error> {
        while let Some(request) = requests.next().await? {
            replies.send(ChatResponse { text: request.text }).await?;
        }
        Ok(())
    }

    async fn steps(
        &self,
        context: &Context,
        request: StepsRequest,
    ) -> Result<StepsResponse, Error> {
        for step in 1..=request.steps {
            context.progress(step.into(), request.steps.into(), "steps");
            if step == request.rest_after {
                tokio::time::sleep(duration(request.rest)?).await;
            }
        }
        Ok(StepsResponse {})
    }

    async fn start_program(
        &self,
        _context: &Context,
        request: StartProgramRequest,
    ) -> Result<StartProgramResponse, Error> {
        let mut running = self.runner.start(Spec::new(request.argv, "/")).await?;
        let report = running.report().iter();
        let report = report.map(|(of, state)| (of.name().to_owned(), state.to_string())).collect();
        let pid = running.pid().unsigned_abs();
        let programs = Arc::clone(&self.programs);
        programs.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(async move {
            while let Ok(Some(_)) = running.next().await {}
            running.wait().await.ok();
            programs.fetch_sub(1, Ordering::SeqCst);
        });
        Ok(StartProgramResponse { pid, report })
    }

    fn going_on(&self) -> usize {
        self.programs.load(Ordering::SeqCst)
    }

    async fn session_ended(&self, session: &SessionScope) -> Result<(), Error> {
        let mut ended = self.sessions_ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.push(format!("{} of {}", session.id, session.uid));
        Ok(())
    }
}

fn duration(duration: Option<prost_types::Duration>) -> Result<Duration, Error> {
    Duration::try_from(duration.unwrap_or_default())
        .map_err(|error| Error::invalid("duration", error))
}

/// Empty if there is none that this process may see.
fn session_keyring() -> String {
    let keys = fs::read_to_string("/proc/keys").unwrap_or_default();
    let found = keys.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut found = found.filter(|key| key.get(8).is_some_and(|name| name.starts_with("_ses")));
    found.next().map_or_else(String::new, |key| format!("{} {}", key[0], key[5]))
}

fn proc(name: &str) -> Result<String, Error> {
    fs::read_to_string(format!("/proc/self/{name}")).map_err(|error| broken(&error))
}

/// The numbers on one line of `/proc/self/status`.
fn words<'a>(status: &'a str, name: &str) -> impl Iterator<Item = u32> + 'a {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_default().split_whitespace().filter_map(|word| word.parse().ok())
}

fn descriptors() -> Result<Vec<String>, Error> {
    let folder = fs::read_dir("/proc/self/fd").map_err(|error| broken(&error))?;
    let names = folder.filter_map(|entry| {
        let target = fs::read_link(entry.ok()?.path()).ok()?;
        Some(target.display().to_string())
    });
    Ok(names.collect())
}

fn broken(error: &std::io::Error) -> Error {
    Error::new(ErrorKind::BackendFailed, error.to_string())
}

/// The agent as workers take it.
#[must_use]
pub fn worker_probe(
    profile: &str,
    cgroup: Option<PathBuf>,
    settings: Arc<ArcSwap<impl Serialize + Send + Sync + 'static>>,
) -> Arc<dyn Agent> {
    let config = process::Config { cgroup: cgroup.clone(), ..process::Config::default() };
    let settings = move || {
        let now = settings.load_full();
        let at = Arc::as_ptr(&now) as usize as u64;
        (serde_json::to_string(&*now).unwrap_or_else(|error| error.to_string()), at)
    };
    let probe = WorkerProbe {
        profile: profile.to_owned(),
        cgroup,
        settings: Box::new(settings),
        runner: Runner::new(config),
        programs: Arc::default(),
        started: AtomicU64::new(0),
        finished: AtomicU64::new(0),
        cancelled: AtomicU64::new(0),
        blocks: AtomicU64::new(0),
        sessions_ended: Mutex::default(),
    };
    Arc::new(WorkerProbeServiceAgent(Arc::new(probe)))
}
