//! A request with a token is the token's: it must be valid, it is held to its scope, and the rights of
//! the connection are not among its own.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use op_dbus::call::{Attested, Identity, Scope};
use op_dbus::proto::opdbus::agent::memory::v1::{
    RecallRequest, RecallResponse, RememberRequest, RememberResponse,
};
use op_dbus::proto::opdbus::v1::{CallJsonRequest, CallJsonResponse, PingRequest, PingResponse};
use op_dbus::transport::grpc::NewToken;
use op_dbus::transport::grpc::{Access, Config, Rules, TokenRule};
use tonic::{Code, Request, Status};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::calls::listening;
use super::{Client, PING, callers, check_error, config, place, serve};
use crate::fixture::Service;

const RECALL: &str = "/opdbus.agent.memory.v1.MemoryService/Recall";
const REMEMBER: &str = "/opdbus.agent.memory.v1.MemoryService/Remember";
const CALL_JSON: &str = "/opdbus.v1.AgentsService/CallJson";
const HEALTH: &str = "/grpc.health.v1.Health/Check";

/// The rule for a token that stands for the user 4711.
pub fn rule(name: &str, token: &NewToken) -> TokenRule {
    let digits = token.sha256.as_bytes().chunks(2);
    let byte =
        |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap();
    TokenRule {
        name: name.to_owned(),
        sha256: digits.map(byte).collect::<Vec<_>>().try_into().unwrap(),
        user: "4711".to_owned(),
        expires: None,
        scope: None,
    }
}

pub fn access(tokens: Vec<TokenRule>) -> Access {
    Access::load(&Rules { tokens, tls: None }).unwrap()
}

/// A request that bears `token`.
pub fn with<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

async fn ping(client: &Client, token: &str) -> Result<(), Status> {
    let request = with(token, PingRequest::default());
    client.request::<_, PingResponse>(PING, request).await.map(|_| ())
}

#[tokio::test]
async fn a_request_with_a_token_is_the_tokens() {
    let token = NewToken::make("ci").unwrap();
    let (_folder, path) = place();
    let both = |access| Config { access, unix: config(&path).unix, ..callers::tcp("127.0.0.1") };
    let config = both(access(vec![rule("ci", &token)]));
    let tcp = format!("http://{}", config.tcp.unwrap());
    let heard = listening(config).await;
    for (number, client) in [Client::unix(&path).await, Client::to(&tcp).await].iter().enumerate() {
        ping(client, &token.text).await.unwrap();
        client.ping().await;
        let contexts = heard.contexts.lock().unwrap();
        let [by_token, by_kernel] = &contexts[number * 2..] else { panic!("{contexts:?}") };
        let (by_token, by_kernel) = (&by_token.caller, &by_kernel.caller);
        assert_eq!(by_token.identity, Identity::User { uid: 4711, gid: None });
        assert_eq!(by_token.attested, Attested::Token("ci".into()));
        assert!(!by_token.attested.is_local() && by_token.groups.is_none());
        assert_eq!(by_token.address, by_kernel.address);
        assert_eq!(by_kernel.attested, Attested::Kernel);
        assert_ne!(by_kernel.uid(), Some(4711));
        assert!(by_token.to_string().starts_with("uid 4711 by token ci at "), "{by_token}");
    }
}

#[tokio::test]
async fn a_token_that_is_not_valid_is_no_caller_at_all() {
    let (good, old) = (NewToken::make("good").unwrap(), NewToken::make("old").unwrap());
    let mut expired = rule("old", &old);
    expired.expires = Some(SystemTime::now() - Duration::from_secs(1));
    let (_folder, path) = place();
    let config = Config { access: access(vec![rule("good", &good), expired]), ..config(&path) };
    let heard = listening(config).await;
    let client = Client::unix(&path).await;
    let other = NewToken::make("good").unwrap();
    for (token, problem) in [
        (old.text.as_str(), "token old has expired"),
        (other.text.as_str(), "not one that this service knows"),
        ("", "not one that this service knows"),
    ] {
        let refused = ping(&client, token).await;
        let text = refused.as_ref().unwrap_err().message().to_owned();
        check_error(refused, Code::Unauthenticated, "UNAUTHENTICATED");
        assert!(text.contains(problem), "{text}");
        assert!(token.is_empty() || !text.contains(token));
        let request = with(token, HealthCheckRequest::default());
        let health = client.request::<_, HealthCheckResponse>(HEALTH, request).await;
        assert_eq!(health.unwrap_err().code(), Code::Unauthenticated, "of health either");
    }
    let mut twice = with(&good.text, PingRequest::default());
    twice.metadata_mut().append("authorization", "Bearer x".parse().unwrap());
    let refused = client.request::<_, PingResponse>(PING, twice).await;
    check_error(refused, Code::Unauthenticated, "UNAUTHENTICATED");
    assert!(heard.contexts.lock().unwrap().is_empty(), "no call was made");
    ping(&client, &good.text).await.unwrap();
}

#[tokio::test]
async fn a_token_is_held_to_its_scope_whichever_way_it_calls() {
    let (reads, one) = (NewToken::make("reads").unwrap(), NewToken::make("one").unwrap());
    let scope = |operations: &[&str], risks: &[&str]| {
        let owned = |list: &[&str]| list.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        Scope::new(&owned(operations), &owned(risks)).unwrap().map(Arc::new)
    };
    let tokens = vec![
        TokenRule { scope: scope(&[], &["read"]), ..rule("reads", &reads) },
        TokenRule {
            scope: scope(&["memory.remember", "agents.call_json"], &[]),
            ..rule("one", &one)
        },
    ];
    let service = Service::new(op_dbus::executor::Config::default());
    let path = service.folder.path().join("grpc.sock");
    let config = Config { access: access(tokens), ..config(&path) };
    let _server = serve(config, &service).await.unwrap();
    let client = Client::unix(&path).await;
    let remember = || RememberRequest {
        key: "k".to_owned(),
        value: Some(prost_types::Value::from("v".to_owned())),
        ..RememberRequest::default()
    };
    let recall = || RecallRequest { key: "k".to_owned(), ..RecallRequest::default() };

    let stored = client.request::<_, RememberResponse>(REMEMBER, with(&one.text, remember())).await;
    stored.unwrap();
    let refused = client.request::<_, RecallResponse>(RECALL, with(&one.text, recall())).await;
    let text = refused.as_ref().unwrap_err().message().to_owned();
    check_error(refused, Code::PermissionDenied, "ACCESS_DENIED");
    assert_eq!(text, "token one is not for memory.Recall");
    let request = CallJsonRequest {
        agent: "memory".to_owned(),
        operation: "recall".to_owned(),
        arguments: "{\"key\":\"k\"}".to_owned(),
    };
    let refused = client.request::<_, CallJsonResponse>(CALL_JSON, with(&one.text, request)).await;
    check_error(refused, Code::PermissionDenied, "ACCESS_DENIED");

    let found = client.request::<_, RecallResponse>(RECALL, with(&reads.text, recall())).await;
    let found = found.expect("the same user's, though by another token").into_inner();
    assert_eq!(found.version, 1);
    let refused = client.request::<_, RememberResponse>(REMEMBER, with(&reads.text, remember()));
    check_error(refused.await, Code::PermissionDenied, "ACCESS_DENIED");
    // Without a token the connection's user has his own rights, and his own memory.
    let own: Result<RecallResponse, _> = client.call(RECALL, recall()).await;
    check_error(own, Code::NotFound, "NOT_FOUND");
}

#[tokio::test]
async fn a_token_that_is_taken_away_is_refused_on_a_connection_that_used_it() {
    let (first, second) = (NewToken::make("first").unwrap(), NewToken::make("second").unwrap());
    let (_folder, path) = place();
    let config = Config { access: access(vec![rule("first", &first)]), ..config(&path) };
    let heard = listening(config).await;
    let client = Client::unix(&path).await;
    ping(&client, &first.text).await.unwrap();
    ping(&client, &second.text).await.unwrap_err();
    heard.server.replace_access(access(vec![rule("second", &second)]));
    assert_eq!(ping(&client, &first.text).await.unwrap_err().code(), Code::Unauthenticated);
    ping(&client, &second.text).await.unwrap();
    client.ping().await;
}
