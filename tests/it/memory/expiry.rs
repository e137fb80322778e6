//! Keys with a time to live.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{User, version};

#[tokio::test]
async fn a_key_is_gone_when_its_time_is_over() {
    let user = User::new();
    let request = json!({"key": "k", "value": "old", "ttl": "0.3s", "tags": ["t"]});
    let stored = user.ok("Remember", request).await;
    assert!(stored["expires_at"].is_string());
    assert_eq!(user.ok("Recall", json!({"key": "k"})).await["expires_at"], stored["expires_at"]);
    user.gone("k").await;
    assert_eq!(user.keys(json!({})).await, Vec::<String>::new());
    assert_eq!(user.ok("Forget", json!({"key": "k"})).await["count"], 0);
    assert_eq!(user.bulk(&["k".to_owned()]).await, [None]);
    let error = user
        .refused("Remember", json!({"key": "k", "value": 1, "if_version": version(&stored)}))
        .await;
    assert_eq!(error.fact("current_version"), Some("0"));

    let history = user.ok("History", json!({"key": "k"})).await;
    let revisions = history["revisions"].as_array().unwrap();
    assert_eq!(revisions.len(), 2, "{history}");
    assert_eq!(
        (&revisions[0]["removed"], &revisions[0]["created_at"]),
        (&json!(true), &stored["expires_at"])
    );
    assert_eq!((&revisions[1]["removed"], &revisions[1]["value"]), (&json!(false), &json!("old")));

    let restored = user.ok("Restore", json!({"key": "k", "version": version(&stored)})).await;
    assert!(version(&restored) > version(&stored));
    let recalled = user.ok("Recall", json!({"key": "k"})).await;
    assert_eq!((&recalled["value"], &recalled["expires_at"]), (&json!("old"), &Value::Null));
    assert_eq!(recalled["tags"], json!(["t"]));
}

#[tokio::test]
async fn an_increment_keeps_the_time_and_a_remember_does_not() {
    let user = User::new();
    let first = user.ok("Remember", json!({"key": "n", "value": 1, "ttl": "100s"})).await;
    user.ok("Increment", json!({"key": "n"})).await;
    let kept = user.ok("Recall", json!({"key": "n"})).await;
    assert_eq!((&kept["expires_at"], kept["value"].as_f64()), (&first["expires_at"], Some(2.0)));
    user.ok("Increment", json!({"key": "n", "ttl": "200s"})).await;
    let longer = user.ok("Recall", json!({"key": "n"})).await;
    assert!(longer["expires_at"].as_str() > first["expires_at"].as_str());
    user.remember("n", json!(1)).await;
    assert_eq!(user.ok("Recall", json!({"key": "n"})).await["expires_at"], Value::Null);
}

#[tokio::test]
async fn the_sweeper_frees_what_is_over_without_a_read() {
    let user = User::new();
    user.ok("Remember", json!({"key": "k", "value": 1, "ttl": "0.1s"})).await;
    assert_eq!(user.gauge("keys"), 1);
    let limit = Instant::now() + Duration::from_secs(20);
    while user.gauge("keys") != 0 {
        assert!(Instant::now() < limit, "the key was not swept");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(user.gauge("bytes"), 0);
}
