//! op-dbusd, the daemon. See `op_dbus::daemon` for what it does.

use std::process::ExitCode;

fn main() -> ExitCode {
    op_dbus::daemon::run()
}
