//! The context manager through the executor, as a client reaches it, on a database of its own.

mod bounds;
mod compaction;
mod contexts;
mod finding;
mod sessions;
mod transfer;

use std::sync::Arc;

use op_dbus::call::{Attested, Caller, Context, Identity, Transport};
use op_dbus::error::{Error, ErrorKind};
use op_dbus::executor::Config;
use op_dbus::proto::opdbus::agent::context_manager::v1::{
    AppendRequest, AppendResponse, ExportRequest, ExportResponse, ImportRequest, ImportResponse,
    Item, LoadRequest, LoadResponse, NewItem, Role, SaveRequest, SaveResponse, VersionsRequest,
    VersionsResponse,
};
use prost::Message;

use crate::fixture::Service;

/// A client with this uid.
pub struct Client {
    service: Arc<Service>,
    uid: u32,
    session: Option<Arc<str>>,
}

impl Client {
    /// A client of a service of its own.
    pub fn new() -> Self {
        Self { service: Arc::new(Service::new(Config::default())), uid: 1000, session: None }
    }

    /// Another user's client of the same service.
    pub fn other(&self) -> Self {
        Self { service: Arc::clone(&self.service), uid: self.uid + 1, session: None }
    }

    /// The same user's client in a session, which is started if it is not there.
    pub async fn in_session(&self, id: &str) -> Self {
        self.service.session(self.uid, id).await;
        Self { service: Arc::clone(&self.service), uid: self.uid, session: Some(id.into()) }
    }

    /// Ends a session of the user, and starts another with the same id, which waits until the agents
    /// have forgotten the first.
    pub async fn end_session(&self, id: &str) {
        self.service.executor.sessions().end(self.uid, id).unwrap();
        self.in_session(id).await;
    }

    fn context(&self) -> Context {
        Context { session: self.session.clone(), ..caller(self.uid) }
    }

    /// Exports; the text, and the last message without its piece.
    pub async fn export(&self, request: ExportRequest) -> Result<(String, ExportResponse), Error> {
        let operation = ("context_manager", "Export");
        let replies: Vec<ExportResponse> =
            self.service.stream(operation, self.context(), [Ok(request)]).await?;
        let (last, others) = replies.split_last().expect("there is a last piece");
        assert!(last.is_final && others.iter().all(|piece| !piece.is_final));
        assert!(!replies[0].media_type.is_empty());
        let text: Vec<u8> = replies.iter().flat_map(|piece| piece.data.to_vec()).collect();
        Ok((String::from_utf8(text).unwrap(), last.clone()))
    }

    /// Imports a text that is cut into pieces of `size` bytes; `request` says how.
    pub async fn import(
        &self,
        request: ImportRequest,
        text: &str,
        size: usize,
    ) -> Result<ImportResponse, Error> {
        let mut pieces = vec![Ok(request)];
        pieces.extend(text.as_bytes().chunks(size).map(|piece| {
            let data = bytes::Bytes::copy_from_slice(piece);
            Ok(ImportRequest { data, ..ImportRequest::default() })
        }));
        self.import_pieces(pieces).await
    }

    pub async fn import_pieces(
        &self,
        pieces: Vec<Result<ImportRequest, Error>>,
    ) -> Result<ImportResponse, Error> {
        let operation = ("context_manager", "Import");
        let replies = self.service.stream(operation, self.context(), pieces).await?;
        assert_eq!(replies.len(), 1);
        Ok(replies.into_iter().next().unwrap())
    }

    /// Calls an operation.
    pub async fn call<A: Default + Message>(
        &self,
        operation: &str,
        request: impl Message,
    ) -> Result<A, Error> {
        let route = self.service.executor.find("context_manager", operation)?;
        let context = self.context();
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
        let request = VersionsRequest { name: name.into(), ..VersionsRequest::default() };
        self.call("Versions", request).await.unwrap()
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
        check(&error, kind, field);
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

/// Checks that an error is of this kind and names this field.
pub fn check(error: &Error, kind: ErrorKind, field: &str) {
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.message().contains(field), "{error} does not name {field}");
}

pub fn caller(uid: u32) -> Context {
    let identity = Identity::User { uid, gid: Some(uid) };
    Context::new(Arc::new(Caller::new(identity, Attested::Kernel, "test")), Transport::Grpc)
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
