//! A client of one user, with a connection to each transport, that makes a call over any way.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use op_dbus::call::Transport;
use op_dbus::contract::{Contract, Operation, json_to_message, message_to_json};
use serde_json::{Value, json};
use zbus::{Connection, Variant};

use super::call::{Call, Form, MAX_REQUEST_BYTES, Said, Way};
use super::older;
use super::roles::Role;
use super::values::upper_snake;

pub const NAME: &str = "org.opdbus.Agents1";
const MANAGER: &str = "/org/opdbus/Agents1";

/// The bytes of gRPC before each message.
const FRAME_HEAD: usize = 5;

/// What stands beside a reply on D-Bus.
pub type Options<'a> = HashMap<&'a str, Variant<'a>>;

/// The connections of one user.
#[derive(Clone)]
pub struct Client {
    pub role: Role,
    contract: Arc<Contract>,
    bus: Connection,
    grpc: SendRequest<Full<Bytes>>,
}

impl Client {
    pub async fn connect(role: Role, contract: &Arc<Contract>, bus: &Path, grpc: &Path) -> Self {
        let bus = zbus::connection::Builder::unix_stream(role.connect(bus))
            .user_id(role.uid())
            .method_timeout(Duration::from_secs(600))
            .build();
        let socket = role.connect(grpc);
        socket.set_nonblocking(true).unwrap();
        let socket = TokioIo::new(tokio::net::UnixStream::from_std(socket).unwrap());
        let (grpc, connection) = http2::handshake(TokioExecutor::new(), socket).await.unwrap();
        tokio::spawn(connection);
        Self { role, contract: Arc::clone(contract), bus: bus.await.unwrap(), grpc }
    }

    pub fn bus(&self) -> &Connection {
        &self.bus
    }

    pub fn contract(&self) -> &Contract {
        &self.contract
    }

    /// Closes both connections.
    pub async fn close(self) {
        let Self { bus, grpc, .. } = self;
        drop(grpc);
        bus.close().await.unwrap();
    }

    /// Makes a call and waits for its end.
    pub async fn call(&self, way: Way, call: &Call) -> Said {
        match way.for_operation(&call.operation) {
            Way::TypedOverGrpc => {
                let (messages, reason) = self.over_grpc(call).await;
                Said::ended(call, messages, reason)
            }
            Way::TypedOverDbus if call.operation.is_streaming() => self.stream_over_bus(call).await,
            Way::TypedOverDbus => Said::of(call, self.typed_over_bus(call).await),
            Way::JsonOverGrpc | Way::JsonOverDbus if call.operation.is_streaming() => {
                self.as_task(way, call).await
            }
            Way::JsonOverGrpc | Way::JsonOverDbus => {
                Said::of(call, self.json(way, call).await.map(|answer| vec![answer]))
            }
            Way::Older => Said::of(call, self.older(call).await.map(|answer| vec![answer])),
        }
    }

    /// Makes a call that is not followed to its end if it is a stream.
    pub async fn begin(&self, way: Way, call: &Call) -> Said {
        match way.for_operation(&call.operation) {
            way @ (Way::JsonOverGrpc | Way::JsonOverDbus) if call.operation.is_streaming() => {
                self.start(way, call).await.1
            }
            Way::TypedOverDbus if call.operation.is_streaming() => {
                let body = self.body(call);
                let reply = self.method(call, &body).await;
                Said::of(call, reply.map(|_| Vec::new()))
            }
            way @ (Way::TypedOverGrpc
            | Way::TypedOverDbus
            | Way::JsonOverGrpc
            | Way::JsonOverDbus
            | Way::Older) => self.call(way, call).await,
        }
    }

    pub fn operation(&self, agent: &str, name: &str) -> Arc<Operation> {
        let services = &self.contract.services;
        let service = services.iter().find(|service| service.id == agent).unwrap();
        Arc::clone(service.operation(name).unwrap())
    }

    /// The messages of a call over gRPC, and the reason of its end.
    async fn over_grpc(&self, call: &Call) -> (Vec<Value>, Option<String>) {
        let (mut headers, body) = self.exchange(call).await;
        let body = body.collect().await.unwrap();
        headers.extend(body.trailers().cloned().unwrap_or_default());
        let body = body.to_bytes();
        let messages: Vec<&[u8]> = frames(&body).collect();
        let whole: usize = messages.iter().map(|message| message.len() + FRAME_HEAD).sum();
        assert_eq!(whole, body.len(), "a message is cut off");
        let messages = messages.into_iter().map(|message| message_of(&call.operation, message));
        (messages.collect(), reason(&headers))
    }

    /// Sends a call over gRPC and gives what it is answered with.
    pub async fn exchange(&self, call: &Call) -> (HeaderMap, Incoming) {
        let operation = &call.operation;
        let encoded = |request: &Value| {
            json_to_message(&operation.input, &request.to_string()).unwrap_or_else(|error| {
                panic!("{}.{} {request}: {error}", operation.agent, operation.name)
            })
        };
        let requests: Vec<Vec<u8>> = match call.form {
            Form::Right => call.requests().iter().map(encoded).collect(),
            Form::Unreadable => vec![vec![0xff; 3]],
            Form::TooLarge => vec![vec![0; MAX_REQUEST_BYTES + 1]],
        };
        let mut body = BytesMut::new();
        for request in requests {
            body.put_u8(0);
            body.put_u32(request.len().try_into().unwrap());
            body.put_slice(&request);
        }
        let mut request = Request::post(format!("http://localhost{}", operation.grpc_path))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        if let Some(id) = &call.request_id {
            request = request.header("opdbus-request-id", id);
        }
        if let Some(id) = &call.approval_id {
            request = request.header("opdbus-approval-id", id);
        }
        if call.is_late {
            request = request.header("grpc-timeout", "1n");
        }
        if call.ends_with_client && operation.is_streaming() {
            request = request.header("opdbus-on-disconnect", "cancel");
        }
        let mut grpc = self.grpc.clone();
        grpc.ready().await.unwrap();
        let answer = grpc.send_request(request.body(Full::new(body.freeze())).unwrap()).await;
        let (head, body) = answer.unwrap().into_parts();
        (head.headers, body)
    }

    /// A call by `CallJson`.
    pub async fn json(&self, way: Way, call: &Call) -> Result<Value, String> {
        let (agent, name) = (&call.operation.agent, &call.operation.name);
        self.json_named(way, (agent, name), &call.json(), call).await
    }

    /// The same for whatever name and text; `call` says what is beside it.
    pub async fn json_named(
        &self,
        way: Way,
        (agent, name): (&str, &str),
        arguments: &str,
        call: &Call,
    ) -> Result<Value, String> {
        let text = match way.transport() {
            Transport::Grpc => {
                let json = json!({"agent": agent, "operation": name, "arguments": arguments});
                let by_json = self.operation("agents", "CallJson");
                let by_json =
                    Call { operation: by_json, arguments: json, form: Form::Right, ..call.clone() };
                match self.over_grpc(&by_json).await {
                    (_, Some(reason)) => return Err(reason),
                    (messages, None) => messages[0]["result"].as_str().unwrap().to_owned(),
                }
            }
            Transport::Dbus => {
                let mut options = HashMap::new();
                let form = Form::Right;
                Self::options(&Call { form, ..call.clone() }, &mut options);
                let body = (agent, name, arguments, options);
                let interface = Some(NAME);
                let reply = self.bus.call_method(Some(NAME), MANAGER, interface, "CallJson", &body);
                let reply = reply.await.map_err(failed)?;
                let body = reply.body();
                let (text, _): (String, HashMap<String, Variant<'_>>) = body.deserialize().unwrap();
                text
            }
        };
        Ok(serde_json::from_str(&text).unwrap())
    }

    async fn older(&self, call: &Call) -> Result<Value, String> {
        let words = older::word(&call.operation).unwrap();
        let (name, interface) = (format!("org.dbusmcp.Agent.{}", words[0]), "org.dbusmcp.Agent");
        let path = format!("/org/dbusmcp/Agent/{}", words[0]);
        let task = older::task(call, words).to_string();
        let reply = self.bus.call_method(Some(name), path, Some(interface), "Execute", &task).await;
        match reply {
            Ok(reply) => older::result(reply.body().deserialize().unwrap()),
            Err(zbus::Error::FDO(error)) => {
                Err(older::reason(zbus::DBusError::description(&*error).unwrap_or_default()))
            }
            Err(zbus::Error::MethodError(_, text, _)) => Err(older::reason(&text.unwrap())),
            Err(other) => panic!("no reply: {other}"),
        }
    }
}

/// The whole messages at the begin of a body.
pub fn frames(mut body: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (head, rest) = body.split_at_checked(FRAME_HEAD)?;
        let length = u32::from_be_bytes(head[1..].try_into().unwrap());
        let (message, rest) = rest.split_at_checked(length as usize)?;
        body = rest;
        Some(message)
    })
}

/// A response as JSON.
pub fn message_of(operation: &Operation, message: &[u8]) -> Value {
    serde_json::from_str(&message_to_json(&operation.output, message).unwrap()).unwrap()
}

/// The reason of the error in headers and trailers.
fn reason(headers: &HeaderMap) -> Option<String> {
    let status = tonic::Status::from_header_map(headers).expect("an answer has a status");
    if status.code() == tonic::Code::Ok {
        return None;
    }
    let details = tonic_types::StatusExt::get_details_error_info(&status);
    Some(details.unwrap_or_else(|| panic!("no ErrorInfo: {status}")).reason)
}

/// The reason of an error on the bus.
pub fn failed(error: zbus::Error) -> String {
    if let zbus::Error::MethodError(name, ..) = error {
        return reason_of(name.as_str());
    }
    panic!("no reply: {error}")
}

/// The reason that the name of an error means.
pub fn reason_of(name: &str) -> String {
    let known = name.strip_prefix("org.opdbus.Error.");
    upper_snake(known.unwrap_or_else(|| panic!("{name} is no error of op-dbus")))
}
