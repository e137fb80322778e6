//! The changes that settle things: Resolve, Score and Conclude.

use super::draft::Draft;
use super::graph::mean;
use super::{limits, steps, wire};
use crate::error::{Error, ErrorKind};
use crate::proto::opdbus::agent::sequential_thinking::v1::{
    ConcludeRequest, ConcludeResponse, Resolution, ResolveRequest, ResolveResponse, ScoreRequest,
    ScoreResponse,
};
use crate::storage::Failure;

pub(super) fn check_resolve(request: &ResolveRequest) -> Result<Resolution, Error> {
    limits::note("note", &request.note)?;
    wire::number("resolution", request.resolution)
}

/// Settles a step or opens it again.
pub(super) fn resolve(
    draft: &mut Draft<'_>,
    request: &ResolveRequest,
    resolution: Resolution,
) -> Result<ResolveResponse, Failure> {
    draft.must_be_open()?;
    let by_step = (request.by_step != 0).then_some(request.by_step);
    let status = draft.graph.resolve(request.step, resolution, by_step, draft.moment.now)?;
    let note = &request.note;
    let row = draft.chain.row;
    if resolution == Resolution::Reopened || !note.is_empty() {
        // The remark belongs to the resolution: with it, it goes.
        if steps::set_note(draft.database, row, request.step, note)? {
            draft.graph.touch(request.step);
        }
    }
    Ok(ResolveResponse { status: status.into(), open_steps: draft.graph.open_steps() })
}

pub(super) fn check_score(request: &ScoreRequest) -> Result<(), Error> {
    if request.criteria.is_empty() {
        return Err(Error::invalid("criteria", "must name one criterion or more"));
    }
    limits::scores("criteria", &request.criteria)
}

/// Rates a step.
pub(super) fn score(
    draft: &mut Draft<'_>,
    request: ScoreRequest,
) -> Result<ScoreResponse, Failure> {
    draft.must_be_open()?;
    draft.graph.find_current("step", request.step)?;
    let before = steps::scores(draft.database, draft.chain.row, request.step)?;
    let mut scores = before.clone();
    scores.extend(request.criteria);
    limits::scores("criteria", &scores)?;
    if scores != before {
        steps::set_scores(draft.database, draft.chain.row, request.step, &scores)?;
        draft.graph.touch(request.step);
    }
    let ratings: Vec<f64> = scores.values().copied().collect();
    Ok(ScoreResponse { scores, mean: mean(&ratings).unwrap_or(0.0) })
}

pub(super) fn check_conclude(request: &ConcludeRequest) -> Result<(), Error> {
    limits::long_text("conclusion", &request.conclusion)
}

/// Concludes the chain.
pub(super) fn conclude(
    draft: &mut Draft<'_>,
    request: ConcludeRequest,
) -> Result<ConcludeResponse, Failure> {
    draft.must_be_open()?;
    let open_items = draft.graph.open_steps();
    if !open_items.is_empty() && !request.force {
        return Err(unfinished(&open_items).into());
    }
    let conclusion = if request.conclusion.trim().is_empty() {
        let step = draft.graph.last_word().ok_or_else(|| {
            Error::invalid("conclusion", "must be given, because the chain has no steps")
        })?;
        steps::content(draft.database, draft.chain.row, step)?.thought
    } else {
        request.conclusion
    };
    draft.conclude(&conclusion)?;
    Ok(ConcludeResponse {
        conclusion,
        support: draft.graph.support(),
        open_items,
        stats: Some(draft.graph.stats()),
    })
}

fn unfinished(open: &[u32]) -> Error {
    let ids: Vec<String> = open.iter().map(u32::to_string).collect();
    let steps = if open.len() == 1 { "step" } else { "steps" };
    Error::new(
        ErrorKind::Conflict,
        format!(
            "hypotheses or questions are open: {steps} {}; resolve them, or conclude with force",
            ids.join(", ")
        ),
    )
    .with_fact("open_steps", ids.join(","))
}
