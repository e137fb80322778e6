//! The process between the daemon and a program: it reads its orders, makes a child that becomes the
//! program, and stays until nothing of the program is left; then it waits for the next orders. It has
//! one thread and no runtime, and serves one program at a time.

mod become_program;
mod landlock;
mod leaf;
mod orders;
mod raw;
mod seccomp;
mod supervise;
mod temporary;
mod tree;
mod watch;

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::ExitCode;

use nix::libc;
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use super::profile::{Profile, Sockets};
use super::report::Report;
use super::wire::{self, EndedNews, News, Orders, Refused, Started, news};
use become_program::Program;
use leaf::Leaf;
use orders::{Descriptors, Received};
use raw::ChildStack;
use seccomp::Filter;
use supervise::Supervisor;
use temporary::Temporary;
pub use temporary::remove_left_over;
use watch::Watch;

/// The argument by which `op-dbusd` is told to be a stub. It is in no help: its only caller is
/// [`super::Runner`].
pub const STUB_ARGUMENT: &str = "exec-stub";
/// How many programs a stub serves: what a program leaves in the memory of its stub is some hundred
/// bytes, and shall not add up for ever.
const PROGRAMS_MAX: u32 = 1000;

/// Is the stub. It must be called before this process has a second thread.
#[must_use]
pub fn run_stub() -> ExitCode {
    let prepared = io::stdin().as_fd().try_clone_to_owned().and_then(|control| {
        let signals = prepare_self()?;
        Ok(Stub {
            control,
            signals,
            filter: None,
            temporary: None,
            rules: landlock::Rules::default(),
            stack: ChildStack::new(),
        })
    });
    match prepared.and_then(Stub::serve) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Makes this process the parent of whatever loses its own, out of reach of the daemon's terminal, and
/// lets it hear signals only when it looks: the first one that is meant to end it ends the program.
fn prepare_self() -> io::Result<SignalFd> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    nix::unistd::setsid().ok();
    std::env::set_current_dir("/")?;
    // Programs inherit it.
    raw::default_signals();
    let all = SigSet::all();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&all), None)?;
    Ok(SignalFd::with_flags(&all, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

/// True if somebody has asked this process to end.
fn is_asked_to_end(signals: &SignalFd) -> bool {
    let mut is_asked = false;
    while let Ok(Some(signal)) = signals.read_signal() {
        is_asked |= [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT]
            .iter()
            .any(|end| signal.ssi_signo == end.cast_unsigned());
    }
    is_asked
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

/// What stays from program to program.
struct Stub {
    control: OwnedFd,
    signals: SignalFd,
    /// The filter of this process, which its programs inherit.
    filter: Option<Filter>,
    temporary: Option<Temporary>,
    rules: landlock::Rules,
    stack: ChildStack,
}

impl Stub {
    /// Serves programs until there is nobody any more to serve, or one may have left a trace.
    fn serve(mut self) -> io::Result<()> {
        for number in 1..=PROGRAMS_MAX {
            let Some((orders, descriptors)) = self.next_orders()? else { return Ok(()) };
            let mut ended = self.run(&orders, descriptors);
            if let Ok(ended) = &mut ended {
                ended.again &= number < PROGRAMS_MAX && self.is_confined(&orders);
            }
            let again = ended.as_ref().is_ok_and(|ended| ended.again);
            if !again {
                // Before the word of it, so that who hears that all has ended finds nothing.
                self.temporary = None;
            }
            let what = ended.map_or_else(news::What::Refused, news::What::Ended);
            wire::send(self.control.as_fd(), &News { what: Some(what) })?;
            if !again {
                return Ok(());
            }
        }
        Ok(())
    }

    /// A program without confinement can reach into this process, which has the same user.
    fn is_confined(&self, orders: &Orders) -> bool {
        !orders.off && self.filter.as_ref().is_some_and(Filter::holds)
    }

    /// The next orders, or `None` if nobody is there to give them.
    fn next_orders(&self) -> io::Result<Option<(Orders, Descriptors)>> {
        loop {
            let mut both = [
                PollFd::new(&self.signals, PollFlags::IN),
                PollFd::new(&self.control, PollFlags::IN),
            ];
            poll(&mut both, None)?;
            if is_asked_to_end(&self.signals) {
                return Ok(None);
            }
            match orders::receive(self.control.as_fd()) {
                Ok(Received::Orders(orders, descriptors)) => {
                    return Ok(Some((*orders, descriptors)));
                }
                Ok(Received::Closed) => return Ok(None),
                // It was meant for the program that has ended.
                Ok(Received::Command) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Runs one program to its end.
    fn run(&mut self, orders: &Orders, descriptors: Descriptors) -> Result<EndedNews, Refused> {
        let folder = |error: io::Error| Refused::because("a folder for temporary files", &error);
        let mut report = Report::default();
        self.filter(orders, &mut report)?;
        let temporary = match self.temporary.take() {
            Some(temporary) => temporary,
            None => Temporary::make(wire::path(&orders.temporary)).map_err(folder)?,
        };
        let temporary = self.temporary.insert(temporary);
        let leaf = orders
            .cgroup
            .as_deref()
            .and_then(|path| Leaf::make(wire::path(path), &orders.limits, &mut report));
        watch::report(&orders.limits, leaf.as_ref(), &mut report);
        let program =
            Program::new(orders, &descriptors, temporary.path(), &mut self.rules, leaf.as_ref())?;
        let main = become_child(&program, &mut report, &mut self.stack)?;
        // From here on there is a child, and it ends whatever happens. What it holds, this process must
        // not: a pipe has an end only if nobody holds it.
        drop(program);
        drop(descriptors);
        let started = Started { pid: main.as_raw_pid(), report: wire::rows(&report) };
        let heard =
            wire::send(self.control.as_fd(), &News { what: Some(news::What::Started(started)) });
        let mut supervisor = Supervisor::new(main, Watch::new(&orders.limits, leaf));
        if heard.is_err() {
            supervisor.let_go();
        }
        let mut ended = supervisor.run(self.control.as_fd(), &self.signals);
        ended.again &= temporary.clear();
        Ok(ended)
    }

    /// Has this process filter its system calls as the profile says, once: its programs inherit it.
    fn filter(&mut self, orders: &Orders, report: &mut Report) -> Result<(), Refused> {
        let sockets = match Profile::named(&orders.profile) {
            _ if orders.off => None,
            Some(profile) => profile.rules().filtered(),
            None => {
                return Err(Refused::because("its profile", &"there is none of this name"));
            }
        };
        let Some(sockets) = sockets else {
            return match self.filter {
                None => Ok(()),
                Some(_) => Err(other_filter(None)),
            };
        };
        let filter = self.filter.get_or_insert_with(|| Filter::install(sockets));
        if filter.sockets() != sockets {
            return Err(other_filter(Some(sockets)));
        }
        filter.report(report);
        Ok(())
    }
}

/// The runner does not ask for this.
fn other_filter(sockets: Option<Sockets>) -> Refused {
    Refused::because("its filter", &format!("this stub cannot have {sockets:?}"))
}

/// Makes the child and has it become the program. This process does not go on before it has.
fn become_child(
    program: &Program<'_>,
    report: &mut Report,
    stack: &mut ChildStack,
) -> Result<Pid, Refused> {
    let mut refused = None;
    let child = raw::child_on_our_memory(stack, || {
        let Err(why) = program.execute(report);
        refused = Some(why);
    });
    let main = child.map_err(|error| Refused::because("a process", &error))?;
    match refused {
        None => Ok(main),
        Some(refused) => {
            // It has nothing more to do than to end.
            waitid(WaitId::Pid(main), WaitIdOptions::EXITED).ok();
            Err(refused)
        }
    }
}
