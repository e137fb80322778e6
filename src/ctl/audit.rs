//! `op-dbusctl audit`: checks and reads the audit log where it lies. It needs no service, only the
//! right to read the files.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::json;

use super::Outcome;
use super::args::{Audit, AuditCommand, Global, Wanted};
use super::connect::state_folder;
use super::output::{Output, clean};
use super::problem::Problem;
use super::rows;
use super::table::Table;
use crate::audit::{self, Filter, Found, Record};

/// How often a log that is followed is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// Carries out `op-dbusctl audit …`.
pub(super) async fn run(
    audit: &Audit,
    global: &Global,
    output: &mut Output,
) -> Result<Outcome, Problem> {
    let folder = match &audit.folder {
        Some(folder) => folder.clone(),
        None => state_folder(global).join(audit::FOLDER),
    };
    match &audit.command {
        AuditCommand::Verify => verify(&folder, output),
        AuditCommand::Search { wanted, rows } => {
            let limit = if rows.all { usize::MAX } else { rows.limit };
            let found = search(&folder, &filter(wanted), limit)?;
            show(found, output)
        }
        AuditCommand::Tail { wanted, lines, follow } => {
            tail(&folder, &filter(wanted), (*lines, *follow), output).await
        }
    }
}

fn verify(folder: &Path, output: &mut Output) -> Result<Outcome, Problem> {
    exists(folder)?;
    match audit::verify(folder).map_err(|error| unreadable(folder, &error))? {
        Ok(report) if output.json() => {
            output.line(&json!({ "whole": true, "report": report }).to_string())?;
            Ok(Outcome::Done)
        }
        Ok(report) => {
            let paint = output.paint();
            let text = format!(
                "the log is whole: {} records in {} files, from {} to {}",
                report.records, report.files, report.first, report.last
            );
            output.line(&paint.green(&text))?;
            output.fact("last hash", &report.hash.to_string())?;
            for notice in &report.notices {
                output.line(&format!("{} {}", paint.yellow("note:"), clean(notice)))?;
            }
            Ok(Outcome::Done)
        }
        Err(broken) if output.json() => {
            output.line(&json!({ "whole": false, "broken": broken }).to_string())?;
            Ok(Outcome::Refused)
        }
        Err(broken) => {
            let fault = format!("{:?}", broken.fault).to_ascii_lowercase();
            let place = match broken.line {
                0 => clean(&broken.file),
                line => format!("{}:{line}", clean(&broken.file)),
            };
            output.line(&output.paint().red("the log is not whole"))?;
            output.fact("where", &place)?;
            output.fact("record", &broken.seq.to_string())?;
            output.fact("fault", &fault)?;
            output.fact("why", &broken.text)?;
            Ok(Outcome::Refused)
        }
    }
}

async fn tail(
    folder: &Path,
    filter: &Filter,
    (lines, follows): (usize, bool),
    output: &mut Output,
) -> Result<Outcome, Problem> {
    let failed = |error: io::Error| unreadable(folder, &error);
    exists(folder)?;
    // First, so that what comes meanwhile is shown, if need be twice rather than not at all.
    let mut follower = audit::follow(folder).map_err(failed)?;
    let mut last = 0;
    for record in search(folder, filter, lines)?.records {
        last = record.seq;
        line(&record, output)?;
    }
    if !follows {
        return Ok(Outcome::Done);
    }
    loop {
        output.flush()?;
        tokio::time::sleep(LOOK).await;
        for record in follower.next().map_err(failed)? {
            if record.seq > last && filter.fits(&record) {
                line(&record, output)?;
            }
        }
    }
}

fn search(folder: &Path, filter: &Filter, limit: usize) -> Result<Found, Problem> {
    exists(folder)?;
    audit::search(folder, filter, limit).map_err(|error| unreadable(folder, &error))
}

fn show(found: Found, output: &mut Output) -> Result<Outcome, Problem> {
    let Found { records, more, unreadable } = found;
    if output.json() {
        let answer = json!({ "records": records, "more": more, "unreadable": unreadable });
        output.line(&answer.to_string())?;
        return Ok(Outcome::Done);
    }
    let mut table =
        Table::new(&[">SEQ", "TIME", "KIND", ">UID", "WHAT", "RISK", "OUTCOME", ">µs", "RULE"]);
    for record in &records {
        let number = |number: Option<u64>| number.map_or_else(String::new, |n| n.to_string());
        table.row([
            &record.seq.to_string(),
            &record.time,
            record.kind.name(),
            &number(record.uid.map(u64::from)),
            &what(record),
            &record.risk,
            &record.outcome,
            &number(record.duration_us),
            &record.rule,
        ]);
    }
    let outcome = rows::write(&table, records.len(), ("no records", more), output)?;
    if unreadable > 0 {
        let hint = format!("{unreadable} lines are no records; op-dbusctl audit verify tells more");
        output.line(&output.paint().yellow(&hint))?;
    }
    Ok(outcome)
}

/// Writes a record on one line.
fn line(record: &Record, output: &mut Output) -> Result<(), Problem> {
    if output.json() {
        output.line(&json!(record).to_string())?;
        return Ok(());
    }
    let mut text = format!("{} {} {}", record.seq, record.time, record.kind.name());
    if let Some(uid) = record.uid {
        text.push_str(&format!(" uid {uid}"));
    }
    for part in [&what(record), &record.outcome, &record.rule] {
        if !part.is_empty() {
            text.push(' ');
            text.push_str(part);
        }
    }
    output.line(&clean(&text).replace('\n', " "))?;
    Ok(())
}

/// What was called, or what the log tells of itself.
fn what(record: &Record) -> String {
    let mut text = match (record.agent.as_str(), record.operation.as_str()) {
        ("", operation) => operation.to_owned(),
        (agent, operation) => format!("{agent}.{operation}"),
    };
    if let (Some(first), Some(last)) = (record.first, record.last) {
        text.push_str(&format!(" records {first} to {last} are gone"));
    }
    if let Some(count) = record.count {
        text.push_str(&format!(" ({count} times)"));
    }
    text
}

fn filter(wanted: &Wanted) -> Filter {
    let moment = |time: SystemTime| Filter::moment(time);
    Filter {
        uid: wanted.uid,
        agent: wanted.agent.clone(),
        operation: wanted.operation.clone(),
        interface: wanted.interface.clone(),
        outcome: wanted.outcome.clone(),
        refused: wanted.refused,
        since: wanted.since.map(moment),
        until: wanted.until.map(moment),
    }
}

/// That no log is there is no empty log.
fn exists(folder: &Path) -> Result<(), Problem> {
    match std::fs::metadata(folder) {
        Ok(_) => Ok(()),
        Err(error) => Err(unreadable(folder, &error)),
    }
}

fn unreadable(folder: &Path, error: &io::Error) -> Problem {
    let folder: PathBuf = folder.into();
    Problem::Local(format!(
        "the audit log in {} cannot be read: {error}; root and the service's user may read it",
        folder.display()
    ))
}
