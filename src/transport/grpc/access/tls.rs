//! TLS as it is served: the certificate and key, whom clients' certificates are checked against, and
//! which users they stand for. Handshakes are bounded in `handshake`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::CertificateRevocationListDer;
use tokio_rustls::rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, VerifierBuilderError,
    WebPkiClientVerifier,
};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use super::certificate::{Certificate, check_revocations};
use super::file;
use super::rules::{self, CertificateRule, ClientCertificates, TlsRules};
use crate::call::{CertificateName, Scope};
use crate::error::Error;

/// What HTTP/2 is called in the handshake.
const HTTP2: &[u8] = b"h2";

/// TLS, ready to be served.
#[derive(Debug)]
pub(in crate::transport::grpc) struct Tls {
    pub(in crate::transport::grpc) config: Arc<ServerConfig>,
    pub(in crate::transport::grpc) handshake_timeout: Duration,
    pub(in crate::transport::grpc) max_handshakes: usize,
    clients: Vec<Client>,
}

/// Whom a certificate stands for.
#[derive(Debug)]
struct Client {
    name: CertificateName,
    uid: u32,
    scope: Option<Arc<Scope>>,
}

/// The user behind a certificate, and the name that he was found by.
pub(in crate::transport::grpc) struct Found<'a> {
    pub(in crate::transport::grpc) name: &'a str,
    pub(in crate::transport::grpc) uid: u32,
    pub(in crate::transport::grpc) scope: Option<Arc<Scope>>,
}

impl Tls {
    pub(super) fn new(rules: &TlsRules) -> Result<Self, Error> {
        let client = |rule: &CertificateRule| {
            Ok(Client {
                name: rule.name.clone(),
                uid: rules::uid("tls.client.user", &rule.user)?,
                scope: rule.scope.clone(),
            })
        };
        Ok(Self {
            config: Arc::new(config(rules)?),
            handshake_timeout: rules.handshake_timeout,
            max_handshakes: rules.max_handshakes,
            clients: rules.clients.iter().map(client).collect::<Result<_, Error>>()?,
        })
    }

    /// The user that a certificate stands for: by the first rule that covers one of its names.
    pub(in crate::transport::grpc) fn find<'a>(
        &self,
        certificate: &'a Certificate,
    ) -> Option<Found<'a>> {
        self.clients.iter().find_map(|client| {
            let name = certificate.names().iter().find(|name| client.name.covers(name))?;
            Some(Found { name: name.text(), uid: client.uid, scope: client.scope.clone() })
        })
    }
}

fn config(rules: &TlsRules) -> Result<ServerConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let own = own_certificate(rules, &provider)?;
    let versions: &[_] = if rules.allow_tls12 { &[&TLS13, &TLS12] } else { &[&TLS13] };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(|error| Error::internal(format!("TLS cannot be set up: {error}")))?;
    let builder = match &rules.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let roots = Arc::new(roots(path)?);
            // A list that is out of date may lack what was revoked since.
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider)
                .with_crls(revocations(&rules.client_crls)?)
                .enforce_revocation_expiration();
            let verifier = match rules.client_certificates {
                ClientCertificates::Required => verifier,
                ClientCertificates::Optional => verifier.allow_unauthenticated(),
            };
            let verifier = verifier.build();
            builder.with_client_cert_verifier(verifier.map_err(|error| {
                if let VerifierBuilderError::InvalidCrl(error) = error {
                    Error::invalid("tls.client_crls", format!("a list cannot be used: {error:?}"))
                } else {
                    file::wrong("tls.client_ca", path, error)
                }
            })?)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(Own(Arc::new(own))));
    config.alpn_protocols = vec![HTTP2.to_vec()];
    // A session that is resumed would not have its certificate checked again.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// The server's certificate, which must hold now and belong to the key.
fn own_certificate(rules: &TlsRules, provider: &CryptoProvider) -> Result<CertifiedKey, Error> {
    let wrong = |problem| file::wrong("tls.certificate", &rules.certificate, problem);
    let chain = file::certificates("tls.certificate", &rules.certificate)?;
    let leaf = Certificate::read(&chain[0]).map_err(wrong)?;
    leaf.holds().map_err(|problem| wrong(problem.to_owned()))?;
    let key = file::key("tls.key", &rules.key)?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| {
        let problem = format!("does not belong to tls.certificate, or is none: {error}");
        file::wrong("tls.key", &rules.key, problem)
    })
}

fn roots(path: &Path) -> Result<RootCertStore, Error> {
    let wrong = |problem: String| file::wrong("tls.client_ca", path, problem);
    let mut roots = RootCertStore::empty();
    for certificate in file::certificates("tls.client_ca", path)? {
        Certificate::read(&certificate).map_err(wrong)?;
        roots.add(certificate).map_err(|error| wrong(format!("holds no root: {error}")))?;
    }
    Ok(roots)
}

fn revocations(paths: &[PathBuf]) -> Result<Vec<CertificateRevocationListDer<'static>>, Error> {
    const SETTING: &str = "tls.client_crls";
    let mut lists = Vec::new();
    for path in paths {
        for list in file::revocations(SETTING, path)? {
            check_revocations(&list).map_err(|problem| file::wrong(SETTING, path, problem))?;
            lists.push(list);
        }
    }
    Ok(lists)
}

/// The one certificate, whatever name the client asks for.
#[derive(Debug)]
struct Own(Arc<CertifiedKey>);

impl ResolvesServerCert for Own {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}
