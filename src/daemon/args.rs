//! The command line. It decides which configuration is read, not what is in it.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use super::{Exit, Failure};
use crate::config::{self, DEFAULT_PATH, Loaded, Missing};
use crate::exec;

/// Serves agents on D-Bus and on gRPC, side by side.
#[derive(Clone, Debug, Parser)]
#[command(name = "op-dbusd", version, after_help = AFTER_HELP)]
pub struct Args {
    /// Read this configuration file, and the drop-ins FILE.d/*.toml after it.
    ///
    /// Without this option it is /etc/op-dbus/grpc.toml; if that is missing the defaults hold. A file
    /// that is named here must exist.
    #[arg(long, value_name = "FILE", env = "OP_DBUS_CONFIG")]
    pub config: Option<PathBuf>,

    /// Check the configuration, show what would hold, and exit.
    #[arg(long)]
    pub check_config: bool,

    /// Serve on this bus, whatever [dbus] bus says: system, session, or a D-Bus address.
    #[arg(long, value_name = "BUS", value_parser = bus)]
    pub bus: Option<String>,

    /// What the program is to be instead of the daemon.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The other processes that this program can be.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Run agents with the rights of this user, over the socket in descriptor 3. op-dbus starts this.
    #[command(hide = true)]
    Worker {
        /// The sandbox profile of the operations that are served.
        #[arg(long, default_value = "")]
        profile: String,
        /// The control group in which its programs may have ones of their own.
        #[arg(long)]
        cgroup: Option<PathBuf>,
    },
    /// Become the worker of a user. The exec service starts this.
    #[command(hide = true)]
    BecomeWorker(exec::Worker),
    /// Start workers with the rights of callers, as root, for op-dbus and nobody else.
    ExecService {
        /// The user that op-dbus runs as.
        #[arg(long, value_name = "USER", default_value = "op-dbus")]
        front: String,
    },
}

const AFTER_HELP: &str = "\
Examples:
  op-dbusd --check-config                     is the installed configuration valid?
  op-dbusd --bus session --config my.toml     try it as yourself on the session bus
  systemctl reload op-dbus                    take up a changed configuration

Signals:
  SIGHUP            check the configuration anew and take it up if it is valid
  SIGTERM, SIGINT   let the calls that run end, then exit; a second one exits at once

Exit codes:
    0  stopped as asked, or the configuration is valid
   64  the command line is wrong
   70  a fault of op-dbus itself
   71  the operating system refused something basic
   73  the folder for state cannot be created or used
   75  a transport cannot start now: the bus is not there, or another process has the name or socket
   77  a permission is missing
   78  the configuration is wrong
  130  a second signal cut off calls that were still running";

fn bus(text: &str) -> Result<String, String> {
    if matches!(text, "system" | "session") || text.contains(':') {
        Ok(text.to_owned())
    } else {
        Err("it must be system, session or a D-Bus address, as unix:path=/tmp/bus".to_owned())
    }
}

impl Args {
    /// Reads the command line. If it is wrong, or asks for help or the version, the answer is printed
    /// and the exit code returned.
    pub(super) fn read() -> Result<Self, Exit> {
        Self::try_parse().map_err(|error| {
            // Without a standard output there is nobody to answer.
            error.print().ok();
            if error.use_stderr() { Exit::Usage } else { Exit::Success }
        })
    }

    /// Loads the configuration, with what the command line changes in it.
    pub(super) fn load_config(&self) -> Result<Loaded, Failure> {
        let (path, missing) = match &self.config {
            Some(path) => (path.clone(), Missing::Refuse),
            None => (PathBuf::from(DEFAULT_PATH), Missing::UseDefaults),
        };
        let mut loaded = config::load(&path, missing).map_err(|problems| Failure {
            exit: Exit::Config,
            text: format!("the configuration is wrong:\n{problems}"),
        })?;
        if let Some(bus) = &self.bus
            && let Some(dbus) = &mut loaded.settings.dbus
        {
            dbus.bus = config::bus(bus);
        }
        Ok(loaded)
    }
}
