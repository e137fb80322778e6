//! The process that wants to make a call, as polkit is told of it. Whether it may is not decided here.

use std::collections::HashMap;

use zbus::fdo::DBusProxy;
use zbus::names::BusName;
use zbus::{Connection, Error, Fd, Variant, fdo};

use super::answer::{Trouble, trouble};
use crate::executor::{Question, Subject};

/// A kind of subject, and what there is to know of it.
pub(super) type Described = (&'static str, HashMap<&'static str, Variant<'static>>);

/// The subject of a question; `None` if polkit could not tell who that is. `has_callers`: clients are on
/// the bus of this connection.
///
/// # Errors
/// The bus does not say whose a name is.
pub(super) async fn of(
    connection: &Connection,
    question: &Question,
    has_callers: bool,
) -> Result<Option<Described>, Trouble> {
    match &question.subject {
        Subject::BusName(name) => {
            // On another bus, or on this one after a restart, the name may be somebody else's.
            if !has_callers || owner(connection, name).await? != Some(question.uid) {
                return Ok(None);
            }
            let name = Variant::from(name.to_string());
            Ok(Some(("system-bus-name", HashMap::from([("name", name)]))))
        }
        Subject::Process(process) => {
            // polkit takes the user id as a signed number.
            let uid = Variant::from(question.uid.cast_signed());
            let mut known = HashMap::from([
                ("pid", Variant::from(process.pid())),
                ("start-time", Variant::from(process.started())),
                ("uid", uid),
            ]);
            // Before 124 polkit goes by the others.
            if let Some(pidfd) = process.pidfd() {
                known.insert("pidfd", Variant::from(Fd::from(pidfd)));
            }
            Ok(Some(("unix-process", known)))
        }
    }
}

/// The user behind a name; `None` if it has gone.
async fn owner(connection: &Connection, name: &str) -> Result<Option<u32>, Trouble> {
    let Ok(name) = BusName::try_from(name.to_owned()) else { return Ok(None) };
    let bus = DBusProxy::new(connection).await.map_err(|error| trouble(&error))?;
    match bus.get_connection_unix_user(name).await {
        Ok(uid) => Ok(Some(uid)),
        Err(fdo::Error::NameHasNoOwner(_)) => Ok(None),
        Err(error) => Err(trouble(&Error::from(error))),
    }
}
