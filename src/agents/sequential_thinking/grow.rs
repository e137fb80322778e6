//! The changes that let a chain grow: StartChain, Think, Revise, Branch and Merge. The graph says
//! what may be; this checks the fields and gives the new steps their texts.

use super::chain::NewChain;
use super::draft::Draft;
use super::graph::{Added, MAIN, Place};
use super::limits;
use super::steps::Content;
use super::{time, wire};
use crate::error::{Error, ErrorKind};
use crate::proto::opdbus::agent::sequential_thinking::v1::evidence::Source;
use crate::proto::opdbus::agent::sequential_thinking::v1::{
    BranchRequest, BranchResponse, Evidence, MergeRequest, MergeResponse, ReviseRequest,
    ReviseResponse, StartChainRequest, StartChainResponse, StepKind, ThinkRequest, ThinkResponse,
};
use crate::storage::Failure;

pub(super) fn check_start(uid: u32, request: StartChainRequest) -> Result<NewChain, Error> {
    limits::thought("problem", &request.problem)?;
    limits::long_text("context", &request.context)?;
    limits::goals(&request.goals)?;
    Ok(NewChain {
        uid,
        max_steps: limits::PLAN.check("max_steps", request.max_steps)?,
        tags: limits::tags(request.tags)?,
        problem: request.problem,
        context: request.context,
        goals: request.goals,
        numbered: false,
    })
}

pub(super) fn started(draft: &Draft<'_>) -> StartChainResponse {
    StartChainResponse {
        chain_id: draft.chain.name.clone(),
        max_steps: draft.chain.max_steps,
        expires_at: Some(time::timestamp(draft.moment.expiry(draft.chain.updated_at))),
    }
}

/// Looks at the fields alone; gives the kind of the step.
pub(super) fn check_think(request: &ThinkRequest) -> Result<StepKind, Error> {
    limits::thought("thought", &request.thought)?;
    limits::confidence("confidence", request.confidence)?;
    limits::evidence("evidence", &request.evidence)?;
    if !request.branch.is_empty() {
        limits::name("branch", &request.branch)?;
    }
    match wire::number::<StepKind>("kind", request.kind)? {
        StepKind::Synthesis => Err(Error::invalid("kind", "synthesis is what Merge makes")),
        StepKind::Unspecified => Ok(StepKind::Analysis),
        kind @ (StepKind::Analysis
        | StepKind::Hypothesis
        | StepKind::Evidence
        | StepKind::Decision
        | StepKind::Question
        | StepKind::Risk
        | StepKind::Verification) => Ok(kind),
    }
}

/// Adds a step.
pub(super) fn think(
    draft: &mut Draft<'_>,
    kind: StepKind,
    request: ThinkRequest,
    mut warnings: Vec<String>,
) -> Result<ThinkResponse, Failure> {
    if request.reopen {
        draft.reopen()?;
    }
    draft.must_be_open()?;
    let next = draft.graph.len() + 1;
    if request.if_step != 0 && request.if_step != next {
        return Err(Error::new(
            ErrorKind::Conflict,
            format!("if_step: the next step is {next}, not {}", request.if_step),
        )
        .with_fact("field", "if_step")
        .with_fact("next_step", next.to_string())
        .into());
    }
    let added = Added {
        kind,
        confidence: request.confidence,
        cites: cites(&request.evidence),
        now: draft.moment.now,
    };
    let place = Place {
        parent: (request.parent != 0).then_some(request.parent),
        branch: (!request.branch.is_empty()).then_some(request.branch),
        number: None,
    };
    let step = draft.graph.think(&added, place)?;
    draft.write(
        step,
        Content { thought: request.thought, evidence: request.evidence, ..Content::default() },
    );
    warnings.extend(draft.graph.parent_warning(step));
    warnings.extend(draft.plan_warning());
    Ok(ThinkResponse {
        step,
        branch: branch_of(draft, step),
        total_steps: draft.graph.len(),
        remaining_steps: draft.chain.max_steps.saturating_sub(draft.graph.len()),
        open_steps: draft.graph.open_steps(),
        warnings,
    })
}

pub(super) fn check_revise(request: &ReviseRequest) -> Result<(), Error> {
    limits::thought("thought", &request.thought)?;
    limits::note("reason", &request.reason)?;
    limits::confidence("confidence", request.confidence)?;
    limits::evidence("evidence", &request.evidence)
}

/// Replaces a thought.
pub(super) fn revise(
    draft: &mut Draft<'_>,
    request: ReviseRequest,
    mut warnings: Vec<String>,
) -> Result<ReviseResponse, Failure> {
    draft.must_be_open()?;
    let added = Added {
        kind: StepKind::Unspecified,
        confidence: request.confidence,
        cites: cites(&request.evidence),
        now: draft.moment.now,
    };
    let step = draft.graph.revise(&added, request.step, None)?;
    draft.write(
        step,
        Content {
            thought: request.thought,
            reason: request.reason,
            evidence: request.evidence,
            ..Content::default()
        },
    );
    warnings.extend(draft.plan_warning());
    let affected = draft.graph.children(request.step).filter(|node| node.stands());
    Ok(ReviseResponse {
        step,
        affected_steps: affected.map(|node| node.id).collect(),
        open_steps: draft.graph.open_steps(),
        warnings,
    })
}

pub(super) fn check_branch(request: &BranchRequest) -> Result<(), Error> {
    limits::name("name", &request.name)
}

/// Opens a branch.
pub(super) fn branch(
    draft: &mut Draft<'_>,
    request: BranchRequest,
) -> Result<BranchResponse, Failure> {
    draft.must_be_open()?;
    let position = draft.graph.open_branch("from_step", request.from_step, request.name)?;
    Ok(BranchResponse { branch: Some(wire::branch(&draft.graph.branches[position])) })
}

pub(super) fn check_merge(request: &MergeRequest) -> Result<(), Error> {
    limits::thought("note", &request.note)?;
    limits::confidence("confidence", request.confidence)?;
    for (index, name) in request.branches.iter().enumerate() {
        limits::name(&format!("branches[{index}]"), name)?;
    }
    if !request.into.is_empty() {
        limits::name("into", &request.into)?;
    }
    Ok(())
}

/// Joins branches.
pub(super) fn merge(
    draft: &mut Draft<'_>,
    request: MergeRequest,
    mut warnings: Vec<String>,
) -> Result<MergeResponse, Failure> {
    draft.must_be_open()?;
    let into = if request.into.is_empty() { MAIN } else { &request.into };
    let added = Added {
        kind: StepKind::Synthesis,
        confidence: request.confidence,
        cites: Vec::new(),
        now: draft.moment.now,
    };
    let step = draft.graph.merge(&added, &request.branches, into)?;
    draft.write(step, Content { thought: request.note, ..Content::default() });
    warnings.extend(draft.plan_warning());
    Ok(MergeResponse { step, open_steps: draft.graph.open_steps(), warnings })
}

/// The name of the branch that a step lies on.
pub(super) fn branch_of(draft: &Draft<'_>, step: u32) -> String {
    let graph = &draft.graph;
    graph.get(step).map(|node| graph.branches[node.branch].name.clone()).unwrap_or_default()
}

/// The steps that evidence names, and the fields that name them.
fn cites(evidence: &[Evidence]) -> Vec<(String, u32)> {
    let sources = evidence.iter().map(|evidence| &evidence.source).enumerate();
    sources
        .filter_map(|(index, source)| match source {
            Some(Source::Step(step)) => Some((format!("evidence[{index}].step"), *step)),
            Some(Source::TaskId(_) | Source::Uri(_) | Source::Text(_)) | None => None,
        })
        .collect()
}
