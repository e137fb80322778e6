//! Who a client is that neither the kernel nor a socket vouches for: bearer tokens, TLS and client
//! certificates, loaded as a whole and replaced as a whole. What a caller may do is not decided here.

mod certificate;
mod file;
mod handshake;
mod rules;
mod tls;
mod token;

use std::sync::Arc;

use crate::error::Error;

pub(super) use certificate::Certificate;
pub(super) use handshake::{Handshakes, shake};
pub use rules::{CertificateRule, ClientCertificates, Rules, TlsRules, TokenRule};
pub(super) use tls::Tls;
pub(super) use token::{Token, Tokens};

/// Everything that is needed to know such clients, read and checked.
#[derive(Debug, Default)]
pub struct Access {
    pub(super) tokens: Tokens,
    pub(super) tls: Option<Arc<Tls>>,
}

impl Access {
    /// Reads the files and looks up the users that `rules` name. It may wait for disks and for a
    /// directory service, so it is not for the runtime's thread.
    ///
    /// # Errors
    /// `InvalidArgument` naming the setting: a file that cannot be read or is not what it should be, a
    /// certificate that has expired or has another key, a user that there is not.
    pub fn load(rules: &Rules) -> Result<Self, Error> {
        Ok(Self {
            tokens: Tokens::new(&rules.tokens)?,
            tls: rules.tls.as_ref().map(Tls::new).transpose()?.map(Arc::new),
        })
    }
}
