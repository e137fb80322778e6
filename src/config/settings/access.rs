//! The settings of tokens and TLS. Files of TLS are not opened here, and users are not looked up: that
//! is done when the gRPC transport loads them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use toml::value::Datetime;

use super::checker::{self, Checker};
use crate::call::{CertificateName, Scope};
use crate::config::keys::{self, Key, Keys};
use crate::config::tables::{Certificate, Token, TokenFile};
use crate::files;
use crate::transport::grpc::{CertificateRule, ClientCertificates, Rules, TlsRules, TokenRule};

/// What the path of a systemd credential begins with.
const CREDENTIAL: &str = "credential:";

/// What is wrong with a key of TLS that nothing comes of.
const IDLE: &str = "it has no meaning while tls.listen is empty; set tls.listen or remove this key";

/// The most files with lists of revoked certificates.
const MAX_CRL_FILES: usize = 64;

/// The most tokens, and the most rules for certificates.
const MAX_RULES: usize = 4096;

/// What clients may be known by, for the rules of the policy.
pub(super) struct Known {
    /// The names of tokens.
    pub(super) tokens: BTreeSet<String>,
    /// The names in certificates; none while TLS is not served.
    pub(super) certificates: Vec<CertificateName>,
}

impl Known {
    pub(super) fn by(rules: &Rules) -> Self {
        let clients = rules.tls.iter().flat_map(|tls| &tls.clients);
        Self {
            tokens: rules.tokens.iter().map(|token| token.name.clone()).collect(),
            certificates: clients.map(|client| client.name.clone()).collect(),
        }
    }
}

/// The settings, and where TLS is spoken.
pub(super) fn access(c: &mut Checker<'_>, keys: &Keys) -> (Rules, Option<SocketAddr>) {
    let tokens = tokens(c, &keys.grpc);
    let (tls, listen) = tls(c, &keys.tls);
    (Rules { tokens, tls }, listen)
}

fn tokens(c: &mut Checker<'_>, keys: &keys::grpc::Section) -> Vec<TokenRule> {
    let mut names = BTreeSet::new();
    let mut rules = Vec::new();
    let mut add =
        |c: &mut Checker<'_>, token: &Token, problem: &mut dyn FnMut(&mut Checker<'_>, String)| {
            if !names.insert(token.name.clone()) {
                problem(c, format!("token {:?} is there twice", token.name));
            } else if names.len() > MAX_RULES {
                problem(c, format!("there are more than {MAX_RULES} tokens"));
            }
            match token_rule(token) {
                Ok(rule) => rules.push(rule),
                Err(text) => problem(c, format!("token {:?}: {text}", token.name)),
            }
        };
    for token in &keys.token.value {
        add(c, token, &mut |c, text| c.reject(&keys.token, text));
    }
    if let Some(path) = file(c, &keys.token_file) {
        match read_tokens(&path) {
            Ok(found) => {
                for token in &found.token {
                    add(c, token, &mut |c, text| {
                        c.reject(&keys.token_file, format!("{}: {text}", path.display()));
                    });
                }
            }
            Err(text) => c.reject(&keys.token_file, format!("{}: {text}", path.display())),
        }
    }
    rules
}

fn read_tokens(path: &std::path::Path) -> Result<TokenFile, String> {
    let text = files::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    // Without the line of the file, which may hold a secret that does not belong there.
    toml::from_str(&text).map_err(|error| error.message().to_owned())
}

fn token_rule(token: &Token) -> Result<TokenRule, String> {
    check_token_name(&token.name)?;
    let sha256 = digest(&token.sha256)
        .ok_or("sha256 must be the 64 hexadecimal digits that `op-dbusctl token new` prints")?;
    Ok(TokenRule {
        name: token.name.clone(),
        sha256,
        user: user(&token.user)?,
        expires: token.expires.map(time).transpose()?,
        scope: scope(&token.operations, &token.risks)?,
    })
}

fn check_token_name(name: &str) -> Result<(), String> {
    TokenRule::check_name(name).map_err(|problem| format!("its name {problem}"))
}

fn digest(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    let digits = text.as_bytes();
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(digest)
}

fn time(time: Datetime) -> Result<SystemTime, String> {
    let wrong = || {
        format!("expires = {time} must have a date, a time and an offset, as 2027-01-31T12:00:00Z")
    };
    if time.date.is_none() || time.time.is_none() || time.offset.is_none() {
        return Err(wrong());
    }
    let at = time.to_string().parse::<prost_types::Timestamp>().map_err(|_| wrong())?;
    SystemTime::try_from(at).map_err(|_| wrong())
}

fn user(user: &str) -> Result<String, String> {
    match user.is_empty() {
        true => Err("user must be the name or uid of a local user".to_owned()),
        false => Ok(user.to_owned()),
    }
}

fn scope(operations: &[String], risks: &[String]) -> Result<Option<Arc<Scope>>, String> {
    let scope = Scope::new(operations, risks).map_err(|error| error.message().to_owned())?;
    Ok(scope.map(Arc::new))
}

fn tls(c: &mut Checker<'_>, keys: &keys::tls::Section) -> (Option<TlsRules>, Option<SocketAddr>) {
    let listen = c.address(&keys.listen);
    let certificate = file(c, &keys.certificate);
    let key = file(c, &keys.key);
    let client_ca = file(c, &keys.client_ca);
    let client_crls = files(c, &keys.client_crls);
    let choices =
        [("required", ClientCertificates::Required), ("optional", ClientCertificates::Optional)];
    let client_certificates = c.one_of(&keys.client_certificates, choices);
    let allow_tls12 = c.one_of(&keys.min_version, [("1.3", false), ("1.2", true)]);
    let handshake_timeout = c.millis(&keys.handshake_timeout_ms, 100..=60_000);
    let max_handshakes = c.size(&keys.max_handshakes, 4..=65_536, "handshakes");
    let clients = certificates(c, &keys.client);
    if listen.is_none() {
        for key in [&keys.certificate, &keys.key, &keys.client_ca] {
            if !key.value.is_empty() {
                c.reject(key, IDLE);
            }
        }
        if !client_crls.is_empty() {
            c.reject(&keys.client_crls, IDLE);
        }
        return (None, None);
    }
    for key in [&keys.certificate, &keys.key] {
        if key.value.is_empty() {
            c.reject(&keys.listen, format!("TLS needs {}, which is empty", key.name));
        }
    }
    if client_ca.is_none() && client_certificates == ClientCertificates::Required {
        c.reject(&keys.listen, "tls.client_certificates is \"required\", which needs tls.client_ca; set it, or \"optional\" if clients have tokens");
    }
    if client_ca.is_none() && !client_crls.is_empty() {
        c.reject(&keys.client_crls, "without tls.client_ca no client has a certificate");
    }
    if client_ca.is_none() && !clients.is_empty() {
        c.reject(&keys.client, "without tls.client_ca no client has a certificate");
    }
    let rules = certificate.zip(key).map(|(certificate, key)| TlsRules {
        certificate,
        key,
        client_ca,
        client_crls,
        client_certificates,
        clients,
        allow_tls12,
        handshake_timeout,
        max_handshakes,
    });
    (rules, listen)
}

fn certificates(c: &mut Checker<'_>, key: &Key<Vec<Certificate>>) -> Vec<CertificateRule> {
    if key.value.len() > MAX_RULES {
        c.reject(key, format!("there are more than {MAX_RULES} rules"));
    }
    let mut rules = Vec::new();
    for (number, certificate) in key.value.iter().enumerate() {
        match certificate_rule(certificate) {
            Ok(rule) => rules.push(rule),
            Err(text) => c.reject(key, format!("rule {}: {text}", number + 1)),
        }
    }
    rules
}

fn certificate_rule(certificate: &Certificate) -> Result<CertificateRule, String> {
    let name = match (&certificate.uri, &certificate.dns) {
        (Some(uri), None) => {
            CertificateName::uri(uri).map_err(|problem| format!("uri = {problem}"))?
        }
        (None, Some(dns)) => {
            CertificateName::dns(dns).map_err(|problem| format!("dns = {problem}"))?
        }
        (Some(_), Some(_)) | (None, None) => {
            return Err("it must have either uri or dns".to_owned());
        }
    };
    let scope = scope(&certificate.operations, &certificate.risks)?;
    Ok(CertificateRule { name, user: user(&certificate.user)?, scope })
}

/// A file: an absolute path, or `credential:NAME` for one that systemd passes to the service; none if it
/// is empty.
fn file(c: &mut Checker<'_>, key: &Key<String>) -> Option<PathBuf> {
    match place(&key.value) {
        Ok(path) => path,
        Err(problem) => {
            c.reject(key, problem);
            None
        }
    }
}

/// Several of them, none empty.
fn files(c: &mut Checker<'_>, key: &Key<Vec<String>>) -> Vec<PathBuf> {
    if key.value.len() > MAX_CRL_FILES {
        c.reject(key, format!("there are more than {MAX_CRL_FILES} files"));
    }
    let mut paths = Vec::new();
    for text in &key.value {
        match place(text) {
            Ok(Some(path)) => paths.push(path),
            Ok(None) => c.reject(key, "a file has no name"),
            Err(problem) => c.reject(key, problem),
        }
    }
    paths
}

fn place(text: &str) -> Result<Option<PathBuf>, String> {
    let Some(name) = text.strip_prefix(CREDENTIAL) else { return checker::path(text) };
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        return Err(format!("{name:?} is no name of a credential"));
    }
    let folder = std::env::var_os("CREDENTIALS_DIRECTORY")
        .ok_or("systemd passes no credentials to this process; is LoadCredential= in its unit?")?;
    Ok(Some(PathBuf::from(folder).join(name)))
}
