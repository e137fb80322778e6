//! Agents that run in workers: a real daemon, its worker processes, and clients over its socket.

mod calls;
mod cgroups;
mod endings;
mod exec;
mod programs;
mod streams;
mod told;
mod warm;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use op_dbus::proto::opdbus::agent::worker_probe::v1::{
    CountRequest, CountResponse, WhoAmIRequest, WhoAmIResponse,
};

use crate::grpc::Client;
use crate::process::{Daemon, Prepared};

const WHO_AM_I: &str = "/opdbus.agent.worker_probe.v1.WorkerProbeService/WhoAmI";
const WHO_AM_I_THERE: &str = "/opdbus.agent.worker_probe.v1.WorkerProbeService/WhoAmIThere";
const ECHO: &str = "/opdbus.agent.worker_probe.v1.WorkerProbeService/Echo";
const WAIT: &str = "/opdbus.agent.worker_probe.v1.WorkerProbeService/Wait";
const FAIL: &str = "/opdbus.agent.worker_probe.v1.WorkerProbeService/Fail";
const BLOCK: &str = "/opdbus.agent.worker_probe.v1.WorkerProbeService/Block";
const COUNT: &str = "/opdbus.agent.worker_probe.v1.WorkerProbeService/Count";
const BLOCKS: &str = "/opdbus.agent.worker_probe.v1.WorkerProbeService/Blocks";
const SUM: &str = "/opdbus.agent.worker_probe.v1.WorkerProbeService/Sum";
const START_PROGRAM: &str = "/opdbus.agent.worker_probe.v1.WorkerProbeService/StartProgram";
const CHAT: &str = "/opdbus.agent.worker_probe.v1.WorkerProbeService/Chat";

/// A daemon whose workers run under the tests' own uid, and a client.
struct World {
    daemon: Daemon,
    client: Client,
}

impl World {
    async fn new() -> Self {
        Self::with("").await
    }

    /// `config`: further keys of `[worker]`.
    async fn with(config: &str) -> Self {
        let daemon = Daemon::start(&format!("[worker]\nmin_uid = 0\n{config}"));
        let client = Client::unix(&daemon.grpc_socket()).await;
        Self { daemon, client }
    }

    async fn who(&self) -> WhoAmIResponse {
        self.client.call(WHO_AM_I, WhoAmIRequest {}).await.unwrap()
    }

    async fn count(&self) -> CountResponse {
        self.client.call(COUNT, CountRequest {}).await.unwrap()
    }

    fn metric(&self, name: &str) -> f64 {
        self.daemon.metric(name).unwrap_or_default()
    }
}

fn uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// True if the process is there and is no zombie.
fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// Says loudly that a test needs root, if it is not there.
fn is_root(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: {test} needs root to act as other users");
    }
    root
}

/// Lets other users reach the daemon's socket.
fn open_to_all(folder: &Path) {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Runs `op-dbusctl` as the user `uid`.
fn ctl_as(uid: u32, socket: &Path, arguments: &[&str]) -> Output {
    Command::new("setpriv")
        .args([format!("--reuid={uid}"), format!("--regid={uid}"), "--clear-groups".to_owned()])
        .arg(env!("CARGO_BIN_EXE_op-dbusctl"))
        .arg(format!("--address=unix:{}", socket.display()))
        .args(arguments)
        .current_dir("/")
        .output()
        .unwrap()
}

/// A daemon that every user may call.
fn for_everybody(config: &str) -> Prepared {
    let prepared = Prepared::new(&format!("[grpc]\nunix_mode = \"0666\"\n{config}"));
    open_to_all(prepared.folder.path());
    prepared
}
