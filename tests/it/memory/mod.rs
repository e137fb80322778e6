//! The memory agent, driven through the executor: what its contract promises, and what it refuses.

mod bulk;
mod expiry;
mod keys;
mod killed;
mod searching;
mod sessions;
mod transactions;
mod transfer;
mod values;
mod versions;
mod watching;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use op_dbus::call::{Attested, Caller, Context, Identity, Transport};
use op_dbus::contract::RawRequests;
use op_dbus::error::{Error, ErrorKind};
use op_dbus::executor::{Config, Input};
use op_dbus::proto::opdbus::agent::memory::v1::{BulkRecallRequest, BulkRecallResponse};
use op_dbus::task::{Event, Reading, Subscription};
use prost::Message;
use serde_json::{Value, json};

use crate::fixture::Service;

/// A user of the service.
#[derive(Clone)]
struct User {
    service: Arc<Service>,
    uid: u32,
}

impl User {
    fn new() -> Self {
        Self { service: Arc::new(Service::new(Config::default())), uid: 1000 }
    }

    fn other(&self) -> Self {
        Self { uid: self.uid + 1, ..self.clone() }
    }

    fn context(&self) -> Context {
        let identity = Identity::User { uid: self.uid, gid: None };
        let caller = Caller::new(identity, Attested::Kernel, "test");
        Context::new(Arc::new(caller), Transport::Grpc)
    }

    async fn call(&self, operation: &str, arguments: Value) -> Result<Value, Error> {
        let arguments = arguments.to_string();
        let executor = &self.service.executor;
        let result = executor.call_json("memory", operation, &arguments, self.context()).await?;
        Ok(serde_json::from_str(&result).unwrap())
    }

    async fn ok(&self, operation: &str, arguments: Value) -> Value {
        let shown = format!("{operation} {arguments}");
        self.call(operation, arguments).await.unwrap_or_else(|error| panic!("{shown}: {error}"))
    }

    async fn refused(&self, operation: &str, arguments: Value) -> Error {
        let shown = format!("{operation} {arguments}");
        self.call(operation, arguments).await.expect_err(&shown)
    }

    /// Calls an operation with one request and one response.
    async fn unary<A: Message + Default>(
        &self,
        operation: &str,
        request: impl Message,
    ) -> Result<A, Error> {
        let executor = &self.service.executor;
        let route = executor.find("memory", operation)?;
        let response =
            executor.call(&route, self.context(), request.encode_to_vec().into()).await?;
        Ok(A::decode(response).unwrap())
    }

    /// Starts an operation with a stream and reads what it says.
    async fn start(&self, operation: &str, input: Input) -> Subscription {
        let executor = &self.service.executor;
        let route = executor.find("memory", operation).unwrap();
        let task = executor.start(&route, self.context(), input).await.unwrap();
        task.read(Reading { is_client: true, ..Reading::default() }).unwrap()
    }

    /// Runs an operation that gives a stream.
    async fn replies<A: Message + Default>(
        &self,
        operation: &str,
        request: impl Message,
    ) -> Result<Vec<A>, Error> {
        let input = Input::One(request.encode_to_vec().into());
        let mut replies = self.start(operation, input).await;
        all(&mut replies).await
    }

    /// Runs an operation that takes a stream; it breaks after `requests` with the error, if there is one.
    async fn send<A: Message + Default>(
        &self,
        operation: &str,
        requests: Vec<impl Message>,
        breaks: Option<Error>,
    ) -> Result<A, Error> {
        let (sender, received) = RawRequests::bounded(1);
        let mut replies = self.start(operation, Input::Many(received)).await;
        let encoded = requests.into_iter().map(|request| Ok(Bytes::from(request.encode_to_vec())));
        let feed = async move {
            for request in encoded.chain(breaks.map(Err)) {
                if sender.send(request).await.is_err() {
                    break;
                }
            }
        };
        let (answers, ()) = tokio::join!(all(&mut replies), feed);
        Ok(answers?.remove(0))
    }

    /// The values of keys; `None` for those that are not there.
    async fn bulk(&self, keys: &[String]) -> Vec<Option<Value>> {
        let request = BulkRecallRequest { keys: keys.to_vec(), ..BulkRecallRequest::default() };
        let pieces: Vec<BulkRecallResponse> = self.replies("BulkRecall", request).await.unwrap();
        let items: Vec<_> = pieces.into_iter().flat_map(|piece| piece.items).collect();
        assert!(items.iter().map(|item| &item.key).eq(keys), "in the order of the request");
        items.into_iter().map(|item| item.entry.map(|entry| plain(entry.value))).collect()
    }

    async fn remember(&self, key: &str, value: Value) -> u64 {
        version(&self.ok("Remember", json!({"key": key, "value": value})).await)
    }

    async fn value(&self, key: &str) -> Option<Value> {
        match self.call("Recall", json!({"key": key})).await {
            Ok(mut answer) => Some(answer["value"].take()),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
                None
            }
        }
    }

    async fn keys(&self, arguments: Value) -> Vec<String> {
        let answer = self.ok("List", arguments).await;
        let keys = answer["keys"].as_array().unwrap();
        keys.iter().map(|info| info["key"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until the time of a key is over.
    async fn gone(&self, key: &str) {
        let limit = Instant::now() + Duration::from_secs(10);
        while self.value(key).await.is_some() {
            assert!(Instant::now() < limit, "{key} stays");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn gauge(&self, quantity: &str) -> i64 {
        self.service.executor.metrics().store("memory", quantity).get()
    }
}

/// The messages of a stream until its end.
async fn all<A: Message + Default>(replies: &mut Subscription) -> Result<Vec<A>, Error> {
    let mut messages = Vec::new();
    loop {
        match replies.next().await.unwrap() {
            Event::Message(message) => messages.push(A::decode(message.payload).unwrap()),
            Event::Ended(outcome) => return outcome.map(|()| messages),
            other @ (Event::Gap { .. } | Event::Changed) => panic!("{other:?}"),
        }
    }
}

/// A number or a text as JSON.
fn plain(value: Option<prost_types::Value>) -> Value {
    use prost_types::value::Kind;
    match value.and_then(|value| value.kind) {
        Some(Kind::NumberValue(number)) => json!(number),
        Some(Kind::StringValue(text)) => json!(text),
        other => panic!("{other:?}"),
    }
}

/// 64-bit integers are strings in protobuf's JSON.
fn version(answer: &Value) -> u64 {
    answer["version"].as_str().unwrap().parse().unwrap()
}
