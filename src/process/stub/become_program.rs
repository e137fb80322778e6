//! The child of the stub limits and confines itself, step by step, and executes the program. What each
//! step enforced it writes into the stub's report.

use std::convert::Infallible;
use std::ffi::{CString, NulError};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use caps::{CapSet, CapsHashSet};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use rustix::fs::Mode;
use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, setrlimit};

use super::landlock::{self, Paths};
use super::leaf::Leaf;
use super::orders::Descriptors;
use super::raw;
use crate::process::capabilities::keep_only;
use crate::process::profile::{Access, Profile};
use crate::process::report::{Mechanism, Report, State};
use crate::process::spec::DESCRIPTORS_MAX;
use crate::process::wire::{LimitOrders, Orders, Refused, path};

/// A program that a child of this process can become. What can be made beforehand is made by the stub.
pub(super) struct Program<'a> {
    orders: &'a Orders,
    descriptors: &'a Descriptors,
    confinement: Option<Confinement<'a>>,
    leaf: Option<&'a Leaf>,
    stub: Pid,
    path: CString,
    argv: Strings,
    environment: Strings,
    /// How many processes the user may have.
    processes: Option<u64>,
}

impl<'a> Program<'a> {
    pub(super) fn new(
        orders: &'a Orders,
        descriptors: &'a Descriptors,
        temporary: &Path,
        rules: &'a mut landlock::Rules,
        leaf: Option<&'a Leaf>,
    ) -> Result<Self, Refused> {
        let wrong = |error: NulError| Refused::because("its arguments", &error);
        let (argv, environment) = strings(orders, temporary).map_err(wrong)?;
        let path = CString::new(orders.program.as_slice()).map_err(wrong)?;
        // It counts all of the user's processes, of which there are at most as many as on the machine.
        let processes = orders.limits.processes.map(|count| threads_of_all().saturating_add(count));
        let confinement = Confinement::prepare(orders, descriptors, temporary, rules)?;
        let stub = rustix::process::getpid();
        Ok(Self {
            orders,
            descriptors,
            confinement,
            leaf,
            stub,
            path,
            argv,
            environment,
            processes,
        })
    }

    /// Becomes the program, or says why not.
    pub(super) fn execute(&self, report: &mut Report) -> Result<Infallible, Refused> {
        let stopped = |what: &'static str| move |error: io::Error| Refused::because(what, &error);
        self.leave_the_stub().map_err(stopped("its descriptors"))?;
        self.leaf.map_or(Ok(()), Leaf::join).map_err(stopped("its cgroup"))?;
        limit(&self.orders.limits, self.processes).map_err(stopped("its limits"))?;
        self.confine(report);
        let missing = report.missing();
        if self.orders.require && !missing.is_empty() {
            return Err(unavailable(&missing));
        }
        self.place_further().map_err(stopped("its descriptors"))?;
        nix::unistd::execve(&self.path, &self.argv, &self.environment).map_err(|errno| Refused {
            text: format!("{} cannot be executed: {errno}", path(&self.orders.program).display()),
            sandbox: false,
            execution: Some(errno as i32),
        })
    }

    /// Has nothing any more of what the stub has: session, signals, descriptors, folder.
    fn leave_the_stub(&self) -> io::Result<()> {
        // If the stub is killed, nobody watches the program any more.
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        if rustix::process::getppid() != Some(self.stub) {
            return Err(io::Error::other("the process that watches it has ended"));
        }
        nix::unistd::setsid()?;
        let [stdin, stdout, stderr] = &self.descriptors.streams;
        rustix::stdio::dup2_stdin(stdin)?;
        rustix::stdio::dup2_stdout(stdout)?;
        rustix::stdio::dup2_stderr(stderr)?;
        if self.orders.terminal {
            rustix::process::ioctl_tiocsctty(stdin)?;
        }
        rustix::process::fchdir(&self.descriptors.directory)?;
        rustix::process::umask(Mode::WGRP | Mode::WOTH);
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
        raw::close_others_on_execution()
    }

    /// Gives the descriptors besides the standard streams their numbers. The last step, since what has
    /// these numbers until then is lost.
    fn place_further(&self) -> io::Result<()> {
        const FIRST: RawFd = 3;
        #[expect(clippy::cast_possible_truncation, reason = "it is a handful")]
        const MOST: RawFd = DESCRIPTORS_MAX as RawFd;
        const ABOVE: RawFd = FIRST + MOST;
        let out_of_the_way = self.descriptors.further.iter();
        let out_of_the_way: Vec<OwnedFd> = out_of_the_way
            .map(|descriptor| Ok(fcntl_dupfd_cloexec(descriptor, ABOVE)?))
            .collect::<io::Result<_>>()?;
        for (number, descriptor) in (FIRST..).zip(&out_of_the_way) {
            raw::place(descriptor.as_fd(), number)?;
        }
        Ok(())
    }

    fn confine(&self, report: &mut Report) {
        let Some(confinement) = &self.confinement else { return };
        report.set(Mechanism::Capabilities, without_capabilities());
        let no_new_privileges = match rustix::thread::set_no_new_privs(true) {
            Ok(()) => State::Enforced("no_new_privs".to_owned()),
            Err(errno) => State::Unavailable(errno.to_string()),
        };
        report.set(Mechanism::NoNewPrivileges, no_new_privileges);
        if let Confinement::Files(rules) = confinement {
            rules.confine(report);
        }
    }
}

/// What a program gets that is confined.
enum Confinement<'a> {
    /// No rules for files.
    NoFiles,
    Files(&'a landlock::Rules),
}

impl<'a> Confinement<'a> {
    /// `None` if nothing is to be confined.
    fn prepare(
        orders: &Orders,
        descriptors: &Descriptors,
        temporary: &Path,
        rules: &'a mut landlock::Rules,
    ) -> Result<Option<Self>, Refused> {
        if orders.off {
            return Ok(None);
        }
        let Some(profile) = Profile::named(&orders.profile) else {
            return Err(Refused::because("its profile", &"there is none of this name"));
        };
        let profile = profile.rules();
        let Some(files) = profile.files else { return Ok(Some(Self::NoFiles)) };
        let paths = Paths {
            program: path(&orders.program),
            directory: descriptors.directory.as_fd(),
            temporary,
            extra: extra(orders),
        };
        rules.prepare(files, profile.sockets, &paths);
        Ok(Some(Self::Files(rules)))
    }
}

fn unavailable(missing: &[(Mechanism, &str)]) -> Refused {
    let each: Vec<_> =
        missing.iter().map(|(mechanism, why)| format!("{}: {why}", mechanism.name())).collect();
    let text = format!("the confinement that is required cannot be had: {}", each.join("; "));
    Refused { text, sandbox: true, execution: None }
}

type Strings = Vec<CString>;

fn strings(orders: &Orders, temporary: &Path) -> Result<(Strings, Strings), NulError> {
    let strings =
        |given: &[Vec<u8>]| given.iter().map(|bytes| CString::new(bytes.as_slice())).collect();
    let argv: Result<Strings, NulError> = strings(&orders.argv);
    let environment: Result<Strings, NulError> = strings(&orders.environment);
    let mut environment = environment?;
    let temporary = temporary.as_os_str().as_bytes();
    environment.push(CString::new([b"TMPDIR=", temporary].concat())?);
    if orders.home {
        environment.push(CString::new([b"HOME=", temporary].concat())?);
    }
    Ok((argv?, environment))
}

fn limit(limits: &LimitOrders, processes: Option<u64>) -> io::Result<()> {
    set(Resource::Core, 0, 0)?;
    set(Resource::Nofile, limits.open_files, limits.open_files)?;
    if let Some(bytes) = limits.file_size_bytes {
        set(Resource::Fsize, bytes, bytes)?;
    }
    if let Some(ms) = limits.cpu_ms {
        // It counts for each process; the stub looks at the tree.
        let seconds = ms.div_ceil(1000);
        set(Resource::Cpu, seconds, seconds + 1)?;
    }
    if let Some(bytes) = limits.memory_bytes {
        let bytes = backstop(bytes);
        set(Resource::Data, bytes, bytes)?;
    }
    if let Some(bound) = processes {
        // For what forks faster than the stub looks; the kernel does not apply it to root.
        set(Resource::Nproc, bound, bound)?;
    }
    Ok(())
}

/// How much memory the kernel gives to one process of a tree that may have `bytes`, for what grows
/// faster than the stub looks. Twice, so that usually the stub is first, and says why the program was
/// ended; a program that is refused memory says anything.
pub(super) const fn backstop(bytes: u64) -> u64 {
    bytes.saturating_mul(2)
}

/// Sets a limit, or keeps what the process was allowed if that is less.
fn set(resource: Resource, soft: u64, hard: u64) -> io::Result<()> {
    let allowed = getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let limit = Rlimit { current: Some(soft.min(allowed)), maximum: Some(hard.min(allowed)) };
    Ok(setrlimit(resource, limit)?)
}

/// How many threads there are on this machine.
fn threads_of_all() -> u64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let all = text.split(' ').nth(3).and_then(|counts| counts.split('/').nth(1)?.parse().ok());
    // Without it there is nothing to start from, and the stub's look has to do.
    all.unwrap_or(u64::MAX)
}

fn extra(orders: &Orders) -> Vec<(&Path, Access)> {
    let access = |number| match number {
        0 => Access::Read,
        1 => Access::Execute,
        _ => Access::Write,
    };
    orders.extra.iter().map(|extra| (path(&extra.path), access(extra.access))).collect()
}

/// Gives up all capabilities, unless that is done already.
fn without_capabilities() -> State {
    match keep_only(&CapsHashSet::new()).and_then(|()| caps::read(None, CapSet::Permitted)) {
        Ok(left) if left.is_empty() => State::Enforced("none is held".to_owned()),
        Ok(left) => State::Unavailable(format!("{} are still held", left.len())),
        Err(error) => State::Unavailable(error.to_string()),
    }
}
