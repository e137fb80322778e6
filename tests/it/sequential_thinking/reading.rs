//! How chains are listed, read, searched, checked and exported.

use super::{User, assert_error, thought_of};
use crate::fixture::Service;
use op_dbus::error::ErrorKind;
use op_dbus::executor::Config;
use op_dbus::proto::opdbus::agent::sequential_thinking::v1::{
    ChainStatus, ChainView, DeleteChainRequest, ExportFormat, ExportRequest, GetChainRequest,
    ListChainsRequest, Resolution, ReviseRequest, SearchRequest, StartChainRequest, StepKind,
    StepStatus, ThinkRequest,
};

#[tokio::test]
async fn check_finds_what_is_wrong() {
    let service = Service::new(Config::default());
    let alice = User::alice(&service);
    let request = StartChainRequest { problem: "?".into(), max_steps: 5, ..Default::default() };
    let chain = alice.start(request).await.unwrap().chain_id;
    let text = "The tests fail because the clock of the machine is ahead of the server's clock";
    let refuted = alice.add(&chain, StepKind::Hypothesis, text).await;
    let decision = alice.add(&chain, StepKind::Decision, "Set the clock back").await;
    let evidence = alice.add(&chain, StepKind::Evidence, "NTP says both are right").await;
    alice.settle(&chain, refuted, Resolution::Refuted, evidence).await;
    let again = text.replace("the server's", "a server's");
    let warned = alice.think(thought_of(&chain, StepKind::Hypothesis, &again)).await.unwrap();
    assert!(warned.warnings[0].starts_with("the thought repeats step 1"), "{warned:?}");
    assert!(warned.warnings[0].contains("similarity 0.9"), "{warned:?}");
    alice.settle(&chain, warned.step, Resolution::Confirmed, 0).await;
    let unused = alice.add(&chain, StepKind::Evidence, "The log has no errors").await;
    let question = alice.add(&chain, StepKind::Question, "What else?").await;

    let found = alice.checked(&chain).await;
    assert!(!found.clean);
    assert_eq!(found.open_questions, [question]);
    assert_eq!(found.unverified_hypotheses, [warned.step]);
    assert_eq!(found.unused_evidence, [unused]);
    assert_eq!(found.over_budget, 1);
    let pairs: Vec<(u32, u32)> =
        found.contradictions.iter().map(|found| (found.step, found.against)).collect();
    assert_eq!(pairs, [(decision, refuted), (warned.step, refuted)]);
    let repeated = &found.repeated_thoughts;
    assert_eq!((repeated[0].first, repeated[0].second), (refuted, warned.step));
    assert_eq!(repeated.len(), 1);

    // A ground that is revised away carries nothing any more.
    let request = ReviseRequest {
        chain_id: chain.clone(),
        step: evidence,
        thought: "NTP was off".into(),
        ..Default::default()
    };
    alice.revise(request).await.unwrap();
    let found = alice.checked(&chain).await;
    assert!(
        found.contradictions.iter().any(|found| {
            (found.step, found.against) == (refuted, evidence)
                && found.reason == "step 1 is refuted by step 3, which is superseded"
        }),
        "{:?}",
        found.contradictions
    );
}

#[tokio::test]
async fn search_ranks_and_never_takes_a_query_as_syntax() {
    let service = Service::new(Config::default());
    let alice = User::alice(&service);
    let chain = alice.begin("Search").await;
    let long = "The linker, among many other parts of this long thought about other things";
    alice.add(&chain, StepKind::Analysis, long).await;
    alice.add(&chain, StepKind::Hypothesis, "Linker! A slow linker.").await;
    let query = |query: &str| SearchRequest { query: query.into(), ..Default::default() };
    let hits = alice.search(query("LINKER")).await.unwrap().hits;
    let steps: Vec<u32> = hits.iter().map(|hit| hit.step).collect();
    assert_eq!(steps, [2, 1]);
    assert!(hits[0].snippet.contains("**Linker**"), "{}", hits[0].snippet);
    assert_eq!((hits[0].kind(), hits[0].status()), (StepKind::Hypothesis, StepStatus::Open));
    let limited = SearchRequest { limit: 1, ..query("linker") };
    assert!(alice.search(limited).await.unwrap().more);

    assert!(alice.search(query("slow long")).await.unwrap().hits.is_empty());
    let any = SearchRequest { any_word: true, ..query("slow long") };
    assert_eq!(alice.search(any).await.unwrap().hits.len(), 2);
    for text in ["linker\" OR scope : u1001", "NEAR(linker)", "thought : *", "a\"b", "linker^ -"] {
        alice.search(query(text)).await.unwrap();
    }
    assert_error(alice.search(query(" \" * ")).await, ErrorKind::InvalidArgument, "query");
    let many = "w ".repeat(65);
    assert_error(alice.search(query(&many)).await, ErrorKind::LimitExceeded, "query");

    alice.delete(DeleteChainRequest { chain_id: chain.clone() }).await.unwrap();
    assert!(alice.search(query("linker")).await.unwrap().hits.is_empty());
    let again = alice.delete(DeleteChainRequest { chain_id: chain }).await;
    assert_error(again, ErrorKind::NotFound, "chain_id");
}

#[tokio::test]
async fn lists_and_chains_come_in_pages() {
    let service = Service::new(Config::default());
    let alice = User::alice(&service);
    for number in 0..5 {
        let request = StartChainRequest {
            problem: format!("Problem {number}"),
            tags: if number % 2 == 0 { vec!["even".into()] } else { Vec::new() },
            ..Default::default()
        };
        alice.start(request).await.unwrap();
    }
    let mut request = ListChainsRequest { page_size: 2, ..Default::default() };
    let mut titles = Vec::new();
    loop {
        let page = alice.list(request.clone()).await.unwrap();
        titles.extend(page.chains.into_iter().map(|chain| chain.title));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(titles, ["Problem 4", "Problem 3", "Problem 2", "Problem 1", "Problem 0"]);
    let filtered = ListChainsRequest {
        tags: vec!["even".into()],
        query: "PROBLEM 2".into(),
        status: ChainStatus::Open.into(),
        ..Default::default()
    };
    let chains = alice.list(filtered.clone()).await.unwrap().chains;
    assert_eq!(chains.len(), 1);
    let none = ListChainsRequest { status: ChainStatus::Concluded.into(), ..filtered };
    assert!(alice.list(none).await.unwrap().chains.is_empty());
    let broken = ListChainsRequest { page_token: "x".into(), ..Default::default() };
    assert_error(alice.list(broken).await, ErrorKind::InvalidArgument, "page_token");
    let large = ListChainsRequest { page_size: 1001, ..Default::default() };
    assert_error(alice.list(large).await, ErrorKind::InvalidArgument, "page_size");

    let chain = &chains[0].chain_id;
    for number in 1..=7 {
        alice.add(chain, StepKind::Analysis, &format!("{number}\nsecond line")).await;
    }
    alice.open_branch(chain, 2, "side").await;
    let on_side = ThinkRequest {
        branch: "side".into(),
        ..thought_of(chain, StepKind::Analysis, "On the side")
    };
    alice.think(on_side).await.unwrap();
    let tree = ChainView::Tree.into();
    let mut request =
        GetChainRequest { chain_id: chain.clone(), view: tree, page_size: 3, ..Default::default() };
    let mut steps = Vec::new();
    loop {
        let page = alice.get(request.clone()).await.unwrap();
        assert!(page.steps.len() <= 3);
        steps.extend(page.steps);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    let places: Vec<(u32, u32)> = steps.iter().map(|step| (step.step, step.depth)).collect();
    assert_eq!(places, [(1, 0), (2, 1), (3, 2), (4, 3), (5, 4), (6, 5), (7, 6), (8, 2)]);
    assert_eq!((steps[0].thought.as_str(), steps[0].truncated), ("1…", true));
}

#[tokio::test]
async fn an_export_is_complete_and_comes_in_pieces() {
    let service = Service::new(Config::default());
    let alice = User::alice(&service);
    let chain = alice.begin("A # problem\nwith \"quotes\"").await;
    alice.add(&chain, StepKind::Hypothesis, "An \"odd\" <thought> [with] `signs`").await;
    let form =
        |format: ExportFormat| ExportRequest { chain_id: chain.clone(), format: format.into() };
    let (markdown, media_type) = alice.export(form(ExportFormat::Unspecified)).await.unwrap();
    assert_eq!(media_type, "text/markdown");
    assert!(markdown.contains("\n> An \"odd\" <thought>"), "{markdown}");
    assert!(markdown.contains("### Step 1: hypothesis (open)"), "{markdown}");
    let (mermaid, _) = alice.export(form(ExportFormat::Mermaid)).await.unwrap();
    let line = r"    s1{{&quot;1 hypothesis: An #34;odd#34; #60;thought#62; #91;with#93; #96;signs#96;&quot;}}:::open";
    assert!(mermaid.contains(&line.replace("&quot;", "\"")), "{mermaid}");

    let filler = "ö".repeat(8000);
    for number in 0..45 {
        alice.add(&chain, StepKind::Analysis, &format!("{number}{filler}")).await;
    }
    let (text, _) = alice.export(form(ExportFormat::Json)).await.unwrap();
    assert!(text.len() > 512 * 1024);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["steps"].as_array().unwrap().len(), 46);
    assert_eq!(json["steps"][0]["kind"], "hypothesis");
    assert_eq!(json["steps"][45]["thought"], format!("44{filler}"));
}
