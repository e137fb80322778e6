//! What one user may have of the service, and that others keep theirs.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use op_dbus::call::Context;
use op_dbus::error::{Error, ErrorKind};
use op_dbus::executor::{Config, Input, ShareConfig};
use op_dbus::proto::opdbus::agent::probe::v1::{CountRequest, FillRequest, SleepRequest};
use op_dbus::proto::opdbus::v1::{BatchCallRequest, BatchItem, WatchAgentsRequest};
use prost::Message;

use crate::executor::context;
use crate::fixture::Service;

async fn call(
    service: &Service,
    context: Context,
    operation: &str,
    request: impl Message,
) -> Result<(), Error> {
    let route = service.executor.find("probe", operation)?;
    let request = request.encode_to_vec().into();
    service.executor.call(&route, context, request).await.map(drop)
}

/// A call of risk WRITE.
async fn count(service: &Service, uid: u32) -> Result<(), Error> {
    call(service, context(uid), "Count", CountRequest {}).await
}

fn sleep() -> SleepRequest {
    SleepRequest { duration: Some(prost_types::Duration { seconds: 60, nanos: 0 }) }
}

fn service(share: ShareConfig) -> Arc<Service> {
    Arc::new(Service::new(Config { share, ..Config::default() }))
}

fn counted(service: &Service, reason: &str) -> bool {
    let line = format!("opdbus_rejected_total{{reason=\"{reason}\"}} 1");
    service.executor.metrics().render().unwrap().lines().any(|found| found == line)
}

#[tokio::test]
async fn who_calls_too_often_is_told_when_to_come_again_and_others_are_not() {
    let mut share = ShareConfig::default();
    share.per_second[1] = NonZeroU32::new(5);
    let service = service(share);
    for _ in 0..5 {
        count(&service, 1000).await.unwrap();
    }
    let refused = loop {
        // A machine that is slow gives the user a call more in between.
        if let Err(refused) = count(&service, 1000).await {
            break refused;
        }
    };
    assert_eq!(refused.kind(), ErrorKind::LimitExceeded);
    assert_eq!(refused.fact("limit"), Some("limits.write_per_second"));
    assert_eq!(refused.fact("limit_value"), Some("5"));
    assert!(refused.retry_after().is_some());
    assert!(counted(&service, "rate"));
    count(&service, 1001).await.unwrap();
    tokio::time::sleep(refused.retry_after().unwrap()).await;
    count(&service, 1000).await.unwrap();
}

#[tokio::test]
async fn who_fills_his_places_waits_and_others_do_not() {
    let share = ShareConfig { max_in_flight: 2, queue: 1, ..ShareConfig::default() };
    let service = service(share);
    let start = || {
        let service = Arc::clone(&service);
        tokio::spawn(async move { call(&service, context(1000), "Sleep", sleep()).await })
    };
    let mut calls: Vec<_> = (0..3).map(|_| start()).collect();
    // Two run, one waits; how soon is the machine's matter.
    let refused = loop {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let short = Context { timeout: Some(Duration::from_millis(1)), ..context(1000) };
        let outcome = call(&service, short, "Count", CountRequest {}).await;
        if let Err(error) = outcome
            && error.kind() == ErrorKind::LimitExceeded
        {
            break error;
        }
    };
    assert_eq!(refused.fact("limit"), Some("limits.queue"));
    assert!(refused.message().contains("user 1000"), "{}", refused.message());
    count(&service, 1001).await.unwrap();
    for call in &mut calls {
        call.abort();
        call.await.unwrap_err();
    }
    count(&service, 1000).await.unwrap();
}

#[tokio::test]
async fn a_reload_gives_everybody_a_new_share() {
    let mut share = ShareConfig::default();
    share.per_second[1] = NonZeroU32::new(1);
    let service = service(share.clone());
    count(&service, 1000).await.unwrap();
    share.per_second[1] = NonZeroU32::new(1000);
    service.executor.reconfigure(Config { share, ..Config::default() });
    for _ in 0..100 {
        count(&service, 1000).await.unwrap();
    }
}

fn with_id(uid: u32, id: &str) -> Context {
    Context { request_id: Some(id.into()), ..context(uid) }
}

#[track_caller]
fn met(refused: &Error, limit: &str) {
    assert_eq!(refused.kind(), ErrorKind::LimitExceeded, "{refused}");
    assert_eq!(refused.fact("limit"), Some(limit), "{refused}");
}

#[tokio::test]
async fn who_uses_up_his_request_ids_leaves_others_theirs() {
    let by_count = ShareConfig { request_ids: 2, ..ShareConfig::default() };
    let by_bytes = ShareConfig { request_id_bytes: 2000, ..ShareConfig::default() };
    for (share, limit) in [(by_count, "limits.request_ids"), (by_bytes, "limits.request_id_bytes")]
    {
        let service = service(share);
        let fill = |context| {
            call(&service, context, "Fill", FillRequest { size_bytes: 1000, filler: String::new() })
        };
        fill(with_id(1000, "a")).await.unwrap();
        fill(with_id(1000, "b")).await.unwrap();
        met(&fill(with_id(1000, "c")).await.unwrap_err(), limit);
        // Those that are known are answered still, and so is everybody else.
        fill(with_id(1000, "a")).await.unwrap();
        fill(context(1000)).await.unwrap();
        fill(with_id(1001, "c")).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_remembered_no_longer_counts_no_longer() {
    let share = ShareConfig { request_ids: 1, ..ShareConfig::default() };
    let request_id_ttl = Duration::from_millis(20);
    let service = Service::new(Config { share, request_id_ttl, ..Config::default() });
    let count = |id| call(&service, with_id(1000, id), "Count", CountRequest {});
    count("a").await.unwrap();
    tokio::time::sleep(Duration::from_millis(30)).await;
    count("b").await.unwrap();
}

#[tokio::test]
async fn who_has_too_many_views_or_batches_leaves_others_theirs() {
    let service = service(ShareConfig { max_waits: 2, ..ShareConfig::default() });
    let watch = async |uid: u32| {
        let route = service.executor.find("agents", "WatchAgents")?;
        let input = Input::One(WatchAgentsRequest::default().encode_to_vec().into());
        service.executor.start_reading(&route, context(uid), input, false).await
    };
    let first = watch(1000).await.unwrap();
    let second = watch(1000).await.unwrap();
    met(&watch(1000).await.map(drop).unwrap_err(), "limits.max_waits");
    watch(1001).await.map(drop).unwrap();
    first.task().cancel();
    first.task().over().await;
    watch(1000).await.map(drop).unwrap();
    drop(second);

    let service = self::service(ShareConfig { max_batches: 1, ..ShareConfig::default() });
    let batch = async |uid: u32, operation: &str, arguments: &str| {
        let call = BatchItem {
            agent: "probe".into(),
            operation: operation.into(),
            arguments: arguments.into(),
            ..BatchItem::default()
        };
        let request = BatchCallRequest { items: vec![call], ..BatchCallRequest::default() };
        let route = service.executor.find("calls", "BatchCall")?;
        service.executor.call(&route, context(uid), request.encode_to_vec().into()).await.map(drop)
    };
    let mut held = std::pin::pin!(batch(1000, "Sleep", r#"{"duration":"60s"}"#));
    assert!(futures_util::poll!(held.as_mut()).is_pending());
    batch(1001, "Count", "").await.unwrap();
    met(&batch(1000, "Count", "").await.unwrap_err(), "limits.max_batches");
}
