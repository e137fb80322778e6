//! The exec service: the one part of op-dbus that runs as root. It takes a user and the name of a profile
//! from the front, starts this same program as that user's worker, and keeps it for as long as the front
//! holds the connection. Nothing that anybody sends makes it start anything else.

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use listenfd::ListenFd;
use nix::libc::{AF_UNIX, SOCK_SEQPACKET};
use nix::unistd::{User, getgrouplist};
use tokio::task::{LocalSet, spawn_blocking, spawn_local};
use tokio::time::{sleep, timeout};

use super::become_worker::Worker;
use super::cgroup::{Cgroup, Cgroups};
use super::message::{Reply, Request};
use super::socket::{Messages, listen_at};
use super::{Child, Exit, Limits, THIS_PROGRAM, environment, spawn};
use crate::error::{Error, ErrorKind};

/// How long the front may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(2);

/// The uid by which the kernel shows every user that has no number here, as one from a container. All of
/// them would share a worker.
const NOBODY: u32 = 65534;

/// How long what a worker has left may take to end by itself, and how often that is looked at.
const GRACE: Duration = Duration::from_secs(1);
const EMPTY_CHECK: Duration = Duration::from_millis(5);

/// How long to wait after connections cannot be accepted.
const BACK_OFF: Duration = Duration::from_millis(200);

/// What the exec service is to do.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen, if systemd passed no socket.
    pub socket: PathBuf,
    /// The front's uid. Nobody else is answered.
    pub front: u32,
    /// The lowest uid that workers are started for.
    pub min_uid: u32,
    /// How many workers there may be.
    pub max: usize,
    /// What each may use.
    pub limits: Limits,
}

struct Service {
    config: Config,
    cgroups: Cgroups,
}

/// Serves the front. It ends only with the process, and all workers with it.
///
/// # Errors
/// `Unavailable` if it cannot listen.
pub async fn serve(config: Config) -> Result<(), Error> {
    let listener = listener(&config).map_err(|error| {
        let text = format!("{} cannot be listened at: {error}", config.socket.display());
        Error::new(ErrorKind::Unavailable, text)
    })?;
    let (cgroups, report) = Cgroups::prepare(&config.limits);
    for line in report {
        tracing::warn!("{line}");
    }
    tracing::info!("workers are started for uid {} at {}", config.front, config.socket.display());
    let service = Rc::new(Service { config, cgroups });
    // On this thread, which lasts as long as the process: workers die with the thread that started them.
    let local = LocalSet::new();
    let accepting = async {
        loop {
            match listener.accept().await {
                // One reference is this loop's; each connection has another.
                Ok(_) if Rc::strong_count(&service) > service.config.max => {
                    tracing::warn!("there are {} workers, and no more may be", service.config.max);
                }
                Ok((stream, _)) => {
                    let service = Rc::clone(&service);
                    spawn_local(async move { service.answer(Messages::accepted(stream)).await });
                }
                Err(error) => {
                    tracing::error!("connections cannot be accepted: {error}");
                    sleep(BACK_OFF).await;
                }
            }
        }
    };
    local.run_until(accepting).await
}

fn listener(config: &Config) -> io::Result<tokio::net::UnixListener> {
    let mut passed = ListenFd::from_env();
    if let Some(socket) =
        passed.take_custom::<UnixListener>(0, AF_UNIX, SOCK_SEQPACKET, "SOCK_SEQPACKET socket")?
    {
        socket.set_nonblocking(true)?;
        return tokio::net::UnixListener::from_std(socket);
    }
    match std::fs::remove_file(&config.socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = listen_at(&config.socket)?;
    std::fs::set_permissions(&config.socket, std::fs::Permissions::from_mode(0o600))?;
    chown(&config.socket, Some(config.front), None)?;
    Ok(listener)
}

impl Service {
    /// Answers one connection, and keeps its worker.
    async fn answer(&self, front: Messages) {
        match self.start(&front).await {
            Ok((child, socket, cgroup, request)) => {
                let reply = Reply::Started(child.pid()).encode();
                let sent = front.send(&reply, Some(socket.as_fd())).await;
                drop(socket);
                let uid = request.uid;
                let pid = child.pid();
                let who = format!("the worker of uid {uid} (process {pid})");
                tracing::info!(worker_uid = uid, worker_pid = pid, "{who} has started");
                let ended = match sent {
                    Ok(()) => keep(&front, &child).await,
                    Err(_) => None,
                };
                child.kill();
                let exit = match ended {
                    Some(exit) => exit,
                    None => child.exited().await,
                };
                match exit {
                    Ok(exit) => {
                        tracing::info!(
                            worker_uid = uid,
                            worker_pid = pid,
                            "{who} has gone: {exit}"
                        );
                    }
                    Err(error) => {
                        tracing::warn!(
                            worker_uid = uid,
                            worker_pid = pid,
                            "{who} is lost: {error}"
                        );
                    }
                }
                if let Some(cgroup) = cgroup {
                    end_rest(&cgroup).await;
                }
            }
            Err(error) => {
                tracing::warn!("no worker was started: {error}");
                // Whoever asked may be gone.
                front.send(&Reply::Refused(error).encode(), None).await.ok();
            }
        }
    }

    async fn start(
        &self,
        front: &Messages,
    ) -> Result<(Child, UnixStream, Option<Cgroup>, Request), Error> {
        let request = self.request(front).await?;
        let failed = |error: &dyn std::fmt::Display| {
            Error::new(ErrorKind::BackendUnavailable, format!("a worker cannot be run: {error}"))
        };
        let user = self.user(request.uid).await?;
        let (ours, theirs) = UnixStream::pair().map_err(|error| failed(&error))?;
        let cgroup = self.cgroups.make(request.uid).map_err(|error| failed(&error))?;
        let worker = Worker {
            uid: request.uid,
            gid: user.user.gid.as_raw(),
            group: user.groups,
            files: self.config.limits.files,
            cgroup: cgroup.as_ref().map(|cgroup| cgroup.path().to_owned()),
            profile: request.profile.clone(),
        };
        let environment = environment(Some(&user.user));
        let child = spawn(THIS_PROGRAM, &worker.arguments(), &environment, theirs.as_fd());
        Ok((child.map_err(|error| failed(&error))?, ours, cgroup, request))
    }

    /// What the front wants, if it is the front.
    async fn request(&self, front: &Messages) -> Result<Request, Error> {
        let message = match timeout(PATIENCE, front.receive()).await {
            // A descriptor that came along is closed.
            Ok(Ok((message, _))) => message,
            Ok(Err(error)) => return Err(Error::invalid("message", error)),
            Err(_) => return Err(Error::invalid("message", "did not come")),
        };
        // Not before the message is taken, or the refusal would be lost with it. Nothing of it is read yet.
        let peer = front.peer().map_err(|error| {
            Error::new(ErrorKind::AccessDenied, format!("nobody knows who asks: {error}"))
        })?;
        if peer != self.config.front {
            let text = format!("uid {peer} is not the front's, which is {}", self.config.front);
            return Err(Error::new(ErrorKind::AccessDenied, text));
        }
        Request::parse(&message)
    }

    async fn user(&self, uid: u32) -> Result<Known, Error> {
        let least = self.config.min_uid;
        if uid < least {
            let text = format!("no worker acts as uid {uid}: [worker] min_uid is {least}");
            return Err(Error::new(ErrorKind::AccessDenied, text));
        }
        if uid == NOBODY {
            let text = format!("no worker acts as uid {uid}: it may be any user of a container");
            return Err(Error::new(ErrorKind::AccessDenied, text));
        }
        // The system's database may ask a directory service.
        let looked_up = spawn_blocking(move || known(uid)).await;
        looked_up.map_err(|_| Error::internal("looking up a user broke"))?
    }
}

/// A user, as the system's database has it.
struct Known {
    user: User,
    groups: Vec<u32>,
}

fn known(uid: u32) -> Result<Known, Error> {
    let failed = |error: &dyn std::fmt::Display| {
        let text = format!("uid {uid} cannot be looked up: {error}");
        Error::new(ErrorKind::BackendUnavailable, text)
    };
    let user = User::from_uid(uid.into()).map_err(|error| failed(&error))?;
    let user = user.ok_or_else(|| {
        let text = format!("uid {uid} is no user of this system, so that its groups are not known");
        Error::new(ErrorKind::NotFound, text)
    })?;
    let name = std::ffi::CString::new(user.name.as_str()).map_err(|error| failed(&error))?;
    let groups = getgrouplist(&name, user.gid).map_err(|error| failed(&error))?;
    Ok(Known { user, groups: groups.into_iter().map(nix::unistd::Gid::as_raw).collect() })
}

/// Waits until the front or the worker has gone; gives how the worker ended, if it did.
async fn keep(front: &Messages, child: &Child) -> Option<io::Result<Exit>> {
    tokio::select! {
        () = front.hung_up() => None,
        exited = child.exited() => Some(exited),
    }
}

/// Ends what a worker has left. What watches its programs ends them without it, and removes the folders
/// that they had; what is still there then is killed.
async fn end_rest(cgroup: &Cgroup) {
    let emptied = async {
        while !cgroup.is_empty() {
            sleep(EMPTY_CHECK).await;
        }
    };
    timeout(GRACE, emptied).await.ok();
    cgroup.kill();
}
