//! By what a client is known to a service that does not see its process, and how it knows the service:
//! a token, a certificate with its key, and the root of the server's certificate.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use http::Uri;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tonic::metadata::{Ascii, MetadataValue};

/// What gRPC's protocol is called in TLS.
pub(super) const HTTP2: &[u8] = b"h2";

/// What a client has beside an address. All of it is for gRPC; on D-Bus the bus says who calls.
#[derive(Clone, Default)]
pub struct Credentials {
    /// As PEM.
    ca: Option<Arc<[u8]>>,
    identity: Option<Identity>,
    token: Option<MetadataValue<Ascii>>,
}

/// A certificate and its key, as PEM.
#[derive(Clone)]
struct Identity {
    certificate: Arc<[u8]>,
    key: Arc<[u8]>,
}

impl Credentials {
    /// With the roots, as PEM, of which one must have signed the server's certificate. No other roots
    /// are known, those of the system included.
    #[must_use]
    pub fn with_ca(mut self, pem: &[u8]) -> Self {
        self.ca = Some(pem.into());
        self
    }

    /// With the client's own certificate and key, as PEM.
    #[must_use]
    pub fn with_certificate(mut self, certificate: &[u8], key: &[u8]) -> Self {
        self.identity = Some(Identity { certificate: certificate.into(), key: key.into() });
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
    ///
    /// # Errors
    /// What is missing or cannot be read; nothing of a key is in it.
    pub(super) fn tls(&self) -> Result<ClientConfig, String> {
        let ca = self.ca.as_deref().ok_or(
            "https needs the root that signed the server's certificate; name its file (--ca, OP_DBUS_CA)",
        )?;
        let mut roots = RootCertStore::empty();
        for root in certificates("the root", ca)? {
            roots.add(root).map_err(|error| format!("the root cannot be used: {error}"))?;
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots);
        let mut config = match &self.identity {
            Some(Identity { certificate, key }) => {
                let chain = certificates("the client's certificate", certificate)?;
                let key = PrivateKeyDer::from_pem_slice(key)
                    .map_err(|_| "the client's key holds no PEM key that can be read")?;
                let config = config.with_client_auth_cert(chain, key);
                config.map_err(|error| format!("the client's certificate: {error}"))?
            }
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols.push(HTTP2.to_vec());
        Ok(config)
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

/// The certificates in a PEM, at least one.
fn certificates(what: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|_| format!("{what} holds a PEM certificate that is broken"))?;
    match found.is_empty() {
        false => Ok(found),
        true => Err(format!("{what} holds no PEM certificate")),
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
