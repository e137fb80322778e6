//! The child of the stub limits and confines itself, step by step, and executes the program. What each
//! step enforced it tells the stub before the last one.

use std::convert::Infallible;
use std::ffi::{CString, NulError};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use caps::{CapSet, CapsHashSet};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use prost::Message as _;
use rustix::fs::Mode;
use rustix::io::FdFlags;
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};

use super::landlock::{self, Paths};
use super::leaf::Leaf;
use super::{Descriptors, path, raw, seccomp};
use crate::process::capabilities::keep_only;
use crate::process::profile::{Access, Profile, Sockets};
use crate::process::report::{Mechanism, Report, State};
use crate::process::wire::{self, LimitOrders, News, Orders, Refused, Started, news};

/// Becomes the program, or says why not.
pub(super) fn run(
    orders: &Orders,
    descriptors: &Descriptors,
    temporary: &Path,
    leaf: Option<&Leaf>,
    mut report: Report,
    pipe: &OwnedFd,
) -> Result<Infallible, Refused> {
    let stopped = |what: &'static str| move |error: io::Error| Refused::because(what, &error);
    let (argv, environment) =
        strings(orders, temporary).map_err(|error| Refused::because("its arguments", &error))?;
    leave_the_stub(orders, descriptors).map_err(stopped("its descriptors"))?;
    leaf.map_or(Ok(()), Leaf::join).map_err(stopped("its cgroup"))?;
    limit(&orders.limits).map_err(stopped("its limits"))?;
    confine(orders, descriptors, temporary, &mut report)?;
    let missing = report.missing();
    if orders.require && !missing.is_empty() {
        return Err(unavailable(&missing));
    }
    let started = Started { pid: 0, report: wire::rows(&report) };
    tell(pipe, news::What::Started(started)).map_err(stopped("its report"))?;
    let program = CString::new(orders.program.as_slice())
        .map_err(|error| Refused::because("its path", &error))?;
    nix::unistd::execve(&program, &argv, &environment).map_err(|errno| Refused {
        text: format!("{} cannot be executed: {errno}", path(&orders.program).display()),
        sandbox: false,
        execution: Some(errno as i32),
    })
}

/// Tells the stub something through `pipe`.
pub(super) fn tell(pipe: &OwnedFd, what: news::What) -> io::Result<()> {
    let bytes = News { what: Some(what) }.encode_length_delimited_to_vec();
    File::from(pipe.try_clone()?).write_all(&bytes)
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

/// Has nothing any more of what the stub has: session, signals, descriptors, folder.
fn leave_the_stub(orders: &Orders, descriptors: &Descriptors) -> io::Result<()> {
    // If the stub is killed, nobody watches the program any more.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    nix::unistd::setsid()?;
    let [stdin, stdout, stderr] = &descriptors.streams;
    rustix::stdio::dup2_stdin(stdin)?;
    rustix::stdio::dup2_stdout(stdout)?;
    rustix::stdio::dup2_stderr(stderr)?;
    if orders.terminal {
        rustix::process::ioctl_tiocsctty(stdin)?;
    }
    rustix::process::fchdir(&descriptors.directory)?;
    rustix::process::umask(Mode::WGRP | Mode::WOTH);
    raw::default_signals();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    raw::close_all_but_streams_on_execution()?;
    for descriptor in &descriptors.further {
        rustix::io::fcntl_setfd(descriptor, FdFlags::empty())?;
    }
    Ok(())
}

fn limit(limits: &LimitOrders) -> io::Result<()> {
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
        // For what grows faster than the stub looks. Twice, so that usually the stub is first, and says
        // why the program was ended; a program that is refused memory says anything.
        let bytes = bytes.saturating_mul(2);
        set(Resource::Data, bytes, bytes)?;
    }
    if let Some(count) = limits.processes {
        // It counts all of the user's processes, of which there are at most as many as on the machine.
        // For what forks faster than the stub looks; the kernel does not apply it to root.
        let bound = threads_of_all().saturating_add(count);
        set(Resource::Nproc, bound, bound)?;
    }
    Ok(())
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

fn confine(
    orders: &Orders,
    descriptors: &Descriptors,
    temporary: &Path,
    report: &mut Report,
) -> Result<(), Refused> {
    if orders.off {
        return Ok(());
    }
    let Some(profile) = Profile::named(&orders.profile) else {
        return Err(Refused::because("its profile", &"there is none of this name"));
    };
    let rules = profile.rules();
    report.set(Mechanism::Capabilities, without_capabilities());
    let no_new_privileges = match rustix::thread::set_no_new_privs(true) {
        Ok(()) => State::Enforced("no_new_privs".to_owned()),
        Err(errno) => State::Unavailable(errno.to_string()),
    };
    report.set(Mechanism::NoNewPrivileges, no_new_privileges);
    if let Some(files) = rules.files {
        let paths = Paths {
            program: path(&orders.program),
            directory: descriptors.directory.as_fd(),
            temporary,
            extra: extra(orders),
        };
        landlock::confine(files, rules.sockets, &paths, report);
    }
    if rules.filter || rules.sockets != Sockets::Any {
        seccomp::confine(rules.sockets, report);
    }
    Ok(())
}

fn extra(orders: &Orders) -> Vec<(&Path, Access)> {
    let access = |number| match number {
        0 => Access::Read,
        1 => Access::Execute,
        _ => Access::Write,
    };
    orders.extra.iter().map(|extra| (path(&extra.path), access(extra.access))).collect()
}

fn without_capabilities() -> State {
    match keep_only(&CapsHashSet::new()).and_then(|()| caps::read(None, CapSet::Permitted)) {
        Ok(left) if left.is_empty() => State::Enforced("none is held".to_owned()),
        Ok(left) => State::Unavailable(format!("{} are still held", left.len())),
        Err(error) => State::Unavailable(error.to_string()),
    }
}
