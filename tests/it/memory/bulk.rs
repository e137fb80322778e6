//! Many keys in one call: BulkRemember and BulkRecall.

use op_dbus::error::{Error, ErrorKind};
use op_dbus::proto::opdbus::agent::memory::v1::{
    BulkRecallRequest, BulkRecallResponse, BulkRememberRequest, BulkRememberResponse,
    RememberRequest,
};
use prost::Message as _;
use serde_json::{Value, json};

use super::User;

#[tokio::test]
async fn several_keys_are_read_as_of_one_moment() {
    let user = User::new();
    let names: Vec<String> = (0..40).map(|number| format!("k{number}")).collect();
    let writer = {
        let (user, names) = (user.clone(), names.clone());
        tokio::spawn(async move {
            for round in 0..50 {
                let actions: Vec<Value> = names
                    .iter()
                    .map(|key| json!({"remember": {"key": key, "value": round}}))
                    .collect();
                user.ok("Transact", json!({"success": actions})).await;
            }
        })
    };
    // Both ways of reading: on the calling thread and on one for long reads.
    for count in [10, 40].into_iter().cycle() {
        let values = user.bulk(&names[..count]).await;
        assert!(values.iter().all(|value| value == &values[0]), "{values:?}");
        if values[0] == Some(json!(49.0)) && count == 40 {
            break;
        }
        tokio::task::yield_now().await;
    }
    writer.await.unwrap();
}

fn stored(key: impl Into<String>, value: impl Into<prost_types::Value>) -> BulkRememberRequest {
    let value = Some(value.into());
    let remember = RememberRequest { key: key.into(), value, ..RememberRequest::default() };
    BulkRememberRequest { remember: Some(remember), atomic: false }
}

fn numbered(count: u32) -> Vec<BulkRememberRequest> {
    (0..count).map(|number| stored(format!("k{number:04}"), f64::from(number))).collect()
}

fn atomic(mut requests: Vec<BulkRememberRequest>) -> Vec<BulkRememberRequest> {
    requests[0].atomic = true;
    requests
}

fn gone() -> Option<Error> {
    Some(Error::new(ErrorKind::Cancelled, "the client went away"))
}

#[tokio::test]
async fn a_stream_of_values_is_stored() {
    let user = User::new();
    let mut requests = numbered(600);
    requests[100] = stored("", 1.0);
    let mut stale = stored("k0001", 2.0);
    stale.remember.as_mut().unwrap().if_absent = true;
    requests.push(stale);
    let answer: BulkRememberResponse = user.send("BulkRemember", requests, None).await.unwrap();
    assert_eq!((answer.remembered, answer.failed), (599, 2), "{answer:?}");
    let told: Vec<_> = answer.errors.iter().map(|e| (e.number, &*e.key, &*e.reason)).collect();
    assert_eq!(told, [(101, "", "INVALID_ARGUMENT"), (601, "k0001", "ALREADY_EXISTS")]);
    assert_eq!(user.value("k0599").await, Some(json!(599.0)));
    assert_eq!(user.value("k0001").await, Some(json!(1.0)));
    assert_eq!(user.gauge("keys"), 599);
    let none: BulkRememberResponse = user.send("BulkRemember", numbered(0), None).await.unwrap();
    assert_eq!(none, BulkRememberResponse::default());
}

#[tokio::test]
async fn refusals_are_counted_all_and_told_some() {
    let user = User::new();
    let requests: Vec<_> = (0..300).map(|_| stored("", 1.0)).collect();
    let answer: BulkRememberResponse = user.send("BulkRemember", requests, None).await.unwrap();
    assert_eq!((answer.remembered, answer.failed, answer.errors.len()), (0, 300, 100));
}

#[tokio::test]
async fn a_stream_that_breaks_leaves_whole_batches_or_nothing() {
    let user = User::new();
    let error =
        user.send::<BulkRememberResponse>("BulkRemember", numbered(300), gone()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert_eq!(user.gauge("keys"), 256);
    let other = user.other();
    let error = other
        .send::<BulkRememberResponse>("BulkRemember", atomic(numbered(300)), gone())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert_eq!(user.gauge("keys"), 256, "nothing more");
}

#[tokio::test]
async fn an_atomic_stream_is_stored_as_one_or_not_at_all() {
    let user = User::new();
    user.remember("taken", json!("x")).await;
    let mut conflict = stored("taken", 1.0);
    conflict.remember.as_mut().unwrap().if_absent = true;
    let mut requests = atomic(numbered(400));
    requests.push(conflict);
    let error =
        user.send::<BulkRememberResponse>("BulkRemember", requests, None).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.fact("number")),
        (ErrorKind::AlreadyExists, Some("message 401"))
    );
    assert_eq!(user.gauge("keys"), 1);
    let answer: BulkRememberResponse =
        user.send("BulkRemember", atomic(numbered(400)), None).await.unwrap();
    assert_eq!((answer.remembered, user.gauge("keys")), (400, 401));

    let mut late = numbered(3);
    late[2].atomic = true;
    let error = user.send::<BulkRememberResponse>("BulkRemember", late, None).await.unwrap_err();
    assert_eq!(error.fact("field"), Some("atomic"));
    let many = atomic(numbered(10_001));
    let error = user.send::<BulkRememberResponse>("BulkRemember", many, None).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.fact("limit")),
        (ErrorKind::LimitExceeded, Some("memory.max_atomic"))
    );
    assert_eq!(user.gauge("keys"), 401);
}

#[tokio::test]
async fn large_values_come_in_pieces_and_what_is_missing_is_said() {
    let user = User::new();
    let text = "x".repeat(100_000);
    let keys: Vec<String> = (0..30).map(|number| format!("k{number}")).collect();
    let requests: Vec<_> = keys.iter().step_by(2).map(|key| stored(&**key, &*text)).collect();
    user.send::<BulkRememberResponse>("BulkRemember", requests, None).await.unwrap();
    let request = BulkRecallRequest { keys: keys.clone(), ..BulkRecallRequest::default() };
    let pieces: Vec<BulkRecallResponse> = user.replies("BulkRecall", request).await.unwrap();
    assert!(pieces.len() >= 5, "{}", pieces.len());
    assert!(pieces.iter().all(|piece| piece.encoded_len() < 300_000));
    let found = user.bulk(&keys).await;
    let there: Vec<bool> = found.iter().map(Option::is_some).collect();
    assert!(there.iter().enumerate().all(|(index, there)| *there == (index % 2 == 0)));
    for (keys, field) in
        [(vec!["k".to_owned(); 10_001], "keys"), (vec!["a".to_owned(), String::new()], "keys[1]")]
    {
        let request = BulkRecallRequest { keys, ..BulkRecallRequest::default() };
        let error = user.replies::<BulkRecallResponse>("BulkRecall", request).await.unwrap_err();
        assert_eq!(error.fact("field"), Some(field));
    }
}
