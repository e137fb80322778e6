//! Calls over a message bus: a ping through the whole executor beside a C service on sd-bus. The
//! client writes marshalled messages by hand, so that it is the same and cheap for both.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::measure::{Party, Plan, Sample, heading, in_turns, rows};
use crate::parties::{self, Daemon};

/// Measures pings with 1, 16 and 64 in flight.
pub fn run(plan: &Plan) {
    parties::pin();
    let daemon = Daemon::start("normal");
    let Some(_peer) = start_peer(&daemon) else {
        println!(
            "\nD-Bus: not measured, because the C peer does not compile here (gcc, pkg-config and libsystemd-dev are needed)"
        );
        parties::unpin();
        return;
    };
    for in_flight in [1, 16, 64] {
        heading(&format!("D-Bus, dbus-daemon, 64 bytes, {in_flight} in flight, one core"));
        let targets = [
            (
                "C service on sd-bus",
                Target {
                    name: "peer.Echo",
                    path: "/peer",
                    interface: "peer.Echo",
                    member: "Echo",
                    options: false,
                },
            ),
            (
                "op-dbus Ping",
                Target {
                    name: "org.opdbus.Agents1",
                    path: "/org/opdbus/Agents1",
                    interface: "org.opdbus.Agents1",
                    member: "Ping",
                    options: true,
                },
            ),
        ];
        let mut parties: Vec<Party<'_>> = targets
            .into_iter()
            .map(|(name, target)| {
                let mut client = Client::connect(&daemon.bus.address, &target);
                let sample: Box<dyn FnMut() -> Sample> =
                    Box::new(move || client.sample(in_flight, plan.time()));
                (name, sample)
            })
            .collect();
        let figures = in_turns(plan, &mut parties);
        rows(&parties, &figures);
    }
    parties::unpin();
}

/// Compiles and starts the peer; `None` if it does not compile.
fn start_peer(daemon: &Daemon) -> Option<parties::Party> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/sdbus_echo.c");
    let program: PathBuf = daemon.folder.path().join("sdbus_echo");
    let compiled = Command::new("gcc")
        .args(["-O2", "-o"])
        .arg(&program)
        .arg(source)
        .arg("-lsystemd")
        .stderr(Stdio::null())
        .status();
    if !compiled.is_ok_and(|status| status.success()) {
        return None;
    }
    let mut peer =
        Command::new(program).arg(&daemon.bus.address).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(peer.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line.trim(), "ready");
    Some(parties::Party(peer))
}

/// A method to call with 64 bytes.
struct Target {
    name: &'static str,
    path: &'static str,
    interface: &'static str,
    member: &'static str,
    /// Whether an empty `a{sv}` follows the bytes.
    options: bool,
}

/// One connection to the bus.
struct Client {
    stream: UnixStream,
    call: Vec<u8>,
    serial: u32,
    input: Vec<u8>,
}

impl Client {
    fn connect(address: &str, target: &Target) -> Self {
        let path = address.split(',').find_map(|part| part.strip_prefix("unix:path=")).unwrap();
        let mut stream = UnixStream::connect(path).unwrap();
        let uid: String =
            nix::unistd::getuid().to_string().bytes().map(|byte| format!("{byte:02x}")).collect();
        stream.write_all(format!("\0AUTH EXTERNAL {uid}\r\n").as_bytes()).unwrap();
        let mut answer = BufReader::new(stream.try_clone().unwrap());
        let mut line = String::new();
        answer.read_line(&mut line).unwrap();
        assert!(line.starts_with("OK"), "the bus refused: {line}");
        stream.write_all(b"BEGIN\r\n").unwrap();
        let hello = marshal(
            "org.freedesktop.DBus",
            "/org/freedesktop/DBus",
            "org.freedesktop.DBus",
            "Hello",
            "",
            &[],
        );
        let mut client = Self { stream, call: hello, serial: 0, input: Vec::new() };
        client.send(1);
        client.receive();
        let mut body = 64_u32.to_le_bytes().to_vec();
        body.extend([7; 64]);
        if target.options {
            body.extend(0_u32.to_le_bytes());
            body.resize(body.len().next_multiple_of(8), 0);
        }
        let signature = if target.options { "aya{sv}" } else { "ay" };
        client.call =
            marshal(target.name, target.path, target.interface, target.member, signature, &body);
        client
    }

    /// Keeps `in_flight` calls under way for `time`, refilling after each read.
    fn sample(&mut self, in_flight: usize, time: Duration) -> Sample {
        let start = Instant::now();
        let first = self.serial + 1;
        let mut sent: Vec<Instant> = Vec::with_capacity(100_000);
        let mut nanos = Vec::with_capacity(100_000);
        sent.extend(std::iter::repeat_n(start, in_flight));
        self.send(in_flight);
        while nanos.len() < sent.len() {
            let replies = self.receive();
            let now = Instant::now();
            for serial in replies {
                let Some(index) = serial.checked_sub(first) else { continue };
                nanos.push(u64::try_from((now - sent[index as usize]).as_nanos()).unwrap());
            }
            let refill = in_flight - (sent.len() - nanos.len());
            if now - start < time && refill > 0 {
                sent.extend(std::iter::repeat_n(now, refill));
                self.send(refill);
            }
        }
        Sample { nanos, wall: start.elapsed() }
    }

    fn send(&mut self, count: usize) {
        let mut output = Vec::with_capacity(self.call.len() * count);
        for _ in 0..count {
            self.serial += 1;
            let at = output.len() + 8;
            output.extend(&self.call);
            output[at..at + 4].copy_from_slice(&self.serial.to_le_bytes());
        }
        self.stream.write_all(&output).unwrap();
    }

    /// Waits for messages and gives the serials that method returns among them answer.
    fn receive(&mut self) -> Vec<u32> {
        let mut replies = Vec::new();
        while replies.is_empty() {
            let mut buffer = [0; 65536];
            let size = self.stream.read(&mut buffer).unwrap();
            assert!(size > 0, "the bus hung up");
            self.input.extend(&buffer[..size]);
            let mut used = 0;
            while let Some(size) = message_size(&self.input[used..]) {
                let message = &self.input[used..used + size];
                assert_ne!(message[1], 3, "an error: {}", String::from_utf8_lossy(message));
                if message[1] == 2 {
                    replies.push(reply_serial(message));
                }
                used += size;
            }
            self.input.drain(..used);
        }
        replies
    }
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// The size of the message at the start of `bytes`, once all of it is there.
fn message_size(bytes: &[u8]) -> Option<usize> {
    if bytes.len() < 16 {
        return None;
    }
    let fields = number(bytes, 12) as usize;
    let size = (16 + fields).next_multiple_of(8) + number(bytes, 4) as usize;
    (bytes.len() >= size).then_some(size)
}

/// The serial that a method return answers: header field 5, a `u`.
fn reply_serial(message: &[u8]) -> u32 {
    let end = 16 + number(message, 12) as usize;
    let mut at = 16;
    while at < end {
        at = at.next_multiple_of(8);
        let (code, kind) = (message[at], message[at + 2]);
        at += 4;
        match kind {
            b'u' if code == 5 => return number(message, at),
            b'u' => at += 4,
            b'g' => at += 2 + message[at] as usize,
            _ => at += 5 + number(message, at) as usize,
        }
    }
    panic!("a method return without reply serial");
}

/// A little-endian method call with serial 0.
fn marshal(
    name: &str,
    path: &str,
    interface: &str,
    member: &str,
    signature: &str,
    body: &[u8],
) -> Vec<u8> {
    let mut fields = Vec::new();
    for (code, kind, value) in
        [(1, 'o', path), (6, 's', name), (2, 's', interface), (3, 's', member), (8, 'g', signature)]
    {
        if value.is_empty() {
            continue;
        }
        fields.resize(fields.len().next_multiple_of(8), 0);
        fields.extend([code, 1, kind as u8, 0]);
        if kind == 'g' {
            fields.push(u8::try_from(value.len()).unwrap());
        } else {
            fields.extend(u32::try_from(value.len()).unwrap().to_le_bytes());
        }
        fields.extend(value.as_bytes());
        fields.push(0);
    }
    let mut message = vec![b'l', 1, 0, 1];
    message.extend(u32::try_from(body.len()).unwrap().to_le_bytes());
    message.extend(0_u32.to_le_bytes());
    message.extend(u32::try_from(fields.len()).unwrap().to_le_bytes());
    message.extend(fields);
    message.resize(message.len().next_multiple_of(8), 0);
    message.extend(body);
    message
}
