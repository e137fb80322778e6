//! The connection to the bus: made, named, served, and made again when it is lost. What is served on
//! it is not its business.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use zbus::connection::Builder;
use zbus::{Connection, MessageStream};

use super::call::Shared;
use super::caller::Callers;
use super::descriptor::Descriptors;
use super::dispatch::{Dispatcher, Ended, Names};
use super::legacy::{LegacyName, OlderNames};
use super::{Bus, Config, plan};
use crate::call::Transport;
use crate::error::{Error, ErrorKind};
use crate::events;
use crate::executor::Executor;
use crate::status::Status;

/// How many messages wait to be taken; while there are so many, nothing more is read.
const MAX_QUEUED: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

/// How long the bus may take to answer.
const BUS_TIMEOUT: Duration = Duration::from_secs(10);

/// The first and the longest pause between two attempts to reach a bus that was lost.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// A connection that is served and has its name.
pub(super) struct Session {
    connection: Connection,
    serving: JoinHandle<Ended>,
    stop: oneshot::Sender<()>,
    releasing: Arc<AtomicBool>,
    older: Arc<OlderNames>,
}

/// What it takes to make a session.
pub(super) struct Link {
    pub(super) config: Config,
    pub(super) executor: Arc<Executor>,
    pub(super) status: Arc<Status>,
}

impl Link {
    /// Connects, serves every object and then takes the name.
    ///
    /// # Errors
    /// As [`super::start`].
    pub(super) async fn open(&self) -> Result<Session, Error> {
        let stream = self.connect().await?;
        let connection = Connection::from(&stream);
        let shared = Shared {
            executor: Arc::clone(&self.executor),
            callers: Callers::new(connection.clone()),
            descriptors: Descriptors::new(),
            max_body_bytes: self.config.max_body_bytes,
            call_json: plan::call_json(),
        };
        let releasing = Arc::<AtomicBool>::default();
        let legacy = self.legacy();
        let older = Arc::new(OlderNames::new(&self.config, &legacy, Arc::clone(&self.status)));
        let names = Names {
            own: self.config.name.clone(),
            releasing: Arc::clone(&releasing),
            legacy,
            older: Arc::clone(&older),
        };
        let dispatcher = Dispatcher::new(shared, connection.clone(), names);
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(dispatcher.run(stream, stopped));
        let session = Session { connection, serving, stop, releasing, older };
        match self.prepare(&session).await {
            Ok(()) => {
                session.older.serving();
                self.executor.metrics().transport_up(Transport::Dbus, true);
                Ok(session)
            }
            Err(error) => {
                session.close().await;
                Err(error)
            }
        }
    }

    /// Keeps a session, and makes a new one when it is lost, until `stop` is sent or dropped.
    pub(super) async fn keep(self, mut session: Session, mut stop: oneshot::Receiver<()>) {
        loop {
            tokio::select! {
                ended = &mut session.serving => self.note_lost(ended.unwrap_or(Ended::Stopped)),
                _ = &mut stop => {
                    self.executor.metrics().transport_up(Transport::Dbus, false);
                    return session.stop(&self.config.name).await;
                }
            }
            session.connection.close().await.ok();
            tokio::select! {
                next = self.reopen() => session = next,
                _ = &mut stop => return,
            }
        }
    }

    fn note_lost(&self, ended: Ended) {
        let problem = match ended {
            Ended::BusLost(error) => format!("the bus was lost: {error}"),
            Ended::NameLost => format!("the name {} was lost to another process", self.config.name),
            Ended::Stopped => "the serving task ended".to_owned(),
        };
        tracing::warn!(message_id = events::BUS_LOST, "D-Bus: {problem}; connecting again");
        self.executor.metrics().transport_up(Transport::Dbus, false);
        // Nobody will say which of them go meanwhile.
        self.executor.clients_gone(Transport::Dbus);
        self.status.not_serving(Transport::Dbus, problem);
    }

    async fn reopen(&self) -> Session {
        let (mut pause, longest) = BACKOFF;
        loop {
            sleep(jittered(pause)).await;
            match self.open().await {
                Ok(session) => {
                    tracing::info!(
                        message_id = events::BUS_LOST,
                        "D-Bus: {} is served again",
                        self.config.name
                    );
                    self.executor.metrics().dbus_reconnected();
                    self.status.reconnected(Transport::Dbus);
                    return session;
                }
                Err(error) => {
                    tracing::debug!("D-Bus: still away: {error}");
                    self.status.not_serving(Transport::Dbus, error.message());
                }
            }
            pause = (pause * 2).min(longest);
        }
    }

    /// The older names of agents that are there.
    fn legacy(&self) -> Vec<LegacyName> {
        let agents = self.executor.registry().snapshot();
        let names = self.config.legacy.iter();
        names.filter(|name| agents.host(name.agent_id()).is_some()).cloned().collect()
    }

    async fn connect(&self) -> Result<MessageStream, Error> {
        let builder = match &self.config.bus {
            Bus::System => Builder::system(),
            Bus::Session => Builder::session(),
            Bus::Address(address) => Builder::address(address.as_str()),
        };
        let connecting =
            builder.max_queued(MAX_QUEUED).method_timeout(BUS_TIMEOUT).build_message_stream();
        let stream = tokio::time::timeout(BUS_TIMEOUT, connecting).await;
        let problem = match stream {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", BUS_TIMEOUT.as_secs()),
        };
        let bus = &self.config.bus;
        Err(Error::new(ErrorKind::Unavailable, format!("{bus} cannot be reached: {problem}")))
    }

    /// Asks to hear of clients that go, and takes the names: the own one last, so that who waits for it
    /// finds the others.
    async fn prepare(&self, session: &Session) -> Result<(), Error> {
        let connection = &session.connection;
        // Only of those that go: the new owner is the empty name.
        let rule = "type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus',\
                    member='NameOwnerChanged',arg2=''";
        ask(connection, "AddMatch", &rule).await.map_err(|error| self.refused(&error))?;
        session.older.take(connection).await;
        let reply = ask(connection, "RequestName", &(self.config.name.as_str(), DO_NOT_QUEUE))
            .await
            .map_err(|error| self.refused(&error))?;
        match reply.body().deserialize::<u32>() {
            Ok(PRIMARY_OWNER | ALREADY_OWNER) => Ok(()),
            Ok(_) => Err(Error::new(
                ErrorKind::AlreadyExists,
                format!(
                    "another process owns {} on {}; stop it first",
                    self.config.name, self.config.bus
                ),
            )),
            Err(error) => Err(self.refused(&error)),
        }
    }

    fn refused(&self, error: &zbus::Error) -> Error {
        let Config { bus, name, .. } = &self.config;
        let denied = matches!(error, zbus::Error::FDO(error)
            if matches!(**error, zbus::fdo::Error::AccessDenied(_)));
        if denied {
            return Error::new(
                ErrorKind::AccessDenied,
                format!(
                    "{bus} does not let this user own {name}: it needs a policy file, \
                     /usr/share/dbus-1/system.d/{name}.conf; install dbus/{name}.conf there and \
                     reload the bus ({error})"
                ),
            );
        }
        Error::new(ErrorKind::Unavailable, format!("{bus} refused {name}: {error}"))
    }
}

impl Session {
    /// Gives the name back, lets replies that are under way leave, and disconnects.
    async fn stop(self, name: &str) {
        self.releasing.store(true, Ordering::Release);
        self.older.release(&self.connection).await;
        if let Err(error) = ask(&self.connection, "ReleaseName", &name).await {
            tracing::debug!("D-Bus: the name was not given back: {error}");
        }
        self.close().await;
    }

    async fn close(self) {
        self.stop.send(()).ok();
        if let Err(error) = self.serving.await {
            tracing::error!("D-Bus: the serving task failed: {error}");
        }
        self.connection.close().await.ok();
    }
}

const DO_NOT_QUEUE: u32 = 4;
pub(super) const PRIMARY_OWNER: u32 = 1;
pub(super) const ALREADY_OWNER: u32 = 4;

/// Calls a method of the bus itself.
pub(super) async fn ask<B>(
    connection: &Connection,
    method: &'static str,
    body: &B,
) -> zbus::Result<zbus::Message>
where
    B: serde::Serialize + zbus::DynamicType,
{
    const BUS: &str = "org.freedesktop.DBus";
    connection.call_method(Some(BUS), "/org/freedesktop/DBus", Some(BUS), method, body).await
}

/// The pause made up to a half longer, so that many who lost the same bus do not return at once.
fn jittered(pause: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish() % 512;
    pause + pause.mul_f64(f64::from(u32::try_from(random).unwrap_or(0)) / 1024.0)
}
