//! The stream of approvals.

use op_dbus::contract::RawRequests;
use op_dbus::executor::{Approver, Config, Decision, Input, Policy, Rule, Who};
use op_dbus::proto::opdbus::v1::{ApprovalState, WatchApprovalsResponse};
use op_dbus::task::{Event, Subscription};
use prost::Message as _;
use zbus::Variant;

use super::{ALICE, BOB, ROOT, approve, asked, context, guarded, ruled, with};
use crate::dbus::{self, watch::Watch};
use crate::fixture::{Bus, Service};

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

/// The next change that a client on the bus is told of.
async fn next_on_bus(watch: &mut Watch, task: &str) -> (String, String) {
    loop {
        let (name, message) = watch.signal(task).await;
        if name != "Message" {
            continue;
        }
        let body = message.body();
        let (_, _, fields): (u64, u64, dbus::Options<'_>) = body.deserialize().unwrap();
        let approval: std::collections::HashMap<String, Variant<'_>> =
            fields["approval"].try_clone().unwrap().try_into().unwrap();
        let text = |name: &str| <&str>::try_from(&approval[name]).unwrap().to_owned();
        return (text("id"), text("state"));
    }
}

#[tokio::test]
async fn on_the_bus_a_watcher_is_sent_the_same_as_signals_to_him_alone() {
    let mut all = Rule::for_all(Who::everybody(), Decision::Allow);
    all.may_approve = Some(Approver::All);
    let service = Service::new(Config { policy: Policy::new(vec![all]), ..Config::default() });
    let bus = Bus::start();
    let _server = dbus::start(&bus, &service).await.unwrap();
    let (client, other) = (dbus::connect(&bus).await, dbus::connect(&bus).await);
    let (mut watch, mut others) = (Watch::new(&client), Watch::new(&other));
    let manager = "/org/opdbus/Agents1";
    let reply = watch.call(manager, "WatchApprovals", &(dbus::none(),)).await.unwrap();
    let body = reply.body();
    let (task, _): (zbus::ObjectPath<'_>, dbus::Options<'_>) = body.deserialize().unwrap();
    let task = task.to_string();

    let me = nix::unistd::getuid().as_raw();
    let id = asked(guarded(&service, context(me), "a").await);
    assert_eq!(next_on_bus(&mut watch, &task).await, (id.clone(), "pending".to_owned()));
    others.call(manager, "Approve", &(id.as_str(), dbus::none())).await.unwrap();
    assert_eq!(next_on_bus(&mut watch, &task).await, (id.clone(), "approved".to_owned()));
    guarded(&service, with(me, &id), "a").await.unwrap();
    assert_eq!(next_on_bus(&mut watch, &task).await, (id, "used".to_owned()));
    // Whatever came to the other before this answer came to all.
    let rules = others.call(manager, "ListApprovals", &(dbus::none(),)).await;
    assert!(rules.is_ok() && others.is_quiet(), "only who watches is told");
}
