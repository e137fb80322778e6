//! The types that `build.rs` generates from `proto/`: messages, one trait and one adapter for each
//! agent. Nothing is written by hand here.

#![expect(missing_docs, clippy::all, reason = "generated code")]

include!(concat!(env!("OUT_DIR"), "/contract.rs"));

/// The contract as an encoded `FileDescriptorSet`, with comments and custom options.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/contract.bin"));
