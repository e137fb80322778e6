//! What the stub gets from the runner at the beginning of each program. It carries nothing out.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::fd::{BorrowedFd, OwnedFd};

use prost::Message as _;

use crate::process::wire::{self, Orders};

/// What the runner sends with the orders.
pub(super) struct Descriptors {
    pub(super) directory: OwnedFd,
    pub(super) streams: [OwnedFd; 3],
}

/// What a packet was.
pub(super) enum Received {
    Orders(Box<Orders>, Descriptors),
    /// For a program that runs, or has run.
    Command,
    /// There will be none any more.
    Closed,
}

/// Receives one packet without waiting.
pub(super) fn receive(control: BorrowedFd<'_>) -> io::Result<Received> {
    let (packet, mut descriptors) = wire::receive_with_descriptors(control)?;
    let orders = match (packet.is_empty(), descriptors.len()) {
        (true, _) => return Ok(Received::Closed),
        (false, 0) => return Ok(Received::Command),
        (false, wire::DESCRIPTORS) => Orders::decode(packet.as_slice()),
        (false, _) => {
            let mut file = File::from(descriptors.remove(0));
            let mut bytes = Vec::new();
            file.rewind()?;
            file.read_to_end(&mut bytes)?;
            Orders::decode(bytes.as_slice())
        }
    };
    let lacking = |_| io::Error::other("the orders came without their descriptors");
    let [directory, stdin, stdout, stderr] =
        <[OwnedFd; wire::DESCRIPTORS]>::try_from(descriptors).map_err(lacking)?;
    let descriptors = Descriptors { directory, streams: [stdin, stdout, stderr] };
    Ok(Received::Orders(Box::new(orders.map_err(io::Error::other)?), descriptors))
}
