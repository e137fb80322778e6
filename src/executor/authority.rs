//! Calls on which the policy leaves the decision to the authority of the machine, as polkit is one: what
//! that is asked, and what follows from its answer. How it is reached is not known here.

use std::borrow::Cow;
use std::sync::Arc;

use tokio::time::Instant;

use super::run::deadline;
use super::{Executor, Route};
use crate::call::{Attested, Caller, Context, Process};
use crate::contract::{Operation, Running, redacted_json};
use crate::error::{Error, ErrorKind};
use crate::metrics::Rejection;

/// The longest target that an authority is told, in bytes. A longer one is left out and not cut: a rule
/// must not be deceived by what stands behind the cut.
const MAX_TARGET_BYTES: usize = 4096;

/// Somebody beside the policy who decides on calls.
pub trait Authority: Send + Sync {
    /// Asks whether a call may be made.
    ///
    /// # Errors
    /// `LimitExceeded` if too much is asked at once, `BackendUnavailable` if it does not answer,
    /// `DeadlineExceeded` if nobody authenticated in time.
    ///
    /// # Cancel safety
    /// The question is taken back.
    fn ask(&self, question: Question) -> Running<'_, Answer>;
}

/// What an authority is asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// Who wants to make the call.
    pub subject: Subject,
    /// The user whose rights the call is to have.
    pub uid: u32,
    /// What is to be done.
    pub operation: Arc<Operation>,
    /// The request as JSON without its secrets; none if it is a stream or longer than 4096 bytes.
    pub target: Option<String>,
    /// True if somebody may be asked to authenticate.
    pub interactive: bool,
    /// When the answer comes too late.
    pub until: Instant,
}

/// A process of this machine, as somebody whom the service trusts knows it.
#[derive(Clone, Debug)]
pub enum Subject {
    /// The one behind this unique name on the bus that clients call by.
    BusName(Arc<str>),
    /// The one at the other end of a Unix socket.
    Process(Arc<Process>),
}

/// What an authority answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The call may be made.
    Yes,
    /// It may not.
    No,
    /// It may not unless somebody authenticates.
    Challenge,
    /// The authority is not there, or knows nothing of such calls.
    Absent,
}

impl Subject {
    /// The process of a caller; none where only a token or certificate vouches for him, or over TCP.
    fn of(caller: &Caller) -> Option<Self> {
        match caller.attested {
            Attested::Bus => Some(Self::BusName(Arc::clone(&caller.address))),
            Attested::Kernel => caller.process.clone().map(Self::Process),
            Attested::Token(_)
            | Attested::Certificate(_)
            | Attested::Service
            | Attested::Nobody => None,
        }
    }
}

impl Executor {
    /// Lets the authority decide on a call. `request`: none for a stream of requests. Gives `rule`, which
    /// left it to the authority, with what that said.
    ///
    /// # Errors
    /// `AccessDenied` if it says no or cannot be asked about this caller, `ApprovalRequired` if somebody
    /// must authenticate and the client does not let him be asked; those of [`Authority::ask`].
    ///
    /// # Cancel safety
    /// Nothing was permitted; the question is taken back.
    pub(super) async fn consult(
        &self,
        route: &Route,
        context: &Context,
        request: Option<&[u8]>,
        rule: &str,
    ) -> Result<Cow<'static, str>, Error> {
        let why = match self.ask_authority(route, context, request).await {
            Ok(Some(Answer::Yes)) => return Ok(format!("{rule}; polkit says yes").into()),
            Ok(Some(Answer::Challenge)) => {
                self.reject(Rejection::ApprovalRequired);
                let error = must_authenticate(&route.operation, context.interactive);
                return Err(error.refused_by(format!("{rule}; polkit wants authentication")));
            }
            Ok(Some(Answer::No)) => "polkit says no",
            Ok(Some(Answer::Absent)) => "polkit is not there",
            Ok(None) => "polkit cannot be asked about this caller",
            Err(error) => {
                self.reject(Rejection::Denied);
                return Err(error.refused_by(format!("{rule}; polkit gave no answer")));
            }
        };
        Err(self.denied(&route.operation, &context.caller, format!("{rule}; {why}")))
    }

    /// What the authority says; `None` if the caller is nobody whom it could be asked about.
    async fn ask_authority(
        &self,
        route: &Route,
        context: &Context,
        request: Option<&[u8]>,
    ) -> Result<Option<Answer>, Error> {
        let (Some(subject), Some(uid)) = (Subject::of(&context.caller), context.caller.uid())
        else {
            return Ok(None);
        };
        let Some(authority) = &self.authority else { return Ok(Some(Answer::Absent)) };
        let operation = &route.operation;
        let target = request.filter(|request| request.len() <= MAX_TARGET_BYTES);
        let target = target.map(|request| redacted_json(&operation.input, request)).transpose()?;
        let longest = self.config.load().max_timeout;
        let until = deadline(route, context, self.config.load().default_timeout, longest);
        let question = Question {
            subject,
            uid,
            operation: Arc::clone(operation),
            target: target.filter(|target| target.len() <= MAX_TARGET_BYTES),
            interactive: context.interactive,
            until: until.unwrap_or(context.received + longest),
        };
        authority.ask(question).await.map(Some)
    }
}

/// The answer to a caller who would have to authenticate.
fn must_authenticate(operation: &Operation, interactive: bool) -> Error {
    let (agent, name) = (&operation.agent, &operation.name);
    let text = match interactive {
        true => "somebody must authenticate for this, and nothing is there that could ask him",
        false => {
            "somebody must authenticate for this; a call that allows it (the flag \
             ALLOW_INTERACTIVE_AUTHORIZATION on D-Bus, opdbus-interactive: true on gRPC) asks him"
        }
    };
    Error::new(ErrorKind::ApprovalRequired, format!("{agent}.{name}: {text}"))
        .with_fact("authorization", if interactive { "no_agent" } else { "interactive" })
}
