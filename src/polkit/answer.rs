//! What polkit and the bus answer, as what it means for a call. It asks nothing.

use std::collections::HashMap;

use zbus::{DBusError as _, Error, Message};

use crate::executor::Answer;

/// Why there is no answer.
pub(super) enum Trouble {
    /// Nobody has polkit's name, or it cannot be started.
    Absent(String),
    /// polkit, or the bus, refuses the question as such: the action is not installed, say.
    Refuses(String),
    /// The answer did not come.
    Silent(String),
}

/// Reads the reply to `CheckAuthorization`.
///
/// # Errors
/// Why it is none.
pub(super) fn read(reply: zbus::Result<Message>) -> Result<Answer, Trouble> {
    let reply = reply.map_err(|error| trouble(&error))?;
    let body = reply.body();
    let (is_authorized, is_challenge, details): (bool, bool, HashMap<String, String>) =
        body.deserialize().map_err(|error| Trouble::Refuses(format!("it answers {error}")))?;
    // Somebody was asked and did not want to.
    let is_dismissed = details.contains_key("polkit.dismissed");
    Ok(match (is_authorized, is_challenge && !is_dismissed) {
        (true, _) => Answer::Yes,
        (false, true) => Answer::Challenge,
        (false, false) => Answer::No,
    })
}

/// What an error of a call on the bus means.
pub(super) fn trouble(error: &Error) -> Trouble {
    let name = if let Error::MethodError(name, _, _) = error {
        name.as_str().to_owned()
    } else if let Error::FDO(error) = error {
        error.name().as_str().to_owned()
    } else {
        return Trouble::Silent(error.to_string());
    };
    let problem = error.to_string();
    const BUS: &str = "org.freedesktop.DBus.Error.";
    match name.strip_prefix(BUS) {
        Some("ServiceUnknown" | "NameHasNoOwner") => Trouble::Absent(problem),
        Some(name) if name.starts_with("Spawn.") => Trouble::Absent(problem),
        Some("NoReply" | "Timeout" | "TimedOut" | "Disconnected" | "NoServer") => {
            Trouble::Silent(problem)
        }
        // systemd could not start it for the bus.
        None if name.starts_with("org.freedesktop.systemd1.") => Trouble::Absent(problem),
        Some(_) | None => Trouble::Refuses(problem),
    }
}
