//! The stream that holds a session: what its client says, and what it is told. It ends with the
//! session, and the session goes on for its grace when only the stream ends.

use std::sync::Arc;

use futures_util::StreamExt as _;

use super::{Begun, Holder, Sessions, Start};
use crate::call::Transport;
use crate::contract::{Replies, Requests};
use crate::error::{Error, ErrorKind};
use crate::metrics::SessionEnd;
use crate::proto::opdbus::v1::connect_request::Message;
use crate::proto::opdbus::v1::connect_response::Event;
use crate::proto::opdbus::v1::{
    AgentStart, ConnectRequest, ConnectResponse, SessionEnded, StartSessionRequest,
    StartSessionResponse,
};

impl Sessions {
    /// Has the agents ready for the user that are to be, and says how that went.
    async fn warm(&self, uid: u32) -> Result<Vec<AgentStart>, Error> {
        match self.agents.upgrade() {
            Some(agents) => agents.warm(uid).await,
            None => Err(stopping()),
        }
    }
}

impl Begun {
    /// What the client is told, once its agents are ready.
    pub(super) async fn response(&self) -> Result<StartSessionResponse, Error> {
        Ok(StartSessionResponse {
            session: Some(self.session.clone()),
            token: self.token.clone(),
            agents: self.sessions.warm(self.scope.uid).await?,
            resumed: self.resumed,
        })
    }
}

/// Serves one stream to its end.
pub(super) async fn run(
    sessions: &Arc<Sessions>,
    uid: u32,
    mut requests: Requests<ConnectRequest>,
    replies: Replies<ConnectResponse>,
) -> Result<(), Error> {
    let start = Start::check(first(&mut requests).await?, &sessions.config.load())?;
    let mut begun = sessions.begin(uid, Transport::Grpc, start, Holder::Stream).await?;
    // From before the agents are warm, so that no change is missed.
    let agents = sessions.agents.upgrade().ok_or_else(stopping)?;
    let mut changes = agents.changes();
    drop(agents);
    replies.send(event(Event::Started(begun.response().await?))).await?;
    begun.told();
    let Some(mut hold) = begun.hold.take() else {
        return Err(Error::internal("a stream does not hold its session"));
    };
    loop {
        tokio::select! {
            biased;
            reason = hold.ended() => {
                return replies.send(ended(&hold.scope().id, reason)).await;
            }
            message = requests.next() => match message?.map(|request| request.message) {
                // It has said all; the session can be resumed.
                None => return Ok(()),
                Some(None) => return Err(Error::invalid("message", "is missing")),
                Some(Some(Message::Start(_))) => {
                    return Err(Error::invalid("start", "this stream holds a session already"));
                }
                Some(Some(Message::Ping(ping))) => {
                    sessions.keep_alive(uid, &hold.scope().id)?;
                    replies.send(event(Event::Pong(ping))).await?;
                }
                Some(Some(Message::End(_))) => {
                    // Told by the next turn, as everybody's end.
                    sessions.end(uid, &hold.scope().id)?;
                }
            },
            Some(change) = changes.next() => replies.send(event(Event::Agent(change))).await?,
        }
    }
}

async fn first(requests: &mut Requests<ConnectRequest>) -> Result<StartSessionRequest, Error> {
    match requests.next().await?.and_then(|request| request.message) {
        Some(Message::Start(start)) => Ok(start),
        Some(Message::Ping(_) | Message::End(_)) | None => {
            Err(Error::invalid("start", "must be the first message of the stream"))
        }
    }
}

fn event(event: Event) -> ConnectResponse {
    ConnectResponse { event: Some(event) }
}

fn ended(id: &str, reason: SessionEnd) -> ConnectResponse {
    event(Event::Ended(SessionEnded {
        session_id: id.to_owned(),
        reason: reason.name().to_owned(),
    }))
}

fn stopping() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the service is stopping; the session can be resumed after it",
    )
}
