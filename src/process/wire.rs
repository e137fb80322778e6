//! What the runner and the stub, two processes of one binary, say to each other over their socket. It
//! is no contract: both ends are always the same version.
//!
//! For each program the runner sends one packet with [`DESCRIPTORS`] descriptors, and those that the
//! program gets besides its standard streams. It is the [`Orders`]; if they are too long for a packet, it
//! is one byte, and a file with them comes before the other descriptors. Then it sends [`Command`]s and the stub [`News`], a packet each. After the last news,
//! [`EndedNews`] that say so, the next program may come; a command that comes late is for nobody.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use prost::Message;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use super::report::{Mechanism, Report, State};
use super::spec::DESCRIPTORS_MAX;

/// The folder, and the program's descriptors 0, 1 and 2.
pub(super) const DESCRIPTORS: usize = 4;
/// With those besides the standard streams, and the file.
const DESCRIPTORS_SENT_MAX: usize = 1 + DESCRIPTORS + DESCRIPTORS_MAX;
/// The longest packet. Most orders fit, and all that is said after them is much shorter.
const PACKET_MAX: usize = 16 << 10;

/// What the stub is to do.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Orders {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) program: Vec<u8>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub(super) argv: Vec<Vec<u8>>,
    /// `NAME=value`, sorted.
    #[prost(bytes = "vec", repeated, tag = "3")]
    pub(super) environment: Vec<Vec<u8>>,
    /// The name of the profile.
    #[prost(string, tag = "4")]
    pub(super) profile: String,
    /// No profile holds, whatever its name.
    #[prost(bool, tag = "5")]
    pub(super) off: bool,
    /// Nothing is run unless all of the confinement holds.
    #[prost(bool, tag = "6")]
    pub(super) require: bool,
    #[prost(message, required, tag = "7")]
    pub(super) limits: LimitOrders,
    #[prost(message, repeated, tag = "8")]
    pub(super) extra: Vec<ExtraOrder>,
    /// Where a folder for temporary files is to be made.
    #[prost(bytes = "vec", tag = "9")]
    pub(super) temporary: Vec<u8>,
    /// A cgroup that is to be made.
    #[prost(bytes = "vec", optional, tag = "10")]
    pub(super) cgroup: Option<Vec<u8>>,
    /// Descriptor 0 is a terminal, to be the controlling one.
    #[prost(bool, tag = "11")]
    pub(super) terminal: bool,
    /// `HOME` is not given: it is the folder for temporary files.
    #[prost(bool, tag = "12")]
    pub(super) home: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct LimitOrders {
    #[prost(uint64, optional, tag = "1")]
    pub(super) wall_ms: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    pub(super) cpu_ms: Option<u64>,
    #[prost(uint64, optional, tag = "3")]
    pub(super) memory_bytes: Option<u64>,
    #[prost(uint64, optional, tag = "4")]
    pub(super) processes: Option<u64>,
    #[prost(uint64, tag = "5")]
    pub(super) open_files: u64,
    #[prost(uint64, optional, tag = "6")]
    pub(super) file_size_bytes: Option<u64>,
    #[prost(uint64, tag = "7")]
    pub(super) grace_ms: u64,
    #[prost(uint32, optional, tag = "8")]
    pub(super) cpu_percent: Option<u32>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ExtraOrder {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) path: Vec<u8>,
    /// As [`super::Access`]: 0 read, 1 execute, 2 write.
    #[prost(uint32, tag = "2")]
    pub(super) access: u32,
}

/// From the runner to the stub.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Command {
    #[prost(oneof = "command::What", tags = "1, 2")]
    pub(super) what: Option<command::What>,
}

pub(super) mod command {
    /// What is to be done.
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub(in crate::process) enum What {
        /// Send this signal to the program's process group.
        #[prost(int32, tag = "1")]
        Signal(i32),
        /// End the tree; the number of the limit that was reached, or 0.
        #[prost(uint32, tag = "2")]
        Stop(u32),
    }
}

/// From the stub to the runner.
#[derive(Clone, PartialEq, Message)]
pub(super) struct News {
    #[prost(oneof = "news::What", tags = "1, 2, 3")]
    pub(super) what: Option<news::What>,
}

pub(super) mod news {
    /// What there is to say.
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub(in crate::process) enum What {
        /// The program runs.
        #[prost(message, tag = "1")]
        Started(super::Started),
        /// Nothing runs, and nothing ran.
        #[prost(message, tag = "2")]
        Refused(super::Refused),
        /// The tree has ended.
        #[prost(message, tag = "3")]
        Ended(super::EndedNews),
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Started {
    #[prost(int32, tag = "1")]
    pub(super) pid: i32,
    #[prost(message, repeated, tag = "2")]
    pub(super) report: Vec<Row>,
}

/// One mechanism of the report.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Row {
    /// The position in [`Mechanism::ALL`].
    #[prost(uint32, tag = "1")]
    pub(super) mechanism: u32,
    /// `None` for off.
    #[prost(bool, optional, tag = "2")]
    pub(super) enforced: Option<bool>,
    #[prost(string, tag = "3")]
    pub(super) text: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Refused {
    #[prost(string, tag = "1")]
    pub(super) text: String,
    /// The confinement is the reason.
    #[prost(bool, tag = "2")]
    pub(super) sandbox: bool,
    /// The error number of an execution that failed.
    #[prost(int32, optional, tag = "3")]
    pub(super) execution: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct EndedNews {
    #[prost(int32, optional, tag = "1")]
    pub(super) code: Option<i32>,
    #[prost(int32, optional, tag = "2")]
    pub(super) signal: Option<i32>,
    /// The number of a limit, or 0.
    #[prost(uint32, tag = "3")]
    pub(super) limit: u32,
    #[prost(bool, tag = "4")]
    pub(super) stopped: bool,
    #[prost(uint64, tag = "5")]
    pub(super) wall_us: u64,
    #[prost(uint64, tag = "6")]
    pub(super) user_us: u64,
    #[prost(uint64, tag = "7")]
    pub(super) system_us: u64,
    #[prost(uint64, tag = "8")]
    pub(super) memory_max_bytes: u64,
    #[prost(uint32, tag = "9")]
    pub(super) left_behind: u32,
    #[prost(uint32, tag = "10")]
    pub(super) unkillable: u32,
    /// The stub is ready for the next program.
    #[prost(bool, tag = "11")]
    pub(super) again: bool,
}

pub(super) fn rows(report: &Report) -> Vec<Row> {
    let row = |(mechanism, state): (Mechanism, &State)| {
        let (enforced, text) = match state {
            State::Enforced(by) => (Some(true), by.clone()),
            State::Unavailable(why) => (Some(false), why.clone()),
            State::Off => (None, String::new()),
        };
        Row { mechanism: mechanism as u32, enforced, text }
    };
    report.iter().map(row).collect()
}

pub(super) fn report(rows: Vec<Row>) -> Report {
    let mut report = Report::default();
    for row in rows {
        let Some(mechanism) = Mechanism::ALL.get(row.mechanism as usize) else { continue };
        let state = match row.enforced {
            Some(true) => State::Enforced(row.text),
            Some(false) => State::Unavailable(row.text),
            None => State::Off,
        };
        report.set(*mechanism, state);
    }
    report
}

/// A path as it is sent.
pub(super) fn path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// Sends the orders.
pub(super) fn send_orders(
    socket: BorrowedFd<'_>,
    orders: &Orders,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut packet = orders.encode_to_vec();
    let mut file = None;
    if packet.len() > PACKET_MAX {
        file = Some(memory(&packet)?);
        packet.truncate(1);
    }
    let descriptors: Vec<_> =
        file.iter().map(OwnedFd::as_fd).chain(descriptors.iter().copied()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_SENT_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other("there is no room for the descriptors"));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    sendmsg(socket, &[IoSlice::new(&packet)], &mut control, flags)?;
    Ok(())
}

/// A file without a name.
fn memory(content: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create("op-dbus-orders", MemfdFlags::CLOEXEC)?);
    file.write_all(content)?;
    Ok(file.into())
}

/// Receives one packet with its descriptors without waiting. It is empty if the other end is closed.
pub(super) fn receive_with_descriptors(
    socket: BorrowedFd<'_>,
) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_SENT_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut packet = vec![0; PACKET_MAX];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = recvmsg(socket, &mut [IoSliceMut::new(&mut packet)], &mut control, flags)?;
    packet.truncate(received.bytes);
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            descriptors.extend(received);
        }
    }
    Ok((packet, descriptors))
}

/// Sends one packet. It never waits: a packet is small, and few are on their way.
pub(super) fn send(socket: BorrowedFd<'_>, message: &impl Message) -> io::Result<()> {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    rustix::net::send(socket, &message.encode_to_vec(), flags)?;
    Ok(())
}

/// Receives one packet without waiting; `None` if the other end is closed.
pub(super) fn receive<M: Message + Default>(socket: BorrowedFd<'_>) -> io::Result<Option<M>> {
    let mut buffer = [0; PACKET_MAX];
    let (count, _) = rustix::net::recv(socket, &mut buffer, RecvFlags::DONTWAIT)?;
    match count {
        0 => Ok(None),
        _ => Ok(Some(M::decode(&buffer[..count]).map_err(io::Error::other)?)),
    }
}
