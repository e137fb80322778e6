//! The ways to make a call: typed and as JSON, over both transports.

#![expect(
    clippy::cast_possible_truncation,
    clippy::wildcard_enum_match_arm,
    reason = "a case that has another type fails the test"
)]

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Buf as _, BufMut as _, Bytes};
use http::uri::PathAndQuery;
use op_dbus::call::Transport;
use op_dbus::contract::{Argument, Contract, Operation, json_to_message, message_to_json};
use op_dbus::executor::Config;
use op_dbus::transport::{dbus, grpc};
use serde_json::{Map, Value, json};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use zbus::{Connection, Structure, Variant};

use crate::fixture::{Bus, Service};

/// One way to make a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    TypedOverGrpc,
    TypedOverDbus,
    JsonOverGrpc,
    JsonOverDbus,
}

impl Way {
    pub const ALL: [Self; 4] =
        [Self::TypedOverGrpc, Self::TypedOverDbus, Self::JsonOverGrpc, Self::JsonOverDbus];

    pub fn transport(self) -> Transport {
        match self {
            Self::TypedOverGrpc | Self::JsonOverGrpc => Transport::Grpc,
            Self::TypedOverDbus | Self::JsonOverDbus => Transport::Dbus,
        }
    }
}

/// The response as JSON, or the reason of the error.
pub type Outcome = Result<Value, String>;

/// The service on both transports, and a client of each.
pub struct World {
    service: Service,
    contract: Contract,
    bus: Connection,
    channel: Channel,
    _servers: (dbus::Server, grpc::Server),
    _bus: Bus,
}

impl World {
    pub async fn start() -> Self {
        let bus = Bus::start();
        let service = Service::new(Config::default());
        let (executor, status) = (&service.executor, &service.status);
        let config = dbus::Config {
            bus: dbus::Bus::Address(bus.address.clone()),
            name: "org.opdbus.Agents1".to_owned(),
            max_body_bytes: 1024 * 1024,
        };
        let over_dbus =
            dbus::start(config, Arc::clone(executor), Arc::clone(status)).await.unwrap();
        let path = service.folder.path().join("grpc.sock");
        let config = grpc::Config {
            unix: Some(grpc::UnixSocket { path: path.clone(), mode: 0o600, group: None }),
            inherited: Vec::new(),
            tcp: None,
            max_request_bytes: 4 * 1024 * 1024,
            max_response_bytes: 16 * 1024 * 1024,
            max_connections: 64,
            max_connections_per_uid: 64,
        };
        let over_grpc =
            grpc::start(config, Arc::clone(executor), Arc::clone(status)).await.unwrap();
        let address = bus.address.as_str();
        let connection = zbus::connection::Builder::address(address).build().await.unwrap();
        let endpoint = Endpoint::from_shared(format!("unix:{}", path.display())).unwrap();
        Self {
            contract: Contract::built_in().unwrap(),
            bus: connection,
            channel: endpoint.connect().await.unwrap(),
            service,
            _servers: (over_dbus, over_grpc),
            _bus: bus,
        }
    }

    pub async fn call(&self, way: Way, agent: &str, operation: &str, arguments: Value) -> Outcome {
        match way {
            Way::TypedOverGrpc => self.typed_over_grpc(agent, operation, &arguments).await,
            Way::TypedOverDbus => self.typed_over_dbus(agent, operation, arguments).await,
            Way::JsonOverGrpc | Way::JsonOverDbus => {
                self.call_json(way.transport(), agent, operation, &arguments.to_string()).await
            }
        }
    }

    async fn typed_over_grpc(&self, agent: &str, operation: &str, arguments: &Value) -> Outcome {
        let operation = self.operation(agent, operation);
        let request = json_to_message(&operation.input, &arguments.to_string()).unwrap();
        let response = self.unary(&operation.grpc_path, request.into()).await?;
        let text = message_to_json(&operation.output, &response).unwrap();
        Ok(serde_json::from_str(&text).unwrap())
    }

    async fn typed_over_dbus(&self, agent: &str, name: &str, arguments: Value) -> Outcome {
        let service = self.contract.services.iter().find(|service| service.id == agent).unwrap();
        let operation = self.operation(agent, name);
        let Value::Object(mut fields) = arguments else { panic!("a request is an object") };
        let mut body = Structure::builder();
        for argument in &operation.shape.inputs {
            let value = fields.remove(argument.field.name()).unwrap_or_default();
            body.push_value(argument_of(argument, &value));
        }
        let options: HashMap<String, Variant<'static>> = fields
            .into_iter()
            .map(|(name, value)| (name.clone(), option_of(&name, &value)))
            .collect();
        let body = body.append_field(Variant::from(options)).build().unwrap();
        let (path, interface) = (service.object_path.as_str(), service.interface.as_str());
        let reply = self.over_bus(path, interface, &operation.name, &body).await?;
        if operation.shape.out_signature.is_empty() {
            return Ok(json!({}));
        }
        let body = reply.body();
        let reply: Structure<'_> = body.deserialize().unwrap();
        let mut response = Map::new();
        let mut values = reply.fields().iter();
        for (argument, value) in operation.shape.outputs.iter().zip(values.by_ref()) {
            response.insert(argument.field.name().to_owned(), json_of(value));
        }
        if let Some(Value::Object(extra)) = values.next().map(json_of) {
            response.extend(extra);
        }
        Ok(Value::Object(response))
    }

    pub async fn call_json(
        &self,
        transport: Transport,
        agent: &str,
        operation: &str,
        arguments: &str,
    ) -> Outcome {
        let text: String = match transport {
            Transport::Grpc => {
                let json = json!({"agent": agent, "operation": operation, "arguments": arguments});
                let call = self.operation("agents", "CallJson");
                let request = json_to_message(&call.input, &json.to_string()).unwrap();
                let response = self.unary(&call.grpc_path, request.into()).await?;
                let text = message_to_json(&call.output, &response).unwrap();
                let response: Value = serde_json::from_str(&text).unwrap();
                response["result"].as_str().unwrap().to_owned()
            }
            Transport::Dbus => {
                let options: HashMap<String, Variant<'static>> = HashMap::new();
                let body = (agent, operation, arguments, options);
                let manager = "org.opdbus.Agents1";
                let reply =
                    self.over_bus("/org/opdbus/Agents1", manager, "CallJson", &body).await?;
                let (text, _): (String, HashMap<String, Variant<'_>>) = reply
                    .body()
                    .deserialize()
                    .map(|(text, _): (String, HashMap<String, Variant<'_>>)| (text, HashMap::new()))
                    .unwrap();
                text
            }
        };
        Ok(serde_json::from_str(&text).unwrap())
    }

    async fn over_bus<B>(
        &self,
        path: &str,
        interface: &str,
        method: &str,
        body: &B,
    ) -> Result<zbus::Message, String>
    where
        B: serde::Serialize + zbus::DynamicType,
    {
        let name = "org.opdbus.Agents1";
        let reply = self.bus.call_method(Some(name), path, Some(interface), method, body).await;
        reply.map_err(|error| match error {
            zbus::Error::MethodError(name, _, _) => {
                upper_snake(name.as_str().strip_prefix("org.opdbus.Error.").unwrap())
            }
            other => panic!("no reply: {other}"),
        })
    }

    async fn unary(&self, path: &str, request: Bytes) -> Result<Bytes, String> {
        let mut grpc = tonic::client::Grpc::new(self.channel.clone());
        grpc.ready().await.unwrap();
        let path: PathAndQuery = path.parse().unwrap();
        let outcome = grpc.unary(Request::new(request), path, Raw).await;
        outcome.map(tonic::Response::into_inner).map_err(|status| {
            let details = tonic_types::StatusExt::get_details_error_info(&status);
            details.expect("every error has an ErrorInfo").reason
        })
    }

    fn operation(&self, agent: &str, operation: &str) -> Arc<Operation> {
        let service = self.contract.services.iter().find(|service| service.id == agent).unwrap();
        Arc::clone(service.operation(operation).unwrap())
    }

    /// The counters of an operation, by transport and outcome.
    pub fn counts(&self, agent: &str, operation: &str) -> HashMap<(String, String), f64> {
        let text = self.service.executor.metrics().render().unwrap();
        let begin =
            format!("opdbus_calls_total{{agent=\"{agent}\",operation=\"{operation}\",outcome=\"");
        text.lines()
            .filter_map(|line| {
                let (outcome, rest) = line.strip_prefix(&begin)?.split_once("\",transport=\"")?;
                let (transport, value) = rest.split_once("\"} ")?;
                Some(((transport.to_owned(), outcome.to_owned()), value.parse().unwrap()))
            })
            .collect()
    }

    /// Checks that since `before` exactly one call was counted, where it belongs.
    pub fn check_counted(
        &self,
        agent: &str,
        operation: &str,
        transport: Transport,
        outcome: &str,
        before: &HashMap<(String, String), f64>,
    ) {
        let mut expected = before.clone();
        *expected.entry((transport.name().to_owned(), outcome.to_owned())).or_default() += 1.0;
        assert_eq!(
            self.counts(agent, operation),
            expected,
            "{agent}.{operation} over {transport:?}"
        );
    }
}

/// A positional argument from its JSON form.
fn argument_of(argument: &Argument, value: &Value) -> Variant<'static> {
    match argument.signature.as_str() {
        "s" => Variant::from(value.as_str().unwrap_or_default().to_owned()),
        // A variant as an argument is a variant in a variant here.
        "v" => Variant::Variant(Box::new(variant_of(value))),
        "as" => Variant::from(texts(value)),
        "ay" => Variant::from(vec![0_u8, 1, 2]),
        "b" => Variant::from(value.as_bool().unwrap_or_default()),
        "t" => Variant::from(integer(value).unsigned_abs()),
        "u" => Variant::from(u32::try_from(integer(value)).unwrap()),
        "x" => Variant::from(micros(value)),
        other => panic!("{other} is not in any case"),
    }
}

/// An option from its JSON form. The names say which texts are not texts.
fn option_of(name: &str, value: &Value) -> Variant<'static> {
    match (name, value) {
        ("ttl", value) => Variant::from(micros(value)),
        ("by" | "if_version" | "version" | "budget_tokens", value) => Variant::from(integer(value)),
        ("tags" | "keys", value) => Variant::from(texts(value)),
        ("compare" | "success" | "failure" | "items", Value::Array(items)) => {
            let items: Vec<HashMap<String, Variant<'static>>> =
                items.iter().map(message_of).collect();
            Variant::from(items)
        }
        ("remember" | "recall", value) => Variant::from(message_of(value)),
        (_, Value::Number(number)) if number.is_i64() => Variant::from(number.as_i64().unwrap()),
        (_, value) => variant_of(value),
    }
}

fn message_of(value: &Value) -> HashMap<String, Variant<'static>> {
    let fields = value.as_object().unwrap();
    fields.iter().map(|(name, value)| (name.clone(), option_of(name, value))).collect()
}

/// A `google.protobuf.Value`.
fn variant_of(value: &Value) -> Variant<'static> {
    match value {
        Value::Null => Variant::Signature(zbus::Signature::Unit),
        Value::Bool(value) => Variant::from(*value),
        Value::Number(number) => Variant::from(number.as_f64().unwrap()),
        Value::String(text) => Variant::from(text.clone()),
        Value::Array(items) => Variant::from(items.iter().map(variant_of).collect::<Vec<_>>()),
        Value::Object(fields) => Variant::from(
            fields
                .iter()
                .map(|(name, value)| (name.clone(), variant_of(value)))
                .collect::<HashMap<_, _>>(),
        ),
    }
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// An integer of the canonical mapping, where those of 64 bits are texts.
fn integer(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| value.as_str().unwrap().parse().unwrap())
}

/// A duration of the canonical mapping in microseconds.
fn micros(value: &Value) -> i64 {
    let seconds: f64 = value.as_str().unwrap().strip_suffix('s').unwrap().parse().unwrap();
    (seconds * 1e6).round() as i64
}

/// A value from the bus as JSON.
fn json_of(value: &Variant<'_>) -> Value {
    match value {
        Variant::Variant(inner) => json_of(inner),
        Variant::Bool(value) => json!(value),
        Variant::I32(value) => json!(value),
        Variant::U32(value) => json!(value),
        Variant::I64(value) => json!(value),
        Variant::U64(value) => json!(value),
        Variant::F64(value) => json!(value),
        Variant::Str(text) => json!(text.as_str()),
        Variant::Signature(_) => Value::Null,
        Variant::Array(items) if *items.element_signature() == zbus::Signature::U8 => json!("AAEC"),
        Variant::Array(items) => items.iter().map(json_of).collect(),
        Variant::Dict(entries) => {
            let entries = entries.iter().map(|(key, value)| {
                let Variant::Str(key) = key else { panic!("{key:?} is no text") };
                (key.as_str().to_owned(), json_of(value))
            });
            Value::Object(entries.collect())
        }
        other => panic!("{other:?} is not in any case"),
    }
}

/// Takes out what differs between ways by nature: the key, times and versions, numbers as texts, and
/// what is left out when it is empty.
pub fn plain(value: &Value, key: &str) -> Value {
    const VOLATILE: [&str; 13] = [
        "version",
        "created_at",
        "updated_at",
        "expires_at",
        "undo_token",
        "chain_id",
        "started",
        "finished",
        // Of a session: a bus connection holds what is started on it, and says where it was started.
        "started_at",
        "used_at",
        "transport",
        "held",
        "object_path",
    ];
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(name, _)| !VOLATILE.contains(&name.as_str()));
            let plain = kept.map(|(name, value)| match (name.as_str(), value) {
                // JSON has the whole name of an enum's value, the bus the part that tells.
                ("level" | "role" | "status", Value::String(text)) => {
                    let part = text.rsplit('_').next().unwrap_or_default();
                    (name.clone(), json!(part.to_ascii_lowercase()))
                }
                _ => (name.clone(), plain(value, key)),
            });
            let mut plain: Vec<_> = plain.filter(|(_, value)| !is_empty(value)).collect();
            plain.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(plain.into_iter().collect())
        }
        Value::Array(items) => items.iter().map(|item| plain(item, key)).collect(),
        Value::Number(number) => json!(number.as_f64().unwrap().to_string()),
        Value::String(text) => json!(text.replace(key, "KEY")),
        Value::Null | Value::Bool(_) => value.clone(),
    }
}

fn is_empty(value: &Value) -> bool {
    [json!(null), json!(""), json!("0"), json!([]), json!({}), json!(false)].contains(value)
}

fn upper_snake(name: &str) -> String {
    let mut snake = String::new();
    for character in name.chars() {
        if character.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(character.to_ascii_uppercase());
    }
    snake
}

/// Messages as they are.
#[derive(Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
