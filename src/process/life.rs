//! The stub as the runner sees it: hears its news, and collects it when it has ended, whoever has lost
//! interest by then.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::process::Child;
use std::sync::Arc;

use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::sync::{oneshot, watch};

use super::ended::Ended;
use super::readiness::wait_on;
use super::report::Report;
use super::wire::{self, Command, News, Refused, news};
use crate::error::{Error, ErrorKind};

/// The runner's end of the socket to a stub.
#[derive(Debug)]
pub(super) struct Control(AsyncFd<OwnedFd>);

/// What is known when the program has started.
#[derive(Debug)]
pub(super) struct Beginning {
    pub(super) pid: i32,
    pub(super) report: Report,
}

/// How a run ended, once it has.
pub(super) type Ending = watch::Receiver<Option<Result<Ended, Error>>>;

impl Control {
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Self(wait_on(socket)?))
    }

    /// Tells the stub to do something. False if it is not there any more.
    pub(super) fn tell(&self, what: wire::command::What) -> bool {
        wire::send(self.0.get_ref().as_fd(), &Command { what: Some(what) }).is_ok()
    }

    /// Lets the stub know that nobody wants the program any more: it ends the tree.
    pub(super) fn let_go(&self) {
        // If the stub is gone already there is nobody to tell.
        rustix::net::shutdown(self.0.get_ref(), rustix::net::Shutdown::Write).ok();
    }

    async fn hear(&self) -> io::Result<Option<news::What>> {
        loop {
            let mut ready = self.0.readable().await?;
            if let Ok(received) = ready.try_io(|socket| wire::receive::<News>(socket.as_fd())) {
                return Ok(received?.and_then(|news| news.what));
            }
        }
    }
}

/// Follows the stub in a task of its own.
pub(super) fn follow(
    stub: Child,
    control: Arc<Control>,
    cgroup: Option<PathBuf>,
) -> (oneshot::Receiver<Result<Beginning, Error>>, Ending) {
    let (begun, beginning) = oneshot::channel();
    let (ended, ending) = watch::channel(None);
    tokio::spawn(async move {
        let outcome = listen(&control, begun).await;
        if outcome.is_err()
            && let Some(cgroup) = cgroup
        {
            // The stub is gone and cannot do it. Without a cgroup, or if there is nothing left, this fails.
            std::fs::write(cgroup.join("cgroup.kill"), "1").ok();
        }
        ended.send_replace(Some(outcome));
        collect(stub).await;
    });
    (beginning, ending)
}

async fn listen(
    control: &Control,
    begun: oneshot::Sender<Result<Beginning, Error>>,
) -> Result<Ended, Error> {
    let gone = || Error::internal("the process that watches the program has ended before it");
    // Who waits for the beginning may be gone, then the tree is ending already.
    match control.hear().await {
        Ok(Some(news::What::Started(started))) => {
            let report = wire::report(started.report);
            begun.send(Ok(Beginning { pid: started.pid, report })).ok();
        }
        Ok(Some(news::What::Refused(refused))) => {
            let error = refusal(refused);
            begun.send(Err(error.clone())).ok();
            return Err(error);
        }
        Ok(Some(news::What::Ended(_)) | None) | Err(_) => {
            begun.send(Err(gone())).ok();
            return Err(gone());
        }
    }
    match control.hear().await {
        Ok(Some(news::What::Ended(ended))) => Ok(ended.into()),
        Ok(Some(news::What::Started(_) | news::What::Refused(_)) | None) | Err(_) => Err(gone()),
    }
}

fn refusal(refused: Refused) -> Error {
    let kind = match refused.execution.map(Errno::from_raw_os_error) {
        Some(Errno::ACCESS | Errno::PERM) => ErrorKind::AccessDenied,
        Some(Errno::NOENT) => ErrorKind::BackendMissing,
        Some(Errno::TOOBIG | Errno::NOEXEC) => ErrorKind::InvalidArgument,
        Some(_) => ErrorKind::BackendFailed,
        None if refused.sandbox => ErrorKind::SandboxUnavailable,
        None => ErrorKind::BackendUnavailable,
    };
    Error::new(kind, refused.text)
}

async fn collect(mut stub: Child) {
    // It has said its last word and is about to exit, or is gone.
    let waited = tokio::task::spawn_blocking(move || stub.wait()).await;
    if let Ok(Err(error)) = waited {
        tracing::warn!("a process that watched a program cannot be collected: {error}");
    }
}
