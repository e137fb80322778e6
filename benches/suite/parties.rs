//! The processes of the suite: a private bus, the daemon, and peers. Each ends with its value.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A child process that is killed with this value.
pub struct Party(pub Child);

impl Drop for Party {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Pins this process, and what it starts from now on, to the first processor: two cores would
/// measure wake-ups across them, not the length of the path.
pub fn pin() {
    let mut set = nix::sched::CpuSet::new();
    set.set(0).unwrap();
    nix::sched::sched_setaffinity(nix::unistd::Pid::this(), &set).unwrap();
}

/// Lets this process run anywhere again.
pub fn unpin() {
    let mut set = nix::sched::CpuSet::new();
    for cpu in 0..std::thread::available_parallelism().map_or(2, |n| n.get().max(2)) {
        set.set(cpu).ok();
    }
    nix::sched::sched_setaffinity(nix::unistd::Pid::this(), &set).ok();
}

/// A private message bus.
pub struct Bus {
    pub address: String,
    _process: Party,
}

impl Bus {
    pub fn start(folder: &Path) -> Self {
        let config = folder.join("bus.conf");
        fs::write(
            &config,
            format!(
                "<busconfig><type>system</type><listen>unix:path={}/bus</listen><auth>EXTERNAL</auth>\
                 <policy context=\"default\"><allow user=\"*\"/><allow own=\"*\"/>\
                 <allow send_destination=\"*\"/><allow receive_sender=\"*\"/></policy></busconfig>",
                folder.display()
            ),
        )
        .unwrap();
        let mut process = Command::new("dbus-daemon")
            .arg(format!("--config-file={}", config.display()))
            .args(["--nofork", "--nosyslog", "--print-address=1"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("dbus-daemon must be installed");
        let mut address = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Self { address: address.trim().to_owned(), _process: Party(process) }
    }
}

/// The daemon on a private bus.
pub struct Daemon {
    pub folder: TempDir,
    pub bus: Bus,
    pub process: Party,
    /// From exec to READY.
    pub ready_after: Duration,
}

impl Daemon {
    /// Starts the daemon with `durability` and waits until it is ready.
    pub fn start(durability: &str) -> Self {
        Self::start_with(durability, "")
    }

    /// The same, with more of a configuration.
    pub fn start_with(durability: &str, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let bus = Bus::start(folder.path());
        fs::write(
            at("grpc.toml"),
            format!(
                "[grpc]\nunix = {:?}\n[metrics]\nunix = \"\"\n[storage]\npath = {:?}\ndurability = {durability:?}\n[log]\ntarget = \"stderr\"\nlevel = \"error\"\n{more}",
                at("grpc.sock"),
                at("state"),
            ),
        )
        .unwrap();
        let notify = UnixDatagram::bind(at("notify")).unwrap();
        notify.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let start = Instant::now();
        let process = Command::new(env!("CARGO_BIN_EXE_op-dbusd"))
            .arg("--config")
            .arg(at("grpc.toml"))
            .args(["--bus", &bus.address])
            .env("NOTIFY_SOCKET", at("notify"))
            .spawn()
            .unwrap();
        let process = Party(process);
        let mut message = [0; 4096];
        loop {
            let size = notify.recv(&mut message).expect("the daemon did not become ready");
            if message[..size].split(|byte| *byte == b'\n').any(|line| line == b"READY=1") {
                break;
            }
        }
        Self { ready_after: start.elapsed(), folder, bus, process }
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("grpc.sock")
    }

    /// Resident memory, in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.0.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

/// Waits until a Unix socket takes connections.
pub fn wait_for_socket(path: &Path) {
    let start = Instant::now();
    while UnixStream::connect(path).is_err() {
        assert!(start.elapsed() < Duration::from_secs(10), "{} is not served", path.display());
        std::thread::sleep(Duration::from_millis(2));
    }
}
