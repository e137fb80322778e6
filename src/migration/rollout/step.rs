//! Steps: where a request takes a rule, who took it there, and what is told of it. Whether a step is safe
//! is found out by those who call this.

use std::sync::Arc;
use std::time::SystemTime;

use super::position::WHOLE;
use super::{Position, Rollout, Ruled, State};
use crate::audit::{Event, Kind, Place, Target};
use crate::call::{Attested, Caller, Context, Identity, Interface, Transport};
use crate::error::{Error, ErrorKind};
use crate::events;
use crate::proto::opdbus::v1::{RuleState, SetStageRequest, StageChange};

/// The longest reason, in characters.
const REASON_CHARS: usize = 200;

/// A step that somebody wants to take.
#[derive(Clone, Debug)]
pub struct Step {
    /// The rule's name.
    pub rule: String,
    /// Where it was when this was asked for.
    pub from: State,
    /// Where it is to be.
    pub to: Position,
    /// Whether it is to be held there.
    pub hold: bool,
    /// Why.
    pub reason: String,
}

/// Who takes a step.
#[derive(Clone, Debug)]
pub struct By {
    caller: Arc<Caller>,
    /// None for steps that nobody asked for.
    way: Option<(Transport, Interface)>,
    name: String,
}

/// A step that was taken, as it is told.
pub(super) struct Told {
    rule: String,
    text: String,
    is_back: bool,
}

impl By {
    /// Who makes a call.
    #[must_use]
    pub fn caller(context: &Context) -> Self {
        let caller = Arc::clone(&context.caller);
        let name = caller.uid().map_or_else(|| "nobody".to_owned(), |uid| format!("uid {uid}"));
        Self { caller, way: Some((context.transport, context.interface)), name }
    }

    /// Something that is no caller, as `the canary`.
    pub(super) fn itself(name: &str) -> Self {
        let caller = Caller::new(Identity::Unknown, Attested::Service, name);
        Self { caller: Arc::new(caller), way: None, name: name.to_owned() }
    }
}

impl Told {
    pub(super) fn new(rule: &str, from: Position, to: Position, reason: &str) -> Self {
        let because = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        let moves = if from == to { format!("at {to}") } else { format!("from {from} to {to}") };
        Self { rule: rule.to_owned(), text: format!("{moves}{because}"), is_back: to < from }
    }
}

impl Step {
    /// Where `request` takes the rule `ruled`.
    ///
    /// # Errors
    /// `InvalidArgument` if it asks for nothing that there is, `Conflict` if the rule is at the end that
    /// it wants to go beyond.
    pub fn plan(ruled: &Ruled, request: &SetStageRequest) -> Result<Self, Error> {
        let (change, stage) = (request.change(), request.stage());
        if change != StageChange::Unspecified
            && (request.stage != 0 || request.share_per_10000 != 0)
        {
            return Err(Error::invalid("stage", "is for no change that has a name; leave it out"));
        }
        let (from, steps) = (ruled.state.position, &ruled.rule.steps);
        let end = |what: &str| {
            let text = format!("rule {} is at {from}, which is the {what} stage", ruled.rule.name);
            Error::new(ErrorKind::Conflict, text).with_fact("stage", from.name())
        };
        let (to, hold) = match change {
            StageChange::Advance => (ruled.next().ok_or_else(|| end("last"))?, false),
            StageChange::Rollback => (from.back(steps).ok_or_else(|| end("first"))?, false),
            StageChange::Hold => (from, true),
            StageChange::Release => (from, false),
            StageChange::Unspecified => {
                let first = steps.first().copied().unwrap_or(WHOLE);
                let share = match request.share_per_10000 {
                    0 => first,
                    share => share,
                };
                let to = Position::of(stage, share).ok_or_else(|| {
                    Error::invalid("stage", "is missing; name a stage, or a change")
                })?;
                if !matches!(to, Position::Canary(_)) && request.share_per_10000 != 0 {
                    return Err(Error::invalid("share_per_10000", "is for stage canary alone"));
                }
                if share > WHOLE {
                    return Err(Error::invalid("share_per_10000", "must be 10000 at most"));
                }
                (to, false)
            }
        };
        Ok(Self {
            rule: ruled.rule.name.clone(),
            from: ruled.state.clone(),
            to,
            hold,
            reason: reason(&request.reason)?,
        })
    }

    /// True if more calls take gRPC afterwards, or fewer may take D-Bus.
    #[must_use]
    pub fn goes_on(&self) -> bool {
        self.to > self.from.position
    }

    fn state(&self, by: &str) -> State {
        if self.to == self.from.position {
            let held_by = if self.hold { by.to_owned() } else { String::new() };
            return State { held_by, reason: self.reason.clone(), ..self.from.clone() };
        }
        State::moved(self.to, by, &self.reason)
    }
}

impl Rollout {
    /// Takes a step: first it is written down, then it is in force.
    ///
    /// # Errors
    /// `Conflict` if the rule has been moved since the step was planned, `NotFound` if it is gone; the
    /// store's and the audit log's. Then nothing has changed.
    ///
    /// # Cancel safety
    /// Once polled it is carried to its end.
    pub async fn take(self: &Arc<Self>, step: Step, by: By) -> Result<RuleState, Error> {
        let rollout = Arc::clone(self);
        let taking = tokio::spawn(async move { rollout.take_now(&step, &by).await });
        taking.await.map_err(|_| Error::internal("taking a step panicked; the log says where"))?
    }

    async fn take_now(&self, step: &Step, by: &By) -> Result<RuleState, Error> {
        let place = match &self.audit {
            Some(audit) => Some(audit.reserve().await?),
            None => None,
        };
        let _moving = self.moving.lock().await;
        let before = self.in_force.load_full();
        let ruled = before.named(&step.rule).ok_or_else(|| unknown(&step.rule, &before))?;
        if ruled.state != step.from {
            let position = ruled.state.position;
            let text = format!("somebody has just moved rule {}; it is at {position}", step.rule);
            return Err(Error::new(ErrorKind::Conflict, text).with_fact("stage", position.name()));
        }
        let after = before.with(&step.rule, &step.state(&by.name));
        self.records.replace(after.records()).await?;
        self.publish(after);
        let mut told = Told::new(&step.rule, step.from.position, step.to, &step.reason);
        if step.to == step.from.position {
            let what = if step.hold { "held" } else { "released" };
            told.text = format!("{what} {}", told.text);
        }
        self.tell(&told, by, place);
        let after = self.in_force();
        after.named(&step.rule).map(Ruled::describe).ok_or_else(|| unknown(&step.rule, &after))
    }

    /// Records a step and logs it.
    pub(super) fn tell(&self, told: &Told, by: &By, place: Option<Place>) {
        let Told { rule, text, is_back } = told;
        if let Some(audit) = &self.audit {
            let event = Event {
                kind: Kind::Step,
                time: SystemTime::now(),
                caller: Arc::clone(&by.caller),
                way: by.way,
                session: None,
                task: None,
                request_id: None,
                target: Target::Operation(Arc::clone(&self.set_stage)),
                digest: None,
                rule: format!("migration.rule {rule}: {text}").into(),
                outcome: "OK",
                duration: None,
            };
            match place {
                Some(place) => audit.record_soon(place, event),
                None => audit.record_late(event),
            }
        }
        let by = &by.name;
        macro_rules! log {
            ($level:ident) => {
                tracing::$level!(
                    message_id = events::ROLLOUT_STEP,
                    rule,
                    by,
                    "the rollout: rule {rule} {text}, by {by}"
                )
            };
        }
        if *is_back { log!(warn) } else { log!(info) }
    }
}

/// There is no such rule.
pub(in crate::migration) fn unknown(name: &str, in_force: &super::InForce) -> Error {
    let names: Vec<&str> = in_force.rules.iter().map(|it| it.rule.name.as_str()).collect();
    let text = format!("there is no rule {name}; there are {}", names.join(", "));
    Error::new(ErrorKind::NotFound, text).with_fact("rule", name)
}

fn reason(text: &str) -> Result<String, Error> {
    let length = text.chars().count();
    if length > REASON_CHARS || text.chars().any(char::is_control) {
        let problem = format!("must be one line of {REASON_CHARS} characters at most");
        return Err(Error::invalid("reason", problem));
    }
    Ok(text.to_owned())
}
