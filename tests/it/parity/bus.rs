//! Typed calls on D-Bus: arguments in their places and options beside them, and streams as signals.

use std::collections::HashMap;

use serde_json::{Map, Value, json};
use zbus::{ObjectPath, Structure, Variant};

use super::call::{Call, Form, Said, too_long};
use super::client::{Client, NAME, Options, failed, reason_of};
use super::values::{self, json_of};
use crate::dbus::watch::{Watch, finished};

impl Client {
    pub(super) async fn typed_over_bus(&self, call: &Call) -> Result<Vec<Value>, String> {
        let operation = &call.operation;
        let reply = self.method(call, &self.body(call)).await?;
        if operation.shape.out_signature.is_empty() {
            return Ok(vec![json!({})]);
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
        Ok(vec![Value::Object(response)])
    }

    /// A stream on D-Bus: a task whose messages come as signals.
    pub(super) async fn stream_over_bus(&self, call: &Call) -> Said {
        let mut watch = Watch::new(self.bus());
        let reply = match self.begin_over_bus(&mut watch, call).await {
            Ok(reply) => reply,
            Err(name) => return Said::of(call, Err(reason_of(&name))),
        };
        let body = reply.body();
        let (path, _): (ObjectPath<'_>, Options<'_>) = body.deserialize().unwrap();
        let signals = watch.until_end(path.as_str()).await;
        let messages = signals.iter().filter(|(name, _)| name == "Message");
        let messages = messages.map(|(_, signal)| message_in(signal));
        let (state, name, ..) = finished(&signals);
        assert_eq!(state == "completed", name.is_empty());
        let reason = (!name.is_empty()).then(|| reason_of(&name));
        Said::ended(call, messages.collect(), reason)
    }

    /// Begins a stream on D-Bus.
    pub(super) async fn begin_over_bus(
        &self,
        watch: &mut Watch,
        call: &Call,
    ) -> Result<zbus::Message, String> {
        let (path, _) = self.object(call);
        watch.call(path, &call.operation.name, &self.body(call)).await
    }

    /// The body of a typed call on D-Bus.
    pub(super) fn body(&self, call: &Call) -> Structure<'static> {
        self.body_with(call, HashMap::new())
    }

    /// The same with these options besides.
    pub fn body_with(
        &self,
        call: &Call,
        mut options: HashMap<String, Variant<'static>>,
    ) -> Structure<'static> {
        let operation = &call.operation;
        let mut body = Structure::builder();
        if operation.client_streaming {
            let requests: Vec<_> = call
                .requests()
                .iter()
                .map(|request| values::message_of(&operation.input, request.as_object().unwrap()))
                .collect();
            body.push_value(Variant::from(requests));
        } else {
            let mut fields = call.arguments.as_object().unwrap().clone();
            for argument in &operation.shape.inputs {
                let value = fields.remove(argument.field.name()).unwrap_or_default();
                body.push_value(values::argument_of(&argument.field, &value));
            }
            options.extend(values::message_of(&operation.input, &fields));
        }
        Self::options(call, &mut options);
        body.append_field(Variant::from(options)).build().unwrap()
    }

    pub(super) fn options(call: &Call, options: &mut HashMap<String, Variant<'static>>) {
        let mut add = |name: &str, value: Variant<'static>| options.insert(name.to_owned(), value);
        match call.form {
            Form::Right => {}
            Form::Unreadable => drop(add("no_such_field", Variant::from(true))),
            Form::TooLarge => drop(add("no_such_field", Variant::from(too_long()))),
        }
        if let Some(id) = &call.request_id {
            add("request-id", Variant::from(id.clone()));
        }
        if let Some(id) = &call.approval_id {
            add("approval-id", Variant::from(id.clone()));
        }
        if call.is_late {
            add("deadline-ms", Variant::from(0_u32));
        }
        if call.ends_with_client && call.operation.is_streaming() {
            add("on-disconnect", Variant::from("cancel".to_owned()));
        }
    }

    /// Path and interface of the object that a call goes to.
    fn object(&self, call: &Call) -> (&str, &str) {
        let services = &self.contract().services;
        let service = services.iter().find(|service| service.id == call.operation.agent).unwrap();
        (&service.object_path, &service.interface)
    }

    pub(super) async fn method(
        &self,
        call: &Call,
        body: &Structure<'_>,
    ) -> Result<zbus::Message, String> {
        let (path, interface) = self.object(call);
        let name = call.operation.name.as_str();
        let reply = self.bus().call_method(Some(NAME), path, Some(interface), name, body);
        reply.await.map_err(failed)
    }
}

/// The message in a signal of a stream.
pub(super) fn message_in(signal: &zbus::Message) -> Value {
    let body = signal.body();
    let (_, _, fields): (u64, u64, Options<'_>) = body.deserialize().unwrap();
    let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), json_of(value)));
    Value::Object(fields.collect())
}
