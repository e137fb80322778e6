//! The composition root: the only place that knows everything. [`run`] is the life of the daemon as
//! a list; each step has a file of its own.

mod activation;
mod apart;
mod args;
mod check;
pub mod compose;
mod exit;
#[cfg(target_env = "gnu")]
mod heap;
mod logging;
mod metrics_http;
mod notify;
mod other;
mod privileges;
mod reload;
mod service;
mod signals;
mod state;
mod workers;

use std::process::ExitCode;
use std::time::Instant;

pub use args::{Args, Command};
pub use exit::{Exit, Failure};

use crate::config::{Loaded, Log};
use crate::process;
use logging::Logging;
use service::Service;
use signals::Signals;

/// Runs the daemon to its end and says how it ended.
#[must_use]
pub fn run() -> ExitCode {
    // First of all, while there is one thread: the stub forks, and each program waits for it.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == process::STUB_ARGUMENT) {
        return process::run_stub();
    }
    let started = Instant::now();
    #[cfg(target_env = "gnu")]
    heap::keep_what_is_freed();
    let early_log = logging::to_stderr_for_now();
    logging::log_panics();
    let outcome = match Args::read() {
        Ok(Args { command: Some(command), config, .. }) => {
            let args = Args { command: None, config, check_config: false, bus: None };
            other::run(command, &args, early_log)
        }
        Ok(args) if args.check_config => check::check(&args),
        Ok(args) => {
            let config = args.load_config();
            // A wrong configuration is reported to where the log goes by default.
            let log = config.as_ref().map_or(Log::default(), |config| config.settings.log);
            let logging = Logging::start(log);
            drop(early_log);
            config.and_then(|config| serve(args, config, logging, started))
        }
        Err(exit) => Ok(exit),
    };
    outcome.unwrap_or_else(|failure| failure.report()).into()
}

fn serve(args: Args, config: Loaded, logging: Logging, started: Instant) -> Result<Exit, Failure> {
    privileges::restrict();
    let inherited = activation::sockets()?;
    state::prepare(&config.settings.storage.path)?;
    // One thread for everything that waits: a call takes some ten microseconds of it, and handing
    // calls from thread to thread was measured to cost more than a second core gives. What blocks
    // (the databases) has threads of its own, and so have the calls of a user of whom one takes long.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::os("the runtime cannot be made", &error))?;
    let exit = runtime.block_on(async {
        let mut signals = Signals::listen()?;
        let starting = Service::start(args, config, logging, inherited);
        let Some(service) = signals.unless_stopped(starting).await else {
            return Ok(Exit::Success);
        };
        let mut service = service?;
        service.ready(started.elapsed());
        service.run_until_stopped(&mut signals).await;
        Ok(signals.unless_stopped(service.stop()).await.unwrap_or(Exit::Interrupted))
    });
    runtime.shutdown_background();
    exit
}
