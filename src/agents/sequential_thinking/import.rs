//! Import: the JSON form of an export becomes a chain. Whether its steps hang together is the graph's
//! to say.

use std::collections::BTreeMap;

use rusqlite::Connection;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::chain::NewChain;
use super::draft::Draft;
use super::gauges::Gained;
use super::graph::{Branch, Graph, Node};
use super::steps::Content;
use super::time::Moment;
use super::{limits, names};
use crate::error::Error;
use crate::proto::opdbus::agent::sequential_thinking::v1::evidence::Source;
use crate::proto::opdbus::agent::sequential_thinking::v1::{ChainStatus, Evidence, ImportResponse};
use crate::storage::Failure;

/// A chain as it is written in JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChainForm {
    #[serde(rename = "chain_id")]
    _chain_id: IgnoredAny,
    #[serde(rename = "revision")]
    _revision: IgnoredAny,
    #[serde(rename = "created_at_us")]
    _created_at: IgnoredAny,
    #[serde(rename = "updated_at_us")]
    _updated_at: IgnoredAny,
    status: String,
    max_steps: u32,
    tags: Vec<String>,
    problem: String,
    context: String,
    goals: Vec<String>,
    conclusion: String,
    branches: Vec<BranchForm>,
    steps: Vec<StepForm>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BranchForm {
    name: String,
    from_step: Option<u32>,
    head: Option<u32>,
    merged_by: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StepForm {
    step: u32,
    kind: String,
    status: String,
    thought: String,
    branch: String,
    parents: Vec<u32>,
    number: u32,
    confidence: Option<f64>,
    evidence: Vec<EvidenceForm>,
    revises: Option<u32>,
    reason: String,
    superseded_by: Option<u32>,
    resolved_by: Option<u32>,
    resolved_at_us: Option<i64>,
    note: String,
    scores: BTreeMap<String, f64>,
    created_at_us: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum EvidenceForm {
    TaskId(String),
    Uri(String),
    Text(String),
    Step(u32),
}

/// A chain that was found to hang together.
pub(super) struct Imported {
    new: NewChain,
    status: ChainStatus,
    conclusion: String,
    graph: Graph,
    contents: Vec<(u32, Content)>,
}

impl Imported {
    /// Reads and checks a chain that is imported at the time `now`.
    pub(super) fn check(uid: u32, json: &str, now: i64) -> Result<Self, Error> {
        let form: ChainForm =
            serde_json::from_str(json).map_err(|error| Error::invalid("data", error))?;
        limits::thought("data.problem", &form.problem)?;
        limits::long_text("data.context", &form.context)?;
        limits::long_text("data.conclusion", &form.conclusion)?;
        limits::goals(&form.goals)?;
        let status = names::chain_status_of(&form.status).ok_or_else(|| unknown("data.status"))?;
        if (status == ChainStatus::Concluded) == form.conclusion.is_empty() {
            return Err(Error::invalid(
                "data.conclusion",
                "must be there if the chain is concluded, and only then",
            ));
        }
        let new = NewChain {
            uid,
            problem: form.problem,
            context: form.context,
            max_steps: limits::PLAN.check("data.max_steps", form.max_steps)?,
            goals: form.goals,
            tags: limits::tags(form.tags)?,
            numbered: false,
        };
        let mut graph = Graph::empty();
        graph.branches = branches(form.branches)?;
        let mut contents = Vec::new();
        for (index, step) in form.steps.into_iter().enumerate() {
            let (node, content) = step.read(&format!("data.steps[{index}]"), &graph, now)?;
            contents.push((node.id, content));
            graph.nodes.push(node);
        }
        graph.sound().map_err(|problem| Error::invalid("data", problem))?;
        Ok(Self { new, status, conclusion: form.conclusion, graph, contents })
    }

    /// Stores the chain; says what it adds.
    pub(super) fn apply(
        self,
        database: &Connection,
        max_chains: u32,
        moment: Moment,
    ) -> Result<(ImportResponse, Gained), Failure> {
        let mut draft = Draft::begin(database, &self.new, max_chains, moment)?;
        draft.adopt(self.graph);
        for (step, content) in self.contents {
            draft.write(step, content);
        }
        if self.status == ChainStatus::Concluded {
            draft.conclude(&self.conclusion)?;
        }
        let gained = draft.save()?;
        let answer = ImportResponse {
            chain_id: draft.chain.name.clone(),
            steps: draft.graph.len(),
            open_steps: draft.graph.open_steps(),
        };
        Ok((answer, gained))
    }
}

fn branches(forms: Vec<BranchForm>) -> Result<Vec<Branch>, Error> {
    let forms = forms.into_iter().enumerate();
    let read = forms.map(|(index, form)| {
        limits::name(&format!("data.branches[{index}].name"), &form.name)?;
        let BranchForm { name, from_step, head, merged_by } = form;
        Ok(Branch { name, from_step, head, merged_by })
    });
    read.collect()
}

impl StepForm {
    /// The step and its texts; `at` is where it stands.
    fn read(self, at: &str, graph: &Graph, now: i64) -> Result<(Node, Content), Error> {
        let place = |field: &str| format!("{at}.{field}");
        limits::thought(&place("thought"), &self.thought)?;
        limits::note(&place("reason"), &self.reason)?;
        limits::note(&place("note"), &self.note)?;
        limits::confidence(&place("confidence"), self.confidence)?;
        limits::scores(&place("scores"), &self.scores)?;
        let evidence: Vec<Evidence> = self.evidence.into_iter().map(EvidenceForm::read).collect();
        limits::evidence(&place("evidence"), &evidence)?;
        for (field, at) in
            [("created_at_us", Some(self.created_at_us)), ("resolved_at_us", self.resolved_at_us)]
        {
            if at.is_some_and(|at| !(0..=now).contains(&at)) {
                return Err(Error::invalid(place(field), "must not be in the future"));
            }
        }
        let branch = graph.branch_position(&self.branch);
        let cites = evidence.iter().filter_map(|evidence| match evidence.source {
            Some(Source::Step(step)) => Some(step),
            Some(Source::TaskId(_) | Source::Uri(_) | Source::Text(_)) | None => None,
        });
        let node = Node {
            id: self.step,
            kind: names::kind_of(&self.kind).ok_or_else(|| unknown(place("kind")))?,
            status: names::status_of(&self.status).ok_or_else(|| unknown(place("status")))?,
            branch: branch.ok_or_else(|| unknown(place("branch")))?,
            parents: self.parents,
            number: self.number,
            confidence: self.confidence,
            revises: self.revises,
            superseded_by: self.superseded_by,
            resolved_by: self.resolved_by,
            resolved_at: self.resolved_at_us,
            created_at: self.created_at_us,
            cites: cites.collect(),
            changed: 0,
        };
        let Self { thought, reason, note, scores, .. } = self;
        Ok((node, Content { thought, reason, note, evidence, scores }))
    }
}

impl EvidenceForm {
    fn read(self) -> Evidence {
        Evidence {
            source: Some(match self {
                Self::TaskId(id) => Source::TaskId(id),
                Self::Uri(uri) => Source::Uri(uri),
                Self::Text(text) => Source::Text(text),
                Self::Step(step) => Source::Step(step),
            }),
        }
    }
}

fn unknown(field: impl Into<String>) -> Error {
    Error::invalid(field, "is none that there is")
}
