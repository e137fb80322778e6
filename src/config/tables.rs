//! The shapes of the keys that are lists of tables: tokens and the rules for certificates. Whether
//! their values make sense is checked in `settings`.

use serde::Deserialize;
use toml::value::Datetime;
use toml::{Table, Value};

/// `[[grpc.token]]`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Token {
    pub(super) name: String,
    pub(super) sha256: String,
    pub(super) user: String,
    pub(super) expires: Option<Datetime>,
    #[serde(default)]
    pub(super) operations: Vec<String>,
    #[serde(default)]
    pub(super) risks: Vec<String>,
}

/// `[[tls.client]]`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Certificate {
    pub(super) uri: Option<String>,
    pub(super) dns: Option<String>,
    pub(super) user: String,
    #[serde(default)]
    pub(super) operations: Vec<String>,
    #[serde(default)]
    pub(super) risks: Vec<String>,
}

/// A file of tokens.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TokenFile {
    #[serde(default)]
    pub(super) token: Vec<Token>,
}

/// For people, who have no use for the digest.
impl From<Token> for Value {
    fn from(token: Token) -> Self {
        let mut table = Table::new();
        table.insert("name".to_owned(), token.name.into());
        table.insert("user".to_owned(), token.user.into());
        if let Some(expires) = token.expires {
            table.insert("expires".to_owned(), expires.into());
        }
        limits(&mut table, token.operations, token.risks);
        Self::Table(table)
    }
}

impl From<Certificate> for Value {
    fn from(certificate: Certificate) -> Self {
        let mut table = Table::new();
        for (key, name) in [("uri", certificate.uri), ("dns", certificate.dns)] {
            if let Some(name) = name {
                table.insert(key.to_owned(), name.into());
            }
        }
        table.insert("user".to_owned(), certificate.user.into());
        limits(&mut table, certificate.operations, certificate.risks);
        Self::Table(table)
    }
}

fn limits(table: &mut Table, operations: Vec<String>, risks: Vec<String>) {
    for (key, list) in [("operations", operations), ("risks", risks)] {
        if !list.is_empty() {
            table.insert(key.to_owned(), list.into());
        }
    }
}
