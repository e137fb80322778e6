//! The ways to make a call: typed and as JSON, over both transports.

#![expect(clippy::wildcard_enum_match_arm, reason = "what is none of these fails the test")]

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Buf as _, BufMut as _, Bytes};
use http::uri::PathAndQuery;
use op_dbus::call::Transport;
use op_dbus::contract::{Contract, Operation, json_to_message, message_to_json};
use op_dbus::executor::Config;
use op_dbus::transport::{dbus, grpc};
use serde_json::{Map, Value, json};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use zbus::{Connection, Structure, Variant};

use super::values::{self, json_of};
use crate::fixture::{Bus, Service, open};

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
    pub(super) service: Service,
    pub(super) contract: Contract,
    pub(super) bus: Connection,
    pub(super) channel: Channel,
    _servers: (dbus::Server, grpc::Server),
    _bus: Bus,
}

impl World {
    pub async fn start() -> Self {
        Self::with(open()).await
    }

    /// The same with other settings.
    pub async fn with(config: Config) -> Self {
        let bus = Bus::start();
        let service = Service::new(config);
        let (executor, status) = (&service.executor, &service.status);
        let config = dbus::Config {
            bus: dbus::Bus::Address(bus.address.clone()),
            name: "org.opdbus.Agents1".to_owned(),
            max_body_bytes: 1024 * 1024,
            legacy: dbus::LegacyName::all().collect(),
        };
        let over_dbus =
            dbus::start(config, Arc::clone(executor), Arc::clone(status)).await.unwrap();
        let path = service.folder.path().join("grpc.sock");
        let config = grpc::Config {
            unix: Some(grpc::UnixSocket { path: path.clone(), mode: 0o600, group: None }),
            inherited: Vec::new(),
            tcp: None,
            tls: None,
            access: grpc::Access::default(),
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
            body.push_value(values::argument_of(&argument.field, &value));
        }
        let options = values::message_of(&operation.input, &fields);
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

    pub(super) fn operation(&self, agent: &str, operation: &str) -> Arc<Operation> {
        let service = self.contract.services.iter().find(|service| service.id == agent).unwrap();
        Arc::clone(service.operation(operation).unwrap())
    }

    /// The counters of an operation on op-dbus's own interfaces, by transport and outcome.
    pub fn counts(&self, agent: &str, operation: &str) -> HashMap<(String, String), f64> {
        let text = self.service.executor.metrics().render().unwrap();
        let begin = format!(
            "opdbus_calls_total{{agent=\"{agent}\",interface=\"own\",operation=\"{operation}\",outcome=\""
        );
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

pub(super) fn upper_snake(name: &str) -> String {
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
pub(super) struct Raw;

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
