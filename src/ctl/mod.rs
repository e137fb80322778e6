//! The `op-dbusctl` command: reads the command line, calls the service through the client library
//! and shows what comes back. It holds no state and decides nothing that the service decides.

mod agents;
mod approvals;
mod args;
mod arguments;
mod audit;
mod batch;
mod call;
mod complete;
mod config;
mod connect;
mod describe;
mod examples;
mod exposition;
mod follow;
mod lines;
mod man;
mod messages;
mod metrics;
mod migration;
mod notes;
mod output;
mod parity;
mod ping;
mod policy;
mod problem;
mod restart;
mod rows;
mod run;
mod sessions;
mod status;
mod stream;
mod table;
mod tasks;
mod times;
mod token;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use args::{Args, Color, Command, ConfigCommand, TokenCommand};
use output::Output;
use problem::Problem;

/// What a command that ended well has to say to the caller's script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Nothing more.
    Done,
    /// The service runs, but something is wrong with it.
    Degraded,
    /// The task that was watched or awaited goes on.
    Unfinished,
    /// Something keeps clients from moving to gRPC; it has been said on the output.
    Blocked,
    /// What was checked is wrong, or some calls of several failed; it has been said on the output.
    Refused,
    /// With this code, a program's.
    Exit(u8),
}

/// A command that another program of op-dbus describes itself with, and the section of the manual
/// that its page belongs to.
pub type OtherPage = (&'static str, fn() -> clap::Command);

/// Runs the command that this process was started with. `op-dbusctl man` writes the pages of
/// `others` too.
#[must_use]
pub fn main(others: &[OtherPage]) -> ExitCode {
    match complete::answer_shell() {
        Ok(false) => {}
        Ok(true) => return ExitCode::SUCCESS,
        Err(_) => return ExitCode::from(problem::USAGE),
    }
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            if error.use_stderr() && std::env::args_os().any(|word| word == "--json") {
                let text = error.render().to_string();
                let text = text.trim_start_matches("error: ").trim_end();
                return Problem::usage(text, "").report(&mut Output::new(true, Color::Never));
            }
            let code = if error.use_stderr() { problem::USAGE } else { 0 };
            // Nobody is left to tell when even the help cannot be written.
            error.print().ok();
            return ExitCode::from(code);
        }
    };
    let mut output = Output::new(args.global.json, args.global.color);
    let outcome = run(&args, others, &mut output).and_then(|outcome| {
        output.flush()?;
        Ok(outcome)
    });
    match outcome {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Degraded) => ExitCode::from(problem::DEGRADED),
        Ok(Outcome::Unfinished) => ExitCode::from(problem::UNFINISHED),
        Ok(Outcome::Blocked) => ExitCode::from(problem::BLOCKED),
        Ok(Outcome::Refused) => ExitCode::from(problem::FAILED),
        Ok(Outcome::Exit(code)) => ExitCode::from(code),
        Err(problem) => match (problem.report(&mut output), &args.command) {
            (code, Command::Run(_)) if code != ExitCode::SUCCESS => {
                ExitCode::from(problem::NOT_RUN)
            }
            (code, _) => code,
        },
    }
}

fn run(args: &Args, others: &[OtherPage], output: &mut Output) -> Result<Outcome, Problem> {
    let global = &args.global;
    let options = global.call_options();
    let client = || connect::connect(global);
    let command = async {
        match &args.command {
            Command::Agents => agents::run(&client().await?, &options, output).await,
            Command::Describe { agent, operation } => {
                let settings = connect::settings(global)?;
                let wanted = (agent.as_str(), operation.as_deref());
                describe::run(&client().await?, wanted, &settings, &options, output).await
            }
            Command::Call(call) => call::run(&client().await?, call, global, output).await,
            Command::Run(program) => run::run(&client().await?, program, global, output).await,
            Command::Batch(batch) => batch::run(&client().await?, batch, options, output).await,
            Command::Tasks(tasks) => tasks::run(&client().await?, tasks, global, output).await,
            Command::Sessions(sessions) => {
                sessions::run(&client().await?, sessions, &options, output).await
            }
            Command::Approvals(approvals) => {
                approvals::run(&client().await?, approvals, &options, output).await
            }
            Command::Policy(policy) => {
                policy::run(&client().await?, &policy.command, &options, output).await
            }
            Command::Migration(migration) => {
                migration::run(&client().await?, migration, &options, output).await
            }
            Command::Audit(audit) => audit::run(audit, global, output).await,
            Command::Parity { agent } => {
                parity::run(agent.as_deref(), global, &options, output).await
            }
            Command::Ping { count } => ping::run(&client().await?, *count, &options, output).await,
            Command::Metrics { raw } => {
                metrics::run(&client().await?, *raw, &options, output).await
            }
            Command::Status => status::run(&client().await?, &options, output).await,
            Command::Token { command: TokenCommand::New(wanted) } => token::new(wanted, output),
            Command::Config { command: ConfigCommand::Check { file } } => {
                config::check(file.as_deref().or(global.config.as_deref()), output)
            }
            Command::Completions { shell } => complete::registration(shell, output),
            Command::Man { folder } => man::write(folder.as_deref(), others, output),
        }
    };
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command)
}
