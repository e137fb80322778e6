//! `op-dbusctl run`: a program at the service, as if it ran here: its output, its errors and its exit
//! code. What it may touch and use is the service's matter.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::str::FromStr as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::sys::signal::Signal;
use serde_json::{Map, Value, json};

use super::Outcome;
use super::args::{Global, Run};
use super::follow::{self, Interrupts};
use super::messages::Messages;
use super::notes::Notes;
use super::output::{Output, clean};
use super::problem::Problem;
use crate::client::{AgentClient, Error, NewTask};
use crate::error::ErrorKind;
use crate::proto::opdbus::agent::commands::v1::{Command, Ended, MechanismState};
use crate::proto::opdbus::v1::OnDisconnect;

/// What `timeout(1)` and its like end with when a program was ended at a limit.
const AT_A_LIMIT: u8 = 124;
/// What shells add to the number of the signal that ended a program.
const BY_SIGNAL: u8 = 128;
/// The most that is read for the program's input, in bytes; more fits into no request.
const INPUT_BYTES_MAX: u64 = 3 << 20;

/// Runs the program, and gives its exit code.
pub(super) async fn run(
    client: &AgentClient,
    run: &Run,
    global: &Global,
    output: &mut Output,
) -> Result<Outcome, Problem> {
    let arguments = request(run)?.to_string();
    let options = global.call_options();
    let task = NewTask {
        agent: "commands",
        operation: "ExecStream",
        arguments: &arguments,
        runtime: global.timeout,
        on_disconnect: OnDisconnect::Cancel,
    };
    let mut messages = Messages::of_program(output);
    let mut interrupts = Interrupts::new()?;
    let started = client.start_call(&task, &options).await?;
    let id = started.message.task.unwrap_or_default().id;
    match follow::attend(client, &id, &mut messages, &mut interrupts, &options).await {
        Ok(_) => {}
        Err(Problem::Service(Error::Failed(failure))) if failure.kind == ErrorKind::Cancelled => {
            Notes::new().say("the program was called off");
            return Ok(Outcome::Exit(BY_SIGNAL + Signal::SIGINT as u8));
        }
        Err(problem) => return Err(problem),
    }
    let command = messages.command().ok_or_else(|| {
        Problem::Local(format!("the service did not say how it ended; op-dbusctl tasks show {id}"))
    })?;
    if global.verbose {
        tell_confinement(&command);
    }
    exit(&command.ended.unwrap_or_default())
}

fn request(run: &Run) -> Result<Value, Problem> {
    let mut how = Map::new();
    let mut environment = Map::new();
    for variable in &run.env {
        let (name, value) = variable.split_once('=').ok_or_else(|| {
            Problem::usage(format!("--env {variable:?} has no `=`"), "as --env LANG=C.UTF-8")
        })?;
        environment.insert(name.to_owned(), value.into());
    }
    how.insert("environment".to_owned(), environment.into());
    if let Some(file) = &run.input {
        how.insert("input".to_owned(), STANDARD.encode(input(file)?).into());
    }
    if let Some(profile) = &run.profile {
        how.insert("profile".to_owned(), profile.clone().into());
    }
    if run.require {
        how.insert("confinement".to_owned(), "CONFINEMENT_REQUIRE".into());
    }
    if let Some(limit) = run.limit {
        how.insert("limits".to_owned(), json!({"wall": format!("{}s", limit.as_secs_f64())}));
    }
    let directory = match &run.directory {
        Some(directory) => std::path::absolute(directory)?,
        None => std::env::current_dir()?,
    };
    let directory = directory.to_str().ok_or_else(|| {
        Problem::usage("the name of the folder is not UTF-8", "--directory names another")
    })?;
    Ok(json!({"argv": run.argv, "directory": directory, "run": how}))
}

/// The content of a file, or of standard input.
fn input(file: &Path) -> Result<Vec<u8>, Problem> {
    let mut content = Vec::new();
    let read = |from: &mut dyn std::io::Read, content: &mut Vec<u8>| {
        from.take(INPUT_BYTES_MAX + 1).read_to_end(content)
    };
    match file.to_str() {
        Some("-") => read(&mut std::io::stdin().lock(), &mut content)?,
        _ => {
            let mut opened = File::open(file).map_err(|error| {
                Problem::Local(format!("{} cannot be read: {error}", file.display()))
            })?;
            read(&mut opened, &mut content)?
        }
    };
    if content.len() as u64 > INPUT_BYTES_MAX {
        let problem = format!("the input has more than {INPUT_BYTES_MAX} bytes");
        let hint = "put it into a file that the program opens itself";
        return Err(Problem::usage(problem, hint));
    }
    Ok(content)
}

fn tell_confinement(command: &Command) {
    let mut notes = Notes::new();
    for mechanism in &command.sandbox {
        let state = match mechanism.state() {
            MechanismState::Enforced => "enforced",
            MechanismState::Unavailable => "NOT enforced",
            MechanismState::Off | MechanismState::Unspecified => continue,
        };
        notes.say(&format!("{}: {state}: {}", clean(&mechanism.name), clean(&mechanism.detail)));
    }
}

/// The end of a program as the end of this one.
fn exit(ended: &Ended) -> Result<Outcome, Problem> {
    if !ended.limit.is_empty() {
        let (limit, value) = (clean(&ended.limit), clean(&ended.limit_value));
        Notes::new().say(&format!("the program was ended at {limit} ({value})"));
        return Ok(Outcome::Exit(AT_A_LIMIT));
    }
    if let Some(code) = ended.code {
        let code = u8::try_from(code)
            .map_err(|_| Problem::Local(format!("the program ended with the code {code}")))?;
        return Ok(Outcome::Exit(code));
    }
    let number = Signal::from_str(&format!("SIG{}", ended.signal)).map(|signal| signal as u8);
    let number = number.map_err(|_| {
        Problem::Local(format!("the program was ended by signal {}", clean(&ended.signal)))
    })?;
    Ok(Outcome::Exit(BY_SIGNAL + number))
}
