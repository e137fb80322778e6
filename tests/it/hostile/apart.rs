//! A user of whom a call has taken long: his next ones go on in a thread of their own, where all is as it
//! was. How much others notice of him is in `floods.rs`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use op_dbus::executor::{Config, ShareConfig};
use op_dbus::proto::opdbus::agent::probe::v1::{
    FailRequest, FailResponse, FillRequest, FillResponse, SleepRequest, SleepResponse,
};
use op_dbus::transport::dbus;
use op_dbus::transport::grpc::Server;
use tempfile::TempDir;
use tonic::{Code, Request};

use crate::dbus::{NAME, Options, call, connect, none};
use crate::fixture::{Bus, Service};
use crate::grpc::{Client, FAIL, FILL, SLEEP, check_error, config, eventually, place, serve};

/// gRPC, where whoever takes more than `stretch` goes apart.
async fn grpc(stretch: Duration) -> (Service, Server, TempDir, PathBuf) {
    let share = ShareConfig { stretch, ..ShareConfig::default() };
    let service = Service::new(Config { share, ..Config::default() });
    let (folder, path) = place();
    let server = serve(config(&path), &service).await.unwrap();
    (service, server, folder, path)
}

/// How many calls went apart so far.
fn apart(service: &Service) -> u64 {
    let text = service.executor.metrics().render().unwrap();
    let count = text.lines().find_map(|line| line.strip_prefix("opdbus_calls_apart_total "));
    count.unwrap().parse().unwrap()
}

/// A megabyte, which takes longer than the shortest stretch.
async fn fill(client: &Client) {
    let request = FillRequest { size_bytes: 1_000_000, filler: String::new() };
    let response: FillResponse = client.call(FILL, request).await.unwrap();
    assert_eq!(response.text.len(), 1_000_000);
}

/// Makes a call until it was made apart: on a slow machine the time for that may be over before.
async fn made_apart(service: &Service, client: &Client, call: impl AsyncFn()) {
    eventually("the call is made apart", async || {
        fill(client).await;
        let before = apart(service);
        call().await;
        apart(service) > before
    })
    .await;
}

#[tokio::test]
async fn calls_apart_end_as_all_others() {
    let (service, _server, _folder, path) = grpc(Duration::from_micros(10)).await;
    let client = Client::unix(&path).await;
    made_apart(&service, &client, async || fill(&client).await).await;
    made_apart(&service, &client, async || {
        let request = FailRequest { reason: "NOT_FOUND".into(), message: "gone".into() };
        check_error(
            client.call::<_, FailResponse>(FAIL, request).await,
            Code::NotFound,
            "NOT_FOUND",
        );
    })
    .await;
    made_apart(&service, &client, async || {
        let request = FailRequest { reason: "PANIC".into(), message: String::new() };
        check_error(
            client.call::<_, FailResponse>(FAIL, request).await,
            Code::Internal,
            "INTERNAL",
        );
    })
    .await;
    let sleep =
        |time: Duration| Request::new(SleepRequest { duration: Some(time.try_into().unwrap()) });
    made_apart(&service, &client, async || {
        let request = sleep(Duration::from_millis(1));
        client.request::<_, SleepResponse>(SLEEP, request).await.unwrap();
    })
    .await;
    made_apart(&service, &client, async || {
        let mut request = sleep(Duration::from_secs(600));
        request.set_timeout(Duration::from_millis(50));
        let outcome = client.request::<_, SleepResponse>(SLEEP, request).await;
        // The client's own clock may be the first.
        let code = outcome.unwrap_err().code();
        assert!(matches!(code, Code::DeadlineExceeded | Code::Cancelled), "{code:?}");
    })
    .await;
    made_apart(&service, &client, async || {
        let waiting = {
            let (client, request) = (client.clone(), sleep(Duration::from_secs(600)));
            tokio::spawn(async move { client.request::<_, SleepResponse>(SLEEP, request).await })
        };
        let metrics = service.executor.metrics();
        eventually("it runs", async || metrics.running() == 1).await;
        waiting.abort();
        eventually("it ends with its client", async || metrics.running() == 0).await;
    })
    .await;
}

#[tokio::test]
async fn without_a_bound_no_call_goes_apart() {
    let (service, _server, _folder, path) = grpc(Duration::ZERO).await;
    let client = Client::unix(&path).await;
    for _ in 0..5 {
        fill(&client).await;
    }
    assert_eq!(apart(&service), 0);
}

#[tokio::test]
async fn calls_over_dbus_go_apart_as_well() {
    let (service, _server, _folder, _path) = grpc(Duration::from_micros(10)).await;
    let bus = Bus::start();
    let config = dbus::Config {
        bus: dbus::Bus::Address(bus.address.clone()),
        name: NAME.into(),
        max_body_bytes: 1 << 20,
        legacy: Vec::new(),
    };
    let status = Arc::clone(&service.status);
    let _dbus = dbus::start(config, Arc::clone(&service.executor), status).await.unwrap();
    let client = connect(&bus).await;
    let probe = "/org/opdbus/Agents1/agent/probe";
    eventually("calls go apart", async || {
        let body = (1_000_000_u64, none());
        let reply = call(&client, probe, Some("org.opdbus.Probe1"), "Fill", &body).await.unwrap();
        let body = reply.body();
        let (text, _) = body.deserialize::<(&str, Options<'_>)>().unwrap();
        assert_eq!(text.len(), 1_000_000);
        apart(&service) > 1
    })
    .await;
}
