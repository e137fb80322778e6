//! What is kept for a session: nobody else sees it, and it goes with the session. The agent is driven
//! alone, because whose session a call may name is not its business.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{self, Poll};

use bytes::Bytes;
use op_dbus::agents::{Settings, Setup, memory};
use op_dbus::call::{Attested, Caller, Context, Identity, SessionScope, Transport};
use op_dbus::contract::{Agent, Contract, RawReplies, RawRequests, ReplySink};
use op_dbus::error::{Error, ErrorKind};
use op_dbus::metrics::Metrics;
use op_dbus::proto::opdbus::agent::memory::v1::{
    ForgetRequest, ForgetResponse, ListRequest, ListResponse, RecallRequest, RecallResponse,
    RememberRequest, RememberResponse, Scope, SearchRequest, SearchResponse, StatsRequest,
    StatsResponse, WatchRequest,
};
use op_dbus::storage::{self, Durability};
use prost::Message;
use tempfile::TempDir;

const SESSION: i32 = Scope::Session as i32;

/// The agent, alone.
struct Lone {
    agent: Arc<dyn Agent>,
    contract: Contract,
    metrics: Arc<Metrics>,
    _folder: TempDir,
}

impl Lone {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let metrics = Arc::new(Metrics::new().unwrap());
        let path = folder.path().to_owned();
        let setup = Setup {
            storage: storage::Config { path, durability: Durability::Normal },
            metrics: Arc::clone(&metrics),
            status: Arc::default(),
            settings: Settings::default(),
        };
        let agent = memory::build(&setup).unwrap();
        Self { agent, contract: Contract::built_in().unwrap(), metrics, _folder: folder }
    }

    async fn call<A: Message + Default>(
        &self,
        context: &Context,
        operation: &str,
        request: impl Message,
    ) -> Result<A, Error> {
        let service = self.contract.service(self.agent.service()).unwrap();
        let index = service.operation(operation).unwrap().index;
        let request = Bytes::from(request.encode_to_vec());
        Ok(A::decode(self.agent.call(index, context, request).await?).unwrap())
    }

    async fn remember(&self, context: &Context, scope: i32, key: &str, text: &str) {
        let value = Some(prost_types::Value::from(text));
        let request =
            RememberRequest { key: key.into(), value, scope, ..RememberRequest::default() };
        let _: RememberResponse = self.call(context, "Remember", request).await.unwrap();
    }

    async fn text(&self, context: &Context, scope: i32, key: &str) -> Option<String> {
        let request = RecallRequest { key: key.into(), scope, ..RecallRequest::default() };
        match self.call::<RecallResponse>(context, "Recall", request).await {
            Ok(answer) => super::plain(answer.value).as_str().map(str::to_owned),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
                None
            }
        }
    }

    async fn keys(&self, context: &Context, scope: i32) -> usize {
        let request = ListRequest { scope, page_size: 1000, ..ListRequest::default() };
        self.call::<ListResponse>(context, "List", request).await.unwrap().keys.len()
    }

    async fn found(&self, context: &Context, scope: i32, query: &str) -> Vec<String> {
        let request = SearchRequest { query: query.into(), scope, ..SearchRequest::default() };
        let answer: SearchResponse = self.call(context, "Search", request).await.unwrap();
        answer.hits.into_iter().map(|hit| format!("{}/{}", hit.namespace, hit.key)).collect()
    }

    async fn end(&self, uid: u32, id: &str) {
        self.agent.session_ended(&SessionScope { uid, id: id.into() }).await.unwrap();
    }

    fn gauge(&self, quantity: &str) -> i64 {
        self.metrics.store("memory", quantity).get()
    }
}

fn in_session(uid: u32, session: Option<&str>) -> Context {
    let identity = Identity::User { uid, gid: None };
    let caller = Caller::new(identity, Attested::Kernel, "test");
    let mut context = Context::new(Arc::new(caller), Transport::Grpc);
    context.session = session.map(Into::into);
    context
}

#[tokio::test]
async fn a_sessions_keys_are_its_own_and_go_with_it() {
    let lone = Lone::new();
    let (a, b) = (in_session(1, Some("a")), in_session(1, Some("a2")));
    let stranger = in_session(2, Some("a"));
    lone.remember(&a, 0, "k", "of the user").await;
    lone.remember(&a, SESSION, "k", "of session a").await;
    lone.remember(&b, SESSION, "k", "of session b").await;
    lone.remember(&stranger, SESSION, "k", "of a stranger").await;
    let forget = ForgetRequest { key: "gone".into(), scope: SESSION, ..Default::default() };
    lone.remember(&a, SESSION, "gone", "x").await;
    let _: ForgetResponse = lone.call(&a, "Forget", forget).await.unwrap();
    for (context, text) in
        [(&a, "of session a"), (&b, "of session b"), (&stranger, "of a stranger")]
    {
        assert_eq!(lone.text(context, SESSION, "k").await.as_deref(), Some(text));
        assert_eq!(lone.keys(context, SESSION).await, 1);
    }
    assert_eq!(lone.text(&a, 0, "k").await.as_deref(), Some("of the user"));
    assert_eq!(lone.found(&a, SESSION, "session").await, ["default/k"]);
    assert_eq!(lone.found(&a, 0, "of").await, ["default/k"]);
    assert_eq!((lone.gauge("keys"), lone.keys(&a, 0).await), (4, 1));

    lone.end(1, "a").await;
    lone.end(1, "a").await;
    assert_eq!(lone.text(&a, SESSION, "k").await, None);
    assert_eq!(lone.found(&a, SESSION, "session").await, Vec::<String>::new());
    assert_eq!(lone.text(&b, SESSION, "k").await.as_deref(), Some("of session b"));
    assert_eq!(lone.text(&stranger, SESSION, "k").await.as_deref(), Some("of a stranger"));
    assert_eq!(lone.text(&a, 0, "k").await.as_deref(), Some("of the user"));
    assert_eq!(lone.gauge("keys"), 3);
    lone.end(1, "a2").await;
    lone.end(2, "a").await;
    let stats: StatsResponse = lone.call(&a, "Stats", StatsRequest::default()).await.unwrap();
    assert_eq!((stats.keys, stats.history_bytes, lone.gauge("keys")), (1, 0, 1), "{stats:?}");
    assert_eq!(lone.gauge("bytes").unsigned_abs(), stats.bytes);
}

#[tokio::test]
async fn a_large_session_goes_in_pieces_between_which_others_write() {
    let lone = Arc::new(Lone::new());
    let context = in_session(1, Some("big"));
    for number in 0..900 {
        lone.remember(&context, SESSION, &format!("k{number}"), "old").await;
        lone.remember(&context, SESSION, &format!("k{number}"), "new").await;
    }
    let ending = {
        let lone = Arc::clone(&lone);
        tokio::spawn(async move { lone.end(1, "big").await })
    };
    let mut written = 0;
    while !ending.is_finished() {
        lone.remember(&context, 0, "mine", "x").await;
        written += 1;
    }
    ending.await.unwrap();
    assert!(written >= 2, "{written} writes came through");
    assert_eq!((lone.keys(&context, SESSION).await, lone.gauge("keys")), (0, 1));
}

/// A stream of replies that nobody reads.
struct Counted(AtomicUsize);

impl ReplySink for Counted {
    fn poll_take(
        &self,
        _: &mut task::Context<'_>,
        reply: &mut Option<Bytes>,
    ) -> Poll<Result<(), Error>> {
        self.0.fetch_add(usize::from(reply.take().is_some()), Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_watch_of_a_sessions_keys_ends_with_it() {
    let lone = Lone::new();
    let (context, other) = (in_session(1, Some("s")), in_session(1, Some("t")));
    let replies = Arc::new(Counted(AtomicUsize::new(0)));
    let request = WatchRequest { scope: SESSION, ..WatchRequest::default() };
    let index = lone.contract.service(lone.agent.service()).unwrap();
    let index = index.operation("Watch").unwrap().index;
    let watch = lone.agent.stream(
        index,
        &context,
        RawRequests::one(request.encode_to_vec().into()),
        RawReplies::new(Arc::clone(&replies) as _),
    );
    let work = async {
        lone.remember(&context, SESSION, "k", "x").await;
        lone.remember(&other, SESSION, "k", "x").await;
        lone.remember(&context, 0, "k", "x").await;
        while replies.0.load(Ordering::Relaxed) < 2 {
            tokio::task::yield_now().await;
        }
        lone.end(1, "t").await;
        lone.end(1, "s").await;
    };
    let (outcome, ()) = tokio::join!(watch, work);
    outcome.unwrap();
    assert_eq!(replies.0.load(Ordering::Relaxed), 2, "one change, and before it that all is told");
}

#[tokio::test]
async fn without_a_session_there_is_no_such_scope() {
    let lone = Lone::new();
    let request = RecallRequest { key: "k".into(), scope: SESSION, ..RecallRequest::default() };
    let error =
        lone.call::<RecallResponse>(&in_session(1, None), "Recall", request).await.unwrap_err();
    assert_eq!((error.kind(), error.fact("field")), (ErrorKind::InvalidArgument, Some("scope")));
    assert!(error.message().contains("opdbus-session-id"), "{error}");
    assert!(error.message().contains("session-id"), "{error}");
}
