//! Chains that come back from their JSON form.

use op_dbus::error::{Error, ErrorKind};
use op_dbus::executor::Config;
use op_dbus::proto::opdbus::agent::sequential_thinking::v1::evidence::Source;
use op_dbus::proto::opdbus::agent::sequential_thinking::v1::{
    ConcludeRequest, Evidence, ExportFormat, ExportRequest, MergeRequest, Resolution,
    ReviseRequest, SearchRequest, StepKind, ThinkRequest,
};
use serde_json::{Value, json};

use super::{User, assert_error, thought_of};
use crate::fixture::Service;

async fn exported(user: &User<'_>, chain_id: &str) -> Value {
    let format = ExportFormat::Json.into();
    let request = ExportRequest { chain_id: chain_id.into(), format };
    serde_json::from_str(&user.export(request).await.unwrap().0).unwrap()
}

/// A chain in which everything occurs.
async fn rich(alice: &User<'_>) -> Value {
    let chain = alice.begin("What to import?").await;
    alice.add(&chain, StepKind::Hypothesis, "A rare hypothesis").await;
    let proof = ThinkRequest {
        confidence: Some(0.25),
        evidence: [
            Source::TaskId("t-1".into()),
            Source::Uri("https://example.org".into()),
            Source::Text("seen".into()),
            Source::Step(1),
        ]
        .map(|source| Evidence { source: Some(source) })
        .into(),
        ..thought_of(&chain, StepKind::Evidence, "Proof")
    };
    alice.think(proof).await.unwrap();
    alice.settle(&chain, 1, Resolution::Confirmed, 2).await;
    alice.open_branch(&chain, 1, "side").await;
    let aside =
        ThinkRequest { branch: "side".into(), ..thought_of(&chain, StepKind::Analysis, "Aside") };
    alice.think(aside).await.unwrap();
    let revision = ReviseRequest {
        chain_id: chain.clone(),
        step: 3,
        thought: "Aside, better".into(),
        reason: "It was vague".into(),
        ..Default::default()
    };
    alice.revise(revision).await.unwrap();
    let merge = MergeRequest {
        chain_id: chain.clone(),
        branches: vec!["side".into()],
        note: "Both agree".into(),
        ..Default::default()
    };
    alice.merge(merge).await.unwrap();
    let conclude = ConcludeRequest { chain_id: chain.clone(), ..Default::default() };
    alice.conclude(conclude).await.unwrap();
    exported(alice, &chain).await
}

#[tokio::test]
async fn an_exported_chain_comes_back_whole_and_as_a_new_one() {
    let service = Service::new(Config::default());
    let (alice, bob) = (User::alice(&service), User::bob(&service));
    let mut original = rich(&alice).await;
    let imported = bob.import(&original.to_string()).await.unwrap();
    assert_eq!(imported.steps, 5);
    let mut copy = exported(&bob, &imported.chain_id).await;
    assert_ne!(copy["chain_id"], original["chain_id"]);
    for chain in [&mut copy, &mut original] {
        for own in ["chain_id", "revision", "created_at_us", "updated_at_us"] {
            chain.as_object_mut().unwrap().remove(own).unwrap();
        }
    }
    assert_eq!(copy, original);
    assert!(bob.checked(&imported.chain_id).await.clean);
    let search = SearchRequest { query: "rare".into(), ..Default::default() };
    assert_eq!(bob.search(search).await.unwrap().hits.len(), 1);
    let more = ThinkRequest {
        reopen: true,
        ..thought_of(&imported.chain_id, StepKind::Analysis, "It goes on")
    };
    assert_eq!(bob.think(more).await.unwrap().step, 6);
}

#[tokio::test]
async fn a_damaged_export_is_refused_with_its_place_and_leaves_nothing() {
    let service = Service::new(Config::default());
    let (alice, bob) = (User::alice(&service), User::bob(&service));
    let original = rich(&alice).await;
    let cases: [(&str, Value, &str); 11] = [
        ("/steps/0/kind", json!("guess"), "data.steps[0].kind"),
        ("/steps/0/kind", json!("unspecified"), "data.steps[0].kind"),
        ("/steps/1/branch", json!("nowhere"), "data.steps[1].branch"),
        ("/steps/1/parents", json!([4]), "steps[1].parents"),
        ("/steps/1/confidence", json!(7), "data.steps[1].confidence"),
        ("/steps/1/thought", json!(""), "data.steps[1].thought"),
        ("/steps/1/created_at_us", json!(i64::MAX), "data.steps[1].created_at_us"),
        ("/steps/1/evidence/0", json!({"step": 9}), "steps[1].evidence"),
        ("/branches/0/name", json!("trunk"), "data.steps[0].branch"),
        ("/status", json!("open"), "data.conclusion"),
        ("/max_steps", json!("many"), "data: invalid type"),
    ];
    for (place, value, says) in cases {
        let mut damaged = original.clone();
        *damaged.pointer_mut(place).unwrap() = value;
        assert_error(bob.import(&damaged.to_string()).await, ErrorKind::InvalidArgument, says);
    }
    let mut extra = original.clone();
    extra["steps"][0]["mood"] = json!("good");
    assert_error(bob.import(&extra.to_string()).await, ErrorKind::InvalidArgument, "mood");
    assert_error(bob.import("[[[[").await, ErrorKind::InvalidArgument, "data");
    assert_error(bob.import("").await, ErrorKind::InvalidArgument, "data");
    let error = bob.import(&" ".repeat((8 << 20) + 1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    assert_eq!(error.fact("limit"), Some("sequential_thinking.max_import_bytes"));
    let whole = original.to_string().into_bytes();
    let gone = Err(Error::new(ErrorKind::Cancelled, "the client went away"));
    let error = bob.import_pieces([Ok(whole), gone].into_iter()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(bob.list(<_>::default()).await.unwrap().chains.is_empty());
}
