//! By what a client is known to a service that does not see its process, and how it knows the service:
//! a token, a certificate with its key, and the root of the server's certificate.

use std::fmt;
use std::net::IpAddr;

use http::Uri;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

/// What a client has beside an address. All of it is for gRPC; on D-Bus the bus says who calls.
#[derive(Clone, Default)]
pub struct Credentials {
    ca: Option<Certificate>,
    identity: Option<Identity>,
    token: Option<MetadataValue<Ascii>>,
}

impl Credentials {
    /// With the roots, as PEM, of which one must have signed the server's certificate. No other roots
    /// are known, those of the system included.
    #[must_use]
    pub fn with_ca(mut self, pem: &[u8]) -> Self {
        self.ca = Some(Certificate::from_pem(pem));
        self
    }

    /// With the client's own certificate and key, as PEM.
    #[must_use]
    pub fn with_certificate(mut self, certificate: &[u8], key: &[u8]) -> Self {
        self.identity = Some(Identity::from_pem(certificate, key));
        self
    }

    /// With a token, which every call then bears.
    ///
    /// # Errors
    /// A text if it cannot be one. Nothing of the token is in it.
    pub fn with_token(mut self, token: &str) -> Result<Self, String> {
        let bearer = MetadataValue::try_from(format!("Bearer {}", token.trim()));
        let mut bearer = bearer.map_err(|_| "it holds no token".to_owned())?;
        bearer.set_sensitive(true);
        self.token = Some(bearer);
        Ok(self)
    }

    /// What TLS needs.
    pub(super) fn tls(&self) -> Result<ClientTlsConfig, String> {
        let ca = self.ca.clone().ok_or(
            "https needs the root that signed the server's certificate; name its file (--ca, OP_DBUS_CA)",
        )?;
        let tls = ClientTlsConfig::new().ca_certificate(ca);
        Ok(match &self.identity {
            Some(identity) => tls.identity(identity.clone()),
            None => tls,
        })
    }

    /// What every call bears on a way that nobody listens to: TLS or this machine's own.
    pub(super) fn token(&self) -> Option<MetadataValue<Ascii>> {
        self.token.clone()
    }

    /// The same for an address without TLS.
    pub(super) fn token_in_the_open(
        &self,
        uri: &Uri,
    ) -> Result<Option<MetadataValue<Ascii>>, String> {
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let here = host == "localhost" || host.parse().is_ok_and(|host: IpAddr| host.is_loopback());
        match self.token.is_none() || here {
            true => Ok(self.token()),
            false => {
                Err("a token is not sent to another machine without TLS; use https".to_owned())
            }
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("ca", &self.ca.is_some())
            .field("certificate", &self.identity.is_some())
            .field("token", &self.token.is_some())
            .finish()
    }
}
