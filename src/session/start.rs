//! How a session is started or resumed: what the client must say, and what it may have.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::hold::Noted;
use super::table::{Metadata, Said, Session, Table};
use super::{Change, Config, Hold, Sessions, unknown};
use crate::call::{SessionScope, Transport};
use crate::error::{Error, ErrorKind};
use crate::proto::opdbus::v1::{self, StartSessionRequest};

const CLIENT_NAME_BYTES: usize = 128;
const ID_BYTES: usize = 128;
const METADATA_ENTRIES: usize = 32;
const METADATA_ENTRY_BYTES: usize = 256;

/// A request to start or resume a session, checked.
pub struct Start {
    /// `None`: one is made.
    id: Option<Arc<str>>,
    /// `None`: the session is not there yet.
    token: Option<String>,
    said: Said,
    idle: Option<Duration>,
}

/// What will hold the session.
#[derive(Clone, Debug)]
pub enum Holder {
    /// Nothing: it lives by being used.
    Nothing,
    /// The bus connection with this name.
    Client(Arc<str>),
    /// The stream that asks for it.
    Stream,
}

/// A session that was started or resumed. One that was started ends when this is dropped, unless its
/// client was [told](Begun::told) of it: nobody would know its token.
pub struct Begun {
    pub(super) sessions: Arc<Sessions>,
    pub(super) scope: SessionScope,
    /// The session.
    pub session: v1::Session,
    /// Its secret.
    pub token: String,
    /// True if it was there before.
    pub resumed: bool,
    /// What holds it for a stream.
    pub hold: Option<Hold>,
    told: bool,
}

impl Begun {
    /// Notes that the client knows of the session.
    pub fn told(&mut self) {
        self.told = true;
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        if !self.told && !self.resumed {
            self.sessions.take_back(&self.scope, &self.token);
        }
    }
}

impl Start {
    /// Checks a request.
    ///
    /// # Errors
    /// `InvalidArgument` naming the field.
    pub fn check(request: StartSessionRequest, config: &Config) -> Result<Self, Error> {
        let name = request.client_name;
        if name.is_empty() || name.len() > CLIENT_NAME_BYTES {
            let problem = format!("must have 1 to {CLIENT_NAME_BYTES} bytes, not {}", name.len());
            return Err(Error::invalid("client_name", problem));
        }
        no_controls("client_name", &name)?;
        if request.session_id.is_empty() && !request.token.is_empty() {
            return Err(Error::invalid("session_id", "must say which session the token is for"));
        }
        let idle = request.idle_timeout.map(|idle| {
            Duration::try_from(idle).ok().filter(|idle| !idle.is_zero() && *idle <= config.idle)
        });
        if idle == Some(None) {
            let longest = config.idle.as_millis();
            let problem =
                format!("must be more than 0 and at most {longest} ms (sessions.idle_ms)");
            return Err(Error::invalid("idle_timeout", problem));
        }
        let id = Some(request.session_id).filter(|id| !id.is_empty());
        Ok(Self {
            id: id.map(checked_id).transpose()?,
            token: Some(request.token).filter(|token| !token.is_empty()),
            said: Said { client_name: name.into(), metadata: checked_metadata(request.metadata)? },
            idle: idle.flatten(),
        })
    }
}

fn checked_id(id: String) -> Result<Arc<str>, Error> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if id.len() > ID_BYTES || !id.bytes().all(known) {
        let problem = format!("must be 1 to {ID_BYTES} letters, digits and the characters - _ .");
        return Err(Error::invalid("session_id", problem));
    }
    Ok(id.into())
}

fn checked_metadata(entries: BTreeMap<String, String>) -> Result<Metadata, Error> {
    if entries.len() > METADATA_ENTRIES {
        let problem = format!("must be {METADATA_ENTRIES} entries at most, not {}", entries.len());
        return Err(Error::invalid("metadata", problem));
    }
    for (name, value) in &entries {
        let bytes = name.len() + value.len();
        if name.is_empty() || bytes > METADATA_ENTRY_BYTES {
            let problem = format!(
                "each entry must have a name and at most {METADATA_ENTRY_BYTES} bytes; one has {bytes}"
            );
            return Err(Error::invalid("metadata", problem));
        }
        no_controls("metadata", name)?;
        no_controls("metadata", value)?;
    }
    Ok(entries.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
}

/// Such a text could not be shown in a list, or not travel on D-Bus.
fn no_controls(field: &'static str, text: &str) -> Result<(), Error> {
    match text.chars().find(|character| character.is_control()) {
        None => Ok(()),
        Some(character) => Err(Error::invalid(
            field,
            format!("must not contain control characters, as U+{:04X}", u32::from(character)),
        )),
    }
}

impl Sessions {
    /// Starts a session for the user, or resumes one.
    ///
    /// # Errors
    /// `NotFound` if there is no session to resume, `AccessDenied` if the token is not its own,
    /// `AlreadyExists` if the id is taken and no token says that it is to be resumed, `LimitExceeded`
    /// if there are too many.
    ///
    /// # Cancel safety
    /// Nothing has happened if it is dropped.
    pub async fn begin(
        self: &Arc<Self>,
        uid: u32,
        transport: Transport,
        start: Start,
        holder: Holder,
    ) -> Result<Begun, Error> {
        let made = || Uuid::now_v7().simple().to_string().into();
        let Start { id, token, said, idle } = start;
        let scope = SessionScope { uid, id: id.unwrap_or_else(made) };
        // What agents keep for the one before must be gone before they keep anything for this one.
        self.told(&scope).await;
        let config = self.config.load_full();
        let mut table = self.table();
        let resumed = match &token {
            Some(token) => {
                self.resume(&mut table, &scope, token, said, idle)?;
                true
            }
            None => {
                let idle = idle.unwrap_or(config.idle);
                let session = Session::new(scope.clone(), said, transport, idle);
                self.add(&mut table, &config, session)?;
                self.want_agents(&mut table, uid);
                false
            }
        };
        let noted = match holder {
            Holder::Stream => Some(Noted::new(&mut table, &scope)),
            Holder::Client(client) => {
                table.hold_by_client(&scope, &client);
                None
            }
            Holder::Nothing => {
                table.lives_by_use(&scope, config.grace);
                None
            }
        };
        let session = table.find(uid, &scope.id).ok_or_else(|| unknown(&scope.id))?;
        let (description, token) = (session.describe(&config), session.token.reveal());
        self.must_record(&mut table, scope.clone());
        let change = if resumed { Change::Changed } else { Change::Started };
        self.changes.send(change(scope.clone())).ok();
        drop(table);
        self.earlier.notify_one();
        Ok(Begun {
            sessions: Arc::clone(self),
            hold: noted.map(|noted| noted.hold(self, &scope)),
            scope,
            session: description,
            token,
            resumed,
            told: false,
        })
    }

    fn resume(
        &self,
        table: &mut Table,
        scope: &SessionScope,
        token: &str,
        said: Said,
        idle: Option<Duration>,
    ) -> Result<(), Error> {
        let session = table.find(scope.uid, &scope.id).ok_or_else(|| unknown(&scope.id))?;
        if !session.token.is(token) {
            let problem = format!("the token is not the one of session {}", scope.id);
            return Err(Error::new(ErrorKind::AccessDenied, problem).with_fact("field", "token"));
        }
        session.said = said;
        session.idle = idle.unwrap_or(session.idle);
        session.touch();
        Ok(())
    }

    fn add(&self, table: &mut Table, config: &Config, session: Session) -> Result<(), Error> {
        let scope = &session.scope;
        if table.find(scope.uid, &scope.id).is_some() {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                format!("there is a session {} already; it is resumed with its token", scope.id),
            ));
        }
        if table.count() >= config.max {
            return Err(Error::limit("sessions.max", config.max, "there are too many sessions"));
        }
        if table.count_of(scope.uid) >= config.max_per_caller {
            let problem = "you have too many sessions; end one";
            return Err(Error::limit("sessions.max_per_caller", config.max_per_caller, problem));
        }
        self.metrics.session_started(session.transport);
        table.insert(session, config.grace);
        Ok(())
    }
}
