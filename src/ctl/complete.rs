//! Completion of command lines: commands and options from their description, agents, operations and
//! argument keys from the running service. It is quick, and silent when there is no service.

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::time::Duration;

use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _};
use clap_complete::CompletionCandidate;
use clap_complete::env::{CompleteEnv, Shells};

use super::Outcome;
use super::args::{Args, Global};
use super::arguments::{Kind, Schema, short_names};
use super::connect;
use super::describe::plain;
use super::output::{Output, clean};
use super::problem::Problem;
use crate::client::{AgentClient, CallOptions, Page, Settings, TaskFilter, Via};
use crate::proto::opdbus::v1::Task;

/// The shells that are served.
pub(super) const SHELLS: [&str; 5] = ["bash", "elvish", "fish", "powershell", "zsh"];

/// The program, as it is called in a shell.
const PROGRAM: &str = "op-dbusctl";

/// The environment variable by which a shell asks for candidates.
const VARIABLE: &str = "OP_DBUSCTL_COMPLETE";

/// The script for bash: clap's own loses what stands before an equals sign.
const BASH: &str = include_str!("complete.bash");

/// How long the service is asked. A user waits while it lasts; that is a few milliseconds, but for a
/// service that hangs or a machine that is busy.
const PATIENCE: Duration = Duration::from_millis(500);

/// Answers the shell if this process was started for it; false if it was not.
///
/// # Errors
/// Of a shell that is not served.
pub(super) fn answer_shell() -> clap::error::Result<bool> {
    let folder = std::env::current_dir().ok();
    CompleteEnv::with_factory(Args::command)
        .var(VARIABLE)
        .try_complete(std::env::args_os(), folder.as_deref())
}

/// Writes the script that makes a shell ask.
pub(super) fn registration(shell: &str, output: &mut Output) -> Result<Outcome, Problem> {
    output.write_all(script(shell)?.as_bytes())?;
    Ok(Outcome::Done)
}

fn script(shell: &str) -> Result<String, Problem> {
    if shell == "bash" {
        return Ok(BASH.to_owned());
    }
    let shells = Shells::builtins();
    let Some(completer) = shells.completer(shell) else {
        return Err(Problem::usage(format!("{shell} is not served"), SHELLS.join(", ")));
    };
    let mut script = Vec::new();
    completer.write_registration(VARIABLE, PROGRAM, PROGRAM, PROGRAM, &mut script)?;
    Ok(String::from_utf8_lossy(&script).into_owned())
}

/// The agents.
pub(super) fn agents(current: &OsStr) -> Vec<CompletionCandidate> {
    let found = ask(async |client, options, _words| {
        let answer = client.list_agents(options).await.ok()?;
        Some(answer.message.agents.into_iter().map(|agent| (agent.id, agent.summary)).collect())
    });
    candidates(current, found)
}

/// The operations of the agent that stands before.
pub(super) fn operations(current: &OsStr) -> Vec<CompletionCandidate> {
    let found = ask(async |client, options, words| {
        let agent = words.get_one::<String>("agent")?;
        let answer = client.describe_agent(agent, None, options).await.ok()?;
        let operations = answer.message.operations.into_iter();
        Some(operations.map(|operation| (operation.name, operation.documentation)).collect())
    });
    candidates(current, found)
}

/// The tasks, the newest first.
pub(super) fn tasks(current: &OsStr) -> Vec<CompletionCandidate> {
    let found = ask(async |client, options, _words| {
        let page = Page::default();
        let answer = client.list_tasks(&TaskFilter::default(), page, options).await.ok()?;
        let shown = |task: &Task| {
            let state = plain(task.state().as_str_name(), "TASK_STATE_");
            format!("{}.{}, {state}", task.agent, task.operation)
        };
        Some(answer.message.tasks.into_iter().map(|task| (task.id.clone(), shown(&task))).collect())
    });
    candidates(current, found)
}

/// The sessions, the newest first.
pub(super) fn sessions(current: &OsStr) -> Vec<CompletionCandidate> {
    let found = ask(async |client, options, _words| {
        let answer = client.list_sessions(Page::default(), options).await.ok()?;
        let sessions = answer.message.sessions.into_iter();
        Some(sessions.map(|session| (session.id, session.client_name)).collect())
    });
    candidates(current, found)
}

/// The approvals, the newest first.
pub(super) fn approvals(current: &OsStr) -> Vec<CompletionCandidate> {
    let found = ask(async |client, options, _words| {
        let answer = client.list_approvals(Page::default(), options).await.ok()?;
        let approvals = answer.message.approvals.into_iter();
        Some(approvals.map(|approval| (approval.id, approval.preview)).collect())
    });
    candidates(current, found)
}

/// The argument keys of the operation that stands before; after the `=`, the values that there are.
pub(super) fn keys(current: &OsStr) -> Vec<CompletionCandidate> {
    let text = current.to_string_lossy();
    let found = ask(async |client, options, words| {
        let agent = words.get_one::<String>("agent")?;
        let operation = words.get_one::<String>("operation")?;
        let answer = client.describe_agent(agent, Some(operation), options).await.ok()?;
        let schema = answer.message.operations.first()?.request_schema.clone();
        let schema = serde_json::from_str(&schema).ok()?;
        let given: Vec<&String> =
            words.get_many::<String>("arguments").into_iter().flatten().collect();
        Some(pairs(&Schema::new(&schema), &given, &text))
    });
    candidates(current, found)
}

/// Keys that were not given yet, as `key=`, or the values of the key that `current` begins with.
fn pairs(schema: &Schema<'_>, given: &[&String], current: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    for field in schema.fields() {
        let kind = field.schema.kind();
        let start = format!("{}=", field.name);
        if current.starts_with(&start) {
            let values = if let Kind::Bool = kind {
                vec!["true".to_owned(), "false".to_owned()]
            } else if let Kind::Choice(names) = &kind {
                short_names(names)
            } else {
                Vec::new()
            };
            pairs.extend(values.into_iter().map(|value| (start.clone() + &value, String::new())));
        } else if matches!(kind, Kind::List(_))
            || !given.iter().any(|pair| pair.starts_with(&start))
        {
            pairs.push((start, field.docs.to_owned()));
        }
    }
    pairs
}

/// Asks the service about the command line so far.
fn ask(
    question: impl AsyncFnOnce(&AgentClient, &CallOptions, &ArgMatches) -> Option<Vec<(String, String)>>,
) -> Vec<(String, String)> {
    let answer = || {
        let words = Args::command()
            .disable_help_flag(true)
            .ignore_errors(true)
            .try_get_matches_from(words())
            .ok()?;
        let global = Global::from_arg_matches(&words).ok()?;
        let (_, mut words) = words.subcommand()?;
        while let Some((_, inner)) = words.subcommand() {
            words = inner;
        }
        let credentials = connect::credentials(&global.credentials).ok()?;
        let mut settings = Settings { credentials, ..connect::settings(&global).ok()? };
        if settings.via == Via::Legacy {
            // The older interface tells nothing of what there is.
            settings.via = Via::Dbus;
        }
        let options = CallOptions { timeout: Some(PATIENCE), ..CallOptions::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
        let asked = async { question(&AgentClient::direct(&settings), &options, words).await };
        runtime.block_on(async { tokio::time::timeout(PATIENCE, asked).await.ok().flatten() })
    };
    answer().unwrap_or_default()
}

/// The words of the command line, which the shell gives after `--`.
fn words() -> Vec<OsString> {
    std::env::args_os().skip_while(|word| word != "--").skip(1).collect()
}

/// What begins as the user began, with the first sentence of its documentation.
fn candidates(current: &OsStr, found: Vec<(String, String)>) -> Vec<CompletionCandidate> {
    let current = current.to_string_lossy();
    found
        .into_iter()
        .filter(|(text, _)| begins(text, &current))
        .map(|(text, docs)| {
            let first = clean(docs.lines().next().unwrap_or_default());
            CompletionCandidate::new(text).help((!first.is_empty()).then(|| first.into()))
        })
        .collect()
}

fn begins(text: &str, start: &str) -> bool {
    text.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{Contract, message_schema};

    #[test]
    fn there_is_a_script_for_every_shell() {
        for shell in SHELLS {
            let script = script(shell).unwrap();
            assert!(script.contains(VARIABLE) && script.contains(PROGRAM), "{shell}");
        }
        assert_eq!(Shells::builtins().names().count(), SHELLS.len());
        assert!(script("csh").is_err());
    }

    #[test]
    fn keys_that_were_given_are_not_offered_again_but_for_lists() {
        let contract = Contract::built_in().unwrap();
        let memory = contract.services.iter().find(|service| service.id == "memory").unwrap();
        let schema = message_schema(&memory.operation("Remember").unwrap().input);
        let given = ["key=a".to_owned(), "tags=x".to_owned()];
        let given: Vec<&String> = given.iter().collect();
        let offered: Vec<String> =
            pairs(&Schema::new(&schema), &given, "").into_iter().map(|(key, _)| key).collect();
        let expected =
            ["value=", "namespace=", "ttl=", "tags=", "if_version=", "if_absent=", "scope="];
        assert_eq!(offered, expected);
        let offered = pairs(&Schema::new(&schema), &given, "if_absent=");
        assert!(offered.iter().any(|(pair, _)| pair == "if_absent=true"));
    }
}
