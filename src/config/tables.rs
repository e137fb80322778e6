//! The shapes of the keys that are lists of tables: tokens, the rules for certificates and those of the
//! rollout. Whether their values make sense is checked in `settings`.

use serde::Deserialize;
use toml::value::Datetime;
use toml::{Spanned, Table, Value};

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

/// `[[migration.rule]]`. Each value with its place, so that a wrong one is found.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MigrationRule {
    pub(super) name: Spanned<String>,
    pub(super) executables: Option<Spanned<Vec<String>>>,
    pub(super) units: Option<Spanned<Vec<String>>>,
    pub(super) users: Option<Spanned<Vec<String>>>,
    pub(super) tokens: Option<Spanned<Vec<String>>>,
    pub(super) names: Option<Spanned<Vec<String>>>,
    pub(super) agents: Option<Spanned<Vec<String>>>,
    pub(super) operations: Option<Spanned<Vec<String>>>,
    pub(super) stage: Spanned<String>,
    pub(super) percent: Option<Spanned<f64>>,
    pub(super) steps: Option<Spanned<Vec<f64>>>,
    pub(super) error_margin: Option<Spanned<f64>>,
    pub(super) latency_margin: Option<Spanned<f64>>,
    pub(super) min_calls: Option<Spanned<i64>>,
}

/// The keys of [`MigrationRule`].
pub(super) const MIGRATION_RULE_KEYS: &[&str] = &[
    "name",
    "executables",
    "units",
    "users",
    "tokens",
    "names",
    "agents",
    "operations",
    "stage",
    "percent",
    "steps",
    "error_margin",
    "latency_margin",
    "min_calls",
];

impl From<MigrationRule> for Value {
    fn from(rule: MigrationRule) -> Self {
        let mut table = Table::new();
        let mut insert = |key: &str, value: Option<Self>| {
            if let Some(value) = value {
                table.insert(key.to_owned(), value);
            }
        };
        insert("name", Some(rule.name.into_inner().into()));
        for (key, list) in [
            ("executables", rule.executables),
            ("units", rule.units),
            ("users", rule.users),
            ("tokens", rule.tokens),
            ("names", rule.names),
            ("agents", rule.agents),
            ("operations", rule.operations),
        ] {
            insert(key, list.map(|list| list.into_inner().into()));
        }
        insert("stage", Some(rule.stage.into_inner().into()));
        insert("percent", rule.percent.map(|value| value.into_inner().into()));
        insert("steps", rule.steps.map(|value| value.into_inner().into()));
        insert("error_margin", rule.error_margin.map(|value| value.into_inner().into()));
        insert("latency_margin", rule.latency_margin.map(|value| value.into_inner().into()));
        insert("min_calls", rule.min_calls.map(|value| value.into_inner().into()));
        Self::Table(table)
    }
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
