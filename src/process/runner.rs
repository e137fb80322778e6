//! Starts programs: checks what the caller says, opens what the program needs, starts the stub and
//! sends it its orders. What happens then is the stub's.

#![expect(
    clippy::disallowed_methods,
    reason = "this is the room in which programs are started: the stub confines and kills them"
)]

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio as StubStdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prost::Message as _;
use rustix::fs::MemfdFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::pipe::{PipeFlags, pipe_with};

use super::life::{self, Control};
use super::output::Stream;
use super::running::Running;
use super::spec::{Limits, Policy, Spec, Stdio};
use super::stub::STUB_ARGUMENT;
use super::wire::{self, ExtraOrder, LimitOrders, Orders};
use super::{environment, program, terminal};
use crate::error::Error;

/// The most that arguments and environment may have together, a little less than what the kernel takes
/// under the usual limit on the stack.
const ARGUMENTS_BYTES_MAX: usize = 1 << 20;
/// What a pipe is asked to hold, so that a program that writes much is not woken for every 64 KiB. A
/// user's quota may refuse it; then it holds what it holds.
const PIPE_BYTES: usize = 256 << 10;

/// What programs are started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// This program, which becomes the stub: `op-dbusd`.
    pub stub: PathBuf,
    /// Where each program gets a folder of its own for temporary files.
    pub temporary: PathBuf,
    /// A cgroup of version 2 that is delegated to us, in which each program gets one of its own.
    pub cgroup: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            // Also right after the file was replaced by a newer version.
            stub: "/proc/self/exe".into(),
            temporary: std::env::temp_dir(),
            cgroup: None,
        }
    }
}

/// Starts programs.
#[derive(Clone, Debug)]
pub struct Runner {
    config: Arc<Config>,
    next: Arc<AtomicU64>,
}

/// A stub that has its orders, and our ends of what the program got.
struct Begun {
    stub: Child,
    control: OwnedFd,
    ends: Ends,
    program: PathBuf,
    cgroup: Option<PathBuf>,
}

/// Our ends of a program's streams; none blocks.
#[derive(Default)]
pub(super) struct Ends {
    pub(super) input: Option<OwnedFd>,
    pub(super) output: Vec<(OwnedFd, Stream)>,
    pub(super) terminal: Option<OwnedFd>,
}

impl Runner {
    /// A runner.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self { config: Arc::new(config), next: Arc::default() }
    }

    /// Starts a program. When this gives a value, the program runs.
    ///
    /// # Errors
    ///
    /// `InvalidArgument`, `NotFound`, `PathOutsideRoot` or `LimitExceeded` for what the caller says;
    /// `BackendMissing` and `AccessDenied` for the program; `SandboxUnavailable` if the policy requires
    /// what the kernel lacks; `BackendUnavailable` if the system refuses something. Nothing has run then.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing is left running.
    pub async fn start(&self, spec: Spec) -> Result<Running, Error> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let config = Arc::clone(&self.config);
        let limits = spec.limits.clone();
        // Starting a process waits until it executes, which is too long for the thread of all calls.
        let begun = tokio::task::spawn_blocking(move || begin(&config, number, &spec))
            .await
            .map_err(|_| Error::internal("starting a program broke off"))??;
        let control = Arc::new(Control::new(begun.control).map_err(refused)?);
        let (beginning, ending) = life::follow(begun.stub, Arc::clone(&control), begun.cgroup);
        let mut running =
            Running::new(control, ending, begun.ends, begun.program, limits).map_err(refused)?;
        let beginning = beginning
            .await
            .map_err(|_| Error::internal("nobody follows the program any more"))??;
        running.has_begun(beginning);
        Ok(running)
    }
}

fn refused(error: impl Into<io::Error>) -> Error {
    let error = error.into();
    Error::new(
        crate::error::ErrorKind::BackendUnavailable,
        format!("the program cannot be started: {error}"),
    )
}

fn begin(config: &Config, number: u64, spec: &Spec) -> Result<Begun, Error> {
    let Some(name) = spec.argv.first() else {
        return Err(Error::invalid("argv", "the program is missing"));
    };
    let is_terminal = matches!(spec.stdio, Stdio::Terminal(_));
    let environment = environment::build(&spec.environment, is_terminal)?;
    let directory = program::open_directory(&spec.directory)?;
    let path = program::path_of(&environment);
    let program = program::resolve(name, path, directory.as_fd())?;
    let name = format!("run-{}-{number}", std::process::id());
    let cgroup = config.cgroup.as_ref().map(|parent| parent.join(&name));
    let orders = Orders {
        program: program.clone().into_os_string().into_vec(),
        argv: spec.argv.iter().map(|argument| argument.as_bytes().to_vec()).collect(),
        home: !environment.contains_key(std::ffi::OsStr::new("HOME")),
        environment: environment.into_iter().map(variable).collect(),
        profile: spec.profile.rules().name.to_owned(),
        off: spec.policy == Policy::Off,
        require: spec.policy == Policy::Require,
        limits: limits(&spec.limits),
        extra: extra(spec)?,
        temporary: config.temporary.join(format!("op-dbus-{name}")).into_os_string().into_vec(),
        cgroup: cgroup.as_ref().map(|path| path.as_os_str().as_bytes().to_vec()),
        terminal: is_terminal,
    };
    check(&orders)?;
    let (ends, theirs) = open(spec.stdio).map_err(refused)?;
    let (control, stub) = start_stub(config).map_err(refused)?;
    let file = memory(&orders).map_err(refused)?;
    let [stdin, stdout, stderr] = theirs.each_ref().map(OwnedFd::as_fd);
    let descriptors = [file.as_fd(), directory.as_fd(), stdin, stdout, stderr];
    let sent = wire::send_descriptors(control.as_fd(), descriptors);
    let begun = Begun { stub, control, ends, program, cgroup };
    match sent {
        Ok(()) => Ok(begun),
        Err(error) => {
            let mut stub = begun.stub;
            // It has nothing to run and ends when the socket closes; this only collects it.
            drop(begun.control);
            stub.wait().ok();
            Err(refused(error))
        }
    }
}

fn variable((name, value): (OsString, OsString)) -> Vec<u8> {
    [name.as_bytes(), b"=", value.as_bytes()].concat()
}

fn check(orders: &Orders) -> Result<(), Error> {
    if orders.argv.iter().any(|argument| argument.contains(&0)) {
        return Err(Error::invalid("argv", "an argument has no zero byte"));
    }
    let strings = orders.argv.iter().chain(&orders.environment);
    // The kernel counts the pointers as well.
    let bytes: usize = strings.map(|string| string.len() + 1 + size_of::<usize>()).sum();
    if bytes > ARGUMENTS_BYTES_MAX {
        let text = format!("arguments and environment have {bytes} bytes");
        return Err(Error::limit("process.arguments_bytes", ARGUMENTS_BYTES_MAX, text));
    }
    Ok(())
}

fn limits(limits: &Limits) -> LimitOrders {
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    LimitOrders {
        wall_ms: limits.wall.map(ms),
        cpu_ms: limits.cpu.map(ms),
        memory_bytes: limits.memory_bytes,
        processes: limits.processes.map(u64::from),
        open_files: limits.open_files,
        file_size_bytes: limits.file_size_bytes,
        grace_ms: ms(limits.grace),
    }
}

fn extra(spec: &Spec) -> Result<Vec<ExtraOrder>, Error> {
    let order = |extra: &super::spec::Extra| {
        if !extra.path.is_absolute() || !extra.path.exists() {
            let problem = format!("{} is no absolute path that exists", extra.path.display());
            return Err(Error::invalid("extra", problem));
        }
        let path = extra.path.as_os_str().as_bytes().to_vec();
        Ok(ExtraOrder { path, access: extra.access as u32 })
    };
    spec.extra.iter().map(order).collect()
}

/// Opens what a program has as its standard streams: our ends, and its own.
fn open(stdio: Stdio) -> io::Result<(Ends, [OwnedFd; 3])> {
    if let Stdio::Terminal(size) = stdio {
        let (ours, theirs) = terminal::open(size)?;
        let ends = Ends {
            input: Some(ours.try_clone()?),
            output: vec![(ours.try_clone()?, Stream::Stdout)],
            terminal: Some(ours),
        };
        return Ok((ends, [theirs.try_clone()?, theirs.try_clone()?, theirs]));
    }
    let mut ends = Ends::default();
    let stdin = if stdio == Stdio::Piped {
        let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        ends.input = Some(ours);
        theirs
    } else {
        File::open("/dev/null")?.into()
    };
    let mut pipe = |stream| -> io::Result<OwnedFd> {
        let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        rustix::pipe::fcntl_setpipe_size(&ours, PIPE_BYTES).ok();
        ends.output.push((ours, stream));
        Ok(theirs)
    };
    let (stdout, stderr) = (pipe(Stream::Stdout)?, pipe(Stream::Stderr)?);
    Ok((ends, [stdin, stdout, stderr]))
}

/// Starts the stub with nothing but its end of the socket. There is no work between fork and exec, so
/// that the standard library uses `posix_spawn`: a fork would copy the page tables of a large daemon.
fn start_stub(config: &Config) -> io::Result<(OwnedFd, Child)> {
    let (ours, theirs) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let stub = Command::new(&config.stub)
        .arg(STUB_ARGUMENT)
        .env_clear()
        .stdin(theirs)
        .stdout(StubStdio::null())
        .spawn()?;
    Ok((ours, stub))
}

/// The orders in a file without a name, since a packet may be too small for them.
fn memory(orders: &Orders) -> io::Result<OwnedFd> {
    let file = rustix::fs::memfd_create("op-dbus-orders", MemfdFlags::CLOEXEC)?;
    let mut file = File::from(file);
    file.write_all(&orders.encode_to_vec())?;
    Ok(file.into())
}
