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
            return payload(reader, length, max_bytes).await.map(Some);
        }
    }
    Err(Broken::Length)
}

async fn payload(
    reader: &mut (impl AsyncRead + Unpin),
    length: u64,
    max_bytes: usize,
) -> Result<Bytes, Broken> {
    if length > max_bytes as u64 {
        return Err(Broken::TooLarge);
    }
    let mut payload = Vec::new();
    reader.take(length).read_to_end(&mut payload).await.map_err(Broken::Io)?;
    if (payload.len() as u64) < length { Err(Broken::Half) } else { Ok(payload.into()) }
}
