//! Versions: conditions on them, history, and bringing back.

use op_dbus::error::ErrorKind;
use serde_json::json;

use super::{User, version};

#[tokio::test]
async fn a_change_can_depend_on_the_version() {
    let user = User::new();
    let first = user.remember("k", json!(1)).await;
    let second =
        version(&user.ok("Remember", json!({"key": "k", "value": 2, "if_version": first})).await);
    let stale =
        user.refused("Remember", json!({"key": "k", "value": 3, "if_version": first})).await;
    assert_eq!(stale.kind(), ErrorKind::Conflict);
    assert_eq!(stale.fact("current_version"), Some(second.to_string().as_str()));
    let there = user.refused("Remember", json!({"key": "k", "value": 3, "if_absent": true})).await;
    assert_eq!(there.kind(), ErrorKind::AlreadyExists);
    let both = json!({"key": "k", "value": 3, "if_absent": true, "if_version": second});
    let both = user.refused("Remember", both).await;
    assert_eq!((both.kind(), both.fact("field")), (ErrorKind::InvalidArgument, Some("if_version")));

    let stale = user.refused("Forget", json!({"key": "k", "if_version": first})).await;
    assert_eq!(stale.kind(), ErrorKind::Conflict);
    assert_eq!(user.ok("Forget", json!({"key": "k", "if_version": second})).await["count"], 1);
    assert_eq!(user.ok("Forget", json!({"key": "k", "if_version": second})).await["count"], 0);
    let gone =
        user.refused("Remember", json!({"key": "k", "value": 3, "if_version": second})).await;
    assert_eq!(gone.fact("current_version"), Some("0"));
    let anew = user.ok("Remember", json!({"key": "k", "value": 3, "if_version": 0})).await;
    assert!(version(&anew) > second, "a version is never used twice");
    assert_eq!(anew["created"], true);
}

#[tokio::test]
async fn a_forget_is_undone_except_for_what_is_stored_anew() {
    let user = User::new();
    for key in ["a1", "a2", "a3", "b"] {
        user.ok("Remember", json!({"key": key, "value": key, "tags": ["t"]})).await;
    }
    let request = json!({"key": "a*", "glob": true, "dry_run": true});
    let dry = user.ok("Forget", request).await;
    assert_eq!((&dry["count"], &dry["undo_token"]), (&json!(3), &json!("")));
    assert_eq!(user.gauge("keys"), 4);
    let forgotten = user.ok("Forget", json!({"key": "a*", "glob": true})).await;
    assert_eq!(forgotten["count"], 3);
    assert_eq!(user.keys(json!({})).await, ["b"]);
    assert_eq!(user.gauge("keys"), 1);
    user.remember("a2", json!("anew")).await;

    let undo = json!({"undo_token": forgotten["undo_token"]});
    let restored = user.ok("Restore", undo.clone()).await;
    assert_eq!((&restored["count"], &restored["skipped"]), (&json!(2), &json!(["a2"])));
    assert_eq!(user.value("a1").await, Some(json!("a1")));
    assert_eq!(user.value("a2").await, Some(json!("anew")));
    assert_eq!(user.keys(json!({"tags": ["t"]})).await, ["a1", "a3", "b"]);
    let again = user.ok("Restore", undo).await;
    assert_eq!((&again["count"], &again["skipped"]), (&json!(0), &json!(["a1", "a2", "a3"])));
}

#[tokio::test]
async fn versions_are_kept_and_can_be_read_and_restored() {
    let user = User::new();
    let mut versions = Vec::new();
    for number in 0..100 {
        versions.push(user.ok("Increment", json!({"key": "n"})).await);
        assert_eq!(versions[number]["value"], (number + 1).to_string());
    }
    let history = user.ok("History", json!({"key": "n", "limit": 1000})).await;
    let kept: Vec<i64> = history["revisions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|revision| format!("{:.0}", revision["value"].as_f64().unwrap()).parse().unwrap())
        .collect();
    assert_eq!(kept, (69..=100).rev().collect::<Vec<_>>());
    let two = user.ok("History", json!({"key": "n", "limit": 2})).await;
    assert_eq!(two["revisions"].as_array().unwrap().len(), 2);

    let old = json!({"key": "n", "version": version(&versions[68])});
    assert_eq!(user.ok("Recall", old.clone()).await["value"].as_f64(), Some(69.0));
    user.ok("Restore", old).await;
    assert_eq!(user.ok("Recall", json!({"key": "n"})).await["value"].as_f64(), Some(69.0));
    for version in [version(&versions[67]), 4_000, u64::MAX] {
        let request = json!({"key": "n", "version": version});
        assert_eq!(user.refused("Recall", request.clone()).await.kind(), ErrorKind::NotFound);
        assert_eq!(user.refused("Restore", request).await.kind(), ErrorKind::NotFound);
    }
    user.ok("Forget", json!({"key": "n"})).await;
    let last = json!({"key": "n", "version": version(&versions[99])});
    assert_eq!(user.ok("Recall", last).await["value"].as_f64(), Some(100.0));
    let empty = user.ok("History", json!({"key": "never"})).await;
    assert_eq!(empty["revisions"], json!([]));
}
