//! Bearer tokens: whom the one in a request stands for. How a token looks is in `wire`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use subtle::ConstantTimeEq as _;

use super::rules::{self, TokenRule};
use crate::call::Scope;
use crate::error::{Error, ErrorKind};
use crate::wire::bearer;

/// The longest token that is looked at, in bytes.
const MAX_TOKEN_BYTES: usize = 256;

/// A token that clients may use.
#[derive(Debug)]
pub(in crate::transport::grpc) struct Token {
    pub(in crate::transport::grpc) name: Arc<str>,
    pub(in crate::transport::grpc) uid: u32,
    pub(in crate::transport::grpc) scope: Option<Arc<Scope>>,
    sha256: [u8; 32],
    expires: Option<SystemTime>,
}

/// All of them.
#[derive(Debug, Default)]
pub(in crate::transport::grpc) struct Tokens(HashMap<Arc<str>, Arc<Token>>);

impl Tokens {
    pub(super) fn new(rules: &[TokenRule]) -> Result<Self, Error> {
        let token = |rule: &TokenRule| {
            let name = Arc::from(rule.name.as_str());
            let token = Token {
                name: Arc::clone(&name),
                uid: rules::uid("grpc.token.user", &rule.user)?,
                scope: rule.scope.clone(),
                sha256: rule.sha256,
                expires: rule.expires,
            };
            Ok((name, Arc::new(token)))
        };
        rules.iter().map(token).collect::<Result<_, _>>().map(Self)
    }

    /// The token that the value of `authorization` bears.
    ///
    /// # Errors
    /// `Unauthenticated` if it is none of them or has expired. Nothing of the value is in the error.
    pub(in crate::transport::grpc) fn find(&self, value: &[u8]) -> Result<&Arc<Token>, Error> {
        let refuse = |problem: &str| Err(Error::new(ErrorKind::Unauthenticated, problem));
        let Some(text) = borne(value) else {
            return refuse("authorization is not \"Bearer\" and a token of op-dbus");
        };
        let known = bearer::name(text).and_then(|name| self.0.get(name));
        // Compared in any case, so that the time does not tell which names there are.
        let right = known.map_or(&[0; 32], |token| &token.sha256).ct_eq(&bearer::sha256(text));
        match known {
            Some(token) if bool::from(right) => match token.expires {
                Some(expires) if expires <= SystemTime::now() => {
                    refuse(&format!("token {} has expired", token.name))
                }
                Some(_) | None => Ok(token),
            },
            Some(_) | None => refuse("the token is not one that this service knows"),
        }
    }
}

/// The token in the value of `authorization`.
fn borne(value: &[u8]) -> Option<&str> {
    let value = std::str::from_utf8(value).ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    let fits = scheme.eq_ignore_ascii_case("bearer") && token.len() <= MAX_TOKEN_BYTES;
    fits.then_some(token)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::wire::NewToken;

    fn rule(name: &str, new: &NewToken, expires: Option<SystemTime>) -> TokenRule {
        let sha256 = bearer::sha256(&new.text);
        TokenRule { name: name.to_owned(), sha256, user: "7".to_owned(), expires, scope: None }
    }

    #[test]
    fn a_token_is_known_by_its_text_alone_until_it_expires() {
        let (one, other) = (NewToken::make("one").unwrap(), NewToken::make("one").unwrap());
        assert_ne!(one.text, other.text);
        let soon = SystemTime::now() + Duration::from_secs(3600);
        let old = NewToken::make("old").unwrap();
        let past = SystemTime::now() - Duration::from_secs(1);
        let tokens =
            Tokens::new(&[rule("one", &one, Some(soon)), rule("old", &old, Some(past))]).unwrap();
        let find = |text: String| tokens.find(text.as_bytes());
        assert_eq!(&*find(format!("Bearer {}", one.text)).unwrap().name, "one");
        assert_eq!(&*find(format!("bearer  {}", one.text)).unwrap().name, "one");
        let expired = find(format!("Bearer {}", old.text)).unwrap_err();
        assert_eq!(expired.message(), "token old has expired");
        let wrong = [
            other.text.clone(),
            one.text.replace("one", "two"),
            one.text[..one.text.len() - 1].to_owned(),
            format!("{}x", one.text),
            one.sha256.clone(),
            "opdbus_one_".to_owned(),
            String::new(),
        ];
        for text in wrong {
            let error = find(format!("Bearer {text}")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unauthenticated);
            assert!(text.is_empty() || !error.message().contains(&text), "{error}");
        }
        for value in [one.text.clone(), format!("Basic {}", one.text), "Bearer".to_owned()] {
            assert_eq!(find(value).unwrap_err().kind(), ErrorKind::Unauthenticated);
        }
        assert!(tokens.find(&[0xff; 300]).is_err());
    }
}
