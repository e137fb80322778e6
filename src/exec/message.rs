//! What the front says to the exec service and what that answers: one message each way, of a form so
//! narrow that nothing but a user and the name of a profile can be said. Sockets and processes are not
//! known here.

use crate::error::{Error, ErrorKind};

/// The largest message of either side, in bytes.
pub(super) const MAX_BYTES: usize = 1280;

/// What both sides' messages begin with: a name, and the version of this form.
const BEGIN: &[u8; 5] = b"opdx\x01";

/// The longest name of a profile, in bytes.
const MAX_PROFILE_BYTES: usize = 32;

/// The longest text of a refusal, in bytes.
const MAX_TEXT_BYTES: usize = 1024;

const STARTED: u8 = 0;
const REFUSED: u8 = 1;

/// Asks for a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The user whose rights it is to have.
    pub uid: u32,
    /// The sandbox profile of the operations that it serves; may be empty.
    pub profile: String,
}

impl Request {
    /// As it travels.
    ///
    /// # Errors
    /// `InvalidArgument` if the profile is no name.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        check_profile(self.profile.as_bytes())?;
        let length = u8::try_from(self.profile.len()).unwrap_or_default();
        Ok([BEGIN, &self.uid.to_le_bytes() as &[u8], &[length], self.profile.as_bytes()].concat())
    }

    /// Reads a whole message.
    ///
    /// # Errors
    /// `InvalidArgument` if it is anything but what [`Request::encode`] writes.
    pub fn parse(message: &[u8]) -> Result<Self, Error> {
        let (uid, rest) = after_begin(message)?
            .split_first_chunk::<4>()
            .ok_or_else(|| wrong("it ends within the uid"))?;
        let (length, profile) = rest.split_first().ok_or_else(|| wrong("it has no profile"))?;
        if usize::from(*length) != profile.len() {
            return Err(wrong("the profile is not as long as it says"));
        }
        let profile = check_profile(profile)?.to_owned();
        Ok(Self { uid: u32::from_le_bytes(*uid), profile })
    }
}

/// What came of it.
#[derive(Clone, Debug)]
pub enum Reply {
    /// The worker's process id; its socket comes with the message.
    Started(u32),
    /// Why there is none.
    Refused(Error),
}

impl Reply {
    /// As it travels.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Started(pid) => [BEGIN, &[STARTED] as &[u8], &pid.to_le_bytes()].concat(),
            Self::Refused(error) => {
                let kind = u8::try_from(error.kind().index()).unwrap_or(u8::MAX);
                let text = error.message();
                let mut ends = (0..=text.len().min(MAX_TEXT_BYTES)).rev();
                let end = ends.find(|end| text.is_char_boundary(*end));
                let text = &text[..end.unwrap_or_default()];
                [BEGIN, &[REFUSED, kind] as &[u8], text.as_bytes()].concat()
            }
        }
    }

    /// Reads a whole message.
    ///
    /// # Errors
    /// `InvalidArgument` if it is anything but what [`Reply::encode`] writes.
    pub fn parse(message: &[u8]) -> Result<Self, Error> {
        match after_begin(message)? {
            [STARTED, pid @ ..] => {
                let pid = pid.try_into().map_err(|_| wrong("a process id has four bytes"))?;
                Ok(Self::Started(u32::from_le_bytes(pid)))
            }
            [REFUSED, kind, text @ ..] => {
                let known =
                    ErrorKind::ALL.into_iter().find(|known| known.index() == usize::from(*kind));
                let kind = known.ok_or_else(|| wrong("there is no such kind of error"))?;
                let text = str::from_utf8(text).map_err(|_| wrong("the text is not UTF-8"))?;
                if text.len() > MAX_TEXT_BYTES {
                    return Err(wrong("the text is too long"));
                }
                Ok(Self::Refused(Error::new(kind, text)))
            }
            _ => Err(wrong("it is no known reply")),
        }
    }
}

fn after_begin(message: &[u8]) -> Result<&[u8], Error> {
    message.strip_prefix(BEGIN).ok_or_else(|| wrong("it does not begin as one"))
}

fn check_profile(profile: &[u8]) -> Result<&str, Error> {
    let allowed = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    if profile.len() > MAX_PROFILE_BYTES || !profile.iter().all(allowed) {
        return Err(wrong("the profile must be at most 32 lower-case letters, digits and hyphens"));
    }
    str::from_utf8(profile).map_err(|_| wrong("the profile is no text"))
}

fn wrong(problem: &str) -> Error {
    Error::invalid("message", problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for (uid, profile) in [(0, ""), (u32::MAX, "exec"), (1000, "a-2")] {
            let request = Request { uid, profile: profile.to_owned() };
            assert_eq!(Request::parse(&request.encode().unwrap()).unwrap(), request);
        }
        let Reply::Started(42) = Reply::parse(&Reply::Started(42).encode()).unwrap() else {
            panic!("it was started");
        };
        let long = Error::new(ErrorKind::NotFound, "é".repeat(2000));
        let message = Reply::Refused(long).encode();
        assert!(message.len() <= MAX_BYTES);
        let Reply::Refused(error) = Reply::parse(&message).unwrap() else {
            panic!("it was refused");
        };
        assert_eq!((error.kind(), error.message().len()), (ErrorKind::NotFound, 1024));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let good = Request { uid: 1000, profile: "exec".to_owned() }.encode().unwrap();
        for length in 0..good.len() {
            assert!(Request::parse(&good[..length]).is_err(), "{length}");
        }
        assert!(Request::parse(&[&good as &[u8], b"x"].concat()).is_err());
        for profile in ["../x", "EXEC", "a b", "a\0b", &"x".repeat(33)] {
            let request = Request { uid: 1000, profile: profile.to_owned() };
            assert!(request.encode().is_err(), "{profile:?}");
            let bytes =
                [BEGIN, &1000_u32.to_le_bytes() as &[u8], &[u8::try_from(profile.len()).unwrap()]];
            let bytes = [&bytes.concat(), profile.as_bytes()].concat();
            assert!(Request::parse(&bytes).is_err(), "{profile:?}");
        }
    }
}
