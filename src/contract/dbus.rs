//! How the contract looks on D-Bus: names, arguments and signatures. It needs no bus and no D-Bus
//! library; the transport compiles its plans from this.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor};

use super::service::is_required;

/// The object that lists the agents and bears op-dbus's own interfaces.
pub const MANAGER_PATH: &str = "/org/opdbus/Agents1";

/// The object below which tasks are.
pub const TASKS_PATH: &str = "/org/opdbus/Agents1/task";

/// The object path above all sessions.
pub const SESSIONS_PATH: &str = "/org/opdbus/Agents1/session";

/// The type of a stream of requests as an argument.
pub const MESSAGES: &str = "aa{sv}";

/// A method's arguments.
#[derive(Debug)]
pub struct MethodShape {
    /// The in-arguments before the trailing `a{sv} options`.
    pub inputs: Vec<Argument>,
    /// True if the requests are a stream: the one in-argument is then `aa{sv} messages`.
    pub takes_messages: bool,
    /// The out-arguments before the trailing `a{sv} extra`.
    pub outputs: Vec<Argument>,
    /// True if the call becomes a task, as everything with a stream does: the one out-argument is then
    /// `o task`.
    pub gives_task: bool,
    /// True if the trailing `a{sv} extra` is there: always, but for `google.protobuf.Empty`.
    pub has_extra: bool,
    /// The signature of all in-arguments, `options` included.
    pub in_signature: String,
    /// The signature of all out-arguments, `extra` included.
    pub out_signature: String,
}

/// One positional argument.
#[derive(Debug)]
pub struct Argument {
    /// The field that it carries.
    pub field: FieldDescriptor,
    /// Its complete type.
    pub signature: String,
}

impl MethodShape {
    /// The shape of a method.
    #[must_use]
    pub fn of(method: &MethodDescriptor) -> Self {
        let takes_messages = method.is_client_streaming();
        let gives_task = takes_messages || method.is_server_streaming();
        let (input, output) = (method.input(), method.output());
        let inputs = if takes_messages { Vec::new() } else { positional(&input) };
        let outputs = if gives_task { Vec::new() } else { positional(&output) };
        let has_extra = gives_task || output.full_name() != "google.protobuf.Empty";
        let join = |instead: Option<&str>, arguments: &[Argument], trailing: bool| {
            let fields = arguments.iter().map(|argument| argument.signature.as_str());
            instead.into_iter().chain(fields).chain(trailing.then_some("a{sv}")).collect()
        };
        Self {
            in_signature: join(takes_messages.then_some(MESSAGES), &inputs, true),
            out_signature: join(gives_task.then_some("o"), &outputs, has_extra),
            inputs,
            takes_messages,
            outputs,
            gives_task,
            has_extra,
        }
    }
}

/// The fields that are positional arguments, in the order of their numbers.
fn positional(message: &MessageDescriptor) -> Vec<Argument> {
    let mut fields: Vec<FieldDescriptor> = message.fields().filter(is_required).collect();
    fields.sort_by_key(FieldDescriptor::number);
    fields.into_iter().map(|field| Argument { signature: signature(&field), field }).collect()
}

/// The object path of an agent.
#[must_use]
pub fn object_path(id: &str, manager: bool) -> String {
    if manager { MANAGER_PATH.to_owned() } else { format!("{MANAGER_PATH}/agent/{id}") }
}

/// The object path of a task.
#[must_use]
pub fn task_path(id: &str) -> String {
    format!("{TASKS_PATH}/{id}")
}

/// The interface of a service: `opdbus.agent.memory.v1.MemoryService` is `org.opdbus.Memory1`.
#[must_use]
pub fn interface_name(service: &str) -> String {
    let mut parts = service.rsplit('.');
    let name = parts.next().unwrap_or_default();
    let name = name.strip_suffix("Service").unwrap_or(name);
    let version = parts.next().and_then(|part| part.strip_prefix('v')).unwrap_or("1");
    format!("org.opdbus.{name}{version}")
}

/// The complete D-Bus type of a field.
#[must_use]
pub fn signature(field: &FieldDescriptor) -> String {
    if field.is_map()
        && let Kind::Message(entry) = field.kind()
    {
        let key = kind_signature(&entry.map_entry_key_field().kind());
        let value = kind_signature(&entry.map_entry_value_field().kind());
        return format!("a{{{key}{value}}}");
    }
    let element = kind_signature(&field.kind());
    if field.is_list() { format!("a{element}") } else { element.to_owned() }
}

/// The D-Bus type of one value of a kind.
fn kind_signature(kind: &Kind) -> &'static str {
    match kind {
        Kind::Bool => "b",
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => "i",
        Kind::Uint32 | Kind::Fixed32 => "u",
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => "x",
        Kind::Uint64 | Kind::Fixed64 => "t",
        Kind::Float | Kind::Double => "d",
        Kind::String | Kind::Enum(_) => "s",
        Kind::Bytes => "ay",
        Kind::Message(message) => match message.full_name() {
            "google.protobuf.Timestamp" | "google.protobuf.Duration" => "x",
            "google.protobuf.Value" => "v",
            "google.protobuf.ListValue" => "av",
            _ => "a{sv}",
        },
    }
}
