//! The context manager through the executor, as a client reaches it, on a database of its own.

mod bounds;
mod compaction;
mod contexts;
mod finding;
mod transfer;

use std::sync::Arc;

use op_dbus::call::{Caller, Context, Identity, Transport};
use op_dbus::error::{Error, ErrorKind};
use op_dbus::executor::Config;
use op_dbus::proto::opdbus::agent::context_manager::v1::{
    AppendRequest, AppendResponse, Item, LoadRequest, LoadResponse, NewItem, Role, SaveRequest,
    SaveResponse, VersionsRequest, VersionsResponse,
};
use prost::Message;

use crate::fixture::Service;

/// A client with this uid.
pub struct Client {
    service: Arc<Service>,
    uid: u32,
}

impl Client {
    /// A client of a service of its own.
    pub fn new() -> Self {
        Self { service: Arc::new(Service::new(Config::default())), uid: 1000 }
    }

    /// Another user's client of the same service.
    pub fn other(&self) -> Self {
        Self { service: Arc::clone(&self.service), uid: self.uid + 1 }
    }

    /// Calls an operation.
    pub async fn call<A: Default + Message>(
        &self,
        operation: &str,
        request: impl Message,
    ) -> Result<A, Error> {
        let route = self.service.executor.find("context_manager", operation)?;
        let context = caller(self.uid);
        let request = request.encode_to_vec().into();
        let response = self.service.executor.call(&route, context, request).await?;
        Ok(A::decode(response).unwrap())
    }

    pub async fn save(&self, name: &str, items: Vec<NewItem>) -> SaveResponse {
        let request = SaveRequest { name: name.into(), items, ..SaveRequest::default() };
        self.call("Save", request).await.unwrap()
    }

    pub async fn append(&self, name: &str, items: Vec<NewItem>) -> AppendResponse {
        let request = AppendRequest { name: name.into(), items, ..AppendRequest::default() };
        self.call("Append", request).await.unwrap()
    }

    pub async fn load(&self, name: &str) -> LoadResponse {
        self.call("Load", load(name)).await.unwrap()
    }

    pub async fn load_version(&self, name: &str, version: u64) -> LoadResponse {
        let request = LoadRequest { version: Some(version), ..load(name) };
        self.call("Load", request).await.unwrap()
    }

    pub async fn versions(&self, name: &str) -> VersionsResponse {
        self.call("Versions", VersionsRequest { name: name.into() }).await.unwrap()
    }

    /// Calls an operation that fails, with this kind and field.
    pub async fn refused(
        &self,
        operation: &str,
        request: impl Message,
        kind: ErrorKind,
        field: &str,
    ) -> Error {
        let error = self.call::<()>(operation, request).await.expect_err(operation);
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.message().contains(field), "{error} does not name {field}");
        error
    }

    /// What a gauge of the store says.
    pub fn gauge(&self, quantity: &str) -> i64 {
        let text = self.service.executor.metrics().render().unwrap();
        let line = text
            .lines()
            .find(|line| {
                line.contains("context_manager") && line.contains(&format!("\"{quantity}\""))
            })
            .unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }
}

pub fn caller(uid: u32) -> Context {
    let identity = Identity::User { uid, gid: Some(uid) };
    Context::new(Arc::new(Caller { identity, pid: None, address: "test".into() }), Transport::Grpc)
}

pub fn load(name: &str) -> LoadRequest {
    LoadRequest { name: name.into(), ..LoadRequest::default() }
}

pub fn says(role: Role, text: &str) -> NewItem {
    NewItem { role: role.into(), text: text.into(), ..NewItem::default() }
}

pub fn user(texts: &[&str]) -> Vec<NewItem> {
    texts.iter().map(|text| says(Role::User, text)).collect()
}

pub fn texts(items: &[Item]) -> Vec<&str> {
    items.iter().map(|item| item.text.as_str()).collect()
}
