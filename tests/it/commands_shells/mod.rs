//! Shells that are kept open: a real daemon, its worker, real shells, and a client.

mod ends;
mod interrupts;
mod output;
mod texts;
mod ways;

use std::time::Duration;

use futures_util::stream;
use op_dbus::proto::opdbus::agent::commands::v1::{
    CloseShellRequest, CloseShellResponse, Limits, ListShellsRequest, ListShellsResponse,
    OpenShellRequest, OpenShellResponse, Run, RunInShellRequest, RunInShellResponse, Shell,
    ShellRun, Stream,
};
use tempfile::TempDir;
use tonic::{Request, Status, Streaming};

use crate::grpc::Client;
use crate::process::{Daemon, PATIENCE};

const OPEN: &str = "/opdbus.agent.commands.v1.CommandsService/OpenShell";
const RUN: &str = "/opdbus.agent.commands.v1.CommandsService/RunInShell";
const CLOSE: &str = "/opdbus.agent.commands.v1.CommandsService/CloseShell";
const LIST: &str = "/opdbus.agent.commands.v1.CommandsService/ListShells";

/// The shells whose texts are those of `sh`.
const POSIX: [&str; 2] = ["sh", "bash"];

/// A daemon whose workers run under the tests' own uid, a client, and a folder for shells.
struct World {
    daemon: Daemon,
    client: Client,
    folder: TempDir,
}

/// What a text printed, and what came of it.
#[derive(Debug)]
struct Ran {
    stdout: String,
    stderr: String,
    done: ShellRun,
}

impl World {
    async fn new() -> Self {
        Self::with("").await
    }

    /// `config`: further keys.
    async fn with(config: &str) -> Self {
        let daemon = Daemon::start(&format!("[worker]\nmin_uid = 0\n{config}"));
        let client = Client::unix(&daemon.grpc_socket()).await;
        Self { daemon, client, folder: tempfile::tempdir().unwrap() }
    }

    fn request(&self, shell: &str) -> OpenShellRequest {
        OpenShellRequest {
            shell: shell.to_owned(),
            directory: self.folder.path().display().to_string(),
            ..OpenShellRequest::default()
        }
    }

    async fn open(&self, shell: &str) -> Shell {
        self.open_as(self.request(shell)).await.unwrap()
    }

    async fn open_as(&self, request: OpenShellRequest) -> Result<Shell, Status> {
        let response: OpenShellResponse = self.client.call(OPEN, request).await?;
        Ok(response.shell.unwrap())
    }

    /// Runs a text and expects no error of the call.
    async fn run(&self, shell: &Shell, script: &str) -> Ran {
        self.run_for(shell, script, None).await.unwrap()
    }

    /// Runs a text that has so much time.
    async fn run_for(
        &self,
        shell: &Shell,
        script: &str,
        timeout: Option<Duration>,
    ) -> Result<Ran, Status> {
        let mut replies = self.begin(shell, script, timeout).await?;
        tokio::time::timeout(PATIENCE, finish(&mut replies)).await.expect(script)
    }

    async fn begin(
        &self,
        shell: &Shell,
        script: &str,
        timeout: Option<Duration>,
    ) -> Result<Streaming<RunInShellResponse>, Status> {
        let request = RunInShellRequest {
            id: shell.id.clone(),
            script: script.to_owned(),
            timeout: timeout.map(|timeout| timeout.try_into().unwrap()),
        };
        let mut request = Request::new(stream::iter([request]));
        // Who goes away gives the text up.
        request.metadata_mut().insert("opdbus-on-disconnect", "cancel".parse().unwrap());
        Ok(self.client.stream(RUN, request).await?.into_inner())
    }

    async fn close(&self, shell: &Shell) -> Result<CloseShellResponse, Status> {
        self.client.call(CLOSE, CloseShellRequest { id: shell.id.clone() }).await
    }

    async fn list(&self) -> Vec<Shell> {
        let response: ListShellsResponse =
            self.client.call(LIST, ListShellsRequest {}).await.unwrap();
        response.shells
    }
}

/// Reads a run to its end, and checks that every chunk begins where the last one of its stream ended.
async fn finish(replies: &mut Streaming<RunInShellResponse>) -> Result<Ran, Status> {
    let (mut bytes, mut ends) = ([Vec::new(), Vec::new()], [None, None]);
    while let Some(reply) = replies.message().await? {
        if let Some(chunk) = reply.chunk {
            let place = usize::from(chunk.stream() == Stream::Stderr);
            assert!(ends[place].is_none_or(|end| end == chunk.offset), "a gap before {chunk:?}");
            ends[place] = Some(chunk.offset + chunk.data.len() as u64);
            bytes[place].extend_from_slice(&chunk.data);
        }
        if let Some(done) = reply.done {
            assert!(replies.message().await?.is_none(), "something comes after the end");
            let [stdout, stderr] = bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            return Ok(Ran { stdout, stderr, done });
        }
    }
    panic!("a run without an end");
}

impl Ran {
    /// What a text that went well printed.
    fn ok(&self) -> &str {
        assert!(self.done.code == 0 && !self.done.timed_out && !self.done.shell_ended, "{self:?}");
        assert_eq!(self.stderr, "");
        &self.stdout
    }

    fn code(&self) -> i32 {
        assert!(!self.done.timed_out && !self.done.shell_ended, "{self:?}");
        self.done.code
    }
}

/// Limits with so little grace that a test need not wait for it.
fn little_grace() -> Run {
    let grace = Duration::from_millis(300).try_into().ok();
    Run { limits: Some(Limits { grace, ..Limits::default() }), ..Run::default() }
}
