//! The stream of approvals.

use op_dbus::contract::RawRequests;
use op_dbus::executor::Input;
use op_dbus::proto::opdbus::v1::{ApprovalState, WatchApprovalsResponse};
use op_dbus::task::{Event, Subscription};
use prost::Message as _;

use super::{ALICE, BOB, ROOT, approve, asked, context, guarded, ruled, with};
use crate::fixture::Service;

async fn watch(service: &Service, uid: u32) -> Subscription {
    let route = service.executor.find("approvals", "WatchApprovals").unwrap();
    let input = Input::Many(RawRequests::one(bytes::Bytes::new()));
    service.executor.start_reading(&route, context(uid), input, false).await.unwrap()
}

/// The next change: which, and what has become of it.
async fn next(reader: &mut Subscription) -> (String, ApprovalState) {
    loop {
        match reader.next().await.expect("the stream does not end") {
            Event::Message(message) => {
                let change = WatchApprovalsResponse::decode(message.payload).unwrap();
                let approval = change.approval.unwrap();
                return (approval.id.clone(), approval.state());
            }
            Event::Changed => {}
            Event::Gap { from, to } => panic!("{from} to {to} are missing"),
            Event::Ended(outcome) => panic!("the stream ended: {outcome:?}"),
        }
    }
}

#[tokio::test]
async fn a_watcher_is_told_what_waits_and_every_change_that_he_may_see() {
    let service = ruled(Vec::new());
    let first = asked(guarded(&service, context(ALICE), "a").await);
    let mut root = watch(&service, ROOT).await;
    let mut bob = watch(&service, BOB).await;
    assert_eq!(next(&mut root).await, (first.clone(), ApprovalState::Pending));
    approve(&service, ROOT, &first).await.unwrap();
    assert_eq!(next(&mut root).await, (first.clone(), ApprovalState::Approved));
    guarded(&service, with(ALICE, &first), "a").await.unwrap();
    assert_eq!(next(&mut root).await, (first, ApprovalState::Used));
    let second = asked(guarded(&service, context(BOB), "b").await);
    assert_eq!(next(&mut root).await, (second.clone(), ApprovalState::Pending));
    // All that was Alice's is unknown to Bob.
    assert_eq!(next(&mut bob).await, (second, ApprovalState::Pending));
}
