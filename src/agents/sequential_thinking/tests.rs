//! What only shows below the contract: the end of a chain's time, the bound on a user's chains, and
//! that nothing is left behind in the file.

use std::sync::Arc;

use tempfile::TempDir;

use super::{Config, Gained, Gauges, Sweep, gauges, schema, sweep};
use crate::agents::sequential_thinking::SequentialThinking;
use crate::agents::{Settings, Setup};
use crate::call::{Attested, Caller, Context, Identity, Transport};
use crate::error::ErrorKind;
use crate::metrics::Metrics;
use crate::proto::opdbus::agent::sequential_thinking::v1::{
    CheckRequest, DeleteChainRequest, Evidence, GetChainRequest, ListChainsRequest, SearchRequest,
    SequentialThinkingService, StartChainRequest, ThinkRequest, evidence::Source,
};
use crate::status::Status;
use crate::storage::{self, Chore as _, Durability, Store};

fn setup(folder: &TempDir) -> Setup {
    Setup {
        storage: storage::Config { path: folder.path().to_owned(), durability: Durability::Normal },
        metrics: Arc::new(Metrics::new().unwrap()),
        status: Arc::new(Status::default()),
        settings: Settings::default(),
    }
}

fn context() -> Context {
    let identity = Identity::User { uid: 7, gid: None };
    let caller = Caller::new(identity, Attested::Kernel, "test");
    Context::new(Arc::new(caller), Transport::Grpc)
}

async fn begin(agent: &SequentialThinking, thoughts: u32) -> String {
    let request = StartChainRequest { problem: "A problem".into(), ..Default::default() };
    let chain_id = agent.start_chain(&context(), request).await.unwrap().chain_id;
    for number in 0..thoughts {
        let request = ThinkRequest {
            chain_id: chain_id.clone(),
            thought: format!("The thought {number}"),
            evidence: vec![Evidence { source: Some(Source::Text("seen".into())) }],
            ..Default::default()
        };
        agent.think(&context(), request).await.unwrap();
    }
    chain_id
}

/// Makes every chain as old as it may become, and a microsecond older.
async fn age(agent: &SequentialThinking) {
    let then = agent.moment().horizon() - 1;
    agent
        .store
        .write(
            move |database| Ok(database.execute("UPDATE chain SET updated_at = ?1", [then])?),
            |_| {},
        )
        .await
        .unwrap();
}

fn rows(agent: &SequentialThinking, table: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM {table}");
    agent.store.read(|database| Ok(database.query_row(&sql, [], |row| row.get(0))?)).unwrap()
}

/// What the gauges say; checks that they are what a count says.
fn held(agent: &SequentialThinking) -> (i64, i64) {
    let counted = Gained { chains: rows(agent, "chain"), steps: rows(agent, "step") };
    assert_eq!(agent.store.read(gauges::total).unwrap(), counted);
    assert_eq!(agent.gauges.held(), counted);
    (counted.chains, counted.steps)
}

/// Compares the index of words with the thoughts, and checks the file.
async fn assert_whole(agent: &SequentialThinking) {
    agent
        .write(
            |database| {
                database
                    .execute("INSERT INTO words (words, rank) VALUES ('integrity-check', 1)", [])?;
                let verdict: String =
                    database.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
                assert_eq!(verdict, "ok");
                Ok(((), Gained::default()))
            },
            |()| {},
        )
        .await
        .unwrap();
}

#[tokio::test]
async fn a_chain_outlives_the_process() {
    let folder = TempDir::new().unwrap();
    let setup = setup(&folder);
    let chain_id = begin(&SequentialThinking::open(&setup).unwrap(), 3).await;
    let agent = SequentialThinking::open(&setup).unwrap();
    let request = GetChainRequest { chain_id, ..Default::default() };
    let chain = agent.get_chain(&context(), request).await.unwrap();
    let thoughts: Vec<&str> = chain.steps.iter().map(|step| step.thought.as_str()).collect();
    assert_eq!(thoughts, ["The thought 0", "The thought 1", "The thought 2"]);
    assert_eq!(chain.steps[2].parents, [2]);
    assert_whole(&agent).await;
}

#[tokio::test]
async fn a_chain_whose_time_is_over_is_gone_at_once_and_later_removed() {
    let folder = TempDir::new().unwrap();
    let agent = SequentialThinking::open(&setup(&folder)).unwrap();
    let chain_id = begin(&agent, 2).await;
    age(&agent).await;
    let check = CheckRequest { chain_id: chain_id.clone() };
    let error = agent.check(&context(), check).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains("too long"), "{error}");
    let search = SearchRequest { query: "thought".into(), ..Default::default() };
    assert!(agent.search(&context(), search).await.unwrap().hits.is_empty());
    let list = agent.list_chains(&context(), ListChainsRequest::default()).await.unwrap();
    assert!(list.chains.is_empty());
    assert_eq!(rows(&agent, "step"), 2);

    let moment = agent.moment();
    // A piece at a time: the second step and the chain are left.
    agent
        .write(
            move |database| {
                let (removed, more) = sweep::remove_old(database, moment, 1)?;
                assert!(more);
                Ok(((), removed))
            },
            |()| {},
        )
        .await
        .unwrap();
    assert_eq!(held(&agent), (1, 1));
    assert_whole(&agent).await;

    let fresh = begin(&agent, 1).await;
    assert_eq!(held(&agent), (1, 1));
    age(&agent).await;
    let moment = agent.moment();
    agent
        .write(
            move |database| {
                let (removed, more) = sweep::remove_old(database, moment, 4)?;
                assert!(!more);
                Ok(((), removed))
            },
            |()| {},
        )
        .await
        .unwrap();
    assert_eq!(held(&agent), (0, 0));
    let delete = DeleteChainRequest { chain_id: fresh };
    assert!(agent.delete_chain(&context(), delete).await.is_err());
    assert_whole(&agent).await;
}

#[tokio::test]
async fn a_deleted_chain_leaves_no_row() {
    let folder = TempDir::new().unwrap();
    let agent = SequentialThinking::open(&setup(&folder)).unwrap();
    let kept = begin(&agent, 1).await;
    let chain_id = begin(&agent, 3).await;
    let request = DeleteChainRequest { chain_id };
    assert_eq!(agent.delete_chain(&context(), request).await.unwrap().steps, 3);
    for table in ["chain", "step", "branch", "evidence"] {
        assert_eq!(rows(&agent, table), 1, "{table}");
    }
    assert_whole(&agent).await;
    let search = SearchRequest { query: "thought".into(), ..Default::default() };
    let hits = agent.search(&context(), search).await.unwrap().hits;
    assert_eq!((hits.len(), &hits[0].chain_id), (1, &kept));
}

#[tokio::test]
async fn a_user_has_ten_thousand_chains_and_no_more() {
    let folder = TempDir::new().unwrap();
    let setup = setup(&folder);
    begin(&SequentialThinking::open(&setup).unwrap(), 0).await;
    let sweep = Sweep { gauges: Gauges::new(&setup.metrics), max_age: Config::default().max_age };
    let store = Store::open(&setup.storage, &schema::SCHEMA, &setup.status, sweep).unwrap();
    let copies = Config::default().max_chains - 2;
    store
        .write(
            move |database| {
                Ok(database.execute(
                    "WITH RECURSIVE number (n) AS (
                         SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < ?1)
                     INSERT INTO chain (name, uid, status, numbered, steps, open, max_steps,
                         revision, created_at, updated_at, tags, goals, problem, context,
                         conclusion)
                     SELECT n, uid, status, numbered, steps, open, max_steps, revision, created_at,
                         updated_at, tags, goals, problem, context, conclusion FROM chain, number",
                    [copies],
                )?)
            },
            |_| {},
        )
        .await
        .unwrap();
    drop(store);
    let agent = SequentialThinking::open(&setup).unwrap();
    begin(&agent, 0).await;
    let request = StartChainRequest { problem: "One more".into(), ..Default::default() };
    let error = agent.start_chain(&context(), request.clone()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    assert_eq!(error.fact("limit"), Some("sequential_thinking.max_chains"));
    assert_eq!(error.fact("limit_value"), Some("10000"));
    let list = ListChainsRequest { page_size: 1, ..Default::default() };
    let chain_id = agent.list_chains(&context(), list).await.unwrap().chains.remove(0).chain_id;
    agent.delete_chain(&context(), DeleteChainRequest { chain_id }).await.unwrap();
    agent.start_chain(&context(), request).await.unwrap();
}

#[tokio::test]
async fn a_long_chain_is_gone_at_once_though_its_rows_are_removed_in_pieces() {
    let folder = TempDir::new().unwrap();
    let agent = SequentialThinking::open(&setup(&folder)).unwrap();
    let chain_id = begin(&agent, 40).await;
    let request = DeleteChainRequest { chain_id: chain_id.clone() };
    assert_eq!(agent.delete_chain(&context(), request.clone()).await.unwrap().steps, 40);
    assert_eq!(rows(&agent, "step"), 8);
    assert!(agent.delete_chain(&context(), request).await.is_err());
    let search = SearchRequest { query: "thought".into(), ..Default::default() };
    assert!(agent.search(&context(), search).await.unwrap().hits.is_empty());
    assert_eq!(held(&agent), (1, 8));
    let sweep = Sweep { gauges: agent.gauges.clone(), max_age: agent.config.max_age };
    let run = move |database: &_| {
        let (removed, left) = sweep.run(database)?;
        Ok((left, removed))
    };
    let left = agent.write(run, |_| {});
    assert!(!left.await.unwrap());
    assert_eq!((rows(&agent, "chain"), rows(&agent, "step"), rows(&agent, "branch")), (0, 0, 0));
    assert_whole(&agent).await;
}
