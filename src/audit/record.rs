//! One record: its fields, its line of JSON and the hash that ties it to the record before. Where lines
//! are kept is not known here.

use std::fmt;

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

/// What stands between a record and its hash.
const HASH_NAME: &[u8] = b",\"hash\":\"";

/// What stands after the hash.
const END: &[u8] = b"\"}";

/// The SHA-256 of something, written as 64 hexadecimal digits.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Hash([u8; 32]);

impl Hash {
    /// The hash before the first record.
    pub const NONE: Self = Self([0; 32]);

    /// The hash of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_digest(digest(&SHA256, bytes).as_ref())
    }

    /// What a digest of 32 bytes is.
    pub(super) fn from_digest(bytes: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(bytes);
        Self(hash)
    }

    /// Reads 64 lower-case hexadecimal digits.
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let mut hash = [0; 32];
        if text.len() != 64 {
            return None;
        }
        for (byte, pair) in hash.iter_mut().zip(text.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self(hash))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 64];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Hash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::read(text.as_bytes()).ok_or_else(|| serde::de::Error::custom("is no SHA-256 in hex"))
    }
}

/// What a record tells of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A call with one answer has ended, or one that runs apart from its client was answered with what an
    /// earlier one with its request id had begun.
    #[default]
    Call,
    /// A call that runs apart from its client, as a stream does, has begun.
    Start,
    /// It has ended.
    End,
    /// A call was turned away before anything was done for it.
    Refused,
    /// A rule of the rollout was moved: by a call, which has a record of its own, or by the service
    /// itself, whose name for that stands in the place of the address.
    Step,
    /// The service has begun to write here.
    Open,
    /// The service has stopped as it should.
    Close,
    /// What stands before this record is the rest of one that was cut off: `bytes` of it, with the
    /// digest `digest`.
    Torn,
    /// The log was shorter than the service had left it: the records from `first` to `last` are gone.
    Truncated,
    /// `count` records could not be written.
    Lost,
    /// The file with the records up to `last`, whose hash is `digest`, has made room.
    Removed,
}

impl Kind {
    /// The name in a record.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Start => "start",
            Self::End => "end",
            Self::Refused => "refused",
            Self::Step => "step",
            Self::Open => "open",
            Self::Close => "close",
            Self::Torn => "torn",
            Self::Truncated => "truncated",
            Self::Lost => "lost",
            Self::Removed => "removed",
        }
    }
}

/// One record. What it has nothing to say of is left out of its line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// Its number, one more than that of the record before.
    pub seq: u64,
    /// When it was made, in UTC as RFC 3339.
    pub time: String,
    /// What it tells of.
    pub kind: Kind,
    /// The user who called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The process that called, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// The client's address on its transport.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub address: String,
    /// How the call came: `dbus` or `grpc`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub transport: String,
    /// What the client spoke there: `own`, or `legacy` for the older D-Bus interface.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub interface: String,
    /// The session that the call named.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub session: String,
    /// The task that the call is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub task: String,
    /// The client's name for the request.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub request_id: String,
    /// The agent that was called.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub agent: String,
    /// The operation that was called; for one that there is not, what the client named.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub operation: String,
    /// The risk of the operation: `read`, `write`, `execute`, `deploy` or `admin`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub risk: String,
    /// The keyed digest of the request, see [`Digester`](super::Digester); of a torn piece or a removed
    /// file its SHA-256.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Hash>,
    /// `allow` or `refuse`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub decision: String,
    /// The rule or limit that decided.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub rule: String,
    /// `OK`, or the reason of the error that the caller got.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub outcome: String,
    /// How long the call took, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_us: Option<u64>,
    /// For how many calls the record stands, if not for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// The bytes of a torn piece.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// The first record that is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<u64>,
    /// The last record that is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<u64>,
    /// The hash of the record before.
    pub prev: Hash,
}

impl Record {
    /// Adds the record's line, with its end, to `lines`; gives its hash.
    pub fn write(&self, lines: &mut Vec<u8>) -> Hash {
        let begin = lines.len();
        // Writing fields of these types into memory cannot fail; a line that could not be written
        // would be seen as damaged by every reader.
        serde_json::to_writer(&mut *lines, self).ok();
        lines.pop();
        let hash = Hash::of(&lines[begin..]);
        lines.extend_from_slice(HASH_NAME);
        lines.extend_from_slice(hash.to_string().as_bytes());
        lines.extend_from_slice(END);
        lines.push(b'\n');
        hash
    }

    /// Reads a line without its end; `None` unless it is one that was written whole and not changed.
    pub(super) fn read(line: &[u8]) -> Option<(Self, Hash)> {
        let rest = line.strip_suffix(END)?;
        let (rest, digits) = rest.split_at_checked(rest.len().checked_sub(64)?)?;
        let body = rest.strip_suffix(HASH_NAME)?;
        let hash = Hash::read(digits)?;
        if Hash::of(body) != hash {
            return None;
        }
        let object = [body, b"}"].concat();
        Some((serde_json::from_slice(&object).ok()?, hash))
    }
}
