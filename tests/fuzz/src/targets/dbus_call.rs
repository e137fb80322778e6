//! Any message of a client on the bus, taken by the transport's own dispatcher, with the real executor behind
//! it: whatever it is, each call that wants an answer gets one, and the service stays on the bus. The bus is
//! played here.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::StreamExt as _;
use op_dbus::contract::Contract;
use op_dbus::transport::dbus::{self, Bus, Config, LegacyName, Server};
use tokio::net::UnixListener;
use tokio::time::timeout;
use zbus::message::{Flags, Header, Message, Type};
use zbus::{Connection, DynamicType, Guid, MessageStream, Variant, connection};

use super::Target;
use super::dbus_message::{Call, read};
use super::parts::{byte, text};
use super::service::{PATIENCE, Service};

/// The client's name on the bus, and the bus's own.
const CLIENT: &str = ":1.7";
const BUS: &str = "org.freedesktop.DBus";

const PEER: &str = "org.freedesktop.DBus.Peer";

/// The user that the client is.
const UID: u32 = 1000;

/// The number of a call whose parts are chosen, far from those that zbus gives.
const SERIAL: u32 = 0x7fff_fff0;

/// An operation of an object: its path, interface, name and signature.
type Operation = [String; 4];

/// What objects have beside the operations of the contract.
const OTHERS: [[&str; 4]; 22] = [
    ["/", "org.freedesktop.DBus.Introspectable", "Introspect", ""],
    ["/org/opdbus/Agents1", "org.freedesktop.DBus.Introspectable", "Introspect", ""],
    ["/org/opdbus/Agents1", "org.freedesktop.DBus.Peer", "GetMachineId", ""],
    ["/org/opdbus/Agents1", "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", ""],
    ["/org/opdbus/Agents1/agent/memory", "org.freedesktop.DBus.Properties", "Get", "ss"],
    ["/org/opdbus/Agents1/agent/memory", "org.freedesktop.DBus.Properties", "GetAll", "s"],
    ["/org/opdbus/Agents1/agent/memory", "org.freedesktop.DBus.Properties", "Set", "ssv"],
    ["/org/opdbus/Agents1/agent/memory", "org.opdbus.Agent1", "CallJson", "ssa{sv}"],
    ["/org/opdbus/Agents1/agent/probe", "org.opdbus.Agent1", "CallJson", "ssa{sv}"],
    ["/org/opdbus/Agents1/task/x", "org.opdbus.Task1", "Cancel", "a{sv}"],
    ["/org/opdbus/Agents1/task/x", "org.opdbus.Task1", "Wait", "ta{sv}"],
    ["/org/opdbus/Agents1/task/x", "org.opdbus.Task1", "ReadMessages", "tua{sv}"],
    ["/org/opdbus/Agents1/session/1000/x", "org.opdbus.Session1", "End", "a{sv}"],
    ["/org/opdbus/Agents1/session/1000/x", "org.opdbus.Session1", "KeepAlive", "a{sv}"],
    ["/org/dbusmcp/Agent/Memory", "org.dbusmcp.Agent", "Execute", "s"],
    ["/org/dbusmcp/Agent/Memory", "org.dbusmcp.Agent", "RunOperation", "sss"],
    ["/org/dbusmcp/Agent/Memory", "org.dbusmcp.Agent", "SupportsOperation", "s"],
    ["/org/dbusmcp/Agent/Memory", "org.dbusmcp.Agent.Memory", "Execute", "s"],
    ["/org/dbusmcp/Agent/Memory", "org.freedesktop.DBus.Properties", "GetAll", "s"],
    ["/org/dbusmcp/Agent/ContextManager", "org.dbusmcp.Agent", "RunOperation", "sss"],
    ["/org/dbusmcp/Agent/SequentialThinking", "org.dbusmcp.Agent", "RunOperation", "sss"],
    ["/org/dbusmcp/Agent/Executor", "org.dbusmcp.Agent", "Execute", "s"],
];

/// The transport and the bus that it is on. What serves goes before what is served.
struct Harness {
    _server: Server,
    bus: Connection,
    sent: MessageStream,
    operations: Vec<Operation>,
    service: Service,
}

/// The first byte says how the message is chosen and its lowest bits which flags it has: a whole message; an
/// operation by two bytes, with its own signature, and the rest is the body; or a path, an interface, a name
/// and a signature, each ended by a byte of 0, before the body.
pub(super) fn target() -> Target {
    let service = Service::start();
    let (server, bus, sent) = service.runtime.block_on(connect(&service));
    let mut harness = Harness { _server: server, bus, sent, operations: operations(), service };
    Box::new(move |input: &[u8]| {
        if let Some(message) = harness.message(input) {
            harness.send(&message);
        }
    })
}

impl Harness {
    fn message(&self, mut input: &[u8]) -> Option<Message> {
        let how = byte(&mut input);
        let call = Call { flags: how & 7, serial: SERIAL, sender: CLIENT, ..Call::default() };
        match (how >> 3) & 3 {
            0 => as_of_client(read(input.to_vec())?),
            1 | 2 => {
                let chosen = u16::from_le_bytes([byte(&mut input), byte(&mut input)]);
                let chosen = &self.operations[usize::from(chosen) % self.operations.len()];
                let [path, interface, member, signature] = chosen.each_ref().map(String::as_str);
                Call { path, interface, member, signature, body: input, ..call }.message()
            }
            _ => {
                let [path, interface, member, signature] =
                    std::array::from_fn(|_| text(&mut input));
                Call { path, interface, member, signature, body: input, ..call }.message()
            }
        }
    }

    /// Sends a message, and what shows that it was taken; reads until both are answered.
    fn send(&mut self, message: &Message) {
        let ping = Message::method_call("/", "Ping").interface(PEER).sender(CLIENT);
        let ping = ping.build(&()).expect("a question can be written");
        let mut awaited = vec![ping.primary_header().serial_num()];
        let flags = message.primary_header().flags();
        if message.message_type() == Type::MethodCall && !flags.contains(Flags::NO_REPLY_EXPECTED) {
            awaited.push(message.primary_header().serial_num());
        }
        let Self { bus, sent, service, .. } = self;
        let exchange = async {
            bus.send(message).await.expect("the message is sent");
            bus.send(&ping).await.expect("the question is sent");
            while !awaited.is_empty() {
                let answer = next(bus, sent).await;
                let serial = answer.header().reply_serial();
                awaited.retain(|awaited| serial != Some(*awaited));
            }
            // So that what belongs to the client is let go, and the next input finds nothing of it.
            let gone = Message::signal("/org/freedesktop/DBus", BUS, "NameOwnerChanged");
            let gone = gone.sender(BUS).build(&(CLIENT, CLIENT, ""));
            let gone = gone.expect("a signal can be written");
            bus.send(&gone).await.expect("the signal is sent");
        };
        let done = service.runtime.block_on(async { timeout(PATIENCE, exchange).await });
        assert!(done.is_ok(), "no answer to {message:?}");
    }
}

/// A message as the bus passes it on: it comes from a client, and nothing follows it that is no message.
fn as_of_client(message: Message) -> Option<Message> {
    let header = message.header();
    let is_clients = header.sender().is_some_and(|sender| sender.as_str().starts_with(':'));
    drop(header);
    let length = usize::try_from(message.primary_header().body_len()).ok()?;
    (is_clients && length == message.body().len()).then_some(message)
}

/// Starts the transport on a bus that is played by the other end of its connection.
async fn connect(service: &Service) -> (Server, Connection, MessageStream) {
    let path = service.folder.path().join("bus.sock");
    let listener = UnixListener::bind(&path).expect("the socket can be bound");
    let config = Config {
        bus: Bus::Address(format!("unix:path={}", path.display())),
        name: "org.opdbus.Agents1".to_owned(),
        max_body_bytes: 64 * 1024,
        legacy: LegacyName::all().collect(),
    };
    let (executor, status) = (Arc::clone(&service.executor), Arc::clone(&service.status));
    let mut start = tokio::spawn(dbus::start(config, executor, status));
    let (stream, _) = listener.accept().await.expect("the transport connects");
    let stream = stream.into_std().expect("the socket is a socket");
    let bus = connection::Builder::unix_stream(stream).server(Guid::generate()).p2p();
    let mut sent = bus.build_message_stream().await.expect("the transport is welcome");
    let bus = Connection::from(&sent);
    // What it tells everybody meanwhile is for nobody here.
    let server = loop {
        tokio::select! {
            biased;
            _ = next(&bus, &mut sent) => {}
            server = &mut start => break server.expect("the transport does not panic"),
        }
    };
    (server.expect("the transport starts"), bus, sent)
}

/// What can be called.
fn operations() -> Vec<Operation> {
    let contract = Contract::built_in().expect("the contract is built in");
    let mut operations: Vec<Operation> =
        OTHERS.iter().map(|other| other.map(str::to_owned)).collect();
    for service in &contract.services {
        for operation in service.operations.iter().filter(|operation| operation.is_on_bus()) {
            operations.push([
                service.object_path.clone(),
                service.interface.clone(),
                operation.name.clone(),
                operation.shape.in_signature.clone(),
            ]);
        }
    }
    operations
}

/// The next message that is for a client; what the bus itself is asked is answered.
async fn next(bus: &Connection, sent: &mut MessageStream) -> Message {
    loop {
        let message = sent.next().await.expect("the service stays on the bus");
        let message = message.expect("the service sends messages");
        let header = message.header();
        let is_for_bus = header.destination().is_some_and(|name| name.as_str() == BUS);
        if message.message_type() != Type::MethodCall || !is_for_bus {
            drop(header);
            return message;
        }
        let reply = match header.member().map(|member| member.as_str()) {
            Some("Hello") => reply(&header, &":1.0"),
            Some("RequestName" | "ReleaseName") => reply(&header, &1_u32),
            Some("NameHasOwner") => reply(&header, &true),
            Some("GetConnectionCredentials") => {
                let user = [("UnixUserID", Variant::from(UID))];
                reply(&header, &HashMap::from(user))
            }
            _ => reply(&header, &()),
        };
        bus.send(&reply).await.expect("the answer is sent");
    }
}

fn reply<B: serde::Serialize + DynamicType>(call: &Header<'_>, body: &B) -> Message {
    let reply = Message::method_return(call).sender(BUS).build(body);
    reply.expect("an answer can be written")
}
