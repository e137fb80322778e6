//! What the policy tells of itself, and to whom.

use op_dbus::error::ErrorKind;
use op_dbus::executor::{Config, Decision, Policy, Rule, Who};
use serde_json::json;

use super::{ALICE, BOB, ROOT, about, call, context, ruled, user};

#[tokio::test]
async fn everybody_learns_what_holds_for_himself_and_by_which_rule() {
    let mut deny = about("Count", user(BOB), Decision::Deny);
    (deny.origin, deny.reason) = ("/etc/rules.toml:3".into(), "he counts wrong".into());
    let service = ruled(vec![deny]);
    let explain = |uid, operation| {
        let request = json!({"agent": "probe", "operation": operation});
        call(&service, context(uid), ("policy", "Explain"), request)
    };
    let found = explain(BOB, "count").await.unwrap();
    let found = &found["explanation"];
    assert_eq!(found["decision"], "POLICY_DECISION_DENY");
    assert_eq!(
        (&found["operation"], &found["risk"]),
        (&json!("probe.Count"), &json!("RISK_WRITE"))
    );
    let rule = &found["rule"];
    assert_eq!((&rule["number"], &rule["origin"]), (&json!(1), &json!("/etc/rules.toml:3")));
    assert_eq!(rule["who"], "user 4200002 (4200002)");
    assert_eq!(rule["what"], "agent probe, operation Count");
    assert_eq!(rule["reason"], "he counts wrong");

    let found = explain(ALICE, "Count").await.unwrap();
    assert_eq!(found["explanation"]["decision"], "POLICY_DECISION_ALLOW");
    assert_eq!(found["explanation"]["rule"]["origin"], "built in");
    assert_eq!(found["explanation"]["may_approve"], "MAY_APPROVE_UNSPECIFIED");
    let found = explain(ALICE, "Restart").await.unwrap();
    assert_eq!(found["explanation"]["decision"], "POLICY_DECISION_AUTH");
    let found = explain(ROOT, "Restart").await.unwrap();
    assert_eq!(found["explanation"]["decision"], "POLICY_DECISION_ALLOW");
    assert_eq!(found["explanation"]["may_approve"], "MAY_APPROVE_OTHERS");
}

#[tokio::test]
async fn only_who_administers_learns_of_others_and_of_all_rules() {
    let service = ruled(vec![about("Count", user(BOB), Decision::Ask)]);
    let request = json!({"user": BOB.to_string(), "agent": "probe", "operation": "Count"});
    let explain = |uid| call(&service, context(uid), ("policy", "ExplainUser"), request.clone());
    assert_eq!(explain(ALICE).await.unwrap_err().kind(), ErrorKind::AccessDenied);
    let found = explain(ROOT).await.unwrap();
    assert_eq!(found["explanation"]["decision"], "POLICY_DECISION_ASK");
    assert_eq!(found["explanation"]["uid"], BOB);

    let rules = |uid| call(&service, context(uid), ("policy", "ListRules"), json!({}));
    assert_eq!(rules(ALICE).await.unwrap_err().kind(), ErrorKind::AccessDenied);
    let found = rules(ROOT).await.unwrap();
    let rules = found["rules"].as_array().unwrap();
    assert_eq!(rules[0]["decision"], "POLICY_DECISION_ASK");
    assert_eq!(rules.last().unwrap()["decision"], "POLICY_DECISION_DENY");
    assert_eq!(rules.len(), 5);
}

#[tokio::test]
async fn a_refused_caller_learns_no_more_than_that() {
    let mut deny = about("Count", Who::everybody(), Decision::Deny);
    (deny.origin, deny.reason) = ("/etc/rules.toml:3".into(), "he counts wrong".into());
    let service = ruled(vec![deny]);
    let error = call(&service, context(BOB), ("probe", "Count"), json!({})).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.message()),
        (ErrorKind::AccessDenied, "probe.Count is not allowed")
    );
    assert!(error.facts().is_empty(), "{error:?}");
}

#[tokio::test]
async fn rules_about_nothing_are_told() {
    let service = ruled(vec![about("Cuont", Who::everybody(), Decision::Deny)]);
    let warnings = service.executor.rules_about_nothing();
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("operation Cuont"), "{warnings:?}");
    let policy = Policy::new(vec![Rule::for_all(Who::everybody(), Decision::Deny)]);
    service.executor.reconfigure(Config { policy, ..Config::default() });
    assert!(service.executor.rules_about_nothing().is_empty());
}
