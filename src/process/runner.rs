//! Starts programs: checks what the caller says, opens what the program needs, and gives orders to a
//! stub. What happens then is the stub's.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::pipe::{PipeFlags, pipe_with};

use super::life;
use super::output::Stream;
use super::running::Running;
use super::spec::{DESCRIPTORS_MAX, Limits, Policy, Spec, Stdio};
use super::stubs::{Stub, Stubs};
use super::wire::{ExtraOrder, LimitOrders, Orders};
use super::{environment, program, terminal};
use crate::error::Error;

/// The most that arguments and environment may have together, a little less than what the kernel takes
/// under the usual limit on the stack.
const ARGUMENTS_BYTES_MAX: usize = 1 << 20;

/// What programs are started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// This program, which becomes the stub: `op-dbusd`.
    pub stub: PathBuf,
    /// Where programs get folders of their own for temporary files.
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
    stubs: Arc<Stubs>,
    next: Arc<AtomicU64>,
}

/// A stub that has its orders, and our ends of what the program got.
struct Begun {
    stub: Stub,
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
        let stubs = Arc::new(Stubs::new(config.stub.clone()));
        Self { config: Arc::new(config), stubs, next: Arc::default() }
    }

    /// Where programs get folders of their own for temporary files.
    #[must_use]
    pub fn temporary(&self) -> &Path {
        &self.config.temporary
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
        self.start_if(spec, |_| Ok(())).await
    }

    /// As [`Runner::start`], if `judge` has nothing against it. It may take its time: no call waits for
    /// the thread that it is on.
    ///
    /// # Errors
    ///
    /// That of `judge`, or as [`Runner::start`].
    ///
    /// # Cancel safety
    ///
    /// As [`Runner::start`].
    pub async fn start_if(
        &self,
        spec: Spec,
        judge: impl FnOnce(&Spec) -> Result<(), Error> + Send + 'static,
    ) -> Result<Running, Error> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (config, stubs) = (Arc::clone(&self.config), Arc::clone(&self.stubs));
        let limits = spec.limits.clone();
        // Files are looked for, and perhaps a process is started, which is too long for the thread of
        // all calls.
        let begun = tokio::task::spawn_blocking(move || {
            judge(&spec)?;
            begin(&config, &stubs, number, &spec)
        });
        let begun = begun.await.map_err(|_| Error::internal("starting a program broke off"))??;
        let (control, beginning, ending) =
            life::follow(begun.stub, Arc::clone(&self.stubs), begun.cgroup);
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

fn begin(config: &Config, stubs: &Stubs, number: u64, spec: &Spec) -> Result<Begun, Error> {
    let Some(name) = spec.argv.first() else {
        return Err(Error::invalid("argv", "the program is missing"));
    };
    if spec.descriptors.len() > DESCRIPTORS_MAX {
        let text = format!("the program is to get {} descriptors", spec.descriptors.len());
        return Err(Error::limit("process.descriptors", DESCRIPTORS_MAX, text));
    }
    let is_terminal = matches!(spec.stdio, Stdio::Terminal(_));
    let environment = environment::build(&spec.environment, is_terminal)?;
    let directory = program::open_directory(&spec.directory)?;
    let path = program::path_of(&environment);
    let program = program::resolve(name, path, directory.as_fd())?;
    let group = |parent: &PathBuf| parent.join(format!("run-{}-{number}", std::process::id()));
    let cgroup = config.cgroup.as_ref().map(group);
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
        temporary: config.temporary.as_os_str().as_bytes().to_vec(),
        cgroup: cgroup.as_ref().map(|path| path.as_os_str().as_bytes().to_vec()),
        terminal: is_terminal,
    };
    check(&orders)?;
    let (ends, theirs) = open(spec.stdio).map_err(refused)?;
    let [stdin, stdout, stderr] = theirs.each_ref().map(OwnedFd::as_fd);
    let mut descriptors = vec![directory.as_fd(), stdin, stdout, stderr];
    descriptors.extend(spec.descriptors.iter().map(OwnedFd::as_fd));
    let filtered = spec.profile.rules().filtered().filter(|_| !orders.off);
    let stub = stubs.give(&orders, filtered, &descriptors).map_err(refused)?;
    Ok(Begun { stub, ends, program, cgroup })
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
        cpu_percent: limits.cpu_percent,
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
        ends.output.push((ours, stream));
        Ok(theirs)
    };
    let (stdout, stderr) = (pipe(Stream::Stdout)?, pipe(Stream::Stderr)?);
    Ok((ends, [stdin, stdout, stderr]))
}
