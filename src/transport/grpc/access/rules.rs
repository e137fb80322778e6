//! The settings of tokens and TLS, as the configuration gives them, and the users that they stand for.
//! Nothing is read from files here.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nix::unistd::User;

use crate::call::Scope;
use crate::error::Error;
use crate::wire::bearer;

/// The settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// The tokens (`[[grpc.token]]`).
    pub tokens: Vec<TokenRule>,
    /// TLS (`[tls]`); `None`: there is none.
    pub tls: Option<TlsRules>,
}

/// A token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRule {
    /// Its name, which the token itself begins with.
    pub name: String,
    /// The SHA-256 of the token's text.
    pub sha256: [u8; 32],
    /// The local user that whoever has it acts as: a name or a uid.
    pub user: String,
    /// From when on it is no longer taken.
    pub expires: Option<SystemTime>,
    /// What it is limited to.
    pub scope: Option<Arc<Scope>>,
}

impl TokenRule {
    /// Checks the name of a token.
    ///
    /// # Errors
    /// A text if it is none.
    pub fn check_name(name: &str) -> Result<(), &'static str> {
        bearer::check_name(name)
    }
}

/// The settings of TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsRules {
    /// The server's certificate and those between it and its root, as PEM.
    pub certificate: PathBuf,
    /// Its key, as PEM.
    pub key: PathBuf,
    /// The roots of client certificates, as PEM; `None`: clients have none.
    pub client_ca: Option<PathBuf>,
    /// Whether a client must have a certificate.
    pub client_certificates: ClientCertificates,
    /// Which users certificates stand for; the first that fits counts.
    pub clients: Vec<CertificateRule>,
    /// Whether TLS 1.2 is spoken beside 1.3.
    pub allow_tls12: bool,
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
    /// How many handshakes may be under way at once.
    pub max_handshakes: usize,
}

/// Whether a client must have a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificates {
    /// Without one there is no connection.
    Required,
    /// Without one every call needs a token.
    Optional,
}

/// Which user a certificate stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRule {
    /// A name that the certificate bears.
    pub name: Name,
    /// The local user: a name or a uid.
    pub user: String,
    /// What the client is limited to.
    pub scope: Option<Arc<Scope>>,
}

/// A subject alternative name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// A DNS name; the case of letters does not matter.
    Dns(String),
    /// A URI, as a SPIFFE id. With `/*` at the end: whatever lies below.
    Uri(String),
}

impl Name {
    /// True if `name` is this one or lies below it. A wildcard stands for this only in a rule, never in
    /// a certificate.
    pub(super) fn covers(&self, name: &Self) -> bool {
        match (self, name) {
            (Self::Dns(rule), Self::Dns(name)) => rule.eq_ignore_ascii_case(name),
            (Self::Uri(rule), Self::Uri(name)) => match rule.strip_suffix('*') {
                Some(above) => name.len() > above.len() && name.starts_with(above),
                None => rule == name,
            },
            (Self::Dns(_), Self::Uri(_)) | (Self::Uri(_), Self::Dns(_)) => false,
        }
    }

    pub(super) fn text(&self) -> &str {
        match self {
            Self::Dns(text) | Self::Uri(text) => text,
        }
    }
}

/// The uid of a user that a token or certificate stands for.
///
/// # Errors
/// `InvalidArgument` naming `setting`: there is no such user, or it is root.
pub(super) fn uid(setting: &'static str, user: &str) -> Result<u32, Error> {
    let invalid = |problem: String| Error::invalid(setting, problem);
    let uid = match user.parse::<u32>() {
        Ok(uid) => uid,
        Err(_) => match User::from_name(user) {
            Ok(Some(user)) => user.uid.as_raw(),
            Ok(None) => return Err(invalid(format!("there is no user {user:?} on this machine"))),
            Err(error) => {
                return Err(invalid(format!("user {user:?} cannot be looked up: {error}")));
            }
        },
    };
    match uid {
        0 => Err(invalid("root is nobody that a token or certificate may stand for".to_owned())),
        u32::MAX => Err(invalid(format!("{uid} is no uid"))),
        uid => Ok(uid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_covers_a_name_or_what_lies_below() {
        let uri = |text: &str| Name::Uri(text.to_owned());
        let dns = |text: &str| Name::Dns(text.to_owned());
        let exact = uri("spiffe://example.org/chat");
        assert!(exact.covers(&exact));
        assert!(!exact.covers(&uri("spiffe://example.org/chat/x")));
        assert!(!exact.covers(&uri("spiffe://example.org/Chat")));
        let below = uri("spiffe://example.org/ci/*");
        assert!(below.covers(&uri("spiffe://example.org/ci/a/b")));
        for other in
            ["spiffe://example.org/ci/", "spiffe://example.org/ci", "spiffe://example.org/cinema"]
        {
            assert!(!below.covers(&uri(other)), "{other}");
        }
        assert!(!exact.covers(&uri("spiffe://example.org/*")), "a name has no wildcard");
        assert!(dns("Build.example.org").covers(&dns("build.EXAMPLE.org")));
        assert!(!dns("example.org").covers(&dns("a.example.org")));
        assert!(!dns("example.org").covers(&uri("example.org")));
    }

    #[test]
    fn root_and_strangers_are_nobody_to_stand_for() {
        assert_eq!(uid("user", "1234").unwrap(), 1234);
        for user in ["0", "root", "4294967295", "no-such-user-here", "-1"] {
            assert_eq!(uid("user", user).unwrap_err().fact("field"), Some("user"), "{user}");
        }
    }
}
