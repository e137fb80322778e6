//! Several keys at once: List.

use serde_json::json;

use super::User;

#[tokio::test]
async fn keys_are_listed_in_order_by_pattern_label_and_page() {
    let user = User::new();
    for key in ["b/1", "a", "b/2", "é", "b", "c[x]", "b/10"] {
        let tags = if key.starts_with("b/") { json!(["t", "s", "t"]) } else { json!(["s"]) };
        user.ok("Remember", json!({"key": key, "value": key, "tags": tags})).await;
    }
    let all = ["a", "b", "b/1", "b/10", "b/2", "c[x]", "é"];
    assert_eq!(user.keys(json!({})).await, all);
    for (pattern, expected) in [
        ("b*", vec!["b", "b/1", "b/10", "b/2"]),
        ("b/?", vec!["b/1", "b/2"]),
        ("[a-b]", vec!["a", "b"]),
        ("[^a-b]", vec!["é"]),
        ("c[[]x]", vec!["c[x]"]),
        ("*1*", vec!["b/1", "b/10"]),
        ("B*", vec![]),
    ] {
        assert_eq!(user.keys(json!({"pattern": pattern})).await, expected, "{pattern}");
    }
    assert_eq!(user.keys(json!({"tags": ["s", "t"]})).await, ["b/1", "b/10", "b/2"]);
    assert_eq!(user.keys(json!({"tags": ["s", "u"]})).await, Vec::<String>::new());

    let mut seen = Vec::new();
    let mut token = json!("");
    loop {
        let request = json!({"page_size": 2, "pattern": "*", "page_token": token});
        let mut page = user.ok("List", request).await;
        let keys = page["keys"].as_array().unwrap();
        assert!(!keys.is_empty() && keys.len() <= 2);
        seen.extend(keys.iter().map(|info| info["key"].as_str().unwrap().to_owned()));
        token = page["next_page_token"].take();
        if token == "" {
            break;
        }
        // A key that goes meanwhile takes no other with it.
        user.ok("Forget", json!({"key": seen.last().unwrap()})).await;
    }
    assert_eq!(seen, all);

    let page = user.ok("List", json!({"page_size": 1})).await;
    let info = &page["keys"][0];
    assert_eq!((&info["key"], &info["size_bytes"]), (&json!("a"), &json!("3")));
    let stray = json!({"page_token": page["next_page_token"], "pattern": "b*"});
    assert_eq!(user.refused("List", stray).await.fact("field"), Some("page_token"));
}
