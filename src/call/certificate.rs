//! A name in a client certificate, as certificates bear it and as rules write it. Whose it is, is not
//! known here.

use std::fmt;

/// A subject alternative name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateName {
    /// A DNS name; the case of letters does not matter.
    Dns(String),
    /// A URI, as a SPIFFE id. With `/*` at the end: whatever lies below.
    Uri(String),
}

impl CertificateName {
    /// A URI as a rule writes it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn uri(text: &str) -> Result<Self, String> {
        let above = text.strip_suffix("/*").unwrap_or(text);
        match above.contains("://") && !above.contains('*') {
            true => Ok(Self::Uri(text.to_owned())),
            false => Err(format!(
                "{text:?} must be a URI, as \"spiffe://example.org/chat\", at most with /* at its end"
            )),
        }
    }

    /// A DNS name as a rule writes it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn dns(text: &str) -> Result<Self, String> {
        match !text.is_empty() && !text.contains(['*', '/', ':']) {
            true => Ok(Self::Dns(text.to_owned())),
            false => Err(format!("{text:?} must be one name, without *")),
        }
    }

    /// Either, told by the `://` of a URI.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn either(text: &str) -> Result<Self, String> {
        if text.contains("://") { Self::uri(text) } else { Self::dns(text) }
    }

    /// True if `name` is this one or lies below it. A wildcard stands for this only in a rule, never in
    /// a certificate.
    #[must_use]
    pub fn covers(&self, name: &Self) -> bool {
        match (self, name) {
            (Self::Dns(rule), Self::Dns(name)) => rule.eq_ignore_ascii_case(name),
            (Self::Uri(rule), Self::Uri(name)) => is_below(rule, name),
            (Self::Dns(_), Self::Uri(_)) | (Self::Uri(_), Self::Dns(_)) => false,
        }
    }

    /// The same for the text of a name that some rule has covered, of which no DNS name looks like a URI.
    #[must_use]
    pub fn covers_text(&self, name: &str) -> bool {
        match self {
            Self::Dns(rule) => rule.eq_ignore_ascii_case(name),
            Self::Uri(rule) => is_below(rule, name),
        }
    }

    /// The name without its kind.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Dns(text) | Self::Uri(text) => text,
        }
    }
}

impl fmt::Display for CertificateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

fn is_below(rule: &str, name: &str) -> bool {
    match rule.strip_suffix('*') {
        Some(above) => name.len() > above.len() && name.starts_with(above),
        None => rule == name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_covers_a_name_or_what_lies_below() {
        let uri = |text: &str| CertificateName::Uri(text.to_owned());
        let dns = |text: &str| CertificateName::Dns(text.to_owned());
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
            assert!(!below.covers_text(other), "{other}");
        }
        assert!(!exact.covers(&uri("spiffe://example.org/*")), "a name has no wildcard");
        assert!(dns("Build.example.org").covers(&dns("build.EXAMPLE.org")));
        assert!(dns("Build.example.org").covers_text("build.EXAMPLE.org"));
        assert!(!dns("example.org").covers(&dns("a.example.org")));
        assert!(!dns("example.org").covers(&uri("example.org")));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for good in ["spiffe://example.org/chat", "spiffe://example.org/*", "build.example.org"] {
            assert_eq!(CertificateName::either(good).unwrap().text(), good);
        }
        for wrong in ["", "*.example.org", "spiffe://example.org/*/x", "spiffe://*", "a/b"] {
            assert!(CertificateName::either(wrong).is_err(), "{wrong}");
        }
        assert!(CertificateName::dns("spiffe://example.org/chat").is_err());
    }
}
