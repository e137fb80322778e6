//! What may be stored and read, and by whom.

use std::sync::Arc;

use op_dbus::call::{Attested, Caller, Identity};
use op_dbus::error::ErrorKind;
use prost_reflect::prost::Message as _;
use serde_json::{Value, json};

use super::{User, version};

#[tokio::test]
async fn a_value_comes_back_as_it_was_stored() {
    let user = User::new();
    let values = [
        json!(null),
        json!(true),
        json!(-0.5),
        json!(9_007_199_254_740_992_i64),
        json!(""),
        json!("\u{0}é\u{10ffff}"),
        json!([]),
        json!({}),
        json!({"": [[[]]], "a": [1, {"b": null}]}),
    ];
    let mut last = 0;
    for value in values {
        let answer = user.ok("Remember", json!({"key": "k", "value": value})).await;
        assert!(version(&answer) > last, "versions grow");
        assert_eq!(answer["created"], last == 0);
        last = version(&answer);
        let recalled = user.ok("Recall", json!({"key": "k"})).await;
        // Numbers come back as doubles, which JSON values compare apart from integers.
        assert_eq!(recalled["value"].to_string().replace(".0", ""), value.to_string());
        assert_eq!(version(&recalled), last);
        assert!(recalled["created_at"].is_string() && recalled["updated_at"].is_string());
        assert_eq!(recalled["expires_at"], Value::Null);
    }
}

#[tokio::test]
async fn users_and_namespaces_are_apart() {
    let alice = User::new();
    let bob = alice.other();
    alice.remember("k", json!("alice")).await;
    assert_eq!(bob.value("k").await, None);
    bob.remember("k", json!("bob")).await;
    alice.ok("Remember", json!({"key": "k", "value": "other", "namespace": "n"})).await;
    assert_eq!(alice.value("k").await, Some(json!("alice")));
    let named = alice.ok("Recall", json!({"key": "k", "namespace": "n"})).await;
    assert_eq!(named["value"], "other");
    let default = alice.ok("Recall", json!({"key": "k", "namespace": "default"})).await;
    assert_eq!(default["value"], "alice");

    let token = alice.ok("Forget", json!({"key": "*", "glob": true})).await["undo_token"].take();
    assert_eq!(bob.value("k").await, Some(json!("bob")));
    for (user, request) in [
        (&bob, json!({"undo_token": token})),
        (&alice, json!({"undo_token": token, "namespace": "n"})),
        (&alice, json!({"undo_token": "undo-99"})),
        (&alice, json!({"undo_token": "nonsense"})),
    ] {
        assert_eq!(user.refused("Restore", request).await.kind(), ErrorKind::NotFound);
    }
    assert_eq!(alice.ok("Restore", json!({"undo_token": token})).await["count"], 1);
    assert_eq!(alice.value("k").await, Some(json!("alice")));

    let mut context = alice.context();
    let caller = Caller::new(Identity::Unknown, Attested::Nobody, "test");
    context.caller = Arc::new(caller);
    let executor = &alice.service.executor;
    let nobody = executor.call_json("memory", "Recall", r#"{"key":"k"}"#, context).await;
    assert_eq!(nobody.unwrap_err().kind(), ErrorKind::Unauthenticated);
}

#[tokio::test]
async fn every_bad_field_is_named() {
    let user = User::new();
    let long = "x".repeat(257);
    let big = "x".repeat(256 * 1024);
    let deep: Value = (0..16).fold(json!(1), |inner, _| json!([inner]));
    let many: Vec<String> = (0..1001).map(|number| number.to_string()).collect();
    let remember = |more: Value| {
        let mut request = json!({"key": "k", "value": 1});
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        ("Remember", request)
    };
    for ((operation, request), field) in [
        (remember(json!({"key": ""})), "key"),
        (remember(json!({"key": long})), "key"),
        (remember(json!({"key": "a\u{0}b"})), "key"),
        (remember(json!({"namespace": "n".repeat(65)})), "namespace"),
        (remember(json!({"namespace": "\u{0}"})), "namespace"),
        (remember(json!({"value": big})), "value"),
        (remember(json!({"value": deep})), "value"),
        (("Remember", json!({"key": "k"})), "value"),
        (remember(json!({"ttl": "0s"})), "ttl"),
        (remember(json!({"ttl": "-1s"})), "ttl"),
        (remember(json!({"ttl": "3155760001s"})), "ttl"),
        (remember(json!({"tags": [""]})), "tags"),
        (remember(json!({"tags": ["t".repeat(65)]})), "tags"),
        (remember(json!({"tags": many[..33]})), "tags"),
        (("Recall", json!({"key": ""})), "key"),
        (("Recall", json!({"key": "k", "default": deep})), "default"),
        (("Forget", json!({"key": "[a", "glob": true})), "key"),
        (("Forget", json!({"key": "*", "glob": true, "if_version": 1})), "if_version"),
        (("List", json!({"page_size": 1001})), "page_size"),
        (("List", json!({"page_token": "00"})), "page_token"),
        (("List", json!({"pattern": "[]"})), "pattern"),
        (("Increment", json!({"key": "k", "by": 9_007_199_254_740_993_i64})), "by"),
        (("Increment", json!({"key": "k", "ttl": "0s"})), "ttl"),
        (("Remember", json!({"key": "k", "value": 1, "scope": "SCOPE_SESSION"})), "scope"),
        (("History", json!({"key": "k", "limit": 1001})), "limit"),
        (("Restore", json!({})), "key"),
        (("Restore", json!({"key": "k"})), "version"),
        (("Restore", json!({"key": "k", "undo_token": "t"})), "key"),
        (("Restore", json!({"version": 1, "undo_token": "t"})), "version"),
        (("Transact", json!({"compare": [{"key": ""}]})), "compare[0].key"),
        (("Transact", json!({"success": [{}]})), "success[0]"),
        (
            (
                "Transact",
                json!({"success": vec![json!({"forget": {"key": "*", "glob": true}}); 2]}),
            ),
            "success[1].forget.glob",
        ),
        (
            (
                "Transact",
                json!({"failure": [{"recall": {"key": "k"}}, {"remember": {"key": "k", "value": 1, "namespace": "n"}}]}),
            ),
            "failure[1].remember.namespace",
        ),
        (("Transact", json!({"success": vec![json!({"recall": {"key": "k"}}); 129]})), "success"),
    ] {
        let error = user.refused(operation, request.clone()).await;
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{operation} {request}: {error}");
        assert_eq!(error.fact("field"), Some(field), "{operation} {request}: {error}");
    }
    let rounded = r#"{"key":"k","value":[9007199254740993]}"#;
    let executor = &user.service.executor;
    let error =
        executor.call_json("memory", "Remember", rounded, user.context()).await.unwrap_err();
    assert!(error.message().contains("9007199254740993"), "{error}");
    assert_eq!(user.keys(json!({})).await, Vec::<String>::new(), "nothing was stored");
}

#[tokio::test]
async fn a_number_that_json_cannot_say_is_refused() {
    use op_dbus::proto::opdbus::agent::memory::v1::RememberRequest;
    let user = User::new();
    for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let value = prost_types::Value::from(vec![number.into(), prost_types::Value::from("x")]);
        let request =
            RememberRequest { key: "k".into(), value: Some(value), ..RememberRequest::default() };
        let executor = &user.service.executor;
        let route = executor.find("memory", "remember").unwrap();
        let request = request.encode_to_vec().into();
        let error = executor.call(&route, user.context(), request).await.unwrap_err();
        assert_eq!(error.fact("field"), Some("value"), "{error}");
    }
}

#[tokio::test]
async fn a_default_is_given_for_a_missing_key_only() {
    let user = User::new();
    let answer = user.ok("Recall", json!({"key": "k", "default": [1]})).await;
    assert_eq!((answer["value"].to_string(), version(&answer)), ("[1.0]".into(), 0));
    user.remember("k", json!("there")).await;
    assert_eq!(user.ok("Recall", json!({"key": "k", "default": 1})).await["value"], "there");
    let null = user.ok("Recall", json!({"key": "x", "default": null})).await;
    assert_eq!(null["value"], Value::Null);
}
