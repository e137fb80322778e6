//! What the tests stand on: a private bus and an executor with every agent, in folders of their own.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use op_dbus::agents::Setup;
use op_dbus::daemon::compose;
use op_dbus::executor::{Config, Executor};
use op_dbus::metrics::Metrics;
use op_dbus::status::Status;
use op_dbus::storage::{self, Durability};
use tempfile::TempDir;

/// A private `dbus-daemon` that ends with this value.
pub struct Bus {
    pub address: String,
    process: Child,
    folder: TempDir,
}

impl Bus {
    /// Starts a bus that lets everybody do everything.
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// Starts a bus whose configuration ends with `policy`.
    pub fn start_with(policy: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("bus.conf"), bus_config(folder.path(), policy)).unwrap();
        let process = daemon(folder.path());
        let address = format!("unix:path={}/bus", folder.path().display());
        Self { address, process, folder }
    }

    /// Ends the bus.
    pub fn kill(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }

    /// Starts the bus again, at the same address.
    pub fn restart(&mut self) {
        self.kill();
        fs::remove_file(self.folder.path().join("bus")).ok();
        self.process = daemon(self.folder.path());
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Starts a `dbus-daemon` with the configuration in `folder` and waits until it can be reached.
fn daemon(folder: &Path) -> Child {
    let mut process = Command::new("dbus-daemon")
        .arg(format!("--config-file={}", folder.join("bus.conf").display()))
        .args(["--nofork", "--nosyslog", "--print-address=1"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("dbus-daemon must be installed");
    let mut address = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut address).unwrap();
    assert!(address.starts_with("unix:"), "dbus-daemon did not say its address");
    process
}

fn bus_config(folder: &Path, policy: &str) -> String {
    format!(
        r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path={}/bus</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/>
<allow receive_sender="*"/></policy>{policy}</busconfig>"#,
        folder.display()
    )
}

/// An executor in this process.
pub struct Service {
    pub executor: Arc<Executor>,
    pub status: Arc<Status>,
    pub folder: TempDir,
}

impl Service {
    /// An executor with every agent, the probe included.
    pub fn new(config: Config) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let status = Arc::new(Status::default());
        let setup = Setup {
            storage: storage::Config {
                path: folder.path().to_owned(),
                durability: Durability::Normal,
            },
            metrics: Arc::new(Metrics::new().unwrap()),
            status: Arc::clone(&status),
            settings: op_dbus::agents::Settings::default(),
        };
        let executor = compose::executor(config, &setup, &compose::Starts::default()).unwrap();
        Self { executor, status, folder }
    }
}
