//! The life of one program as the runner sees it: hears the news of its stub, whoever has lost interest
//! by then, and says what becomes of the stub.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::sync::{oneshot, watch};

use super::ended::Ended;
use super::report::Report;
use super::stubs::{Stub, Stubs};
use super::wire::{self, Command, EndedNews, News, Refused, news};
use crate::error::{Error, ErrorKind};

type Socket = Arc<AsyncFd<OwnedFd>>;

/// The way to the stub of one program, until that has ended: the stub may have another one then.
#[derive(Debug)]
pub(super) struct Control(Mutex<Option<Socket>>);

/// What is known when the program has started.
#[derive(Debug)]
pub(super) struct Beginning {
    pub(super) pid: i32,
    pub(super) report: Report,
}

/// How a run ended, once it has.
pub(super) type Ending = watch::Receiver<Option<Result<Ended, Error>>>;

impl Control {
    fn lock(&self) -> MutexGuard<'_, Option<Socket>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the stub to do something. False if the program has ended.
    pub(super) fn tell(&self, what: wire::command::What) -> bool {
        self.lock()
            .as_ref()
            .is_some_and(|socket| wire::send(socket.as_fd(), &Command { what: Some(what) }).is_ok())
    }

    /// Lets the stub know that nobody wants the program any more: it ends the tree.
    pub(super) fn let_go(&self) {
        if let Some(socket) = self.lock().take() {
            // If the stub is gone already there is nobody to tell.
            rustix::net::shutdown(socket.get_ref(), rustix::net::Shutdown::Write).ok();
        }
    }
}

/// Follows the stub in a task of its own, and keeps it when its program has ended, if it may go on.
pub(super) fn follow(
    stub: Stub,
    stubs: Arc<Stubs>,
    cgroup: Option<PathBuf>,
) -> (Arc<Control>, oneshot::Receiver<Result<Beginning, Error>>, Ending) {
    let (begun, beginning) = oneshot::channel();
    let (ended, ending) = watch::channel(None);
    let control = Arc::new(Control(Mutex::new(Some(Arc::clone(stub.socket())))));
    let held = Arc::clone(&control);
    tokio::spawn(async move {
        let outcome = listen(stub.socket(), begun).await;
        if outcome.is_err()
            && let Some(cgroup) = cgroup
        {
            // The stub is gone and cannot do it. Without a cgroup, or if there is nothing left, this fails.
            std::fs::write(cgroup.join("cgroup.kill"), "1").ok();
        }
        // Nothing that is said to this program must reach the next one.
        let is_let_go = control.lock().take().is_none();
        if !is_let_go && outcome.as_ref().is_ok_and(|news| news.again) {
            stubs.keep(stub);
        }
        ended.send_replace(Some(outcome.map(Ended::from)));
    });
    (held, beginning, ending)
}

async fn hear(socket: &AsyncFd<OwnedFd>) -> io::Result<Option<news::What>> {
    loop {
        let mut ready = socket.readable().await?;
        if let Ok(received) = ready.try_io(|socket| wire::receive::<News>(socket.as_fd())) {
            return Ok(received?.and_then(|news| news.what));
        }
    }
}

async fn listen(
    socket: &AsyncFd<OwnedFd>,
    begun: oneshot::Sender<Result<Beginning, Error>>,
) -> Result<EndedNews, Error> {
    let gone = || Error::internal("the process that watches the program has ended before it");
    // Who waits for the beginning may be gone, then the tree is ending already.
    match hear(socket).await {
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
    match hear(socket).await {
        Ok(Some(news::What::Ended(ended))) => Ok(ended),
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
