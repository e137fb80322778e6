//! The options that belong to a call and not to its request: their names, their checks and what they
//! put into the call's context. It knows no request.

use std::time::Duration;

use crate::call::Context;

/// The longest request id, in characters.
const REQUEST_ID_MAX_CHARS: usize = 128;

/// An option of the call. Its name wins over a field of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reserved {
    RequestId,
    DeadlineMs,
    Traceparent,
}

impl Reserved {
    /// The option called `name`; `None` if it is no option of the call.
    ///
    /// # Errors
    /// The problem, if the option is reserved for something that this release does not serve.
    pub(super) fn named(name: &str) -> Result<Option<Self>, &'static str> {
        match name {
            "request-id" => Ok(Some(Self::RequestId)),
            "deadline-ms" => Ok(Some(Self::DeadlineMs)),
            "traceparent" => Ok(Some(Self::Traceparent)),
            "output-fd" | "handle-token" | "detach" => {
                Err("this option is not served by this release")
            }
            _ => Ok(None),
        }
    }
}

/// The options of one call.
#[derive(Debug, Default)]
pub(super) struct Options {
    request_id: Option<Box<str>>,
    timeout: Option<Duration>,
    traceparent: Option<Box<str>>,
}

impl Options {
    /// Takes an option whose value is a text.
    pub(super) fn set_text(&mut self, option: Reserved, text: &str) -> Result<(), String> {
        match option {
            Reserved::RequestId => {
                let length = text.chars().count();
                if !(1..=REQUEST_ID_MAX_CHARS).contains(&length) {
                    return Err(format!(
                        "must have 1 to {REQUEST_ID_MAX_CHARS} characters, not {length}"
                    ));
                }
                self.request_id = Some(text.into());
            }
            Reserved::Traceparent => {
                if !is_traceparent(text) {
                    return Err(
                        "must be a W3C traceparent, as 00-<32 hex>-<16 hex>-<2 hex>".to_owned()
                    );
                }
                self.traceparent = Some(text.into());
            }
            Reserved::DeadlineMs => return Err("takes an integer, not a text".to_owned()),
        }
        Ok(())
    }

    /// Takes an option whose value is an integer.
    pub(super) fn set_integer(&mut self, option: Reserved, value: i128) -> Result<(), String> {
        match option {
            Reserved::DeadlineMs => {
                let milliseconds = u64::try_from(value)
                    .map_err(|_| format!("must be a number of milliseconds, not {value}"))?;
                self.timeout = Some(Duration::from_millis(milliseconds));
                Ok(())
            }
            Reserved::RequestId | Reserved::Traceparent => {
                Err("takes a text, not a number".to_owned())
            }
        }
    }

    /// Puts the options into the context of the call.
    pub(super) fn apply(self, context: &mut Context) {
        context.request_id = self.request_id;
        context.timeout = self.timeout;
        context.traceparent = self.traceparent;
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
