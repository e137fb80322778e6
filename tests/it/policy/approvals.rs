//! Approvals: one call of one user, with one request, once, approved by somebody else.

use std::time::Duration;

use op_dbus::error::ErrorKind;
use op_dbus::executor::{ApprovalConfig, Approver, Config, Decision, Rule, Who};
use serde_json::json;

use super::{
    ALICE, BOB, GUARDED, ROOT, about, approve, asked, call, context, guarded, ruled, user, with,
};
use crate::fixture::Service;

fn metric(service: &Service, line: &str) -> bool {
    service.executor.metrics().render().unwrap().lines().any(|found| found == line)
}

#[tokio::test]
async fn a_call_is_approved_by_somebody_else_and_made_once() {
    let service = ruled(Vec::new());
    let error = guarded(&service, context(ALICE), "it").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ApprovalRequired);
    assert_eq!(error.fact("preview"), Some("does it"));
    assert!(error.fact("expires").unwrap().ends_with('Z'), "{error:?}");
    let id = error.fact("approval_id").unwrap();
    assert!(metric(&service, "opdbus_approvals_pending 1"));

    let again = asked(guarded(&service, with(ALICE, id), "it").await);
    assert_eq!(again, id, "nobody has decided yet");
    let approved = approve(&service, ROOT, id).await.unwrap();
    assert_eq!(approved["approval"]["state"], "APPROVAL_STATE_APPROVED");
    assert_eq!(approved["approval"]["decided_by_uid"], json!(0));
    assert_eq!(approve(&service, ROOT, id).await.unwrap_err().kind(), ErrorKind::Conflict);

    let done = guarded(&service, with(ALICE, id), "it").await.unwrap();
    assert_eq!(done, json!({"approved_by": 0, "count": "1"}));
    let used = guarded(&service, with(ALICE, id), "it").await.unwrap_err();
    assert_eq!(used.kind(), ErrorKind::NotFound, "{used}");
    for event in ["asked", "approved", "used"] {
        let line = format!("opdbus_approvals_total{{event=\"{event}\"}} 1");
        assert!(metric(&service, &line), "{line}");
    }
    assert!(metric(&service, "opdbus_approvals_pending 0"));
}

#[tokio::test]
async fn an_approval_is_for_its_caller_operation_and_request_only() {
    let service = ruled(vec![about("Count", Who::everybody(), Decision::Ask)]);
    let id = asked(guarded(&service, context(ALICE), "it").await);
    approve(&service, ROOT, &id).await.unwrap();
    let others = guarded(&service, with(BOB, &id), "it").await.unwrap_err();
    assert_eq!(others.kind(), ErrorKind::NotFound, "{others}");
    let other_request = guarded(&service, with(ALICE, &id), "it all").await.unwrap_err();
    assert_eq!(other_request.fact("field"), Some("approval-id"), "{other_request}");
    let other_operation =
        call(&service, with(ALICE, &id), ("probe", "Count"), json!({})).await.unwrap_err();
    assert_eq!(other_operation.fact("field"), Some("approval-id"), "{other_operation}");
    let unknown = guarded(&service, with(ALICE, "made up"), "it").await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::NotFound, "{unknown}");
    guarded(&service, with(ALICE, &id), "it").await.unwrap();
}

#[tokio::test]
async fn nobody_approves_what_is_his_own_unless_the_policy_says_so() {
    let mut lead = about("Guarded", user(BOB), Decision::Allow);
    (lead.decision, lead.may_approve) = (None, Some(Approver::Others));
    let mut chief = Rule::for_all(user(4_200_003), Decision::Allow);
    (chief.decision, chief.may_approve) = (None, Some(Approver::All));
    let ask = about("Count", Who::everybody(), Decision::Ask);
    let service = ruled(vec![lead, chief, ask]);

    let of_root = asked(guarded(&service, context(ROOT), "root").await);
    let own = approve(&service, ROOT, &of_root).await.unwrap_err();
    assert_eq!(own.kind(), ErrorKind::AccessDenied, "{own}");
    let of_alice = asked(guarded(&service, context(ALICE), "alice").await);
    let own = approve(&service, ALICE, &of_alice).await.unwrap_err();
    assert_eq!(own.kind(), ErrorKind::AccessDenied, "{own}");

    let of_bob = asked(guarded(&service, context(BOB), "bob").await);
    let own = approve(&service, BOB, &of_bob).await.unwrap_err();
    assert_eq!(own.kind(), ErrorKind::AccessDenied, "{own}");
    approve(&service, BOB, &of_root).await.unwrap();
    approve(&service, BOB, &of_alice).await.unwrap();
    // What his rule is not about, he does not even see.
    let counted = asked(call(&service, context(ALICE), ("probe", "Count"), json!({})).await);
    let other = approve(&service, BOB, &counted).await.unwrap_err();
    assert_eq!(other.kind(), ErrorKind::NotFound, "{other}");

    let of_chief = asked(guarded(&service, context(4_200_003), "chief").await);
    approve(&service, 4_200_003, &of_chief).await.unwrap();
    let done = guarded(&service, with(4_200_003, &of_chief), "chief").await.unwrap();
    assert_eq!(done["approved_by"], 4_200_003);
}

#[tokio::test]
async fn what_is_rejected_is_not_made_and_its_caller_is_told_why() {
    let service = ruled(Vec::new());
    let reject = |uid, id: String| {
        let request = json!({"id": id, "reason": "not on a Friday"});
        call(&service, context(uid), ("approvals", "Reject"), request)
    };
    let id = asked(guarded(&service, context(ALICE), "it").await);
    approve(&service, ROOT, &id).await.unwrap();
    let rejected = reject(ROOT, id.clone()).await.unwrap();
    assert_eq!(rejected["approval"]["state"], "APPROVAL_STATE_REJECTED");
    let error = guarded(&service, with(ALICE, &id), "it").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AccessDenied);
    assert!(error.message().contains("not on a Friday"), "{error}");
    assert_eq!(approve(&service, ROOT, &id).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(reject(ROOT, id).await.unwrap_err().kind(), ErrorKind::Conflict);
    // The same call, made again, may be asked for again.
    asked(guarded(&service, context(ALICE), "it").await);
}

#[tokio::test]
async fn approvals_are_seen_by_their_callers_and_by_those_who_decide() {
    let service = ruled(Vec::new());
    let first = asked(guarded(&service, context(ALICE), "a").await);
    let second = asked(guarded(&service, context(BOB), "b").await);
    let third = asked(guarded(&service, context(ALICE), "c").await);
    let list = |uid, request| call(&service, context(uid), ("approvals", "ListApprovals"), request);
    let ids = |response: &serde_json::Value| {
        let approvals = response["approvals"].as_array().unwrap();
        let ids = approvals.iter().map(|approval| approval["id"].as_str().unwrap().to_owned());
        ids.collect::<Vec<_>>()
    };
    let all = list(ROOT, json!({})).await.unwrap();
    assert_eq!(ids(&all), [third.as_str(), &second, &first]);
    assert_eq!(ids(&list(ALICE, json!({})).await.unwrap()), [third.as_str(), &first]);
    assert_eq!(all["approvals"][2]["preview"], "does a");
    assert_eq!(all["approvals"][2]["requested_by_uid"], ALICE);
    assert_eq!(all["approvals"][2]["request_sha256"].as_str().unwrap().len(), 64);

    let page = list(ROOT, json!({"page_size": 2})).await.unwrap();
    assert_eq!(ids(&page), [third.as_str(), &second]);
    let token = &page["next_page_token"];
    let page = list(ROOT, json!({"page_size": 2, "page_token": token})).await.unwrap();
    assert_eq!((ids(&page), &page["next_page_token"]), (vec![first.clone()], &json!("")));

    approve(&service, ROOT, &second).await.unwrap();
    let states = json!({"states": ["APPROVAL_STATE_APPROVED"]});
    assert_eq!(ids(&list(ROOT, states).await.unwrap()), [second.as_str()]);
    let get =
        |uid, id| call(&service, context(uid), ("approvals", "GetApproval"), json!({"id": id}));
    get(ALICE, first).await.unwrap();
    assert_eq!(get(ALICE, second).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn approvals_are_bounded_and_the_bound_is_named() {
    let approvals = ApprovalConfig { max: 3, max_per_caller: 2, ..ApprovalConfig::default() };
    let service = Service::new(Config { approvals, ..Config::default() });
    let first = asked(guarded(&service, context(ALICE), "a").await);
    asked(guarded(&service, context(ALICE), "b").await);
    let error = guarded(&service, context(ALICE), "c").await.unwrap_err();
    assert_eq!(error.fact("limit"), Some("approvals.max_per_caller"), "{error}");
    assert_eq!(asked(guarded(&service, context(ALICE), "a").await), first, "the same is the same");
    asked(guarded(&service, context(BOB), "a").await);
    let error = guarded(&service, context(ROOT), "a").await.unwrap_err();
    assert_eq!(error.fact("limit"), Some("approvals.max"), "{error}");
    // What was made makes room.
    approve(&service, ROOT, &first).await.unwrap();
    guarded(&service, with(ALICE, &first), "a").await.unwrap();
    asked(guarded(&service, context(ALICE), "c").await);
}

#[tokio::test]
async fn an_approval_expires() {
    let expire = Duration::from_millis(150);
    let approvals = ApprovalConfig { expire, ..ApprovalConfig::default() };
    let service = Service::new(Config { approvals, ..Config::default() });
    let id = asked(guarded(&service, context(ALICE), "a").await);
    tokio::time::sleep(expire * 2).await;
    assert_eq!(approve(&service, ROOT, &id).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(metric(&service, "opdbus_approvals_total{event=\"expired\"} 1"));
    assert!(metric(&service, "opdbus_approvals_pending 0"));
    assert_ne!(asked(guarded(&service, context(ALICE), "a").await), id);
}

#[tokio::test]
async fn a_long_preview_is_cut_and_says_so() {
    let service = ruled(Vec::new());
    let text = "é".repeat(5000);
    let error = guarded(&service, context(ALICE), &text).await.unwrap_err();
    assert!(error.fact("preview").unwrap().len() <= 4096);
    let id = error.fact("approval_id").unwrap();
    let found = call(&service, context(ROOT), ("approvals", "GetApproval"), json!({"id": id}));
    assert_eq!(found.await.unwrap()["approval"]["preview_truncated"], true);
}

#[tokio::test]
async fn the_same_request_has_one_approval_however_it_was_encoded() {
    let service = ruled(Vec::new());
    let map: serde_json::Map<String, serde_json::Value> = (0..50)
        .map(|number| (format!("name {number}"), json!({"text": number.to_string()})))
        .collect();
    let arguments = json!({"text": "it", "map": map});
    // Each time the maps of the message have another order.
    let id = asked(call(&service, context(ALICE), GUARDED, arguments.clone()).await);
    assert_eq!(asked(call(&service, context(ALICE), GUARDED, arguments.clone()).await), id);
    approve(&service, ROOT, &id).await.unwrap();
    let as_json =
        json!({"agent": "probe", "operation": "Guarded", "arguments": arguments.to_string()});
    call(&service, with(ALICE, &id), ("agents", "CallJson"), as_json).await.unwrap();
}

#[tokio::test]
async fn a_request_id_gives_the_result_and_not_the_question() {
    let service = ruled(Vec::new());
    let named = |context| op_dbus::call::Context { request_id: Some("once".into()), ..context };
    let id = asked(guarded(&service, named(context(ALICE)), "it").await);
    approve(&service, ROOT, &id).await.unwrap();
    for _ in 0..2 {
        let done = guarded(&service, named(with(ALICE, &id)), "it").await.unwrap();
        assert_eq!(done["count"], "1");
    }
}
