//! Messages through a descriptor, each after its length as a varint. Who reads and writes there is not known
//! here.

use std::io;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Why there is no next message.
#[derive(Debug)]
pub(crate) enum Broken {
    /// It cannot be read.
    Io(io::Error),
    /// The descriptor ends within it.
    Half,
    /// It has no length.
    Length,
    /// It has more bytes than it may.
    TooLarge,
}

/// The next message, of at most `max_bytes`; `None` at the end.
///
/// # Cancel safety
/// None: what was read of a message is lost.
pub(crate) async fn next(
    reader: &mut (impl AsyncRead + Unpin),
    max_bytes: usize,
) -> Result<Option<Bytes>, Broken> {
    match length(reader, max_bytes).await? {
        Some(length) => payload(reader, length).await.map(Some),
        None => Ok(None),
    }
}

/// The length of the next message, of at most `max_bytes`; `None` at the end.
///
/// # Cancel safety
/// As of [`next`].
pub(crate) async fn length(
    reader: &mut (impl AsyncRead + Unpin),
    max_bytes: usize,
) -> Result<Option<usize>, Broken> {
    let mut length = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = match reader.read_u8().await {
            Ok(byte) => byte,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return if shift == 0 { Ok(None) } else { Err(Broken::Half) };
            }
            Err(error) => return Err(Broken::Io(error)),
        };
        length |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            let length = usize::try_from(length).map_err(|_| Broken::TooLarge)?;
            return if length > max_bytes { Err(Broken::TooLarge) } else { Ok(Some(length)) };
        }
    }
    Err(Broken::Length)
}

/// The message after its `length`.
///
/// # Cancel safety
/// As of [`next`].
pub(crate) async fn payload(
    reader: &mut (impl AsyncRead + Unpin),
    length: usize,
) -> Result<Bytes, Broken> {
    let mut payload = Vec::new();
    reader.take(length as u64).read_to_end(&mut payload).await.map_err(Broken::Io)?;
    if payload.len() < length { Err(Broken::Half) } else { Ok(payload.into()) }
}
