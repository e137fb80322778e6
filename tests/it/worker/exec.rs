//! The exec service: a real root process that starts workers with the uid of their callers. These tests
//! need root.

use std::fs;
use std::io::Read as _;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};
use op_dbus::exec::{Messages, Reply, Request};
use serde_json::Value;
use tempfile::TempDir;

use super::{ctl_as, for_everybody, is_root, runs};
use crate::grpc::eventually;
use crate::process::{Daemon, PATIENCE};

/// A running exec service. It is killed when this is dropped.
pub struct Service {
    folder: TempDir,
    front: u32,
    /// What runs the program.
    command: fn() -> Command,
    process: Child,
    log: Arc<Mutex<String>>,
}

impl Service {
    /// One that answers the uid `front`.
    fn start(front: u32) -> Self {
        Self::start_by(|| Command::new(env!("CARGO_BIN_EXE_op-dbusd")), front)
    }

    /// The same, run by `command`, whose last argument is the program.
    pub fn start_by(command: fn() -> Command, front: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = format!(
            "[worker]\nexec_socket = {:?}\nmin_uid = 1\nfiles = 333\ncpu_percent = 150\n",
            folder.path().join("exec.sock")
        );
        fs::write(folder.path().join("grpc.toml"), config).unwrap();
        let (process, log) = spawn_by(command(), folder.path(), front);
        let service = Self { folder, front, command, process, log };
        service.listens();
        service
    }

    pub fn again(&mut self) {
        self.kill();
        fs::remove_file(self.socket()).unwrap();
        (self.process, self.log) = spawn_by((self.command)(), self.folder.path(), self.front);
        self.listens();
    }

    pub fn kill(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }

    fn listens(&self) {
        let begun = Instant::now();
        while !self.log().contains("workers are started for uid") {
            assert!(begun.elapsed() < PATIENCE, "{}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("exec.sock")
    }

    /// A daemon whose workers are started by this.
    pub fn daemon(&self) -> Daemon {
        for_everybody(&format!(
            "[worker]\nmin_uid = 0\nstarter = \"exec-service\"\nexec_socket = {:?}\n",
            self.socket()
        ))
        .start()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn_by(mut command: Command, folder: &Path, front: u32) -> (Child, Arc<Mutex<String>>) {
    let mut process = command
        .arg("--config")
        .arg(folder.join("grpc.toml"))
        .args(["exec-service", "--front", &front.to_string()])
        .env("SECRET_TOKEN", "of root")
        .env_remove("JOURNAL_STREAM")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = Arc::new(Mutex::new(String::new()));
    let (lines, mut stderr) = (Arc::clone(&log), process.stderr.take().unwrap());
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = stderr.read(&mut buffer) {
            lines.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    });
    (process, log)
}

/// A user of this system.
pub struct Known {
    pub uid: u32,
    gid: u32,
    name: String,
    home: String,
    shell: String,
}

/// Two users of this system besides root; first those with supplementary groups, if there are any.
pub fn users() -> [Known; 2] {
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let mut users: Vec<_> = passwd
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let text = |at: usize| fields.get(at).map(ToString::to_string);
            let (uid, gid) = (fields[2].parse().ok()?, fields[3].parse().ok()?);
            Some(Known { uid, gid, name: text(0)?, home: text(5)?, shell: text(6)? })
        })
        .filter(|user| user.uid != 0)
        .collect();
    let group = fs::read_to_string("/etc/group").unwrap();
    let members: Vec<&str> = group
        .lines()
        .filter_map(|line| line.rsplit(':').next())
        .flat_map(|names| names.split(','))
        .collect();
    users.sort_by_key(|user| !members.contains(&&*user.name));
    users.truncate(2);
    users.try_into().unwrap_or_else(|_| panic!("this system has two users besides root"))
}

pub fn who(uid: u32, daemon: &Daemon) -> Result<Value, String> {
    call(uid, daemon, &["WhoAmI"])
}

/// Calls the worker probe as the user: the operation, and its arguments.
pub fn call(uid: u32, daemon: &Daemon, arguments: &[&str]) -> Result<Value, String> {
    let arguments = [&["--json", "call", "worker_probe"], arguments].concat();
    let output = ctl_as(uid, &daemon.grpc_socket(), &arguments);
    match output.status.success() {
        true => Ok(serde_json::from_slice(&output.stdout).unwrap()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()
            + &String::from_utf8_lossy(&output.stdout)),
    }
}

#[tokio::test]
async fn each_user_has_a_worker_with_his_rights_and_no_more() {
    if !is_root("each_user_has_a_worker_with_his_rights_and_no_more") {
        return;
    }
    let service = Service::start(0);
    let daemon = service.daemon();
    let mut pids = Vec::new();
    let mut keyrings = Vec::new();
    for Known { uid, gid, name, home, shell } in users() {
        let who = who(uid, &daemon).unwrap_or_else(|error| panic!("{error}\n{}", service.log()));
        assert_eq!((&who["uid"], &who["caller_uid"]), (&uid.into(), &uid.into()), "{who}");
        assert_eq!(who["gid"], gid, "{who}");
        let output = Command::new("id").args(["-G", &name]).output().unwrap();
        let groups = String::from_utf8(output.stdout).unwrap();
        let mut groups: Vec<u32> =
            groups.split_whitespace().map(|group| group.parse().unwrap()).collect();
        groups.sort_unstable();
        assert_eq!(who["gids"], Value::from(groups), "{who}");
        for set in ["Inh", "Prm", "Eff", "Bnd", "Amb"] {
            assert_eq!(who["capabilities"][set], "0000000000000000", "{set}: {who}");
        }
        assert_eq!((&who["no_new_privs"], &who["cwd"]), (&true.into(), &"/".into()), "{who}");
        assert_eq!((&who["files"], &who["core_bytes"]), (&"333".into(), &"0".into()), "{who}");
        let known = ["HOME", "LANG", "LOGNAME", "PATH", "SHELL", "USER"];
        assert_eq!(who["environment"], Value::from(known.to_vec()), "{who}");
        let values =
            serde_json::json!({"HOME": home, "LOGNAME": name, "SHELL": shell, "USER": name});
        assert_eq!(who["variables"], values, "{who}");
        // Its id, and whose it is.
        let keyring = who["session_keyring"].as_str().unwrap_or_default().to_owned();
        if fs::exists("/proc/keys").unwrap() {
            assert_eq!(keyring.split_once(' ').unwrap().1, uid.to_string(), "{who}");
        }
        keyrings.push(keyring);
        pids.push(u32::try_from(who["pid"].as_u64().unwrap()).unwrap());
    }
    assert_ne!(pids[0], pids[1]);
    assert!(keyrings[0] != keyrings[1] || !fs::exists("/proc/keys").unwrap(), "{keyrings:?}");
    assert!(pids.iter().all(|pid| runs(*pid)));

    // With the front, whatever becomes of it, its workers end.
    daemon.signal(Signal::SIGKILL);
    eventually("the workers end", async || !pids.iter().any(|pid| runs(*pid))).await;
}

#[tokio::test]
async fn who_is_to_have_no_worker_has_none() {
    if !is_root("who_is_to_have_no_worker_has_none") {
        return;
    }
    let service = Service::start(0);
    let daemon = service.daemon();
    let unknown = who(64_001, &daemon).unwrap_err();
    assert!(unknown.contains("uid 64001 is no user of this system"), "{unknown}");
    // The front would have let root have one.
    let root = who(0, &daemon).unwrap_err();
    assert!(root.contains("no worker acts as uid 0: [worker] min_uid is 1"), "{root}");
    // Whoever the kernel cannot name.
    let nobody = who(65_534, &daemon).unwrap_err();
    assert!(nobody.contains("no worker acts as uid 65534"), "{nobody}");
    assert!(!service.log().contains("has started"), "{}", service.log());
}

#[tokio::test]
async fn only_the_front_is_answered() {
    if !is_root("only_the_front_is_answered") {
        return;
    }
    let service = Service::start(64_001);
    let uid = users()[0].uid;
    let messages = Messages::connect(&service.socket()).unwrap();
    let request = Request { uid, profile: String::new() }.encode().unwrap();
    messages.send(&request, None).await.unwrap();
    let (reply, passed) = messages.receive().await.unwrap();
    assert!(passed.is_none());
    let Reply::Refused(error) = Reply::parse(&reply).unwrap() else { panic!("it was started") };
    assert_eq!(error.message(), "uid 0 is not the front's, which is 64001");
}

#[tokio::test]
async fn what_is_no_request_starts_nothing_and_ends_nothing() {
    if !is_root("what_is_no_request_starts_nothing_and_ends_nothing") {
        return;
    }
    let service = Service::start(0);
    let uid = users()[0].uid;
    let good = Request { uid, profile: "exec".to_owned() }.encode().unwrap();
    let mut wrong = vec![
        b"x".to_vec(),
        good[..good.len() - 1].to_vec(),
        [&good as &[u8], b"x"].concat(),
        vec![0; 100_000],
        b"opdx\x02\0\0\0\0\0".to_vec(),
    ];
    let mut path = b"opdx\x01\x01\0\0\0\x07".to_vec();
    path.extend(b"/bin/sh");
    wrong.push(path);
    for message in wrong {
        let messages = Messages::connect(&service.socket()).unwrap();
        messages.send(&message, None).await.unwrap();
        let (reply, passed) = messages.receive().await.unwrap();
        assert!(passed.is_none(), "{message:?}");
        let Reply::Refused(error) = Reply::parse(&reply).unwrap() else { panic!("{message:?}") };
        assert!(error.message().starts_with("message: "), "{error}");
    }
    // Who says nothing is not waited for by others, nor for ever.
    let silent = Messages::connect(&service.socket()).unwrap();
    let messages = Messages::connect(&service.socket()).unwrap();
    messages.send(&good, None).await.unwrap();
    let (reply, passed) = messages.receive().await.unwrap();
    let Reply::Started(pid) = Reply::parse(&reply).unwrap() else { panic!("it was refused") };
    assert!(passed.is_some() && runs(pid));
    // The connection is the worker's leash.
    drop(messages);
    eventually("the worker ends", async || !runs(pid)).await;
    let (reply, _) = silent.receive().await.unwrap();
    assert!(matches!(Reply::parse(&reply), Ok(Reply::Refused(_))));
}

/// How many waits have begun in the user's worker.
fn waits(uid: u32, daemon: &Daemon) -> u64 {
    let count = call(uid, daemon, &["Count"]).unwrap();
    // Without a value it is 0.
    count["started"].as_str().map_or(0, |started| started.parse().unwrap())
}

#[tokio::test]
async fn workers_end_with_the_exec_service_and_come_back_with_it() {
    if !is_root("workers_end_with_the_exec_service_and_come_back_with_it") {
        return;
    }
    let mut service = Service::start(0);
    let daemon = service.daemon();
    let uid = users()[0].uid;
    let before = who(uid, &daemon).unwrap()["pid"].clone();
    let pid = u32::try_from(before.as_u64().unwrap()).unwrap();
    let started = call(uid, &daemon, &["StartProgram", r#"{"argv": ["sleep", "600"]}"#]).unwrap();
    let program = u32::try_from(started["pid"].as_u64().unwrap()).unwrap();
    assert!(runs(program));
    thread::scope(|scope| {
        let waiting = scope.spawn(|| call(uid, &daemon, &["Wait", r#"{"duration": "60s"}"#]));
        let begun = Instant::now();
        while waits(uid, &daemon) == 0 {
            assert!(begun.elapsed() < PATIENCE, "the call does not begin");
        }
        service.kill();
        let error = waiting.join().unwrap().unwrap_err();
        assert!(error.contains(&format!("(process {pid}) has gone")), "{error}");
    });
    eventually("the worker and its program end", async || !runs(pid) && !runs(program)).await;
    let error = who(uid, &daemon).unwrap_err();
    assert!(error.contains("the exec service at"), "{error}");
    service.again();
    let begun = Instant::now();
    assert_ne!(who(uid, &daemon).unwrap()["pid"], before);
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_worker_that_is_not_ready_in_time_is_ended() {
    if !is_root("a_worker_that_is_not_ready_in_time_is_ended") {
        return;
    }
    // Stands in for the exec service, with a worker that never says a word.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("exec.sock");
    let flags = SockFlag::SOCK_CLOEXEC;
    let listener = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap();
    bind(listener.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
    listen(&listener, Backlog::new(8).unwrap()).unwrap();
    let listener = std::os::unix::net::UnixListener::from(listener);
    listener.set_nonblocking(true).unwrap();
    let (_silent, passed) = std::os::unix::net::UnixStream::pair().unwrap();
    let serving = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::UnixListener::from_std(listener).unwrap();
            let front = Messages::accepted(listener.accept().await.unwrap().0);
            front.receive().await.unwrap();
            let reply = Reply::Started(std::process::id()).encode();
            front.send(&reply, Some(passed.as_fd())).await.unwrap();
            // The connection is the worker's leash.
            front.hung_up().await;
        });
    });
    let daemon = for_everybody(&format!(
        "[worker]\nmin_uid = 0\nstart_timeout_ms = 200\nstarter = \"exec-service\"\nexec_socket = {path:?}\n"
    ))
    .start();
    let error = who(0, &daemon).unwrap_err();
    assert!(error.contains("it was not ready within 200 ms"), "{error}");
    eventually("the worker is let go", async || serving.is_finished()).await;
    serving.join().unwrap();
}
