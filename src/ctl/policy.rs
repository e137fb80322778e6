//! `op-dbusctl policy`: the rules in force, and what they say about one call.

use nix::unistd::{User, getuid};

use super::Outcome;
use super::args::{self, PolicyCommand};
use super::describe::plain;
use super::output::{Output, clean};
use super::problem::Problem;
use super::table::Table;
use crate::client::{AgentClient, CallOptions, CallsBy};
use crate::proto::opdbus::v1::{LoginSession, MayApprove, PolicyDecision, PolicyExplanation};

pub(super) async fn run(
    client: &AgentClient,
    command: &PolicyCommand,
    options: &CallOptions,
    output: &mut Output,
) -> Result<Outcome, Problem> {
    match command {
        PolicyCommand::Show => show(client, options, output).await,
        PolicyCommand::Explain { user, agent, operation, by } => {
            let by = calls_by(by);
            let (json, explanation) = if by == CallsBy::Himself && is_me(user) {
                let answer = client.explain(agent, operation, options).await?;
                (answer.json, answer.message.explanation)
            } else {
                let answer = client.explain_user(user, by, agent, operation, options).await?;
                (answer.json, answer.message.explanation)
            };
            if output.json() {
                output.raw_json(&json)?;
            } else {
                write(&explanation.unwrap_or_default(), output)?;
            }
            Ok(Outcome::Done)
        }
    }
}

fn calls_by(by: &args::CallsBy) -> CallsBy<'_> {
    match by {
        args::CallsBy { token: Some(name), .. } => CallsBy::Token(name),
        args::CallsBy { certificate: Some(name), .. } => CallsBy::Certificate(name),
        args::CallsBy { login_session: Some(session), .. } => {
            CallsBy::LoginSession((*session).into())
        }
        args::CallsBy { token: None, certificate: None, login_session: None } => CallsBy::Himself,
    }
}

/// True if `user` is who this process runs as: he may ask about himself.
fn is_me(user: &str) -> bool {
    let me = getuid();
    let name = || User::from_uid(me).ok().flatten().map(|found| found.name);
    user == me.to_string() || name().is_some_and(|name| name == user)
}

async fn show(
    client: &AgentClient,
    options: &CallOptions,
    output: &mut Output,
) -> Result<Outcome, Problem> {
    let answer = client.list_rules(options).await?;
    if output.json() {
        output.raw_json(&answer.json)?;
        return Ok(Outcome::Done);
    }
    let mut table = Table::new(&[">RULE", "WHO", "WHAT", "SAYS", "FROM", "REASON"]);
    for rule in &answer.message.rules {
        table.row([
            &rule.number.to_string(),
            &rule.who,
            &rule.what,
            &says(rule.decision(), rule.may_approve()),
            &rule.origin,
            &rule.reason,
        ]);
    }
    table.write(0, output)?;
    output.line("")?;
    let hint = "for each call the first rule that is about it decides";
    output.line(&output.paint().dim(hint))?;
    Ok(Outcome::Done)
}

fn write(explanation: &PolicyExplanation, output: &mut Output) -> Result<(), Problem> {
    let paint = output.paint();
    let decision = decision(explanation.decision());
    let painted = match explanation.decision() {
        PolicyDecision::Allow => paint.green(&decision),
        PolicyDecision::Ask | PolicyDecision::Auth => paint.yellow(&decision),
        PolicyDecision::Deny | PolicyDecision::Unspecified => paint.red(&decision),
    };
    let operation = clean(&explanation.operation);
    output.line(&format!("{operation} for uid {}: {painted}", explanation.uid))?;
    let risk = plain(explanation.risk().as_str_name(), "RISK_");
    output.fact("risk", &risk)?;
    if explanation.decision() == PolicyDecision::Auth {
        let action = format!("polkit decides, as org.opdbus.{risk}; without polkit it is refused");
        output.fact("auth", &action)?;
    }
    if let Some(rule) = &explanation.rule {
        output.fact("rule", &format!("{} ({})", rule.number, rule.origin))?;
        output.fact("who", &rule.who)?;
        output.fact("what", &rule.what)?;
        if !rule.reason.is_empty() {
            output.fact("reason", &rule.reason)?;
        }
    }
    if !explanation.gids.is_empty() {
        let gids: Vec<String> = explanation.gids.iter().map(u32::to_string).collect();
        output.fact("groups", &gids.join(", "))?;
    }
    if explanation.login_session() != LoginSession::Unspecified {
        let session = plain(explanation.login_session().as_str_name(), "LOGIN_SESSION_");
        output.fact("login session", &session)?;
    }
    let approves = match explanation.may_approve() {
        MayApprove::Unspecified => "none",
        MayApprove::Others => "those of others",
        MayApprove::All => "those of others and his own",
    };
    output.fact("may approve", approves)?;
    Ok(())
}

fn decision(decision: PolicyDecision) -> String {
    plain(decision.as_str_name(), "POLICY_DECISION_")
}

fn says(said: PolicyDecision, approver: MayApprove) -> String {
    let mut parts = Vec::new();
    if said != PolicyDecision::Unspecified {
        parts.push(decision(said));
    }
    match approver {
        MayApprove::Unspecified => {}
        MayApprove::Others => parts.push("may approve others'".to_owned()),
        MayApprove::All => parts.push("may approve all".to_owned()),
    }
    parts.join(", ")
}
