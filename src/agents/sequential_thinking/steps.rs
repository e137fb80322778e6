//! The rows of steps and branches: read as a graph, and written where the graph was touched.

use std::collections::BTreeMap;

use rusqlite::{Connection, Row, params};

use super::graph::{Branch, Graph, Node};
use crate::proto::opdbus::agent::sequential_thinking::v1::evidence::Source;
use crate::proto::opdbus::agent::sequential_thinking::v1::{Evidence, StepKind, StepStatus};

/// The number of [`Source::Step`] in the column `evidence.kind`.
const STEP: i64 = 4;

/// The texts of a step, and what else only a reader of it needs.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    pub(super) thought: String,
    pub(super) reason: String,
    pub(super) note: String,
    pub(super) evidence: Vec<Evidence>,
    pub(super) scores: BTreeMap<String, f64>,
}

/// The graph of the chain in row `chain`.
pub(super) fn load(database: &Connection, chain: i64) -> Result<Graph, rusqlite::Error> {
    let mut graph = Graph::empty();
    graph.touched_branches.clear();
    graph.nodes = database
        .prepare_cached(
            "SELECT step, kind, status, branch, parents, number, confidence, revises, superseded_by,
                 resolved_by, resolved_at, created_at, changed
             FROM step WHERE chain = ?1 ORDER BY step",
        )?
        .query_map([chain], node)?
        .collect::<Result<_, _>>()?;
    graph.branches = database
        .prepare_cached(
            "SELECT name, from_step, head, merged_by FROM branch WHERE chain = ?1
             ORDER BY position",
        )?
        .query_map([chain], |row| {
            Ok(Branch {
                name: row.get(0)?,
                from_step: row.get(1)?,
                head: row.get(2)?,
                merged_by: row.get(3)?,
            })
        })?
        .collect::<Result<_, _>>()?;
    let mut cites = database.prepare_cached(
        "SELECT step, CAST(value AS INTEGER) FROM evidence WHERE chain = ?1 AND kind = ?2",
    )?;
    let mut rows = cites.query(params![chain, STEP])?;
    while let Some(row) = rows.next()? {
        if let Some(node) = graph.stored_mut(row.get(0)?) {
            node.cites.push(row.get(1)?);
        }
    }
    Ok(graph)
}

fn node(row: &Row<'_>) -> Result<Node, rusqlite::Error> {
    let parents: String = row.get(4)?;
    Ok(Node {
        id: row.get(0)?,
        kind: StepKind::try_from(row.get::<_, i32>(1)?).unwrap_or_default(),
        status: StepStatus::try_from(row.get::<_, i32>(2)?).unwrap_or_default(),
        branch: usize::try_from(row.get::<_, u32>(3)?).unwrap_or(usize::MAX),
        parents: parents.split(' ').filter_map(|id| id.parse().ok()).collect(),
        number: row.get(5)?,
        confidence: row.get(6)?,
        revises: row.get(7)?,
        superseded_by: row.get(8)?,
        resolved_by: row.get(9)?,
        resolved_at: row.get(10)?,
        created_at: row.get(11)?,
        changed: row.get(12)?,
        cites: Vec::new(),
    })
}

/// Writes what was touched of a graph, as of the chain's revision `revision`. `added` has the texts
/// of the steps that are new, by id.
pub(super) fn save(
    database: &Connection,
    chain: i64,
    revision: i64,
    graph: &Graph,
    added: &BTreeMap<u32, Content>,
) -> Result<(), rusqlite::Error> {
    for position in &graph.touched_branches {
        let branch = &graph.branches[*position];
        database
            .prepare_cached(
                "INSERT INTO branch (chain, position, name, from_step, head, merged_by)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT DO UPDATE SET head = excluded.head, merged_by = excluded.merged_by",
            )?
            .execute(params![
                chain,
                i64::try_from(*position).unwrap_or(i64::MAX),
                branch.name,
                branch.from_step,
                branch.head,
                branch.merged_by,
            ])?;
    }
    for id in &graph.touched_nodes {
        let Some(node) = graph.get(*id) else { continue };
        match added.get(id) {
            Some(content) => insert(database, chain, revision, node, content)?,
            None => update(database, chain, revision, node)?,
        }
    }
    Ok(())
}

fn insert(
    database: &Connection,
    chain: i64,
    revision: i64,
    node: &Node,
    content: &Content,
) -> Result<(), rusqlite::Error> {
    let parents: Vec<String> = node.parents.iter().map(u32::to_string).collect();
    database
        .prepare_cached(
            "INSERT INTO step (chain, step, kind, status, branch, parents, number, confidence,
                 revises, superseded_by, resolved_by, resolved_at, created_at, changed, scores,
                 reason, note, thought)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17,
                 ?18)",
        )?
        .execute(params![
            chain,
            node.id,
            i32::from(node.kind),
            i32::from(node.status),
            i64::try_from(node.branch).unwrap_or(i64::MAX),
            parents.join(" "),
            node.number,
            node.confidence,
            node.revises,
            node.superseded_by,
            node.resolved_by,
            node.resolved_at,
            node.created_at,
            revision,
            serde_json::json!(content.scores).to_string(),
            content.reason,
            content.note,
            content.thought,
        ])?;
    database
        .prepare_cached(
            "INSERT INTO words (rowid, scope, thought)
             SELECT id, scope, thought FROM step_words WHERE id = ?1",
        )?
        .execute([database.last_insert_rowid()])?;
    let mut statement = database.prepare_cached(
        "INSERT INTO evidence (chain, step, position, kind, value) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    for (position, evidence) in content.evidence.iter().enumerate() {
        let (kind, value) = match &evidence.source {
            Some(Source::TaskId(id)) => (1, id.clone()),
            Some(Source::Uri(uri)) => (2, uri.clone()),
            Some(Source::Text(text)) => (3, text.clone()),
            Some(Source::Step(step)) => (STEP, step.to_string()),
            None => continue,
        };
        let position = i64::try_from(position).unwrap_or(i64::MAX);
        statement.execute(params![chain, node.id, position, kind, value])?;
    }
    Ok(())
}

fn update(
    database: &Connection,
    chain: i64,
    revision: i64,
    node: &Node,
) -> Result<(), rusqlite::Error> {
    database
        .prepare_cached(
            "UPDATE step SET status = ?3, superseded_by = ?4, resolved_by = ?5, resolved_at = ?6,
                 changed = ?7 WHERE chain = ?1 AND step = ?2",
        )?
        .execute(params![
            chain,
            node.id,
            i32::from(node.status),
            node.superseded_by,
            node.resolved_by,
            node.resolved_at,
            revision,
        ])
        .map(drop)
}

/// Notes a remark with a step; false if it is there already.
pub(super) fn set_note(
    database: &Connection,
    chain: i64,
    step: u32,
    note: &str,
) -> Result<bool, rusqlite::Error> {
    database
        .prepare_cached("UPDATE step SET note = ?3 WHERE chain = ?1 AND step = ?2 AND note <> ?3")?
        .execute(params![chain, step, note])
        .map(|rows| rows > 0)
}

/// The rating of a step.
pub(super) fn scores(
    database: &Connection,
    chain: i64,
    step: u32,
) -> Result<BTreeMap<String, f64>, rusqlite::Error> {
    database
        .prepare_cached("SELECT scores FROM step WHERE chain = ?1 AND step = ?2")?
        .query_row(params![chain, step], |row| Ok(stored_scores(&row.get::<_, String>(0)?)))
}

/// Rates a step.
pub(super) fn set_scores(
    database: &Connection,
    chain: i64,
    step: u32,
    scores: &BTreeMap<String, f64>,
) -> Result<(), rusqlite::Error> {
    database
        .prepare_cached("UPDATE step SET scores = ?3 WHERE chain = ?1 AND step = ?2")?
        .execute(params![chain, step, serde_json::json!(scores).to_string()])
        .map(drop)
}

/// What is not in the graph of a step.
pub(super) fn content(
    database: &Connection,
    chain: i64,
    step: u32,
) -> Result<Content, rusqlite::Error> {
    let mut content = database
        .prepare_cached(
            "SELECT thought, reason, note, scores FROM step WHERE chain = ?1 AND step = ?2",
        )?
        .query_row(params![chain, step], |row| {
            Ok(Content {
                thought: row.get(0)?,
                reason: row.get(1)?,
                note: row.get(2)?,
                scores: stored_scores(&row.get::<_, String>(3)?),
                evidence: Vec::new(),
            })
        })?;
    content.evidence = database
        .prepare_cached(
            "SELECT kind, value FROM evidence WHERE chain = ?1 AND step = ?2 ORDER BY position",
        )?
        .query_map(params![chain, step], |row| {
            let value: String = row.get(1)?;
            Ok(Evidence {
                source: match row.get::<_, i64>(0)? {
                    1 => Some(Source::TaskId(value)),
                    2 => Some(Source::Uri(value)),
                    STEP => value.parse().ok().map(Source::Step),
                    _ => Some(Source::Text(value)),
                },
            })
        })?
        .collect::<Result<_, _>>()?;
    Ok(content)
}

/// The thoughts of a chain with their steps' ids, the last `most` that were not superseded.
pub(super) fn last_thoughts(
    database: &Connection,
    chain: i64,
    most: u32,
) -> Result<Vec<(u32, String)>, rusqlite::Error> {
    database
        .prepare_cached(
            "SELECT step, thought FROM step WHERE chain = ?1 AND superseded_by IS NULL
             ORDER BY step DESC LIMIT ?2",
        )?
        .query_map(params![chain, most], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

fn stored_scores(stored: &str) -> BTreeMap<String, f64> {
    // What is there was written by `set_scores`.
    serde_json::from_str(stored).unwrap_or_default()
}
