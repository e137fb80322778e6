//! The memory agent, driven through the executor: what its contract promises, and what it refuses.

mod expiry;
mod keys;
mod transactions;
mod values;
mod versions;

use std::sync::Arc;
use std::time::{Duration, Instant};

use op_dbus::call::{Caller, Context, Identity, Transport};
use op_dbus::error::{Error, ErrorKind};
use op_dbus::executor::Config;
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
        let caller = Caller { identity, pid: None, address: "test".into() };
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

/// 64-bit integers are strings in protobuf's JSON.
fn version(answer: &Value) -> u64 {
    answer["version"].as_str().unwrap().parse().unwrap()
}
