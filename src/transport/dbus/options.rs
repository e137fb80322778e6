//! The options that belong to a call and not to its request: their names, their checks and what they
//! put into the call's context. It knows no request.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use crate::call::{Context, OnDisconnect, client_name};
use crate::contract::Operation;
use crate::error::Error;
use crate::wire::dbus::beside::{Beside, Given};

/// The longest request id, in characters.
const REQUEST_ID_MAX_CHARS: usize = 128;

/// The longest token for a task's id, in characters.
const TOKEN_MAX_CHARS: usize = 64;

/// The longest id of a session or an approval, in characters: no longer one is looked up.
const ID_MAX_CHARS: usize = 128;

/// An option of the call. Its name wins over a field of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reserved {
    RequestId,
    DeadlineMs,
    Traceparent,
    SessionId,
    ApprovalId,
    Detach,
    HandleToken,
    OnDisconnect,
    OutputFd,
    OutputFormat,
    InputFd,
    InputFormat,
    ClientName,
}

const NAMES: [(&str, Reserved); 13] = [
    ("request-id", Reserved::RequestId),
    ("deadline-ms", Reserved::DeadlineMs),
    ("traceparent", Reserved::Traceparent),
    ("session-id", Reserved::SessionId),
    ("approval-id", Reserved::ApprovalId),
    ("detach", Reserved::Detach),
    ("handle-token", Reserved::HandleToken),
    ("on-disconnect", Reserved::OnDisconnect),
    ("output-fd", Reserved::OutputFd),
    ("output-format", Reserved::OutputFormat),
    ("input-fd", Reserved::InputFd),
    ("input-format", Reserved::InputFormat),
    ("client-name", Reserved::ClientName),
];

impl Beside for Options {
    fn position(&self, name: &str) -> Option<usize> {
        NAMES.iter().position(|(known, _)| *known == name)
    }

    fn take(&mut self, position: usize, given: Given<'_>) -> Result<(), String> {
        let (_, option) = NAMES.get(position).ok_or("is no option")?;
        self.set(*option, given)
    }

    fn skips_unknown(&self) -> bool {
        false
    }
}

/// What the value of an option is.
const fn kind(given: &Given<'_>) -> &'static str {
    match given {
        Given::Bool(_) => "a boolean",
        Given::Integer(_) => "a number",
        Given::Text(_) => "a text",
        Given::Descriptor(_) => "a descriptor",
    }
}

/// How messages are written to a descriptor or read from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Format {
    /// Each after its length as a varint.
    #[default]
    Proto,
    /// Each as JSON on a line of its own.
    Json,
}

/// The options of one call.
#[derive(Debug, Default)]
pub(super) struct Options {
    request_id: Option<Box<str>>,
    timeout: Option<Duration>,
    traceparent: Option<Box<str>>,
    session: Option<Arc<str>>,
    approval_id: Option<Box<str>>,
    pub(super) detach: bool,
    token: Option<Box<str>>,
    on_disconnect: Option<OnDisconnect>,
    pub(super) output: Option<OwnedFd>,
    output_format: Option<Format>,
    pub(super) input: Option<OwnedFd>,
    input_format: Option<Format>,
    client_name: Option<Arc<str>>,
}

impl Options {
    fn set(&mut self, option: Reserved, given: Given<'_>) -> Result<(), String> {
        match (option, given) {
            (Reserved::RequestId, Given::Text(text)) => {
                self.request_id = Some(bounded(text, REQUEST_ID_MAX_CHARS)?.into());
            }
            (Reserved::DeadlineMs, Given::Integer(value)) => {
                let milliseconds = u64::try_from(value)
                    .map_err(|_| format!("must be a number of milliseconds, not {value}"))?;
                self.timeout = Some(Duration::from_millis(milliseconds));
            }
            (Reserved::Traceparent, Given::Text(text)) => {
                if !is_traceparent(text) {
                    return Err(
                        "must be a W3C traceparent, as 00-<32 hex>-<16 hex>-<2 hex>".to_owned()
                    );
                }
                self.traceparent = Some(text.into());
            }
            (Reserved::SessionId, Given::Text(text)) => self.session = Some(id(text)?.into()),
            (Reserved::ApprovalId, Given::Text(text)) => self.approval_id = Some(id(text)?.into()),
            (Reserved::Detach, Given::Bool(detach)) => self.detach = detach,
            (Reserved::HandleToken, Given::Text(text)) => {
                let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
                if !bounded(text, TOKEN_MAX_CHARS)?.bytes().all(is_letter) {
                    return Err("must have letters, digits and underscores only".to_owned());
                }
                self.token = Some(text.into());
            }
            (Reserved::OnDisconnect, Given::Text(text)) => {
                self.on_disconnect = Some(match text {
                    "continue" => OnDisconnect::Continue,
                    "cancel" => OnDisconnect::Cancel,
                    _ => return Err("must be continue or cancel".to_owned()),
                });
            }
            (Reserved::OutputFd, Given::Descriptor(fd)) => self.output = Some(fd),
            (Reserved::OutputFormat, Given::Text(text)) => self.output_format = Some(format(text)?),
            (Reserved::InputFd, Given::Descriptor(fd)) => self.input = Some(fd),
            (Reserved::InputFormat, Given::Text(text)) => self.input_format = Some(format(text)?),
            (Reserved::ClientName, Given::Text(text)) => {
                self.client_name = Some(client_name(text)?)
            }
            (option, given) => {
                return Err(format!("takes {}, not {}", option.takes(), kind(&given)));
            }
        }
        Ok(())
    }

    /// True if a call of `operation` becomes a task.
    ///
    /// # Errors
    /// `InvalidArgument` naming an option that does not go with such a call.
    pub(super) fn makes_task(&self, operation: &Operation) -> Result<bool, Error> {
        let is_task = operation.is_streaming() || self.detach;
        let out_of_place = [
            (is_task && !operation.is_agents && !operation.on_bus, "detach", NO_AGENT),
            (!is_task && self.token.is_some(), "handle-token", NO_TASK),
            (!is_task && self.on_disconnect.is_some(), "on-disconnect", NO_TASK),
            (!is_task && self.output.is_some(), "output-fd", NO_TASK),
            (self.input.is_some() && !operation.client_streaming, "input-fd", ONE_REQUEST),
            (self.output_format.is_some() && self.output.is_none(), "output-format", NO_OUTPUT),
            (self.input_format.is_some() && self.input.is_none(), "input-format", NO_INPUT),
        ];
        match out_of_place.into_iter().find(|(is, _, _)| *is) {
            Some((_, option, problem)) => Err(Error::invalid(option, problem)),
            None => Ok(is_task),
        }
    }

    /// How messages are written to `output`.
    pub(super) fn output_format(&self) -> Format {
        self.output_format.unwrap_or_default()
    }

    /// How messages are read from `input`.
    pub(super) fn input_format(&self) -> Format {
        self.input_format.unwrap_or_default()
    }

    /// Puts the options into the context of the call.
    pub(super) fn apply(self, context: &mut Context) {
        context.request_id = self.request_id;
        context.timeout = self.timeout;
        context.traceparent = self.traceparent;
        context.session = self.session;
        context.approval_id = self.approval_id;
        context.on_disconnect = self.on_disconnect;
        context.client_name = self.client_name;
        context.task_id = self.token.map(|token| task_id(&context.caller.address, &token));
    }
}

const NO_AGENT: &str = "is for operations of agents";
const NO_TASK: &str = "is for calls that become tasks: streams, and others with detach";
const ONE_REQUEST: &str = "is for operations whose requests are a stream";
const NO_OUTPUT: &str = "needs output-fd";
const NO_INPUT: &str = "needs input-fd";

impl Reserved {
    const fn takes(self) -> &'static str {
        match self {
            Self::DeadlineMs => "an integer",
            Self::Detach => "a boolean",
            Self::OutputFd | Self::InputFd => "a descriptor",
            Self::RequestId
            | Self::Traceparent
            | Self::SessionId
            | Self::ApprovalId
            | Self::HandleToken
            | Self::OnDisconnect
            | Self::OutputFormat
            | Self::InputFormat
            | Self::ClientName => "a text",
        }
    }
}

/// The id of the task that the client called `sender` names by a token: it can tell it beforehand.
fn task_id(sender: &str, token: &str) -> Box<str> {
    format!("{}_{token}", sender.trim_start_matches(':').replace('.', "_")).into()
}

fn bounded(text: &str, longest: usize) -> Result<&str, String> {
    let length = text.chars().count();
    if (1..=longest).contains(&length) {
        return Ok(text);
    }
    Err(format!("must have 1 to {longest} characters, not {length}"))
}

/// The id of a session or an approval.
fn id(text: &str) -> Result<&str, String> {
    let id = bounded(text, ID_MAX_CHARS)?;
    match id.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(id),
        false => Err("must have visible ASCII characters only".to_owned()),
    }
}

fn format(text: &str) -> Result<Format, String> {
    match text {
        "proto" => Ok(Format::Proto),
        "json" => Ok(Format::Json),
        _ => Err("must be proto or json".to_owned()),
    }
}

/// True if the text is a W3C `traceparent`: version, trace id, parent id and flags in lower case
/// hexadecimal digits. Versions after 00 may go on after the flags.
fn is_traceparent(text: &str) -> bool {
    let hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let not_zero = |part: &str| part.bytes().any(|byte| byte != b'0');
    let mut parts = text.splitn(5, '-');
    let mut next = || parts.next().unwrap_or_default();
    let (version, trace, parent, flags) = (next(), next(), next(), next());
    let more = parts.next().is_some();
    hex(version, 2)
        && version != "ff"
        && !(version == "00" && more)
        && hex(trace, 32)
        && not_zero(trace)
        && hex(parent, 16)
        && not_zero(parent)
        && hex(flags, 2)
}
