//! `op-dbusctl token new`: makes a token. It is for the administrator's configuration file, and the
//! service hears nothing of it.

use std::fmt::Write as _;
use std::time::SystemTime;

use serde_json::json;
use toml::{Table, Value};

use super::Outcome;
use super::args::NewToken as Wanted;
use super::output::Output;
use super::problem::Problem;
use crate::call::Scope;
use crate::error::Error;
use crate::wire::NewToken;

/// Makes a token and shows it with its lines for the configuration.
pub(super) fn new(wanted: &Wanted, output: &mut Output) -> Result<Outcome, Problem> {
    let usage = |error: Error| Problem::usage(error.message(), "");
    Scope::new(&wanted.operations, &wanted.risks).map_err(usage)?;
    let token = NewToken::make(&wanted.token_name).map_err(usage)?;
    let expires = wanted.expires.map(time).transpose()?;
    if output.json() {
        let report = json!({
            "token": token.text,
            "name": wanted.token_name,
            "sha256": token.sha256,
            "user": wanted.user,
            "expires": expires,
            "operations": wanted.operations,
            "risks": wanted.risks,
        });
        output.raw_json(&report.to_string())?;
        return Ok(Outcome::Done);
    }
    output.line(
        "# The token, shown this once; for a file that only its user may read (--token-file):",
    )?;
    output.line(&token.text)?;
    output.line("")?;
    output.line("# For a file in /etc/op-dbus/grpc.toml.d; then: systemctl reload op-dbus")?;
    output.line(&lines(wanted, &token, expires.as_deref()))?;
    Ok(Outcome::Done)
}

fn lines(wanted: &Wanted, token: &NewToken, expires: Option<&str>) -> String {
    let mut table = Table::new();
    table.insert("name".to_owned(), wanted.token_name.clone().into());
    table.insert("sha256".to_owned(), token.sha256.clone().into());
    table.insert("user".to_owned(), wanted.user.clone().into());
    for (key, list) in [("operations", &wanted.operations), ("risks", &wanted.risks)] {
        if !list.is_empty() {
            table.insert(key.to_owned(), Value::from(list.clone()));
        }
    }
    let mut lines = format!("[[grpc.token]]\n{table}");
    if let Some(expires) = expires {
        // Not a string but a time of TOML's own. Writing to a string does not fail.
        writeln!(lines, "expires = {expires}").ok();
    }
    lines.trim_end().to_owned()
}

/// The time after `length` from now, in whole seconds.
fn time(length: std::time::Duration) -> Result<String, Problem> {
    let seconds = SystemTime::now()
        .checked_add(length)
        .and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok())
        .and_then(|since| i64::try_from(since.as_secs()).ok());
    let last = 253_402_300_799; // The end of the year 9999, the last that both formats can say.
    match seconds.filter(|seconds| *seconds <= last) {
        Some(seconds) => Ok(prost_types::Timestamp { seconds, nanos: 0 }.to_string()),
        None => Err(Problem::usage("--expires lies too far ahead", "leave it out")),
    }
}
