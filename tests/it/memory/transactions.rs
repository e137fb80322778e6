//! Increment and Transact, alone and against one another.

use op_dbus::error::ErrorKind;
use serde_json::json;

use super::User;

#[tokio::test]
async fn integers_are_added_exactly_or_not_at_all() {
    let user = User::new();
    let answer = user.ok("Increment", json!({"key": "n"})).await;
    assert_eq!(answer["value"], "1");
    let most = 9_007_199_254_740_992_i64;
    assert_eq!(
        user.ok("Increment", json!({"key": "n", "by": most - 1})).await["value"],
        most.to_string()
    );
    let error = user.refused("Increment", json!({"key": "n"})).await;
    assert_eq!((error.kind(), error.fact("field")), (ErrorKind::InvalidArgument, Some("by")));
    assert_eq!(
        user.ok("Increment", json!({"key": "n", "by": -2 * most})).await["value"],
        (-most).to_string()
    );
    user.refused("Increment", json!({"key": "n", "by": i64::MIN})).await;
    for value in [json!("1"), json!(0.5), json!(1e300), json!([1]), json!(null)] {
        user.remember("other", value).await;
        let error = user.refused("Increment", json!({"key": "other"})).await;
        assert_eq!(error.fact("field"), Some("key"), "{error}");
    }
}

#[tokio::test]
async fn concurrent_increments_lose_nothing() {
    let user = User::new();
    let tasks: Vec<_> = (0..200)
        .map(|_| {
            let user = user.clone();
            tokio::spawn(async move { user.ok("Increment", json!({"key": "n"})).await })
        })
        .collect();
    let mut sums = Vec::new();
    for task in tasks {
        sums.push(task.await.unwrap()["value"].as_str().unwrap().parse::<u32>().unwrap());
    }
    sums.sort_unstable();
    assert_eq!(sums, (1..=200).collect::<Vec<_>>(), "each saw a sum of its own");
}

#[tokio::test]
async fn a_transaction_is_all_or_nothing() {
    let user = User::new();
    let first = user.remember("a", json!(1)).await;
    let request = json!({
        "compare": [{"key": "a", "version": first}, {"key": "b"}],
        "success": [
            {"remember": {"key": "b", "value": "new"}},
            {"increment": {"key": "a", "by": 5}},
            {"recall": {"key": "a"}},
            {"recall": {"key": "x", "default": "none"}},
            {"forget": {"key": "b"}},
        ],
        "failure": [{"recall": {"key": "a"}}],
    });
    let done = user.ok("Transact", request.clone()).await;
    assert_eq!(done["succeeded"], true);
    let results = done["results"].as_array().unwrap();
    assert_eq!(results[1]["increment"]["value"], "6");
    assert_eq!(results[2]["recall"]["value"].as_f64(), Some(6.0), "it sees what went before");
    assert_eq!(results[3]["recall"]["value"], "none");
    assert_eq!(results[4]["forget"]["count"], 1);
    let undo = json!({"undo_token": results[4]["forget"]["undo_token"]});
    assert_eq!(user.ok("Restore", undo).await["count"], 1);
    let again = user.ok("Transact", request).await;
    assert_eq!(
        (&again["succeeded"], again["results"].as_array().unwrap().len()),
        (&json!(false), 1)
    );

    let bytes = user.gauge("bytes");
    let broken = json!({"success": [
        {"remember": {"key": "c", "value": 1}},
        {"forget": {"key": "*", "glob": true}},
        {"increment": {"key": "c"}},
        {"recall": {"key": "c", "version": 1}},
    ]});
    let error = user.refused("Transact", broken).await;
    assert_eq!((error.kind(), error.fact("action")), (ErrorKind::NotFound, Some("success[3]")));
    assert!(error.message().starts_with("success[3]"), "{error}");
    assert_eq!(user.keys(json!({})).await, ["a", "b"]);
    assert_eq!((user.gauge("keys"), user.gauge("bytes")), (2, bytes));
}

#[tokio::test]
async fn of_competing_transactions_one_wins_each_round() {
    let user = User::new();
    user.remember("account", json!(0)).await;
    let work = |user: User| async move {
        let mut done = 0;
        while done < 10 {
            let current = user.ok("Recall", json!({"key": "account"})).await;
            let sum = current["value"].as_f64().unwrap() + 1.0;
            let request = json!({
                "compare": [{"key": "account", "version": current["version"]}],
                "success": [{"remember": {"key": "account", "value": sum}}],
            });
            let outcome = user.ok("Transact", request).await;
            done += i32::from(outcome["succeeded"].as_bool().unwrap());
        }
    };
    let tasks: Vec<_> = (0..8).map(|_| tokio::spawn(work(user.clone()))).collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(user.value("account").await.unwrap().as_f64(), Some(80.0));
}
