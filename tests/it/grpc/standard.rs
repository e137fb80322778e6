//! Health and reflection, as their own clients see them.

use std::time::Duration;

use op_dbus::executor::Executor;
use op_dbus::proto::opdbus::agent::probe::v1::{EchoRequest, EchoResponse};
use tokio_stream::StreamExt as _;
use tonic::{Code, Request};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::calls::listening;
use super::{Client, ECHO, check_error, config, place, start};
use crate::process::PATIENCE;

fn of(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

#[tokio::test]
async fn health_is_told_for_each_service_and_turns() {
    let running = start().await;
    let mut health = HealthClient::new(running.client().await.0);
    let services = ["", "opdbus.v1.AgentsService", "opdbus.agent.probe.v1.ProbeService"];
    for service in services {
        let status = health.check(of(service)).await.unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::Serving, "{service}");
    }
    let outcome = health.check(of("no.Service")).await;
    check_error(outcome, Code::NotFound, "NOT_FOUND");
    let mut unknown = health.watch(of("no.Service")).await.unwrap().into_inner();
    assert_eq!(next(&mut unknown).await, Some(ServingStatus::ServiceUnknown));

    let mut watch = health.watch(of("")).await.unwrap().into_inner();
    assert_eq!(next(&mut watch).await, Some(ServingStatus::Serving));
    running.server.not_serving();
    assert_eq!(next(&mut watch).await, Some(ServingStatus::NotServing));
    for service in services {
        let status = health.check(of(service)).await.unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::NotServing, "{service}");
    }
    running.client().await.ping().await;

    // A watching client does not hold up the stop.
    assert!(running.server.stop(Duration::from_secs(5)).await);
    assert_eq!(next(&mut watch).await, None);
}

async fn next(stream: &mut tonic::Streaming<HealthCheckResponse>) -> Option<ServingStatus> {
    let next = tokio::time::timeout(PATIENCE, stream.next()).await.unwrap();
    next.map(|response| response.unwrap().status())
}

/// What one version of reflection tells: the services, and the file of a symbol.
macro_rules! reflection {
    ($name:ident, $version:ident) => {
        async fn $name(client: &Client, symbol: &str) -> (Vec<String>, Vec<u8>) {
            use tonic_reflection::pb::$version::ServerReflectionRequest;
            use tonic_reflection::pb::$version::server_reflection_client::ServerReflectionClient;
            use tonic_reflection::pb::$version::server_reflection_request::MessageRequest;
            use tonic_reflection::pb::$version::server_reflection_response::MessageResponse;
            let mut reflection = ServerReflectionClient::new(client.0.clone());
            let questions = [
                MessageRequest::ListServices(String::new()),
                MessageRequest::FileContainingSymbol(symbol.to_owned()),
            ]
            .map(|question| ServerReflectionRequest {
                host: String::new(),
                message_request: Some(question),
            });
            let questions = Request::new(tokio_stream::iter(questions));
            let answers = reflection.server_reflection_info(questions).await.unwrap();
            let mut answers = answers.into_inner().map(|answer| answer.unwrap().message_response);
            let Some(Some(MessageResponse::ListServicesResponse(list))) = answers.next().await
            else {
                panic!("no list of services");
            };
            let Some(Some(MessageResponse::FileDescriptorResponse(file))) = answers.next().await
            else {
                panic!("no file with {symbol}");
            };
            let mut names: Vec<String> =
                list.service.into_iter().map(|service| service.name).collect();
            names.sort_unstable();
            (names, file.file_descriptor_proto.concat())
        }
    };
}

reflection!(reflect_v1, v1);
reflection!(reflect_v1alpha, v1alpha);

/// The names that reflection must give: what is registered, and the standard services.
fn expected(executor: &Executor) -> Vec<String> {
    let registered = executor.registry().snapshot().services();
    let mut names: Vec<String> = registered
        .iter()
        .map(|service| service.full_name.clone())
        .chain(STANDARD.map(String::from))
        .collect();
    names.sort_unstable();
    names
}

const STANDARD: [&str; 3] = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
];

#[tokio::test]
async fn both_versions_of_reflection_tell_of_every_service() {
    let running = start().await;
    let client = running.client().await;
    let expected = expected(&running.service.executor);
    for symbol in [
        "opdbus.agent.probe.v1.ProbeService",
        "opdbus.v1.AgentsService.Ping",
        "grpc.health.v1.HealthCheckRequest",
        "google.protobuf.Value",
    ] {
        let (names, file) = reflect_v1(&client, symbol).await;
        assert_eq!(names, expected);
        assert_eq!((names, file), reflect_v1alpha(&client, symbol).await);
    }
}

#[tokio::test]
async fn a_service_registered_at_run_time_is_there_at_once() {
    let (_folder, path) = place();
    let heard = listening(config(&path)).await;
    let client = Client::unix(&path).await;
    let symbol = "opdbus.v1.AgentsService";
    let before = [&STANDARD as &[&str], &[symbol]].concat();
    assert_eq!(reflect_v1(&client, symbol).await.0, before);

    let probe = "opdbus.agent.probe.v1.ProbeService";
    let health = HealthClient::new(client.0.clone()).check(of(probe)).await;
    check_error(health, Code::NotFound, "NOT_FOUND");
    heard.register(probe);
    let after = expected(&heard.executor);
    assert!(after.contains(&probe.to_owned()));
    assert_eq!(reflect_v1(&client, probe).await.0, after);
    assert_eq!(reflect_v1alpha(&client, probe).await.0, after);
    HealthClient::new(client.0.clone()).check(of(probe)).await.unwrap();
    client.call::<_, EchoResponse>(ECHO, EchoRequest::default()).await.unwrap();
}

#[tokio::test]
async fn reflection_keeps_the_custom_options() {
    let running = start().await;
    let client = running.client().await;
    let (_, file) = reflect_v1(&client, "opdbus.agent.probe.v1.ProbeService").await;
    // The title stands in an option of ours, which prost's own descriptors would have lost.
    let option = b"\x12\x05Probe";
    assert!(file.windows(option.len()).any(|bytes| bytes == option));
}
