//! Makes the `:authority` of clients on a Unix socket legal, in place. Some clients (those on gRPC's
//! C core, and Java) name the socket's path there, which HTTP/2 forbids, so the connection would
//! break before any call is seen. This follows frames and HPACK lengths only; it keeps no header
//! table, allocates nothing, never changes a length, and leaves Huffman-coded values alone.

mod frames;
mod headers;

pub(super) use frames::Authority;

#[cfg(test)]
mod tests;
