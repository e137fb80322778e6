//! Search: what is found, in which order, and what never is.

use op_dbus::proto::opdbus::agent::memory::v1::{
    SearchHit, SearchMode, SearchRequest, SearchResponse,
};
use serde_json::json;

use super::User;

async fn search(user: &User, request: SearchRequest) -> SearchResponse {
    user.unary("Search", request).await.unwrap()
}

fn query(query: &str) -> SearchRequest {
    SearchRequest { query: query.into(), ..SearchRequest::default() }
}

async fn keys(user: &User, request: SearchRequest) -> Vec<String> {
    search(user, request).await.hits.into_iter().map(|hit| hit.key).collect()
}

/// The marked pieces of a hit's excerpt.
fn marked(hit: &SearchHit) -> Vec<String> {
    let letters: Vec<char> = hit.excerpt.chars().collect();
    let piece = |start: u32, length: u32| {
        letters[start as usize..][..length as usize].iter().collect::<String>()
    };
    hit.highlights.iter().map(|highlight| piece(highlight.start, highlight.length)).collect()
}

#[tokio::test]
async fn keys_are_found_by_words_in_key_value_and_labels() {
    let user = User::new();
    for (key, value, tags) in [
        ("build-host", json!("The machine is called Atlas, in Köln"), json!([])),
        ("deploy", json!({"target": "staging", "steps": ["build the image", 42, true]}), json!([])),
        ("note", json!("nothing to see"), json!(["deployment"])),
        ("other", json!("deploys happen on atlas at night"), json!(["ops"])),
    ] {
        user.ok("Remember", json!({"key": key, "value": value, "tags": tags})).await;
    }
    for (words, expected) in [
        ("atlas", vec!["build-host", "other"]),
        ("ATLAS koln", vec!["build-host"]),
        ("\"build the\"", vec!["deploy"]),
        ("\"the build\"", vec![]),
        ("deploy*", vec!["deploy", "note", "other"]),
        ("42", vec!["deploy"]),
        ("target:staging", vec!["deploy"]),
        ("atlas NOT koln", vec![]),
        ("atlas OR", vec![]),
        ("(atlas) ^ + - {key}", vec![]),
    ] {
        let mode = SearchMode::Exact.into();
        let mut found = keys(&user, SearchRequest { mode, ..query(words) }).await;
        found.sort();
        assert_eq!(found, expected, "{words}");
    }
    let found = search(&user, query("build")).await;
    assert_eq!(found.hits[0].key, "build-host", "a word in the key counts more");
    assert!(found.hits[0].score > found.hits[1].score);
    let place = &found.hits[0].key_highlights[0];
    assert_eq!((place.start, place.length), (0, 5));
    let hit = &search(&user, query("köln atlas")).await.hits[0];
    assert_eq!(marked(hit), ["Atlas", "Köln"]);
    assert!(hit.value.is_none() && hit.version > 0);

    let tagged = SearchRequest { tags: vec!["ops".into()], ..query("atlas") };
    assert_eq!(keys(&user, tagged).await, ["other"]);
    let valued = SearchRequest { values: true, limit: 1, ..query("atlas") };
    let hits = search(&user, valued).await.hits;
    assert!(hits.len() == 1 && hits[0].value.is_some());
}

#[tokio::test]
async fn a_misspelt_word_is_found_if_nothing_else_is() {
    let user = User::new();
    user.remember("a", json!("the production database")).await;
    user.remember("b", json!("a databse of typos")).await;
    let found = search(&user, query("prodution dtabase")).await;
    assert_eq!(found.mode(), SearchMode::Fuzzy);
    assert_eq!(found.hits.len(), 1);
    assert_eq!(marked(&found.hits[0]), ["production", "database"]);
    let found = search(&user, query("database")).await;
    assert_eq!((found.mode(), found.hits.len()), (SearchMode::Exact, 1));
    let fuzzy = SearchRequest { mode: SearchMode::Fuzzy.into(), ..query("database") };
    assert_eq!(keys(&user, fuzzy).await.len(), 2);
    let exact = SearchRequest { mode: SearchMode::Exact.into(), ..query("dtabase") };
    assert!(keys(&user, exact).await.is_empty());
    assert!(keys(&user, query("of th")).await.is_empty(), "short words are taken as they are");
}

#[tokio::test]
async fn a_search_sees_what_was_answered_and_nothing_that_is_gone() {
    let user = User::new();
    assert!(keys(&user, query("word")).await.is_empty());
    for round in 0..20 {
        let key = format!("k{round}");
        user.remember(&key, json!(format!("word number{round}"))).await;
        assert_eq!(keys(&user, query(&format!("number{round}"))).await, std::slice::from_ref(&key));
        user.remember(&key, json!(format!("changed to{round}"))).await;
        assert!(keys(&user, query(&format!("number{round}"))).await.is_empty());
        assert_eq!(keys(&user, query(&format!("to{round}"))).await, std::slice::from_ref(&key));
        user.ok("Forget", json!({"key": key})).await;
        assert!(keys(&user, query(&format!("to{round}"))).await.is_empty());
    }
    user.ok("Remember", json!({"key": "brief", "value": "word", "ttl": "0.05s"})).await;
    user.gone("brief").await;
    assert!(keys(&user, query("word")).await.is_empty());
    user.remember("mine", json!("word")).await;
    assert!(keys(&user.other(), query("word")).await.is_empty());
    user.ok("Remember", json!({"key": "n", "value": "word", "namespace": "apart"})).await;
    assert_eq!(keys(&user, query("word")).await.len(), 2);
    let only = SearchRequest { namespaces: vec!["apart".into()], ..query("word") };
    assert_eq!(keys(&user, only).await, ["n"]);
}

#[tokio::test]
async fn many_keys_are_indexed_before_the_first_answer() {
    let user = User::new();
    for number in 0..700 {
        user.remember(&format!("k{number}"), json!(format!("common rare{number}"))).await;
    }
    assert_eq!(keys(&user, query("rare699")).await, ["k699"]);
    assert_eq!(keys(&user, SearchRequest { limit: 100, ..query("common") }).await.len(), 100);
}

#[tokio::test]
async fn a_search_that_makes_no_sense_is_refused() {
    let user = User::new();
    for (request, field) in [
        (json!({"query": ""}), "query"),
        (json!({"query": "\"a"}), "query"),
        (json!({"query": "- * ()"}), "query"),
        (json!({"query": "a ".repeat(33)}), "query"),
        (json!({"query": "a".repeat(4097)}), "query"),
        (json!({"query": "a", "limit": 101}), "limit"),
        (json!({"query": "a", "namespaces": ["n", ""]}), "namespaces[1]"),
        (json!({"query": "a", "scope": "SCOPE_SESSION"}), "scope"),
    ] {
        let error = user.refused("Search", request.clone()).await;
        assert_eq!(error.fact("field"), Some(field), "{request}: {error}");
    }
}
