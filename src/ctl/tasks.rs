//! `op-dbusctl tasks`: what was started and may go on without its client. Following a task is
//! `follow.rs`.

use serde_json::json;

use super::Outcome;
use super::args::{Global, ListTasks, Tasks, TasksCommand};
use super::describe::plain;
use super::follow::{self, Interrupts, Watched};
use super::messages::Messages;
use super::notes::{Notes, progress};
use super::output::{Output, clean};
use super::problem::Problem;
use super::rows::{self, Pages};
use super::table::Table;
use super::times::{age, moment, size};
use crate::client::{AgentClient, CallOptions, TaskFilter, outcome};
use crate::proto::opdbus::v1::{Task, TaskState};

pub(super) async fn run(
    client: &AgentClient,
    tasks: &Tasks,
    global: &Global,
    output: &mut Output,
) -> Result<Outcome, Problem> {
    let options = global.call_options();
    match &tasks.command {
        None => list(client, &tasks.list, &options, output).await,
        Some(TasksCommand::List(wanted)) => list(client, wanted, &options, output).await,
        Some(TasksCommand::Show { id }) => show(client, id, &options, output).await,
        Some(TasksCommand::Watch { id, from, raw }) => {
            watch(client, (id, *from), *raw, &options, output).await
        }
        Some(TasksCommand::Wait { id }) => wait(client, id, global, output).await,
        Some(TasksCommand::Cancel { ids }) => cancel(client, ids, &options, output).await,
    }
}

async fn list(
    client: &AgentClient,
    wanted: &ListTasks,
    options: &CallOptions,
    output: &mut Output,
) -> Result<Outcome, Problem> {
    let filter = TaskFilter {
        states: wanted.state.iter().map(|state| TaskState::from(*state)).collect(),
        agent: wanted.agent.clone(),
    };
    let mut pages = Pages::new(wanted.rows);
    let mut tasks = Vec::new();
    while let Some(page) = pages.next() {
        let answer = client.list_tasks(&filter, page, options).await?;
        pages.add(
            &answer.json,
            "tasks",
            answer.message.tasks.len(),
            answer.message.next_page_token,
        );
        tasks.extend(answer.message.tasks);
    }
    if output.json() {
        output.line(&json!({ "tasks": pages.into_rows() }).to_string())?;
        return Ok(Outcome::Done);
    }
    let headers = ["ID", "STATE", "OPERATION", ">STARTED", ">PROGRESS", ">MESSAGES", ">BYTES"];
    let mut table = Table::new(&headers);
    for task in &tasks {
        let share = task.progress.as_ref().and_then(progress).unwrap_or_default();
        table.row([
            &task.id,
            &state(task),
            &name(task),
            &age(task.started_at),
            share.split(" (").next().unwrap_or_default(),
            &task.last_seq.to_string(),
            &size(task.bytes),
        ]);
    }
    let more = pages.has_more();
    rows::write(&table, tasks.len(), ("no tasks", more), output)
}

async fn show(
    client: &AgentClient,
    id: &str,
    options: &CallOptions,
    output: &mut Output,
) -> Result<Outcome, Problem> {
    let answer = client.task(id, options).await?;
    if output.json() {
        output.raw_json(&answer.json)?;
    } else {
        write(&answer.message.task.unwrap_or_default(), output)?;
    }
    Ok(Outcome::Done)
}

fn write(task: &Task, output: &mut Output) -> Result<(), Problem> {
    let paint = output.paint();
    output.line(&paint.bold(&clean(&name(task))))?;
    output.fact("id", &task.id)?;
    output.fact("state", &state(task))?;
    let times = [
        ("started", task.started_at),
        ("ended", task.ended_at),
        ("is stopped", task.deadline.filter(|_| outcome(task).is_none())),
        ("will end", task.expected_end),
    ];
    for (name, time) in times {
        if let Some(time) = time {
            output.fact(name, &moment(time))?;
        }
    }
    if let Some(text) = task.progress.as_ref().and_then(progress) {
        output.fact("progress", &text)?;
    }
    let messages = match (task.first_seq, task.last_seq) {
        (_, 0) => "none".to_owned(),
        (0, last) => format!("{last}, of which none is kept any more"),
        (first, last) => format!("{last}, of which {first} to {last} are kept"),
    };
    output.fact("messages", &messages)?;
    output.fact("bytes", &size(task.bytes))?;
    output.fact("started over", &task.transport)?;
    if !task.session.is_empty() {
        output.fact("session", &task.session)?;
    }
    output.fact("D-Bus", &task.object_path)?;
    if let Some(Err(failure)) = outcome(task) {
        output.line("")?;
        output.fact("error", &failure.message)?;
        output.fact("kind", failure.kind.reason())?;
        for (name, value) in &failure.facts {
            output.fact(name, value)?;
        }
    }
    output.line("")?;
    let id = clean(&task.id);
    if task.first_seq > 0 || outcome(task).is_none() {
        output.line(&paint.dim(&format!("op-dbusctl tasks watch {id} shows its messages")))?;
    }
    if task.cancelable {
        output.line(&paint.dim(&format!("op-dbusctl tasks cancel {id} stops it")))?;
    }
    if outcome(task).is_some() {
        let (agent, operation) = (clean(&task.agent), clean(&task.operation));
        let hint = format!("op-dbusctl call {agent} {operation} … starts another");
        output.line(&paint.dim(&hint))?;
    }
    Ok(())
}

async fn watch(
    client: &AgentClient,
    (id, from): (&str, u64),
    raw: bool,
    options: &CallOptions,
    output: &mut Output,
) -> Result<Outcome, Problem> {
    let mut messages = if raw {
        let task = client.task(id, options).await?.message.task.unwrap_or_default();
        let described =
            client.describe_agent(&task.agent, Some(&task.operation), options).await?.message;
        Messages::raw(&described.operations.into_iter().next().unwrap_or_default(), output)?
    } else {
        Messages::json(output)
    };
    let mut interrupts = Interrupts::new()?;
    match follow::watch(client, (id, from), &mut messages, &mut interrupts, options).await? {
        Watched::Ended(task) => follow::ended(&task),
        Watched::Interrupted { next } => {
            let on = format!("op-dbusctl tasks watch {id} --from {next}");
            Notes::new().say(&format!("the task goes on; to watch on: {on}"));
            Ok(Outcome::Unfinished)
        }
    }
}

async fn wait(
    client: &AgentClient,
    id: &str,
    global: &Global,
    output: &mut Output,
) -> Result<Outcome, Problem> {
    // The user's time is that of the wait, not of the questions that it is made of.
    let options = CallOptions::default();
    let answer = follow::until_ended(client, id, global.timeout, &options).await?;
    let task = answer.message.task.unwrap_or_default();
    let outcome = follow::ended(&task);
    if output.json() {
        output.raw_json(&answer.json)?;
        return Ok(outcome.unwrap_or(Outcome::Refused));
    }
    let text = format!("{} is {}", name(&task), state(&task));
    output.line(&clean(&text))?;
    outcome
}

async fn cancel(
    client: &AgentClient,
    ids: &[String],
    options: &CallOptions,
    output: &mut Output,
) -> Result<Outcome, Problem> {
    let mut outcome = Outcome::Done;
    for id in ids {
        match client.cancel_task(id, options).await {
            Ok(answer) if output.json() => output.raw_json(&answer.json)?,
            Ok(answer) => {
                let task = answer.message.task.unwrap_or_default();
                let mut text = format!("{id} is {}", state(&task));
                if !answer.message.ended {
                    text = format!("{text}, and is being cancelled: {}", answer.message.reason);
                }
                output.line(&clean(&text))?;
            }
            Err(error) => outcome = rows::failed(error, output)?,
        }
    }
    Ok(outcome)
}

fn name(task: &Task) -> String {
    format!("{}.{}", task.agent, task.operation)
}

fn state(task: &Task) -> String {
    plain(task.state().as_str_name(), "TASK_STATE_")
}
