//! The settings of tokens and TLS, as the configuration gives them, and the users that they stand for.
//! Nothing is read from files here.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nix::unistd::User;

use crate::call::{CertificateName, Scope};
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
    /// Lists of certificates that those roots, and what lies below them, have revoked, as PEM. With any,
    /// a certificate counts only if a list of its issuer's is there.
    pub client_crls: Vec<PathBuf>,
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
    pub name: CertificateName,
    /// The local user: a name or a uid.
    pub user: String,
    /// What the client is limited to.
    pub scope: Option<Arc<Scope>>,
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
    fn root_and_strangers_are_nobody_to_stand_for() {
        assert_eq!(uid("user", "1234").unwrap(), 1234);
        for user in ["0", "root", "4294967295", "no-such-user-here", "-1"] {
            assert_eq!(uid("user", user).unwrap_err().fact("field"), Some("user"), "{user}");
        }
    }
}
