//! The `op-dbusctl` command. All of it is in `op_dbus::ctl`.

use std::process::ExitCode;

fn main() -> ExitCode {
    op_dbus::ctl::main(&[])
}
