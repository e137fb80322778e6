//! `op-dbusctl sessions`: the scopes of clients' work. They are started by the clients themselves.

use serde_json::json;

use super::Outcome;
use super::args::{ListSessions, Sessions, SessionsCommand};
use super::output::{Output, clean};
use super::problem::Problem;
use super::rows::{self, Pages};
use super::table::Table;
use super::times::{age, moment};
use crate::client::{AgentClient, CallOptions};
use crate::proto::opdbus::v1::Session;

pub(super) async fn run(
    client: &AgentClient,
    sessions: &Sessions,
    options: &CallOptions,
    output: &mut Output,
) -> Result<Outcome, Problem> {
    match &sessions.command {
        None => list(client, &sessions.list, options, output).await,
        Some(SessionsCommand::List(wanted)) => list(client, wanted, options, output).await,
        Some(SessionsCommand::Show { id }) => show(client, id, options, output).await,
        Some(SessionsCommand::End { ids }) => end(client, ids, options, output).await,
    }
}

async fn list(
    client: &AgentClient,
    wanted: &ListSessions,
    options: &CallOptions,
    output: &mut Output,
) -> Result<Outcome, Problem> {
    let mut pages = Pages::new(wanted.rows);
    let mut sessions = Vec::new();
    while let Some(page) = pages.next() {
        let answer = client.list_sessions(page, options).await?;
        let message = answer.message;
        pages.add(&answer.json, "sessions", message.sessions.len(), message.next_page_token);
        sessions.extend(message.sessions);
    }
    if output.json() {
        output.line(&json!({ "sessions": pages.into_rows() }).to_string())?;
        return Ok(Outcome::Done);
    }
    let mut table =
        Table::new(&["ID", "CLIENT", "OVER", "HELD", ">STARTED", ">USED", ">CALLS", "AGENTS"]);
    for session in &sessions {
        table.row([
            &session.id,
            &session.client_name,
            &session.transport,
            if session.held { "yes" } else { "no" },
            &age(session.started_at),
            &age(session.used_at),
            &session.calls.to_string(),
            &session.agents.join(", "),
        ]);
    }
    rows::write(&table, sessions.len(), ("no sessions", pages.has_more()), output)
}

async fn show(
    client: &AgentClient,
    id: &str,
    options: &CallOptions,
    output: &mut Output,
) -> Result<Outcome, Problem> {
    let answer = client.session(id, options).await?;
    if output.json() {
        output.raw_json(&answer.json)?;
    } else {
        write(&answer.message.session.unwrap_or_default(), output)?;
    }
    Ok(Outcome::Done)
}

fn write(session: &Session, output: &mut Output) -> Result<(), Problem> {
    let paint = output.paint();
    output.line(&paint.bold(&clean(&session.client_name)))?;
    output.fact("id", &session.id)?;
    output.fact("started over", &session.transport)?;
    output.fact("held", if session.held { "yes" } else { "no" })?;
    let times = [
        ("started", session.started_at),
        ("last used", session.used_at),
        ("ends if unused", session.expires_at),
    ];
    for (name, time) in times {
        if let Some(time) = time {
            output.fact(name, &moment(time))?;
        }
    }
    output.fact("calls", &session.calls.to_string())?;
    output.fact("agents", &session.agents.join(", "))?;
    let mut metadata: Vec<_> = session.metadata.iter().collect();
    metadata.sort();
    for (name, value) in metadata {
        output.fact("says", &format!("{name}={value}"))?;
    }
    output.fact("D-Bus", &session.object_path)?;
    output.line("")?;
    let hint = format!("op-dbusctl sessions end {} ends it", clean(&session.id));
    output.line(&paint.dim(&hint))?;
    Ok(())
}

async fn end(
    client: &AgentClient,
    ids: &[String],
    options: &CallOptions,
    output: &mut Output,
) -> Result<Outcome, Problem> {
    let mut outcome = Outcome::Done;
    for id in ids {
        match client.end_session(id, options).await {
            Ok(answer) if output.json() => output.raw_json(&answer.json)?,
            Ok(_) => output.line(&clean(&format!("{id} has ended")))?,
            Err(error) => outcome = rows::failed(error, output)?,
        }
    }
    Ok(outcome)
}
