//! The processes that the program can be instead of the daemon: a worker, what becomes one, and the exec
//! service. What they do is not known here.

use nix::unistd::User;
use tracing::subscriber::DefaultGuard;

use super::{Args, Command, Exit, Failure, logging::Logging};
use crate::exec;
use crate::worker;

/// Runs what `command` says; `args` name the configuration. `early_log` holds where nothing else is said.
pub(super) fn run(command: Command, args: &Args, early_log: DefaultGuard) -> Result<Exit, Failure> {
    match command {
        Command::Worker { profile, cgroup } => worker::run(profile, cgroup)
            .map(|()| Exit::Success)
            .map_err(|error| Failure::part("the worker cannot run", &error, Exit::Os)),
        Command::BecomeWorker(worker) => match worker.run() {
            Ok(never) => match never {},
            Err(error) => Err(Failure::part("the worker cannot be", &error, Exit::Permission)),
        },
        Command::ExecService { front } => exec_service(&front, args, early_log),
    }
}

fn exec_service(front: &str, args: &Args, early_log: DefaultGuard) -> Result<Exit, Failure> {
    let config = args.load_config()?;
    let settings = config.settings.worker;
    let _logging = Logging::start(config.settings.log);
    drop(early_log);
    let config = exec::Config {
        front: uid(front)?,
        socket: settings.exec_socket,
        min_uid: settings.workers.min_uid,
        max: settings.workers.max,
        limits: settings.limits,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::os("the runtime cannot be made", &error))?;
    runtime
        .block_on(exec::serve(config))
        .map(|()| Exit::Success)
        .map_err(|error| Failure::part("the exec service cannot run", &error, Exit::Temporary))
}

/// A user by number or name.
fn uid(user: &str) -> Result<u32, Failure> {
    if let Ok(uid) = user.parse() {
        return Ok(uid);
    }
    match User::from_name(user) {
        Ok(Some(user)) => Ok(user.uid.as_raw()),
        Ok(None) => Err(Failure::config("--front", format_args!("there is no user {user}"))),
        Err(error) => Err(Failure::os("the user of op-dbus cannot be looked up", &error.into())),
    }
}
