//! Tasks across the end of the service: in order, by a kill, and with a disk that fails.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use op_dbus::agents::{self, Setup};
use op_dbus::call::Context;
use op_dbus::daemon::compose;
use op_dbus::executor::{Config, Executor, Input};
use op_dbus::host::worker::Workers;
use op_dbus::metrics::Metrics;
use op_dbus::proto::opdbus::agent::probe::v1::PaceRequest;
use op_dbus::proto::opdbus::v1::{
    CancelTaskRequest, CancelTaskResponse, GetTaskRequest, GetTaskResponse, ListTasksRequest,
    ListTasksResponse, ReadTaskRequest, ReadTaskResponse, TaskState, WaitTaskRequest,
    WaitTaskResponse,
};
use op_dbus::status::Status;
use op_dbus::storage::{self, Durability};
use op_dbus::task::Task;
use tonic::Code;

use super::{context, elsewhere, encoded, get, over, pace, read, start};
use crate::fixture::Service;
use crate::grpc::{Client, check_error, eventually};
use crate::process::{PATIENCE, Prepared};

/// Where the child of the test below finds its folder.
const FOLDER: &str = "OP_DBUS_TEST_TASKS";

const GET: &str = "/opdbus.v1.TasksService/GetTask";
const LIST: &str = "/opdbus.v1.TasksService/ListTasks";
const READ: &str = "/opdbus.v1.TasksService/ReadTask";
const WAIT: &str = "/opdbus.v1.TasksService/WaitTask";
const CANCEL: &str = "/opdbus.v1.TasksService/CancelTask";

fn chosen(id: &str, uid: u32) -> Context {
    Context { task_id: Some(id.into()), ..context(uid) }
}

/// Stops as the daemon does.
async fn stop(service: &Service) {
    service.executor.drain();
    service.executor.tasks().stop(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn what_has_ended_is_there_after_a_restart() {
    let mut config = Config::default();
    config.tasks.ring.messages = 4;
    let service = Service::new(config.clone());
    let ended = start(&service, chosen("ended", 1), "Pace", &pace(10, 0)).await.unwrap();
    let failing = PaceRequest { fail_at: 3, ..pace(10, 0) };
    let failed = start(&service, chosen("failed", 1), "Pace", &failing).await.unwrap();
    let running = start(&service, chosen("running", 1), "Pace", &pace(1000, 20)).await.unwrap();
    let waiting = start(&service, chosen("waiting", 1), "Sleep", &()).await.unwrap();
    for task in [&ended, &failed, &waiting] {
        over(task).await;
    }
    let before = [ended.record(), failed.record()];
    eventually("it gives something", async || running.record().last_seq > 0).await;
    stop(&service).await;
    let given = running.record().last_seq;
    drop((ended, failed, running, waiting));

    let service = service.again(config.clone()).await;
    for (id, before) in [("ended", &before[0]), ("failed", &before[1])] {
        assert_eq!(&get(&service, elsewhere(1), id).await.unwrap(), before);
    }
    let identity = elsewhere(1).caller.identity;
    let find = |id| service.executor.tasks().find(id, identity).unwrap();
    let (came, missed, outcome) = read(&find("ended"), 1).await;
    outcome.unwrap();
    assert_eq!((came, missed), (vec![7, 8, 9, 10], vec![(1, 6)]));
    let (came, _, outcome) = read(&find("failed"), 1).await;
    assert_eq!((came.len(), outcome.unwrap_err().fact("origin")), (2, Some("probe")));
    let shown = get(&service, context(1), "running").await.unwrap();
    assert_eq!((shown.state(), shown.last_seq), (TaskState::Cancelled, given));
    assert_eq!(shown.failure.unwrap().reason, "UNAVAILABLE");
    assert!(get(&service, context(2), "ended").await.is_err());

    // Its id can be chosen again, and then it is the new one that is found, now and later.
    let again = start(&service, chosen("ended", 1), "Pace", &pace(1, 0)).await.unwrap();
    over(&again).await;
    stop(&service).await;
    drop(again);
    let service = service.again(config).await;
    assert_eq!(get(&service, context(1), "ended").await.unwrap().last_seq, 1);
}

#[tokio::test]
async fn what_is_kept_is_bounded_after_a_restart_too() {
    let service = Service::new(Config::default());
    for id in ["a", "b", "c"] {
        over(&start(&service, chosen(id, 1), "Pace", &pace(1, 0)).await.unwrap()).await;
    }
    stop(&service).await;
    let mut config = Config::default();
    config.tasks.keep_max = 1;
    let service = service.again(config.clone()).await;
    assert!(get(&service, context(1), "b").await.is_err());
    get(&service, context(1), "c").await.unwrap();
    stop(&service).await;
    config.tasks.keep = Duration::from_millis(1);
    let service = service.again(config).await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert!(get(&service, context(1), "c").await.is_err());
}

#[tokio::test]
async fn without_a_disk_tasks_live_in_memory_and_the_status_says_so() {
    let first = Service::new(Config::default());
    // Another process holds the file.
    let (second, status) = compose_on(first.folder.path(), |setup| {
        fs::create_dir_all(setup.storage.path.join("other")).unwrap();
        setup.storage.path = setup.storage.path.join("other");
        fs::create_dir(setup.storage.path.join("tasks.db")).unwrap();
    });
    let warnings = status.report().warnings;
    assert!(warnings.iter().any(|warning| warning.starts_with("tasks: ")), "{warnings:?}");
    let task = begin(&second, chosen("a", 1), &pace(3, 0)).await;
    assert_eq!(read(&task, 1).await.0, [1, 2, 3]);
    assert!(second.tasks().find("a", context(1).caller.identity).is_ok());
}

fn compose_on(folder: &Path, change: impl Fn(&mut Setup)) -> (Arc<Executor>, Arc<Status>) {
    let status = Arc::new(Status::default());
    let storage = storage::Config { path: folder.to_owned(), durability: Durability::Normal };
    let metrics = Arc::new(Metrics::new().unwrap());
    let settings = agents::Settings::default();
    let mut setup = Setup { storage, metrics, status: Arc::clone(&status), settings };
    change(&mut setup);
    let starts = compose::Starts::default();
    let workers = Workers::disabled(Arc::clone(&setup.metrics));
    (compose::executor(Config::default(), &setup, &starts, &workers, None, None).unwrap(), status)
}

async fn begin(executor: &Arc<Executor>, context: Context, request: &PaceRequest) -> Arc<Task> {
    let route = executor.find("probe", "Pace").unwrap();
    executor.start(&route, context, Input::One(encoded(request))).await.unwrap()
}

/// Not a test by itself: the process that the next one kills.
#[tokio::test]
#[ignore = "only runs as the child of the test beside it"]
async fn runs_until_it_is_killed() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let (executor, _) = compose_on(Path::new(&folder), |_| {});
    let uid = nix::unistd::getuid().as_raw();
    begin(&executor, chosen("ended", uid), &pace(5, 0)).await;
    begin(&executor, chosen("failed", uid), &PaceRequest { fail_at: 3, ..pace(5, 0) }).await;
    begin(&executor, chosen("foreign", uid + 1), &pace(5, 0)).await;
    begin(&executor, chosen("running", uid), &pace(1_000_000, 5)).await;
    tokio::time::sleep(PATIENCE * 2).await;
}

/// Waits until the child has written what it should.
fn wait_for_rows(file: &Path) {
    let deadline = Instant::now() + PATIENCE;
    let counts = || -> Result<(i64, i64), rusqlite::Error> {
        // It must be the child that makes the file.
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE;
        let database = rusqlite::Connection::open_with_flags(file, flags)?;
        database.query_row("SELECT count(*), count(ended_at) FROM task", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
    };
    while !counts().is_ok_and(|counts| counts == (4, 3)) {
        assert!(Instant::now() < deadline, "the child does not write its tasks");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[tokio::test]
async fn a_kill_leaves_what_ended_and_says_so_of_what_ran() {
    let state = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "tasks::restart::runs_until_it_is_killed"])
        .env(FOLDER, state.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for_rows(&state.path().join("tasks.db"));
    child.kill().unwrap();
    child.wait().unwrap();
    let mode = fs::metadata(state.path().join("tasks.db")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let config = format!("[storage]\npath = {:?}\n", state.path());
    // Found by one daemon after the other, and each of them ends in order.
    for _ in 0..2 {
        let daemon = Prepared::new(&config).start();
        let client = Client::unix(&daemon.grpc_socket()).await;
        look_at_what_is_left(&client).await;
        daemon.stop();
    }
}

async fn look_at_what_is_left(client: &Client) {
    let get = async |id: &str| {
        let request = GetTaskRequest { id: id.into() };
        client.call::<_, GetTaskResponse>(GET, request).await.map(|answer| answer.task.unwrap())
    };
    let ended = get("ended").await.unwrap();
    assert_eq!((ended.state(), ended.first_seq, ended.last_seq), (TaskState::Completed, 1, 5));
    let failed = get("failed").await.unwrap();
    assert_eq!((failed.state(), failed.last_seq), (TaskState::Failed, 2));
    let running = get("running").await.unwrap();
    assert_eq!((running.state(), running.first_seq), (TaskState::Failed, 0));
    let failure = running.failure.unwrap();
    assert_eq!(failure.reason, "UNAVAILABLE");
    assert_eq!(failure.message, "the service ended while it ran");
    check_error(get("foreign").await, Code::NotFound, "NOT_FOUND");

    let request =
        ReadTaskRequest { id: "ended".into(), from_seq: 4, json: true, ..Default::default() };
    let answer: ReadTaskResponse = client.call(READ, request).await.unwrap();
    let messages: Vec<_> = answer.messages.iter().map(|one| (one.seq, &*one.json)).collect();
    assert_eq!(messages, [(4, r#"{"number":4,"filler":""}"#), (5, r#"{"number":5,"filler":""}"#)]);
    let future = ReadTaskRequest { id: "ended".into(), from_seq: 7, ..Default::default() };
    let outcome = client.call::<_, ReadTaskResponse>(READ, future).await;
    check_error(outcome, Code::InvalidArgument, "INVALID_ARGUMENT");
    let request = WaitTaskRequest { id: "running".into(), timeout: None };
    assert!(client.call::<_, WaitTaskResponse>(WAIT, request).await.unwrap().ended);
    let request = CancelTaskRequest { id: "ended".into() };
    let cancelled: CancelTaskResponse = client.call(CANCEL, request).await.unwrap();
    assert!(cancelled.ended && cancelled.task.unwrap().state() == TaskState::Completed);
    let list: ListTasksResponse = client.call(LIST, ListTasksRequest::default()).await.unwrap();
    let ids: Vec<_> = list.tasks.iter().map(|task| &*task.id).collect();
    assert_eq!(ids, ["running", "failed", "ended"]);
}
