//! The client of a connection, and who makes each of its requests: whom the connection is known by, or
//! the token that the request bears. A request with a token is the token's and nobody else's: it has
//! none of the rights of the connection. What a caller may do is not decided here.

use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderMap;
use http::header::AUTHORIZATION;
use tokio::sync::watch;

use super::access::{Access, Certificate, Token};
use super::value::Outgoing;
use crate::call::{Attested, Caller, Identity};
use crate::error::{Error, ErrorKind};

/// The client of a connection.
pub(super) struct Client {
    /// Who is at the other end, as far as the connection tells.
    pub(super) caller: Arc<Caller>,
    /// What the client has not read yet.
    pub(super) outgoing: Outgoing,
    /// How requests must be known, if the connection does not tell.
    unknown: &'static str,
    remote: bool,
    certificate: Option<Certificate>,
    access: watch::Receiver<Arc<Access>>,
    /// The last token, and who that makes the caller; most clients have one.
    by_token: Mutex<Option<(Arc<Token>, Arc<Caller>)>>,
}

impl Client {
    /// A client whom the kernel names, or fails to.
    pub(super) fn local(caller: Arc<Caller>, access: watch::Receiver<Arc<Access>>) -> Self {
        let unknown = "the system does not say which user is calling; send a token as \
                       \"authorization: Bearer …\"";
        Self { remote: false, ..Self::new(caller, unknown, None, access) }
    }

    /// A client over TLS at `address`, with the certificate that was verified, if it has one.
    pub(super) fn remote(
        address: String,
        certificate: Option<Certificate>,
        access: watch::Receiver<Arc<Access>>,
    ) -> Self {
        let caller = match &certificate {
            Some(certificate) => by_certificate(certificate, address, &access.borrow()),
            None => Caller::new(Identity::Unknown, Attested::Nobody, address),
        };
        let unknown = match &certificate {
            Some(_) => {
                "the client's certificate bears no name that [[tls.client]] gives to a user, and \
                 there is no token"
            }
            None => "the client has no certificate; send a token as \"authorization: Bearer …\"",
        };
        Self::new(Arc::new(caller), unknown, certificate, access)
    }

    fn new(
        caller: Arc<Caller>,
        unknown: &'static str,
        certificate: Option<Certificate>,
        access: watch::Receiver<Arc<Access>>,
    ) -> Self {
        let outgoing = Outgoing::default();
        let by_token = Mutex::default();
        Self { caller, outgoing, unknown, remote: true, certificate, access, by_token }
    }

    /// Who makes a request with these headers.
    ///
    /// # Errors
    /// `Unauthenticated` if nobody vouches for him, the certificate has expired since the connection was
    /// made, or there is a token that is not valid.
    pub(super) fn identify(&self, headers: &HeaderMap) -> Result<Arc<Caller>, Error> {
        let refuse = |problem: &str| Err(Error::new(ErrorKind::Unauthenticated, problem));
        let mut values = headers.get_all(AUTHORIZATION).iter();
        match (values.next(), values.next()) {
            (Some(value), None) => return self.by_token(value.as_bytes()),
            (Some(_), Some(_)) => return refuse("authorization must come once"),
            (None, _) => {}
        }
        if self.caller.identity == Identity::Unknown {
            return refuse(self.unknown);
        }
        match self.certificate.as_ref().map_or(Ok(()), Certificate::holds) {
            Ok(()) => Ok(Arc::clone(&self.caller)),
            Err(problem) => refuse(&format!("the client's certificate {problem}")),
        }
    }

    /// True if it came over TLS, most likely from another machine.
    pub(super) const fn is_remote(&self) -> bool {
        self.remote
    }

    /// Resolves when a client over TLS was known by what the configuration no longer says; never for
    /// others, whose tokens are looked up with each request.
    pub(super) async fn outdated(&self) {
        let mut access = self.access.clone();
        // Without a sender the transport is ending, which is known by other means.
        if !self.remote || access.changed().await.is_err() {
            std::future::pending().await
        }
    }

    fn by_token(&self, value: &[u8]) -> Result<Arc<Caller>, Error> {
        let access = self.access.borrow();
        let token = access.tokens.find(value)?;
        // Replaced by one operation, so a panic elsewhere leaves nothing half-done.
        let mut known = self.by_token.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((last, caller)) = &*known
            && Arc::ptr_eq(last, token)
        {
            return Ok(Arc::clone(caller));
        }
        let identity = Identity::User { uid: token.uid, gid: None };
        let attested = Attested::Token(Arc::clone(&token.name));
        let caller = Arc::new(Caller {
            scope: token.scope.clone(),
            pid: self.caller.pid,
            process: self.caller.process.clone(),
            ..Caller::new(identity, attested, Arc::clone(&self.caller.address))
        });
        *known = Some((Arc::clone(token), Arc::clone(&caller)));
        Ok(caller)
    }
}

fn by_certificate(certificate: &Certificate, address: String, access: &Access) -> Caller {
    let found = access.tls.as_ref().and_then(|tls| tls.find(certificate));
    match found {
        Some(found) => Caller {
            scope: found.scope,
            ..Caller::new(
                Identity::User { uid: found.uid, gid: None },
                Attested::Certificate(found.name.into()),
                address,
            )
        },
        None => Caller::new(Identity::Unknown, Attested::Nobody, address),
    }
}
