//! `op-dbusctl config check`: has op-dbusd itself read the configuration, so that there is one
//! reading of it and not two.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output as Finished, Stdio};

use serde_json::json;

use super::Outcome;
use super::output::{Output, clean};
use super::problem::Problem;

/// The daemon, which lies next to this program, in its usual place, or in the PATH.
const DAEMON: &str = "op-dbusd";

/// Where packages have it. The PATH of most users does not lead there.
const USUAL_PLACE: &str = "/usr/sbin/op-dbusd";

/// Checks `file`, or what op-dbusd reads by itself.
pub(super) fn check(file: Option<&Path>, output: &mut Output) -> Result<Outcome, Problem> {
    let finished = run(file)?;
    let valid = finished.status.success();
    // A daemon that was killed has judged nothing.
    let Some(code) = finished.status.code() else {
        return Err(Problem::Local(format!("{DAEMON} ended by a signal: {}", finished.status)));
    };
    let text = [finished.stdout, finished.stderr].concat();
    let text = clean(String::from_utf8_lossy(&text).trim_end());
    if output.json() {
        let report = json!({ "file": file, "valid": valid, "exit_code": code, "messages": text });
        output.raw_json(&report.to_string())?;
    } else if valid {
        output.line(&text)?;
    } else {
        output.flush()?;
        writeln!(io::stderr().lock(), "{text}")?;
    }
    Ok(if valid { Outcome::Done } else { Outcome::Refused })
}

#[expect(
    clippy::disallowed_methods,
    reason = "the check is the daemon's own; ctl does not import config"
)]
fn run(file: Option<&Path>) -> Result<Finished, Problem> {
    let program = program();
    let mut command = Command::new(&program);
    if let Some(file) = file {
        command.arg("--config").arg(file);
    }
    command.arg("--check-config").stdin(Stdio::null()).output().map_err(|error| {
        Problem::Local(format!(
            "{} cannot be started: {error}; it checks the configuration and comes with this \
                 program",
            program.to_string_lossy()
        ))
    })
}

fn program() -> OsString {
    let beside = std::env::current_exe().ok().map(|own| own.with_file_name(DAEMON));
    let mut places = beside.into_iter().chain([PathBuf::from(USUAL_PLACE)]);
    places.find(|path| path.is_file()).map_or_else(|| OsString::from(DAEMON), OsString::from)
}
