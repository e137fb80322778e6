//! op-dbus's own service for sessions: requests and responses. What they do is done elsewhere.

use std::sync::Arc;

use super::{Holder, Sessions, Start, connect};
use crate::call::{Context, Transport};
use crate::contract::{Replies, Requests};
use crate::error::{Error, ErrorKind};
use crate::proto::opdbus::v1::{
    ConnectRequest, ConnectResponse, EndSessionRequest, EndSessionResponse, GetSessionRequest,
    GetSessionResponse, KeepAliveRequest, KeepAliveResponse, ListSessionsRequest,
    ListSessionsResponse, Session, SessionsService, StartSessionRequest, StartSessionResponse,
};

/// How many sessions a page of the list has unless its client says otherwise.
const PAGE: u32 = 100;

/// How many a page has at most.
const PAGE_MAX: u32 = 1000;

/// The implementation of `opdbus.v1.SessionsService`.
pub struct Service(Arc<Sessions>);

impl Service {
    /// Serves `sessions`.
    #[must_use]
    pub fn new(sessions: Arc<Sessions>) -> Self {
        Self(sessions)
    }
}

impl SessionsService for Service {
    async fn start_session(
        &self,
        context: &Context,
        request: StartSessionRequest,
    ) -> Result<StartSessionResponse, Error> {
        let holder = match context.transport {
            Transport::Dbus => Holder::Client(Arc::clone(&context.caller.address)),
            Transport::Grpc => Holder::Nothing,
        };
        let start = Start::check(request, &self.0.config.load())?;
        let mut begun = self.0.begin(uid(context)?, context.transport, start, holder).await?;
        let response = begun.response().await?;
        begun.told();
        Ok(response)
    }

    async fn end_session(
        &self,
        context: &Context,
        request: EndSessionRequest,
    ) -> Result<EndSessionResponse, Error> {
        let session = self.0.end(uid(context)?, id(&request.session_id)?)?;
        Ok(EndSessionResponse { session: Some(session) })
    }

    async fn get_session(
        &self,
        context: &Context,
        request: GetSessionRequest,
    ) -> Result<GetSessionResponse, Error> {
        let session = self.0.get(uid(context)?, id(&request.session_id)?)?;
        Ok(GetSessionResponse { session: Some(session) })
    }

    async fn list_sessions(
        &self,
        context: &Context,
        request: ListSessionsRequest,
    ) -> Result<ListSessionsResponse, Error> {
        let count = match request.page_size {
            0 => PAGE,
            size if size <= PAGE_MAX => size,
            size => {
                let problem = format!("must be {PAGE_MAX} at most, not {size}");
                return Err(Error::invalid("page_size", problem));
            }
        };
        let after = match request.page_token.as_str() {
            "" => None,
            token => Some(place(token)?),
        };
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let (sessions, more) = self.0.list(uid(context)?, after, count);
        let next_page_token = sessions.last().filter(|_| more).map(page_token).unwrap_or_default();
        Ok(ListSessionsResponse { sessions, next_page_token })
    }

    async fn keep_alive(
        &self,
        context: &Context,
        request: KeepAliveRequest,
    ) -> Result<KeepAliveResponse, Error> {
        let session = self.0.keep_alive(uid(context)?, id(&request.session_id)?)?;
        Ok(KeepAliveResponse { expires_at: session.expires_at })
    }

    async fn connect(
        &self,
        context: &Context,
        requests: Requests<ConnectRequest>,
        replies: Replies<ConnectResponse>,
    ) -> Result<(), Error> {
        match context.transport {
            Transport::Grpc => connect::run(&self.0, uid(context)?, requests, replies).await,
            Transport::Dbus => Err(Error::new(
                ErrorKind::InvalidArgument,
                "Connect is for gRPC; on D-Bus a connection holds the sessions that it starts",
            )),
        }
    }
}

fn uid(context: &Context) -> Result<u32, Error> {
    context.caller.uid().ok_or_else(|| {
        Error::new(ErrorKind::Unauthenticated, "a session belongs to a user, and nobody is known")
    })
}

fn id(id: &str) -> Result<&str, Error> {
    if id.is_empty() { Err(Error::invalid("session_id", "is missing")) } else { Ok(id) }
}

/// The place behind a session in the list: when it was started, in microseconds, and its id.
fn page_token(session: &Session) -> String {
    let at = session.started_at.unwrap_or_default();
    let micros = at.seconds * 1_000_000 + i64::from(at.nanos) / 1000;
    format!("{micros}.{}", session.id)
}

fn place(token: &str) -> Result<(i64, &str), Error> {
    token
        .split_once('.')
        .and_then(|(micros, id)| Some((micros.parse().ok()?, id)))
        .ok_or_else(|| Error::invalid("page_token", "is none that a page gave"))
}
