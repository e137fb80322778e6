//! The limits of batches, each named to whoever meets it.

use std::time::Duration;

use op_dbus::error::{Error, ErrorKind};
use op_dbus::executor::BatchConfig;
use op_dbus::proto::opdbus::v1::{
    BatchCallRequest,
    BatchStatus::{Failed, Ok as Well},
};

use super::{
    batch, context, item, limited, named, parallel, results, sequential, service, sleep, statuses,
    waits,
};

#[track_caller]
fn is_limit(error: &Error, limit: &str, value: &str) {
    assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{error}");
    assert_eq!((error.fact("limit"), error.fact("limit_value")), (Some(limit), Some(value)));
}

#[tokio::test]
async fn a_batch_has_so_many_calls() {
    let service = service();
    let count = || item("probe", "count", "");
    assert_eq!(statuses(&results(&service, parallel(vec![count(); 1000])).await), [Well; 1000]);
    let error = batch(&service, context(), sequential(vec![count(); 1001])).await.unwrap_err();
    is_limit(&error, "batch.max_items", "1000");
}

#[tokio::test]
async fn no_batch_runs_wider_than_the_configuration_allows() {
    let service = limited(BatchConfig { max_parallel: 2, ..BatchConfig::default() });
    for wanted in [0, 50] {
        let request = BatchCallRequest { max_parallel: wanted, ..parallel(vec![sleep(5_000); 5]) };
        let running = batch(&service, context(), request);
        assert!(tokio::time::timeout(Duration::from_millis(40), running).await.is_err());
        let (started, finished, cancelled) = waits(&service).await;
        assert_eq!(started - finished - cancelled, 0);
    }
    assert_eq!(waits(&service).await.2, 4);
}

#[tokio::test]
async fn results_have_so_many_bytes_in_all() {
    let service = limited(BatchConfig { max_result_bytes: 2000, ..BatchConfig::default() });
    let fill = |size: u32| item("probe", "fill", &format!(r#"{{"size_bytes":"{size}"}}"#));
    let request = sequential(vec![fill(900), fill(900), fill(900), item("probe", "count", "")]);
    let found = results(&service, request).await;
    assert_eq!(statuses(&found), [Well, Well, Failed, Well]);
    let failure = found[2].failure.as_ref().unwrap();
    assert_eq!(
        (&*failure.reason, &*failure.facts["limit"]),
        ("LIMIT_EXCEEDED", "batch.max_result_bytes")
    );
    assert!(failure.message.contains("was made"), "{}", failure.message);
}

#[tokio::test]
async fn results_that_are_used_count_too() {
    let service = limited(BatchConfig { max_result_bytes: 10_000, ..BatchConfig::default() });
    let fill = named("f", item("probe", "fill", r#"{"size_bytes":"3000"}"#));
    let many = [r#"{"$result":"f/text"}"#; 4].join(",");
    let found = results(
        &service,
        sequential(vec![
            fill,
            item("probe", "echo", &format!(r#"{{"text":"","texts":[{many}]}}"#)),
            item("probe", "fill", r#"{"size_bytes":{"$result":"f/text"}}"#),
            item("probe", "count", ""),
        ]),
    )
    .await;
    assert_eq!(statuses(&found), [Well, Failed, Failed, Well], "{found:?}");
    let failure = found[1].failure.as_ref().unwrap();
    assert_eq!(
        (&*failure.reason, &*failure.facts["limit"]),
        ("LIMIT_EXCEEDED", "batch.max_result_bytes")
    );
    assert_eq!(found[2].failure.as_ref().unwrap().reason, "INVALID_ARGUMENT");
}

#[tokio::test]
async fn so_many_batches_run_at_once() {
    let service = limited(BatchConfig { max_running: 2, ..BatchConfig::default() });
    let slow = || batch(&service, context(), sequential(vec![sleep(200)]));
    let third = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        slow().await
    };
    let (first, second, third) = tokio::join!(slow(), slow(), third);
    assert_eq!((first.unwrap().failed, second.unwrap().failed), (0, 0));
    let error = third.unwrap_err();
    is_limit(&error, "batch.max_running", "2");
    assert!(error.retry_after().is_some());
    assert_eq!(slow().await.unwrap().failed, 0);
}
