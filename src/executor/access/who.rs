//! Whom a rule is about, and whether a caller is among them, as far as it is known of him. What is not
//! known is said to be missing and not looked up here.

use std::borrow::Cow;
use std::fmt;

use crate::call::{Attested, Caller, CertificateName, LoginSession};
use crate::proto::opdbus::v1 as proto;

/// Whom a rule is about: those who are named by any of the first four lists, or everybody where these
/// are empty; and of them those in such a login session, where these are named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Who {
    /// The users.
    pub users: Vec<Named>,
    /// The groups, for their members.
    pub groups: Vec<Named>,
    /// The names of the tokens that callers are known by.
    pub tokens: Vec<String>,
    /// The names in the certificates that callers are known by.
    pub certificates: Vec<CertificateName>,
    /// The login sessions of callers; empty: any.
    pub login_sessions: Vec<LoginSession>,
}

/// A user or group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// How the rule calls it.
    pub name: String,
    /// Its id.
    pub id: u32,
}

/// A caller as rules see him.
#[derive(Clone, Debug)]
pub(in crate::executor) struct Subject<'a> {
    pub(super) caller: &'a Caller,
    pub(in crate::executor) uid: u32,
    /// `None`: nobody has asked for them yet.
    pub(super) groups: Option<Cow<'a, [u32]>>,
    /// `None`: nobody has asked for it yet.
    pub(super) session: Option<LoginSession>,
    /// What it is found to be, if that is not looked up.
    pub(super) supposed: Option<LoginSession>,
}

/// What must be known of a caller before it can be told whether he is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    Groups,
    Session,
}

impl<'a> Subject<'a> {
    /// The caller with what is known at once; `None` if nobody knows who he is.
    pub(in crate::executor) fn of(caller: &'a Caller) -> Option<Self> {
        let session = match (caller.attested.is_local(), &caller.process) {
            (true, Some(process)) => process.known_login(),
            (true, None) | (false, _) => Some(LoginSession::Unknown),
        };
        let groups = caller.groups.as_deref().map(Cow::Borrowed);
        Some(Self { session, groups, ..Self::unasked(caller)? })
    }

    /// The caller of whom everything that rules want to know is to be asked for; what has been asked
    /// stands in him afterwards.
    pub(super) fn unasked(caller: &'a Caller) -> Option<Self> {
        Some(Self { caller, uid: caller.uid()?, groups: None, session: None, supposed: None })
    }

    /// The same as if he called from this login session.
    pub(super) fn supposing(self, supposed: Option<LoginSession>) -> Self {
        Self { supposed, ..self }
    }
}

impl From<LoginSession> for proto::LoginSession {
    fn from(session: LoginSession) -> Self {
        match session {
            LoginSession::Graphical => Self::Graphical,
            LoginSession::Terminal => Self::Terminal,
            LoginSession::Remote => Self::Remote,
            LoginSession::UserManager => Self::UserManager,
            LoginSession::Background => Self::Background,
            LoginSession::Unknown => Self::Unknown,
        }
    }
}

impl Who {
    /// Every user of this machine.
    #[must_use]
    pub fn everybody() -> Self {
        Self::default()
    }

    /// True if there is nobody who is not meant.
    #[must_use]
    pub fn is_everybody(&self) -> bool {
        self.names_nobody() && self.login_sessions.is_empty()
    }

    /// True if the caller is meant.
    ///
    /// # Errors
    /// What cannot be told without more about him.
    pub(super) fn covers(&self, subject: &Subject<'_>) -> Result<bool, Missing> {
        if !self.names_nobody() && !self.names(subject)? {
            return Ok(false);
        }
        match subject.session {
            _ if self.login_sessions.is_empty() => Ok(true),
            None => Err(Missing::Session),
            Some(session) => Ok(self.login_sessions.contains(&session)),
        }
    }

    fn names_nobody(&self) -> bool {
        let Self { users, groups, tokens, certificates, login_sessions: _ } = self;
        users.is_empty() && groups.is_empty() && tokens.is_empty() && certificates.is_empty()
    }

    fn names(&self, subject: &Subject<'_>) -> Result<bool, Missing> {
        let known = match &subject.caller.attested {
            Attested::Token(name) => self.tokens.iter().any(|token| **token == **name),
            Attested::Certificate(name) => {
                self.certificates.iter().any(|certificate| certificate.covers_text(name))
            }
            Attested::Kernel | Attested::Bus | Attested::Service | Attested::Nobody => false,
        };
        if known || self.users.iter().any(|user| user.id == subject.uid) {
            return Ok(true);
        }
        match &subject.groups {
            _ if self.groups.is_empty() => Ok(false),
            None => Err(Missing::Groups),
            Some(groups) => Ok(self.groups.iter().any(|group| groups.contains(&group.id))),
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = |kind, Named { name, id }: &Named| format!("{kind} {name} ({id})");
        let mut names: Vec<String> = self.users.iter().map(|user| named("user", user)).collect();
        names.extend(self.groups.iter().map(|group| named("group", group)));
        names.extend(self.tokens.iter().map(|token| format!("token {token}")));
        names.extend(self.certificates.iter().map(|name| format!("certificate {name}")));
        match names.is_empty() {
            true => f.write_str("everybody")?,
            false => f.write_str(&names.join(" or "))?,
        }
        if !self.login_sessions.is_empty() {
            let sessions = self.login_sessions.iter().map(|session| session.name());
            let sessions: Vec<&str> = sessions.collect();
            write!(f, " in login session {}", sessions.join(" or "))?;
        }
        Ok(())
    }
}
