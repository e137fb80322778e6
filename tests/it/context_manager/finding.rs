//! Search, Assemble and Budget: what is found in contexts, and what fits.

use op_dbus::error::ErrorKind;
use op_dbus::proto::opdbus::agent::context_manager::v1::section::Source;
use op_dbus::proto::opdbus::agent::context_manager::v1::*;

use super::{Client, says, user};

#[tokio::test]
async fn a_search_ranks_and_marks() {
    let client = Client::new();
    client.save("a", user(&["The migration of the database", "lunch", "database"])).await;
    client.save("b", user(&["Über die Datenbank: migration, migration, database"])).await;
    let find = |query: &str| SearchRequest { query: query.into(), ..SearchRequest::default() };
    let found: SearchResponse = client.call("Search", find("MIGRATION database")).await.unwrap();
    assert_eq!(found.matches.len(), 2);
    assert!(found.matches[0].score >= found.matches[1].score && found.matches[1].score > 0.0);
    for found in &found.matches {
        assert!(found.highlights.len() >= 2, "{found:?}");
        for mark in &found.highlights {
            let start = usize::try_from(mark.start).unwrap();
            let length = usize::try_from(mark.length).unwrap();
            let marked: String = found.excerpt.chars().skip(start).take(length).collect();
            assert!(["migration", "database"].contains(&marked.as_str()), "{marked:?}");
        }
    }
    let count = |query| async {
        client.call::<SearchResponse>("Search", query).await.unwrap().matches.len()
    };
    assert_eq!(count(find("\"the database\"")).await, 1);
    assert_eq!(count(find("migr*")).await, 2);
    assert_eq!(count(find("uber")).await, 1);
    assert_eq!(count(find("NOT lunch")).await, 0);
    assert_eq!(count(SearchRequest { name: "a".into(), ..find("database") }).await, 2);
    client.append("a", user(&["a fresh word: zebra"])).await;
    assert_eq!(count(find("zebra")).await, 1);
    client.save("a", user(&["all is new"])).await;
    assert_eq!(count(find("zebra")).await, 0);
    for wrong in ["", "  ", "\"open", "!!!"] {
        client.refused("Search", find(wrong), ErrorKind::InvalidArgument, "query").await;
    }
    let wrong = SearchRequest { name: "c".into(), ..find("x") };
    client.refused("Search", wrong, ErrorKind::NotFound, "name").await;
}

#[tokio::test]
async fn sections_share_a_budget() {
    let client = Client::new();
    let mut rules = vec![says(Role::System, "Always answer in one sentence.")];
    rules.extend(user(&["the rules end here"]));
    client.save("rules", rules).await;
    let talk: Vec<_> =
        (0..100).map(|n| says(Role::User, &format!("message number {n} of the talk"))).collect();
    client.save("talk", talk).await;
    let section = |name: &str, priority| Section {
        source: Some(Source::Context(name.into())),
        priority,
        ..Section::default()
    };
    let mut request = AssembleRequest {
        budget_tokens: 200,
        sections: vec![section("rules", 1), section("talk", 0)],
        as_text: false,
    };
    let done: AssembleResponse = client.call("Assemble", request.clone()).await.unwrap();
    assert!(done.tokens <= 200 && done.tokens > 180, "{}", done.tokens);
    assert_eq!(done.sections[0].items, 2);
    let talk = &done.sections[1];
    assert_eq!(usize::try_from(talk.items).unwrap() + talk.dropped.len(), 100);
    assert_eq!(done.tokens, done.sections.iter().map(|section| section.tokens).sum::<u64>());
    let last = done.items.last().unwrap();
    assert_eq!((last.section, last.item.as_ref().unwrap().id), (1, 100));

    request.as_text = true;
    request.sections[1].title = "The talk".into();
    request.sections[1].max_tokens = 60;
    let done: AssembleResponse = client.call("Assemble", request.clone()).await.unwrap();
    assert!(done.text.starts_with("## rules\n\nsystem: Always"), "{}", done.text);
    assert!(done.text.contains("\n\n## The talk\n\nuser: message number"), "{}", done.text);
    assert!(done.sections[1].tokens <= 60);

    let kind = ErrorKind::InvalidArgument;
    request.sections[0].min_tokens = 150;
    request.sections[1] = Section { min_tokens: 180, ..section("talk", 0) };
    request.sections[0] = Section { min_tokens: 180, ..section("talk", 0) };
    client.refused("Assemble", request.clone(), kind, "budget_tokens").await;
    request.sections[1].source = Some(Source::Memory("x".into()));
    let error = client.refused("Assemble", request.clone(), kind, "sections[1].memory").await;
    assert!(error.message().contains("not served"), "{error}");
    request.sections[1].source = Some(Source::Context("none".into()));
    client.refused("Assemble", request, ErrorKind::NotFound, "sections[1].context").await;
}

#[tokio::test]
async fn a_budget_says_how_full_the_window_is() {
    let client = Client::new();
    client.save("a", vec![says(Role::System, "x"), says(Role::User, "y")]).await;
    let tokens = client.load("a").await.tokens;
    let ask = |window| BudgetRequest {
        names: vec!["a".into()],
        context_window_tokens: window,
        reserve_tokens: 5,
        warn_at: Some(0.5),
        ..BudgetRequest::default()
    };
    for (window, level) in
        [(tokens * 2 + 7, Level::Ok), (tokens + 5, Level::Warn), (tokens + 4, Level::Over)]
    {
        let budget: BudgetResponse = client.call("Budget", ask(window)).await.unwrap();
        assert_eq!((budget.level(), budget.used_tokens), (level, tokens), "{window}");
        assert_eq!(budget.left_tokens, (window - 5).saturating_sub(tokens));
        assert_eq!(budget.contexts[0].fixed_tokens, tokens / 2);
    }
    client.refused("Budget", ask(5), ErrorKind::InvalidArgument, "reserve_tokens").await;
    client.refused("Budget", ask(0), ErrorKind::InvalidArgument, "context_window_tokens").await;
}

#[tokio::test]
async fn no_query_breaks_the_index() {
    let client = Client::new();
    client.save("a", user(&["some words", "(x OR y) AND col:z ^ NEAR"])).await;
    let queries = [
        "a AND",
        "OR",
        "NOT x",
        "NEAR(a b)",
        "text:x",
        "col:z",
        "^x",
        "x*",
        "*",
        "**",
        "x**",
        "(",
        ")",
        "'",
        "''x",
        "\"x\" y\"z\"",
        "-x",
        "+x",
        "x\ty\nz",
        "\u{1f600} x",
        "{x}",
        "x\\",
        "x;--",
        "AND AND",
        "\u{fdd0}x\u{fdd1}",
    ];
    for query in queries {
        let request = SearchRequest { query: query.into(), ..SearchRequest::default() };
        match client.call::<SearchResponse>("Search", request).await {
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{query:?}: {error}")
            }
        }
        let request =
            DroppedRequest { name: "a".into(), query: query.into(), ..DroppedRequest::default() };
        if let Err(error) = client.call::<DroppedResponse>("Dropped", request).await {
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{query:?}: {error}");
        }
    }
    let empty =
        SaveRequest { name: "a".into(), content: Some(String::new()), ..SaveRequest::default() };
    let other = client.other();
    other.call::<SaveResponse>("Save", empty).await.unwrap();
    let request =
        DroppedRequest { name: "a".into(), query: "x".into(), ..DroppedRequest::default() };
    assert_eq!(other.call::<DroppedResponse>("Dropped", request).await.unwrap().total, 0);
    let nul = SearchRequest { query: "x\0y".into(), ..SearchRequest::default() };
    client.refused("Search", nul, ErrorKind::InvalidArgument, "query").await;
}
