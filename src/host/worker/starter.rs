//! How a worker process comes to be: under the front's own uid, or by the exec service under the
//! caller's. What is done with the worker is not known here.

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use nix::unistd::{Uid, User};

use crate::contract::Running;
use crate::error::{Error, ErrorKind};
use crate::exec::{self, Child, Messages, Reply, Request};

/// Starts workers.
pub trait Starter: Send + Sync {
    /// How, for people, as `under op-dbus's own uid 1000`.
    fn describe(&self) -> String;

    /// Whether it starts workers of this user.
    ///
    /// # Errors
    /// Why not, and what to do about it.
    fn admits(&self, uid: u32) -> Result<(), Error>;

    /// Starts a worker. It lives no longer than what is given.
    fn start<'a>(&'a self, uid: u32, profile: &'a str) -> Running<'a, Process>;
}

/// A worker process.
pub struct Process {
    /// Its process id.
    pub pid: u32,
    /// The other end of its socket.
    pub socket: UnixStream,
    /// What keeps it alive: dropping this kills it.
    pub leash: Leash,
}

/// What keeps a worker alive.
pub enum Leash {
    /// It is a child of this process.
    Child(Child),
    /// The exec service keeps it for as long as this connection is there.
    Service(Messages),
}

impl Leash {
    /// Kills the worker if it still runs.
    pub(super) async fn kill(self) {
        match &self {
            Self::Child(child) => {
                child.kill();
                self.ended().await;
            }
            // Its end is the worker's, and the exec service waits for that.
            Self::Service(_) => drop(self),
        }
    }

    /// Waits until the worker has ended; says how, as far as that is known.
    pub(super) async fn ended(&self) -> String {
        match self {
            Self::Child(child) => match child.exited().await {
                Ok(exit) => exit.to_string(),
                Err(error) => format!("nobody knows how it ended: {error}"),
            },
            Self::Service(service) => {
                service.hung_up().await;
                "it has ended; the exec service's log says how".to_owned()
            }
        }
    }
}

/// Starts workers under the uid of this process, for callers with that uid.
pub struct OwnUid {
    program: String,
    uid: u32,
    environment: Vec<(&'static str, String)>,
}

impl OwnUid {
    /// Workers that are this program.
    #[must_use]
    pub fn new() -> Self {
        Self::running(exec::THIS_PROGRAM)
    }

    /// Workers that are the op-dbusd at the path `program`, for who is none.
    #[must_use]
    pub fn running(program: &str) -> Self {
        let uid = Uid::effective();
        let user = User::from_uid(uid).ok().flatten();
        Self {
            program: program.to_owned(),
            uid: uid.as_raw(),
            environment: exec::environment(user.as_ref()),
        }
    }
}

impl Default for OwnUid {
    fn default() -> Self {
        Self::new()
    }
}

impl Starter for OwnUid {
    fn describe(&self) -> String {
        format!("under op-dbus's own uid {}, for callers with this uid only", self.uid)
    }

    fn admits(&self, uid: u32) -> Result<(), Error> {
        if uid == self.uid {
            return Ok(());
        }
        let text = format!(
            "workers are started under op-dbus's own uid {} here, and none can act as uid {uid}; \
             op-dbus-exec.socket of the installed system starts them as any user \
             ([worker] starter and exec_socket)",
            self.uid
        );
        Err(Error::new(ErrorKind::SandboxUnavailable, text))
    }

    fn start<'a>(&'a self, _uid: u32, profile: &'a str) -> Running<'a, Process> {
        Box::pin(async move {
            let started = || -> io::Result<Process> {
                let (ours, theirs) = UnixStream::pair()?;
                let arguments = exec::worker_arguments(profile, None);
                let child =
                    exec::spawn(&self.program, &arguments, &self.environment, theirs.as_fd())?;
                Ok(Process { pid: child.pid(), socket: ours, leash: Leash::Child(child) })
            };
            started().map_err(|error| {
                let text = format!("op-dbusd worker cannot be run: {error}");
                Error::new(ErrorKind::BackendUnavailable, text)
            })
        })
    }
}

/// Has the exec service start workers, with the uid of their callers.
pub struct ExecService {
    socket: PathBuf,
}

impl ExecService {
    /// The exec service that listens at `socket`.
    #[must_use]
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    async fn ask(&self, request: Request) -> Result<Process, Error> {
        let broken = |error: &dyn std::fmt::Display| {
            let text = format!("the exec service at {}: {error}", self.socket.display());
            Error::new(ErrorKind::BackendUnavailable, text)
        };
        let service = Messages::connect(&self.socket).map_err(|error| broken(&error))?;
        let peer = service.peer().map_err(|error| broken(&error))?;
        if peer != 0 {
            return Err(broken(&format_args!("it runs as uid {peer}, and not as root")));
        }
        service.send(&request.encode()?, None).await.map_err(|error| broken(&error))?;
        let (reply, passed) = service.receive().await.map_err(|error| broken(&error))?;
        if reply.is_empty() {
            return Err(broken(&"it has closed the connection without an answer"));
        }
        let pid = match Reply::parse(&reply).map_err(|error| broken(&error))? {
            Reply::Started(pid) => pid,
            Reply::Refused(error) => return Err(error),
        };
        let socket = passed.ok_or_else(|| broken(&"it passed no socket"))?;
        Ok(Process { pid, socket: socket.into(), leash: Leash::Service(service) })
    }
}

impl Starter for ExecService {
    fn describe(&self) -> String {
        format!("with the uid of each caller, by the exec service at {}", self.socket.display())
    }

    fn admits(&self, _uid: u32) -> Result<(), Error> {
        Ok(())
    }

    fn start<'a>(&'a self, uid: u32, profile: &'a str) -> Running<'a, Process> {
        Box::pin(self.ask(Request { uid, profile: profile.to_owned() }))
    }
}
