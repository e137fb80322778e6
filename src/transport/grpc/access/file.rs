//! The files of TLS: read within bounds, keys only if they are kept from others, and the PEM in them.
//! What is in a certificate is not looked at here.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tokio_rustls::rustls::pki_types::pem::{Error as PemError, PemObject};
use tokio_rustls::rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer,
};

use crate::error::Error;

/// The largest file, in bytes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// The permission bits of everybody who is neither the owner nor in the group.
const OTHERS: u32 = 0o007;

/// The certificates in a file, at least one.
pub(super) fn certificates(
    setting: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, Error> {
    items(setting, path, "certificate")
}

/// The lists of revoked certificates in a file, at least one.
pub(super) fn revocations(
    setting: &'static str,
    path: &Path,
) -> Result<Vec<CertificateRevocationListDer<'static>>, Error> {
    items(setting, path, "revocation list")
}

fn items<T: PemObject>(setting: &'static str, path: &Path, what: &str) -> Result<Vec<T>, Error> {
    let bytes = read(setting, &open(setting, path)?, path)?;
    let found: Result<Vec<_>, _> = T::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|error| not_pem(setting, path, what, &error))?;
    if found.is_empty() {
        return Err(wrong(setting, path, format!("holds no PEM {what}")));
    }
    Ok(found)
}

/// The private key in a file.
pub(super) fn key(setting: &'static str, path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    let file = open(setting, path)?;
    let mode = file.metadata().map_err(|error| wrong(setting, path, error))?.permissions().mode();
    if mode & OTHERS != 0 {
        let problem =
            "can be used by every user of this machine; take the right from others (chmod o=)";
        return Err(wrong(setting, path, problem));
    }
    let bytes = read(setting, &file, path)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| not_pem(setting, path, "key", &error))
}

fn open(setting: &'static str, path: &Path) -> Result<File, Error> {
    File::open(path).map_err(|error| wrong(setting, path, format!("cannot be read: {error}")))
}

fn read(setting: &'static str, file: &File, path: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| wrong(setting, path, format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(wrong(setting, path, format!("has more than {MAX_FILE_BYTES} bytes")));
    }
    Ok(bytes)
}

/// Says what was looked for and not what was found, which may be a key.
fn not_pem(setting: &'static str, path: &Path, what: &str, error: &PemError) -> Error {
    let problem = match matches!(error, PemError::NoItemsFound) {
        true => format!("holds no PEM {what}"),
        false => format!("holds a PEM {what} that is broken"),
    };
    wrong(setting, path, problem)
}

pub(super) fn wrong(setting: &'static str, path: &Path, problem: impl std::fmt::Display) -> Error {
    Error::invalid(setting, format!("{} {problem}", path.display()))
}
