//! The commands agent: a real daemon, its workers and real programs, over both transports; and the agent
//! in this process, where a test has settings of its own.

mod approvals;
mod artifacts;
mod exec;
mod following;
mod input;
mod limits;
mod policy;
mod reload;
mod streams;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use op_dbus::proto::opdbus::agent::commands::v1::{
    Command, Ended, ExecRequest, ExecResponse, ExecShellRequest, ExecShellResponse, Limits,
    ListRequest, ListResponse, Run, StartRequest, StartResponse, WaitRequest, WaitResponse,
};
use tempfile::TempDir;
use tonic::{Request, Status};

use crate::grpc::Client;
use crate::process::Daemon;

const EXEC: &str = "/opdbus.agent.commands.v1.CommandsService/Exec";
const EXEC_SHELL: &str = "/opdbus.agent.commands.v1.CommandsService/ExecShell";
const EXEC_STREAM: &str = "/opdbus.agent.commands.v1.CommandsService/ExecStream";
const START: &str = "/opdbus.agent.commands.v1.CommandsService/Start";
const OUTPUT: &str = "/opdbus.agent.commands.v1.CommandsService/Output";
const INPUT: &str = "/opdbus.agent.commands.v1.CommandsService/Input";
const CLOSE_INPUT: &str = "/opdbus.agent.commands.v1.CommandsService/CloseInput";
const SIGNAL: &str = "/opdbus.agent.commands.v1.CommandsService/Signal";
const RESIZE: &str = "/opdbus.agent.commands.v1.CommandsService/Resize";
const WAIT: &str = "/opdbus.agent.commands.v1.CommandsService/Wait";
const LIST: &str = "/opdbus.agent.commands.v1.CommandsService/List";
const TAG: &str = "/opdbus.agent.commands.v1.CommandsService/Tag";

/// A daemon whose workers run under the tests' own uid, a client, and a folder for programs.
struct World {
    daemon: Daemon,
    client: Client,
    folder: TempDir,
}

impl World {
    async fn new() -> Self {
        Self::with("").await
    }

    /// The same with `config` (TOML) as well.
    async fn with(config: &str) -> Self {
        let daemon = Daemon::start(&format!("[worker]\nmin_uid = 0\n{config}"));
        let client = Client::unix(&daemon.grpc_socket()).await;
        Self { daemon, client, folder: tempfile::tempdir().unwrap() }
    }

    fn directory(&self) -> String {
        self.folder.path().display().to_string()
    }

    fn request(&self, argv: &[&str]) -> ExecRequest {
        ExecRequest {
            argv: words(argv),
            directory: self.directory(),
            r#yield: seconds(60),
            ..ExecRequest::default()
        }
    }

    async fn exec(&self, argv: &[&str]) -> Result<ExecResponse, Status> {
        self.client.call(EXEC, self.request(argv)).await
    }

    async fn shell(&self, script: &str, run: Run) -> ExecShellResponse {
        let request = ExecShellRequest {
            script: script.into(),
            directory: self.directory(),
            run: Some(run),
            r#yield: seconds(60),
            ..ExecShellRequest::default()
        };
        self.client.call(EXEC_SHELL, request).await.unwrap()
    }

    /// A program of this text in the folder.
    fn program(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// Starts a shell script of this text, so that no text is an argument.
    async fn start(&self, name: &str, text: &str, run: Run) -> Command {
        self.program(name, text);
        self.start_argv(&["sh", name], run).await.unwrap()
    }

    async fn start_argv(&self, argv: &[&str], run: Run) -> Result<Command, Status> {
        let request = StartRequest {
            argv: words(argv),
            directory: self.directory(),
            run: Some(run),
            ..StartRequest::default()
        };
        let started: StartResponse = self.client.call(START, request).await?;
        Ok(started.command.unwrap())
    }

    async fn wait(&self, id: &str) -> WaitResponse {
        let request = WaitRequest { id: id.into(), wait: seconds(20) };
        self.client.call(WAIT, request).await.unwrap()
    }

    async fn list(&self, request: ListRequest) -> ListResponse {
        self.client.call(LIST, request).await.unwrap()
    }
}

fn words(argv: &[&str]) -> Vec<String> {
    argv.iter().map(|&word| word.to_owned()).collect()
}

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

fn limited(limits: Limits) -> Run {
    Run { limits: Some(limits), ..Run::default() }
}

fn ended(command: &Option<Command>) -> &Ended {
    command.as_ref().unwrap().ended.as_ref().expect("it has ended")
}

fn in_time<T>(request: T, time: Duration) -> Request<T> {
    let mut request = Request::new(request);
    request.set_timeout(time);
    request
}

/// True if the process is there and is no zombie.
pub fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// The number that a program has written to a file.
pub fn number_in(path: &Path) -> Option<u32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The file that PATH leads to.
fn found(name: &str) -> String {
    let path = std::env::var("PATH").unwrap();
    let mut folders = std::env::split_paths(&path);
    let found = folders.find(|folder| folder.join(name).exists()).unwrap();
    found.join(name).display().to_string()
}
