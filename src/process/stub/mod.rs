//! The process between the daemon and a program: it reads its orders, makes a child that becomes the
//! program, and stays until nothing of the program is left. It has one thread and no runtime, and
//! serves one program.

mod become_program;
mod landlock;
mod leaf;
mod raw;
mod seccomp;
mod supervise;
mod tree;

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _, Seek as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::ForkResult;
use prost::Message as _;
use rustix::io::fcntl_dupfd_cloexec;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use super::ended::Limit;
use super::report::{Mechanism, Report, State};
use super::spec::DESCRIPTORS_MAX;
use super::wire::{self, EndedNews, News, Orders, Refused, Started, news};
use leaf::Leaf;
use supervise::Supervisor;

/// The argument by which `op-dbusd` is told to be a stub. It is in no help: its only caller is
/// [`super::Runner`].
pub const STUB_ARGUMENT: &str = "exec-stub";

/// Is the stub. It must be called before this process has a second thread.
#[must_use]
pub fn run_stub() -> ExitCode {
    // Above the numbers that the program's descriptors are going to have.
    let Ok(control) = fcntl_dupfd_cloexec(io::stdin(), ABOVE) else {
        return ExitCode::FAILURE;
    };
    let what = match serve(&control) {
        Ok(ended) => news::What::Ended(ended),
        Err(refused) => news::What::Refused(refused),
    };
    // If nobody is there to hear it, what was to be done is done.
    match wire::send(control.as_fd(), &News { what: Some(what) }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

impl Refused {
    /// Nothing runs because `what` failed.
    fn because(what: &str, error: &impl std::fmt::Display) -> Self {
        Self {
            text: format!("the program cannot be started: {what}: {error}"),
            sandbox: false,
            execution: None,
        }
    }
}

/// What the runner sends with the orders.
struct Descriptors {
    directory: OwnedFd,
    streams: [OwnedFd; 3],
    /// They have the numbers that they have in the program.
    further: Vec<OwnedFd>,
}

/// The number of the first descriptor after the standard streams.
const FIRST_FURTHER: RawFd = 3;
/// A number above all that the program's descriptors may have.
const ABOVE: RawFd = 16;
const _: () = assert!(DESCRIPTORS_MAX <= (ABOVE - FIRST_FURTHER) as usize);

fn serve(control: &OwnedFd) -> Result<EndedNews, Refused> {
    let (orders, descriptors) =
        receive(control).map_err(|error| Refused::because("its orders", &error))?;
    let signals = prepare_self().map_err(|error| Refused::because("signals", &error))?;
    let temporary = Temporary::make(&orders)
        .map_err(|error| Refused::because("a folder for temporary files", &error))?;
    let mut report = Report::default();
    let leaf = orders
        .cgroup
        .as_deref()
        .map(path)
        .and_then(|path| Leaf::make(path, &orders.limits, &mut report));
    report_limits(&orders, leaf.as_ref(), &mut report);
    let (main, started) = fork_program(&orders, descriptors, &temporary, leaf.as_ref(), report)?;
    // From here on there is a child, and it ends whatever happens.
    let heard = wire::send(control.as_fd(), &News { what: Some(news::What::Started(started)) });
    let mut supervisor = Supervisor::new(main, &orders.limits, leaf);
    if heard.is_err() {
        supervisor.let_go();
    }
    Ok(supervisor.run(control.as_fd(), &signals))
}

fn receive(control: &OwnedFd) -> io::Result<(Orders, Descriptors)> {
    let ([orders, directory, stdin, stdout, stderr], further) = placed(control)?;
    let mut file = File::from(orders);
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let orders = Orders::decode(bytes.as_slice()).map_err(io::Error::other)?;
    Ok((orders, Descriptors { directory, streams: [stdin, stdout, stderr], further }))
}

/// Receives descriptors, and gives those besides the standard streams the numbers that they have in the
/// program. Nothing takes these numbers later on, since they are taken.
fn placed(control: &OwnedFd) -> io::Result<([OwnedFd; wire::DESCRIPTORS], Vec<OwnedFd>)> {
    let (needed, further) = wire::receive_descriptors(control.as_fd())?;
    if further.is_empty() {
        return Ok((needed, further));
    }
    let out_of_the_way = |descriptor: OwnedFd| fcntl_dupfd_cloexec(descriptor, ABOVE);
    let needed = needed.into_iter().map(out_of_the_way).collect::<Result<Vec<_>, _>>()?;
    let further = further.into_iter().map(out_of_the_way).collect::<Result<Vec<_>, _>>()?;
    let place = |(number, descriptor): (RawFd, OwnedFd)| {
        let placed = fcntl_dupfd_cloexec(descriptor, number)?;
        let taken = || io::Error::other(format!("descriptor {number} is taken"));
        if placed.as_raw_fd() == number { Ok(placed) } else { Err(taken()) }
    };
    let further = (FIRST_FURTHER..).zip(further).map(place).collect::<io::Result<Vec<_>>>()?;
    let lost = |_| io::Error::other("a descriptor is lost");
    Ok((needed.try_into().map_err(lost)?, further))
}

/// Makes this process the parent of whatever loses its own, out of reach of the daemon's terminal, and
/// lets it hear signals only when it looks: the first one that is meant to end it ends the program.
fn prepare_self() -> io::Result<SignalFd> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    nix::unistd::setsid().ok();
    std::env::set_current_dir("/")?;
    let all = SigSet::all();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&all), None)?;
    Ok(SignalFd::with_flags(&all, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

/// Says by what the limits hold that the kernel does not hold in a cgroup.
fn report_limits(orders: &Orders, leaf: Option<&Leaf>, report: &mut Report) {
    let limits = &orders.limits;
    let how_often = format!("watched every {} ms", supervise::LOOK_EVERY.as_millis());
    let state = |limit| match limit {
        _ if !tree::can_be_seen() => {
            State::Unavailable("the kernel does not list children in /proc".to_owned())
        }
        Limit::Processes if rustix::process::getuid().is_root() => State::Unavailable(format!(
            "the kernel limits the processes of root only in a cgroup; {how_often}"
        )),
        Limit::Processes => State::Enforced(format!("RLIMIT_NPROC, and {how_often}")),
        Limit::Memory => State::Enforced(format!("RLIMIT_DATA, and {how_often}")),
        Limit::Cpu => State::Enforced(format!("RLIMIT_CPU, and {how_often}")),
        Limit::Wall | Limit::FileSize | Limit::Output => State::Off,
    };
    let asked = [
        (Mechanism::Memory, Limit::Memory, limits.memory_bytes),
        (Mechanism::Processes, Limit::Processes, limits.processes),
        (Mechanism::ProcessorTime, Limit::Cpu, limits.cpu_ms),
    ];
    for (mechanism, limit, asked) in asked {
        if asked.is_some() && !leaf.is_some_and(|leaf| leaf.holds(limit)) {
            report.set(mechanism, state(limit));
        }
    }
}

fn fork_program(
    orders: &Orders,
    descriptors: Descriptors,
    temporary: &Temporary,
    leaf: Option<&Leaf>,
    report: Report,
) -> Result<(Pid, Started), Refused> {
    let fork = |error: io::Error| Refused::because("a process", &error);
    let (listen, tell) = pipe_with(PipeFlags::CLOEXEC).map_err(|error| fork(error.into()))?;
    match raw::fork_from_one_thread().map_err(fork)? {
        ForkResult::Child => {
            let Err(refused) =
                become_program::run(orders, &descriptors, &temporary.0, leaf, report, &tell);
            become_program::tell(&tell, news::What::Refused(refused)).ok();
            raw::leave()
        }
        ForkResult::Parent { child } => {
            // What the child holds, this process must not: a pipe has an end only if nobody holds it.
            drop((tell, descriptors));
            let main = Pid::from_raw(child.as_raw())
                .ok_or_else(|| Refused::because("a process", &"it has no number"))?;
            let mut bytes = Vec::new();
            File::from(listen).read_to_end(&mut bytes).map_err(fork)?;
            let started = hear(&bytes).inspect_err(|_| {
                // It has nothing more to do than to end.
                waitid(WaitId::Pid(main), WaitIdOptions::EXITED).ok();
            })?;
            Ok((main, Started { pid: child.as_raw(), ..started }))
        }
    }
}

/// What the child said: that it is about to execute the program, and perhaps that it could not.
fn hear(mut bytes: &[u8]) -> Result<Started, Refused> {
    let mut heard = None;
    while let Ok(News { what: Some(what) }) = News::decode_length_delimited(&mut bytes) {
        match what {
            news::What::Started(started) => heard = Some(started),
            news::What::Refused(refused) => return Err(refused),
            news::What::Ended(_) => {}
        }
    }
    heard.ok_or_else(|| Refused::because("its process", &"it ended too early"))
}

fn path(bytes: &[u8]) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}

/// The program's own folder for temporary files, which ends with it.
struct Temporary(PathBuf);

impl Temporary {
    fn make(orders: &Orders) -> io::Result<Self> {
        let path = path(&orders.temporary);
        DirBuilder::new().mode(0o700).create(path)?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // A program may have made folders in it that not even its owner may read.
        if fs::remove_dir_all(&self.0).is_err() {
            open_up(&self.0);
            fs::remove_dir_all(&self.0).ok();
        }
    }
}

/// Lets the owner into every folder beneath `folder`.
fn open_up(folder: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).ok();
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        let is_folder = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
        folders.extend(entries.flatten().filter(is_folder).map(|entry| entry.path()));
    }
}
