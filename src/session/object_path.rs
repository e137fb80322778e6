//! Where sessions stand on the bus. A path has fewer characters than an id, so the others are escaped.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::call::SessionScope;
use crate::contract::SESSIONS_PATH;

/// The object of a session: two users may have sessions with the same id.
#[must_use]
pub fn of(scope: &SessionScope) -> String {
    let mut path = format!("{SESSIONS_PATH}/{}/", scope.uid);
    for byte in scope.id.bytes() {
        if byte.is_ascii_alphanumeric() {
            path.push(char::from(byte));
        } else {
            // Writing to a text cannot fail.
            write!(path, "_{byte:02x}").ok();
        }
    }
    path
}

/// The session whose object `path` is, whether or not it is there.
#[must_use]
pub fn scope(path: &str) -> Option<SessionScope> {
    let rest = path.strip_prefix(SESSIONS_PATH)?.strip_prefix('/')?;
    let (uid, escaped) = rest.split_once('/')?;
    let mut pieces = escaped.split('_');
    let mut id = pieces.next()?.to_owned();
    for piece in pieces {
        let byte = u8::from_str_radix(piece.get(..2)?, 16).ok()?;
        id.push(char::from(byte));
        id.push_str(&piece[2..]);
    }
    let scope = SessionScope { uid: uid.parse().ok()?, id: Arc::from(id) };
    // Only the one path that an id has.
    (of(&scope) == path).then_some(scope)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_has_one_path() {
        for id in ["chat", "0198", "a-b_c.d", "-", "_", "a.._5f"] {
            let expected = SessionScope { uid: 1000, id: id.into() };
            let path = of(&expected);
            assert!(zbus::ObjectPath::try_from(path.as_str()).is_ok(), "{path}");
            assert_eq!(scope(&path), Some(expected));
        }
        for path in ["1000/a_", "1000/a_2D", "1000/a_61", "01000/a", "1000/a-b", "x/a", "1000"] {
            assert_eq!(scope(&format!("/org/opdbus/Agents1/session/{path}")), None, "{path}");
        }
    }
}
