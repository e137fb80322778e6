//! The keyed digest of requests: it shows whether two requests are the same, and a request that is at
//! hand can be shown to be the one; who has the log alone cannot find out a request by trying.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use ring::hmac::{HMAC_SHA256, Key, sign};

use super::record::Hash;

/// The key's file in the log's folder. Whoever may read the log need not be able to read it.
pub(super) const KEY_FILE: &str = "digest.key";

/// HMAC-SHA-256 with the key of one log.
#[derive(Clone)]
pub struct Digester(Key);

impl Digester {
    /// The digest with the key in `folder`, which is made unless it is there.
    ///
    /// # Errors
    /// If the key cannot be read or written.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        let path = folder.join(KEY_FILE);
        let key = match fs::read(&path) {
            Ok(key) if key.len() == 32 => key,
            // One that was cut off while it was made never served.
            Ok(_) => make_key(&path)?,
            Err(error) if error.kind() == ErrorKind::NotFound => make_key(&path)?,
            Err(error) => return Err(error),
        };
        Ok(Self::with_key(&key))
    }

    fn with_key(key: &[u8]) -> Self {
        Self(Key::new(HMAC_SHA256, key))
    }

    /// The digest of an encoded request.
    #[must_use]
    pub fn digest(&self, request: &[u8]) -> Hash {
        Hash::from_digest(sign(&self.0, request).as_ref())
    }
}

fn make_key(path: &Path) -> io::Result<Vec<u8>> {
    let mut key = vec![0; 32];
    File::open("/dev/urandom")?.read_exact(&mut key)?;
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600).open(path)?.write_all(&key)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_hmac_sha_256() {
        // Test case 2 of RFC 4231.
        let digest = Digester::with_key(b"Jefe").digest(b"what do ya want for nothing?");
        assert_eq!(
            digest.to_string(),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn the_key_stays_and_is_the_services_own() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let first = Digester::open(folder.path()).unwrap().digest(b"x");
        assert_eq!(Digester::open(folder.path()).unwrap().digest(b"x"), first);
        let mode = fs::metadata(folder.path().join(KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(Digester::open(other.path()).unwrap().digest(b"x"), first);
    }
}
