//! A batch that gives each result as it comes.

use std::time::{Duration, Instant};

use op_dbus::error::ErrorKind;
use op_dbus::executor::Input;
use op_dbus::proto::opdbus::v1::{
    BatchCallRequest, BatchCallStreamRequest, BatchCallStreamResponse, BatchOrder, BatchResult,
    BatchStatus::{Failed, Ok as Well, Skipped},
};
use op_dbus::task::{Event, Reading};
use prost::Message;

use super::{
    context, fail, item, named, parallel, sequential, service, sleep, statuses, waits, with_timeout,
};
use crate::fixture::Service;
use crate::process::PATIENCE;

/// Reads a batch that is a stream.
async fn stream(
    service: &Service,
    context: op_dbus::call::Context,
    request: BatchCallRequest,
) -> (Vec<BatchResult>, Result<(), op_dbus::error::Error>) {
    let route = service.executor.find("calls", "BatchCallStream").unwrap();
    let request = BatchCallStreamRequest { batch: Some(request) };
    let input = Input::One(request.encode_to_vec().into());
    let task = service.executor.start(&route, context, input).await.unwrap();
    let mut reader = task.read(Reading { is_client: true, ..Reading::default() }).unwrap();
    let mut found = Vec::new();
    while let Some(event) = reader.next().await {
        match event {
            Event::Message(message) => {
                let reply = BatchCallStreamResponse::decode(message.payload).unwrap();
                found.push(reply.result.unwrap());
            }
            Event::Ended(outcome) => return (found, outcome),
            Event::Gap { .. } | Event::Changed => panic!("{event:?}"),
        }
    }
    panic!("the stream has no end");
}

#[tokio::test]
async fn a_stream_gives_results_as_they_come() {
    let service = service();
    let items = || vec![sleep(80), fail(), sleep(1)];
    let request = BatchCallRequest { order: BatchOrder::Completion.into(), ..parallel(items()) };
    let (found, outcome) = stream(&service, context(), request).await;
    outcome.unwrap();
    assert_eq!(found.iter().map(|result| result.index).collect::<Vec<_>>(), [1, 2, 0]);
    let (found, outcome) = stream(&service, context(), parallel(items())).await;
    outcome.unwrap();
    assert_eq!(statuses(&found), [Well, Failed, Well]);

    let request = sequential(vec![fail(), sleep(5_000), sleep(1)]);
    let (found, outcome) = stream(&service, with_timeout(200), request).await;
    outcome.unwrap();
    assert_eq!(statuses(&found), [Failed, Failed, Skipped]);
    let circle = sequential(vec![super::after(&["a"], named("a", fail()))]);
    let (found, outcome) = stream(&service, context(), circle).await;
    assert_eq!((found.len(), outcome.unwrap_err().kind()), (0, ErrorKind::InvalidArgument));
}

#[tokio::test]
async fn a_stream_whose_client_goes_away_cancels_what_runs() {
    let service = service();
    let route = service.executor.find("calls", "BatchCallStream").unwrap();
    let request = parallel(vec![fail(), sleep(5_000), sleep(5_000)]);
    let request = BatchCallStreamRequest { batch: Some(request) };
    let input = Input::One(request.encode_to_vec().into());
    let task = service.executor.start(&route, context(), input).await.unwrap();
    let mut reader = task.read(Reading { is_client: true, ..Reading::default() }).unwrap();
    assert!(matches!(reader.next().await, Some(Event::Message(_))));
    drop(reader);
    let start = Instant::now();
    while waits(&service).await.2 < 2 {
        assert!(start.elapsed() < PATIENCE, "the calls go on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_no_call_back_that_runs() {
    let service = service();
    let route = service.executor.find("calls", "BatchCallStream").unwrap();
    // More than a view keeps until its client takes it.
    let fill = || item("probe", "fill", r#"{"size_bytes":"700000"}"#);
    let mut items = vec![fill(), fill(), fill()];
    items.push(sleep(50));
    items.push(item("probe", "Count", ""));
    let request = BatchCallRequest { max_parallel: 4, ..parallel(items) };
    let request = BatchCallStreamRequest { batch: Some(request) };
    let input = Input::One(request.encode_to_vec().into());
    let task = service.executor.start(&route, context(), input).await.unwrap();
    let mut reader = task.read(Reading { is_client: true, ..Reading::default() }).unwrap();
    let start = Instant::now();
    while waits(&service).await.1 < 1 {
        assert!(start.elapsed() < PATIENCE, "the wait is not let finish");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut count = 0;
    while let Some(Event::Message(_)) = reader.next().await {
        count += 1;
    }
    assert_eq!(count, 5);
}
