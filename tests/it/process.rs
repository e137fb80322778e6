//! The real op-dbusd as a child process, with a private bus, folders of its own, and a socket in the
//! place of systemd's that hears what it notifies.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::fixture::Bus;

/// How long anything may take before the test fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A daemon that can be started: change what is to be changed, then [`Prepared::start`] it.
pub struct Prepared {
    pub folder: TempDir,
    pub bus: Bus,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    /// What the daemon gets as descriptor 3.
    socket: Option<OwnedFd>,
}

/// A running daemon. It is killed when this is dropped.
pub struct Daemon {
    pub folder: TempDir,
    pub bus: Bus,
    process: Child,
    notifications: UnixDatagram,
    log: Arc<Mutex<String>>,
}

impl Prepared {
    /// A configuration in which every path is in a folder of its own and the bus a private one;
    /// `config` (TOML) comes after it and may change any key.
    pub fn new(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bus = Bus::start();
        let base = format!(
            "[dbus]\nbus = {bus:?}\n[grpc]\nunix = {grpc:?}\n[storage]\npath = {state:?}\n\
             [metrics]\nunix = {metrics:?}\n[client]\naddress = \"unix:{}\"\n",
            folder.path().join("grpc.sock").display(),
            bus = bus.address,
            grpc = folder.path().join("grpc.sock"),
            state = folder.path().join("state"),
            metrics = folder.path().join("metrics.sock"),
        );
        fs::write(folder.path().join("grpc.toml"), base).unwrap();
        fs::create_dir(folder.path().join("grpc.toml.d")).unwrap();
        let prepared = Self {
            arguments: vec![
                "--config".to_owned(),
                folder.path().join("grpc.toml").display().to_string(),
            ],
            folder,
            bus,
            environment: Vec::new(),
            socket: None,
        };
        write_config(prepared.folder.path(), config);
        prepared
    }

    /// Uses these arguments in the place of `--config`.
    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments = arguments.iter().map(ToString::to_string).collect();
        self
    }

    /// Sets a variable of the environment.
    pub fn environment(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Passes `socket` as systemd passes one, with its name.
    pub fn socket(self, socket: impl Into<OwnedFd>, name: &str) -> Self {
        let mut passing = self.environment("LISTEN_FDS", "1").environment("LISTEN_FDNAMES", name);
        passing.socket = Some(socket.into());
        passing
    }

    /// Starts the daemon and waits until it is ready.
    pub fn start(self) -> Daemon {
        let daemon = self.spawn();
        daemon.wait_for("READY=1");
        daemon
    }

    /// Starts the daemon.
    pub fn spawn(mut self) -> Daemon {
        let path = self.folder.path().join("notify.sock");
        let notifications = UnixDatagram::bind(&path).unwrap();
        notifications.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut process = self.command().env("NOTIFY_SOCKET", path).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let mut stderr = process.stderr.take().unwrap();
        let lines = Arc::clone(&log);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stderr.read(&mut buffer) {
                lines.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        });
        Daemon { folder: self.folder, bus: self.bus, process, notifications, log }
    }

    /// Starts the daemon, which must end by itself: its exit code, standard output and error.
    pub fn run(mut self) -> (i32, String, String) {
        let output = self.command().output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    fn command(&mut self) -> Command {
        let daemon = env!("CARGO_BIN_EXE_op-dbusd");
        let mut command = match self.socket.take() {
            None => Command::new(daemon),
            Some(socket) => {
                // The shell turns standard input into descriptor 3 and keeps its process id.
                let mut shell = Command::new("sh");
                shell
                    .args(["-c", r#"LISTEN_PID=${LISTEN_PID-$$} exec "$0" "$@" 3<&0 0</dev/null"#]);
                shell.arg(daemon).stdin(socket);
                shell
            }
        };
        command
            .args(&self.arguments)
            .env_remove("OP_DBUS_CONFIG")
            .env_remove("JOURNAL_STREAM")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}

/// Writes the drop-in that tests change.
fn write_config(folder: &Path, config: &str) {
    fs::write(folder.join("grpc.toml.d/50-test.toml"), config).unwrap();
}

impl Daemon {
    /// A daemon that is ready, with `config` (TOML) after the usual configuration.
    pub fn start(config: &str) -> Self {
        Prepared::new(config).start()
    }

    /// Where gRPC is served.
    pub fn grpc_socket(&self) -> PathBuf {
        self.folder.path().join("grpc.sock")
    }

    /// Where the metrics are served.
    pub fn metrics_socket(&self) -> PathBuf {
        self.folder.path().join("metrics.sock")
    }

    /// Replaces what [`Daemon::start`] was given; [`Signal::SIGHUP`] makes it count.
    pub fn write_config(&self, config: &str) {
        write_config(self.folder.path(), config);
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid().try_into().unwrap()), signal).unwrap();
    }

    /// Waits for a notification with the line `state` (`READY=1`) and gives all of its lines. Earlier
    /// ones are skipped.
    pub fn wait_for(&self, state: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let mut buffer = [0; 4096];
            let Ok(count) = self.notifications.recv(&mut buffer) else { break };
            let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
            if text.lines().any(|line| line.starts_with(state)) {
                return text;
            }
        }
        panic!("no notification {state}; the log:\n{}", self.log());
    }

    /// What the daemon has written to standard error.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until the log holds `text`.
    pub fn wait_for_log(&self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.log().contains(text) {
            assert!(Instant::now() < deadline, "{text:?} is missing in the log:\n{}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until the process has ended by itself.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end; the log:\n{}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Asks the daemon to stop; it must end well. Gives its log.
    pub fn stop(mut self) -> String {
        self.signal(Signal::SIGTERM);
        let status = self.wait();
        assert_eq!(status.code(), Some(0), "{}", self.log());
        // The thread that reads the log may be behind the end of the process.
        thread::sleep(Duration::from_millis(20));
        self.log()
    }

    /// The value of one metric, named with its labels as in the Prometheus text.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let response = http(&self.metrics_socket(), "GET", "/metrics");
        let line = response
            .lines()
            .find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')))?;
        line.rsplit(' ').next()?.parse().ok()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// One HTTP request over a Unix socket: the whole response. A server that refuses may close before it
/// has read all; what it said until then is the response.
pub fn http(socket: &Path, method: &str, path: &str) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").ok();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).ok();
    String::from_utf8(response).unwrap()
}
