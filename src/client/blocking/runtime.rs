//! The one thread on which the calls of programs without a runtime run. It ends with the process.

use std::future::Future;
use std::sync::OnceLock;

use tokio::runtime::Handle;

use crate::client::{Error, Failure};

/// What the thread is called.
const NAME: &str = "op-dbus-client";

/// True on the thread itself.
pub(super) fn is_here() -> bool {
    std::thread::current().name() == Some(NAME)
}

/// Starts the thread, unless it runs.
///
/// # Errors
/// `Internal` if the system gives none.
pub(super) fn start() -> Result<(), Error> {
    handle().map(drop)
}

/// Runs `work` on the thread.
///
/// # Errors
/// As [`start`].
pub(super) fn spawn(work: impl Future<Output = ()> + Send + 'static) -> Result<(), Error> {
    handle()?.spawn(work);
    Ok(())
}

fn handle() -> Result<&'static Handle, Error> {
    static HANDLE: OnceLock<Result<Handle, String>> = OnceLock::new();
    let handle = HANDLE.get_or_init(|| thread().map_err(|error| error.to_string()));
    handle.as_ref().map_err(|problem| {
        Failure::internal(format!("the system gives no thread for calls: {problem}")).into()
    })
}

fn thread() -> std::io::Result<Handle> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let run = move || runtime.block_on(std::future::pending::<()>());
    std::thread::Builder::new().name(NAME.to_owned()).spawn(run)?;
    Ok(handle)
}
