//! Calls of an operation to paste into a shell: with this command, busctl and grpcurl. They have
//! the right form with made-up values.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::arguments::{Kind, Schema, short_names};
use crate::client::{Bus, GrpcAddress, Settings};
use crate::proto::opdbus::v1::{AgentSummary, OperationDescription};

/// The text that stands for any.
const TEXT: &str = "example";

/// The calls.
pub(super) fn calls(
    agent: &AgentSummary,
    operation: &OperationDescription,
    request: &Schema<'_>,
    settings: &Settings,
) -> Vec<String> {
    let fields: Vec<(&str, Kind<'_>)> = request
        .fields()
        .into_iter()
        .filter(|field| field.required)
        .map(|field| (field.name, field.schema.kind()))
        .collect();
    let own = if operation.client_streaming { own_stream } else { own };
    let mut calls = vec![own(agent, operation, &fields)];
    if !operation.dbus_in.is_empty() {
        calls.push(busctl(agent, operation, &fields, settings));
    }
    calls.push(grpcurl(operation, &fields, settings));
    calls
}

fn own(
    agent: &AgentSummary,
    operation: &OperationDescription,
    fields: &[(&str, Kind<'_>)],
) -> String {
    let mut call = format!("op-dbusctl call {} {}", agent.id, operation.name);
    for (name, kind) in fields {
        let value = sample(kind);
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        write!(call, " {}", quoted(&format!("{name}={value}"))).expect("a String takes any text");
    }
    call
}

/// A call with a stream of requests, of which there is one.
fn own_stream(
    agent: &AgentSummary,
    operation: &OperationDescription,
    fields: &[(&str, Kind<'_>)],
) -> String {
    let request = quoted(&request(fields));
    format!("echo {request} | op-dbusctl call {} {} --data -", agent.id, operation.name)
}

fn request(fields: &[(&str, Kind<'_>)]) -> String {
    let request: Map<String, Value> =
        fields.iter().map(|(name, kind)| ((*name).to_owned(), sample(kind))).collect();
    Value::Object(request).to_string()
}

fn busctl(
    agent: &AgentSummary,
    operation: &OperationDescription,
    fields: &[(&str, Kind<'_>)],
    settings: &Settings,
) -> String {
    let bus = match &settings.bus {
        Bus::System => String::new(),
        Bus::Session => "--user ".to_owned(),
        Bus::Address(address) => format!("--address={} ", quoted(address)),
    };
    let mut call = format!(
        "busctl {bus}call {} {} {} {} {}",
        settings.name,
        agent.object_path,
        agent.interface,
        operation.name,
        quoted(&operation.dbus_in)
    );
    if operation.client_streaming {
        // The messages, of which there are none either.
        call.push_str(" 0 0");
        return call;
    }
    let types = complete_types(&operation.dbus_in);
    for (signature, kind) in types.iter().zip(fields.iter().map(|(_, kind)| kind)) {
        write!(call, " {}", busctl_sample(signature, kind)).expect("a String takes any text");
    }
    // The options, of which there are none.
    call.push_str(" 0");
    call
}

fn grpcurl(
    operation: &OperationDescription,
    fields: &[(&str, Kind<'_>)],
    settings: &Settings,
) -> String {
    let request = quoted(&request(fields));
    let method = operation.grpc_path.trim_start_matches('/');
    match settings.addresses.first() {
        Some(GrpcAddress::Http(uri)) => {
            let host = uri.trim_start_matches("http://").trim_end_matches('/');
            format!("grpcurl -plaintext -d {request} {host} {method}")
        }
        Some(GrpcAddress::Https(uri)) => {
            let host = uri.trim_start_matches("https://").trim_end_matches('/');
            format!("grpcurl -cacert CA -cert CERT -key KEY -d {request} {host} {method}")
        }
        Some(GrpcAddress::Unix(path)) => format!(
            "grpcurl -plaintext -unix -authority localhost -d {request} {} {method}",
            quoted(&path.display().to_string())
        ),
        None => String::new(),
    }
}

/// A value in its JSON form.
fn sample(kind: &Kind<'_>) -> Value {
    match kind {
        Kind::Bool => json!(true),
        Kind::Integer { text: true, .. } => json!("1"),
        Kind::Integer { .. } => json!(1),
        Kind::Number => json!(1.5),
        Kind::Text | Kind::Any => json!(TEXT),
        Kind::Bytes => json!("aGVsbG8="),
        Kind::Choice(names) => json!(names.last().copied().unwrap_or_default()),
        Kind::Time => json!("2026-01-31T12:00:00Z"),
        Kind::Duration => json!("90s"),
        Kind::Struct | Kind::Message(_) | Kind::Map(_) => json!({}),
        Kind::List(Some(items)) => json!([sample(&items.kind())]),
        Kind::List(None) => json!([TEXT]),
    }
}

/// A value as busctl reads it.
fn busctl_sample(signature: &str, kind: &Kind<'_>) -> String {
    match (signature, kind) {
        ("s", Kind::Choice(names)) => short_names(names).pop().unwrap_or_default(),
        ("s", _) => TEXT.to_owned(),
        ("b", _) => "true".to_owned(),
        ("x", Kind::Time) => "1769860800000000".to_owned(),
        ("x", Kind::Duration) => "90000000".to_owned(),
        ("i" | "u" | "x" | "t", _) => "1".to_owned(),
        ("d", _) => "1.5".to_owned(),
        ("v", _) => format!("s {TEXT}"),
        ("ay", _) => "5 104 101 108 108 111".to_owned(),
        (list, Kind::List(Some(items))) if !list.contains('{') => {
            format!("1 {}", busctl_sample(&list[1..], &items.kind()))
        }
        _ => "0".to_owned(),
    }
}

/// The complete types that a signature is made of.
fn complete_types(signature: &str) -> Vec<&str> {
    let mut types = Vec::new();
    let mut rest = signature;
    while !rest.is_empty() {
        let mut depth = 0_usize;
        let mut end = rest.len();
        for (index, c) in rest.char_indices() {
            match c {
                '{' | '(' => depth += 1,
                '}' | ')' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 && c != 'a' {
                end = index + c.len_utf8();
                break;
            }
        }
        let (first, tail) = rest.split_at(end);
        types.push(first);
        rest = tail;
    }
    types
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {

    use prost_reflect::MessageDescriptor;

    use super::*;
    use crate::contract::{Contract, json_to_message, message_schema};

    /// The calls of an operation of the contract.
    fn calls_of(agent: &str, operation: &str) -> Vec<String> {
        let contract = Contract::built_in().unwrap();
        let service = contract.services.iter().find(|service| service.id == agent).unwrap();
        let operation = service.operation(operation).unwrap();
        let schema = message_schema(&operation.input);
        let summary = AgentSummary {
            id: service.id.clone(),
            object_path: service.object_path.clone(),
            interface: service.interface.clone(),
            ..AgentSummary::default()
        };
        let description = OperationDescription {
            name: operation.name.clone(),
            dbus_in: operation.shape.in_signature.clone(),
            grpc_path: operation.grpc_path.clone(),
            client_streaming: operation.client_streaming,
            ..OperationDescription::default()
        };
        calls(&summary, &description, &Schema::new(&schema), &Settings::default())
    }

    #[test]
    fn the_calls_have_the_operations_form() {
        assert_eq!(
            calls_of("memory", "Remember"),
            [
                "op-dbusctl call memory Remember key=example value=example",
                "busctl call org.opdbus.Agents1 /org/opdbus/Agents1/agent/memory \
                 org.opdbus.Memory1 Remember 'sva{sv}' example s example 0",
                "grpcurl -plaintext -unix -authority localhost -d \
                 '{\"key\":\"example\",\"value\":\"example\"}' /run/op-dbus/grpc.sock \
                 opdbus.agent.memory.v1.MemoryService/Remember",
            ]
        );
        assert_eq!(
            calls_of("memory", "BulkRemember")[0],
            "echo '{\"remember\":{}}' | op-dbusctl call memory BulkRemember --data -"
        );
        assert!(calls_of("memory", "BulkRecall")[1].ends_with("BulkRecall 'asa{sv}' 1 example 0"));
        assert!(calls_of("agents", "Ping")[1].ends_with("Ping 'aya{sv}' 5 104 101 108 108 111 0"));
    }

    /// False for the members of a oneof that are not its first.
    fn is_first_choice(message: &MessageDescriptor, name: &str) -> bool {
        let field = message.get_field_by_name(name).unwrap();
        let first = field.containing_oneof().and_then(|choice| choice.fields().next());
        first.is_none_or(|first| first.number() == field.number())
    }

    #[test]
    fn the_made_up_requests_are_requests() {
        for service in Contract::built_in().unwrap().services {
            for operation in &service.operations {
                let schema = message_schema(&operation.input);
                let request: Map<String, Value> = Schema::new(&schema)
                    .fields()
                    .iter()
                    .map(|field| (field.name.to_owned(), sample(&field.schema.kind())))
                    .filter(|(name, _)| is_first_choice(&operation.input, name))
                    .collect();
                let json = Value::Object(request).to_string();
                json_to_message(&operation.input, &json)
                    .unwrap_or_else(|error| panic!("{}: {json}: {error}", operation.grpc_path));
            }
        }
    }

    #[test]
    fn signatures_fall_into_complete_types() {
        assert_eq!(
            complete_types("sa{sv}ayaa{sv}a(ii)v"),
            ["s", "a{sv}", "ay", "aa{sv}", "a(ii)", "v"]
        );
        assert_eq!(complete_types("a"), ["a"]);
    }

    #[test]
    fn words_survive_the_shell() {
        assert_eq!(quoted("a=b"), "a=b");
        assert_eq!(quoted("it's"), "'it'\\''s'");
        assert_eq!(quoted(""), "''");
    }
}
