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
    /// What the program gets as 3 and so on.
    pub(super) further: Vec<OwnedFd>,
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
    let orders = match (packet.len(), descriptors.len()) {
        (0, _) => return Ok(Received::Closed),
        (_, 0) => return Ok(Received::Command),
        (2.., _) => Orders::decode(packet.as_slice()),
        (1, _) => {
            let mut file = File::from(descriptors.remove(0));
            let mut bytes = Vec::new();
            file.rewind()?;
            file.read_to_end(&mut bytes)?;
            Orders::decode(bytes.as_slice())
        }
    };
    let lacking = |_| io::Error::other("the orders came without their descriptors");
    let further = descriptors.split_off(descriptors.len().min(wire::DESCRIPTORS));
    let [directory, stdin, stdout, stderr] =
        <[OwnedFd; wire::DESCRIPTORS]>::try_from(descriptors).map_err(lacking)?;
    let descriptors = Descriptors { directory, streams: [stdin, stdout, stderr], further };
    Ok(Received::Orders(Box::new(orders.map_err(io::Error::other)?), descriptors))
}
