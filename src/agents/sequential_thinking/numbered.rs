//! SequentialThinking: the form with nine fields, in which thoughts go by numbers. It is mapped onto
//! the same graph; a number belongs to a line, so two branches may both have a thought 4.

use std::collections::BTreeSet;

use rusqlite::Connection;

use super::chain::{Chain, NewChain};
use super::draft::Draft;
use super::graph::{Added, Graph, MAIN, Place};
use super::limits::{self, MAX_STEPS};
use super::steps::{self, Content};
use super::time::Moment;
use crate::error::{Error, ErrorKind};
use crate::proto::opdbus::agent::sequential_thinking::v1::{
    ChainStatus, SequentialThinkingRequest, SequentialThinkingResponse, StepKind,
};
use crate::storage::Failure;

/// Looks at the fields alone.
pub(super) fn check(request: &SequentialThinkingRequest) -> Result<(), Error> {
    limits::thought("thought", &request.thought)?;
    in_range("thought_number", request.thought_number)?;
    in_range("total_thoughts", request.total_thoughts)?;
    if !request.branch_id.is_empty() {
        limits::name("branch_id", &request.branch_id)?;
    }
    if request.is_revision && request.revises_thought == 0 {
        return Err(Error::invalid("revises_thought", "must be set with is_revision"));
    }
    if !request.is_revision && request.revises_thought != 0 {
        return Err(Error::invalid("revises_thought", "can only be set with is_revision"));
    }
    if request.branch_from_thought != 0 && request.branch_id.is_empty() {
        return Err(Error::invalid("branch_id", "must be set with branch_from_thought"));
    }
    if request.needs_more_thoughts && !request.next_thought_needed {
        return Err(Error::invalid(
            "needs_more_thoughts",
            "can only be set with next_thought_needed",
        ));
    }
    Ok(())
}

/// The chain that a request goes on with; none if it begins one.
pub(super) fn find(
    database: &Connection,
    uid: u32,
    request: &SequentialThinkingRequest,
    moment: Moment,
) -> Result<Option<Chain>, Failure> {
    if !request.chain_id.is_empty() {
        return Chain::find(database, uid, &request.chain_id, moment).map(Some);
    }
    if request.thought_number == 1 && !request.is_revision && request.branch_id.is_empty() {
        return Ok(None);
    }
    let chain = Chain::find_numbered(database, uid, moment)?.ok_or_else(|| {
        Error::new(
            ErrorKind::NotFound,
            "thought_number: there is no chain to go on with; begin one with thought 1",
        )
        .with_fact("field", "thought_number")
    })?;
    Ok(Some(chain))
}

/// The chain that a first thought begins.
pub(super) fn new_chain(uid: u32, request: &SequentialThinkingRequest) -> NewChain {
    NewChain {
        uid,
        problem: request.thought.clone(),
        context: String::new(),
        max_steps: request.total_thoughts,
        goals: Vec::new(),
        tags: Vec::new(),
        numbered: true,
    }
}

/// The step that the thought revises, if it revises one that is there.
pub(super) fn revised(
    database: &Connection,
    chain: &Chain,
    request: &SequentialThinkingRequest,
) -> Result<Option<u32>, rusqlite::Error> {
    if !request.is_revision {
        return Ok(None);
    }
    let graph = steps::load(database, chain.row)?;
    let branch = graph.branch_position(branch_name(request));
    Ok(branch.and_then(|branch| graph.numbered(branch, request.revises_thought)))
}

/// Adds the thought.
pub(super) fn apply(
    draft: &mut Draft<'_>,
    request: &SequentialThinkingRequest,
    mut warnings: Vec<String>,
) -> Result<SequentialThinkingResponse, Failure> {
    if draft.chain.status == ChainStatus::Concluded && !request.needs_more_thoughts {
        return Err(Error::new(
            ErrorKind::Conflict,
            "the chain is concluded; set needs_more_thoughts to go on with it, or begin another \
             with thought 1",
        )
        .into());
    }
    draft.reopen()?;
    let number = request.thought_number;
    let branch = branch(&mut draft.graph, request)?;
    let next = draft.graph.highest_number() + 1;
    let added = Added {
        kind: StepKind::Analysis,
        confidence: None,
        cites: Vec::new(),
        now: draft.moment.now,
    };
    let step = if request.is_revision {
        let revised = thought(&draft.graph, "revises_thought", branch, request.revises_thought)?;
        if number != request.revises_thought {
            must_be_free(&draft.graph, branch, number)?;
        }
        draft.graph.revise(&added, revised, Some(number))?
    } else {
        must_be_free(&draft.graph, branch, number)?;
        let name = draft.graph.branches[branch].name.clone();
        let place = Place { parent: None, branch: Some(name), number: Some(number) };
        draft.graph.think(&added, place)?
    };
    if number > next {
        let missing = if number - next == 1 {
            format!("thought {next} is missing")
        } else {
            format!("thoughts {next} to {} are missing", number - 1)
        };
        warnings.push(missing);
    }
    draft.chain.max_steps = request.total_thoughts.max(number);
    draft.write(step, Content { thought: request.thought.clone(), ..Content::default() });
    warnings.extend(draft.graph.parent_warning(step));
    warnings.extend(draft.plan_warning());
    let open_steps = draft.graph.open_steps();
    if !request.next_thought_needed {
        if open_steps.is_empty() {
            draft.conclude(&request.thought)?;
        } else {
            warnings.push("the chain is not concluded, because steps of it are open".to_owned());
        }
    }
    let branches = draft.graph.branches.iter().skip(1).map(|branch| branch.name.clone());
    Ok(SequentialThinkingResponse {
        thought_number: number,
        total_thoughts: draft.chain.max_steps,
        next_thought_needed: request.next_thought_needed,
        branches: branches.collect(),
        thought_history_length: draft.graph.len(),
        chain_id: draft.chain.name.clone(),
        step,
        status: draft.chain.status.into(),
        open_steps,
        warnings,
    })
}

/// The position of the branch that the thought belongs to; it is opened if it is new.
fn branch(graph: &mut Graph, request: &SequentialThinkingRequest) -> Result<usize, Error> {
    let name = branch_name(request);
    let from = request.branch_from_thought;
    let Some(position) = graph.branch_position(name) else {
        if from == 0 {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!(
                    "branch_id: there is no branch {name}; name the thought that it starts from \
                     with branch_from_thought"
                ),
            )
            .with_fact("field", "branch_id"));
        }
        // A number may be on several branches; main's counts first.
        let start = graph
            .numbered(0, from)
            .or_else(|| (1..graph.branches.len()).find_map(|branch| graph.numbered(branch, from)))
            .ok_or_else(|| unknown_thought(graph, "branch_from_thought", from))?;
        return graph.open_branch("branch_from_thought", start, name.to_owned());
    };
    // Clients repeat where a branch starts with each of its thoughts.
    let start = graph.branches[position].from_step.map(|step| graph.newest(step));
    if from != 0 && (start.is_none() || graph.numbered(position, from) != start) {
        return Err(Error::new(
            ErrorKind::Conflict,
            format!("branch_from_thought: branch {name} does not start from thought {from}"),
        )
        .with_fact("field", "branch_from_thought"));
    }
    Ok(position)
}

fn branch_name(request: &SequentialThinkingRequest) -> &str {
    if request.branch_id.is_empty() { MAIN } else { &request.branch_id }
}

fn thought(graph: &Graph, field: &str, branch: usize, number: u32) -> Result<u32, Error> {
    graph.numbered(branch, number).ok_or_else(|| unknown_thought(graph, field, number))
}

fn unknown_thought(graph: &Graph, field: &str, number: u32) -> Error {
    let last = graph.highest_number();
    Error::new(
        ErrorKind::NotFound,
        format!(
            "{field}: there is no thought {number} on that branch; the highest number is {last}"
        ),
    )
    .with_fact("field", field)
}

fn must_be_free(graph: &Graph, branch: usize, number: u32) -> Result<(), Error> {
    let numbers = graph.numbers(branch);
    if !numbers.contains(&number) {
        return Ok(());
    }
    let next = numbers.last().map_or(1, |last| last + 1);
    Err(Error::new(
        ErrorKind::Conflict,
        format!(
            "thought_number: branch {} has a thought {number} already; the next one is {next}, and \
             a revision of {number} sets is_revision and revises_thought",
            graph.branches[branch].name
        ),
    )
    .with_fact("field", "thought_number")
    .with_fact("next_thought", next.to_string()))
}

fn in_range(field: &str, number: u32) -> Result<(), Error> {
    if (1..=MAX_STEPS).contains(&number) {
        return Ok(());
    }
    Err(Error::invalid(field, format_args!("must be from 1 to {MAX_STEPS}, not {number}")))
}

impl Graph {
    /// The highest number of any thought.
    fn highest_number(&self) -> u32 {
        self.nodes.iter().map(|node| node.number).max().unwrap_or(0)
    }

    /// The numbers on the line of a branch, those of superseded thoughts included.
    fn numbers(&self, branch: usize) -> BTreeSet<u32> {
        let line = self.line(self.branches[branch].head);
        line.into_iter().flat_map(|id| self.revised(id)).map(|(_, number)| number).collect()
    }

    /// The step that stands for thought `number` on the line of a branch.
    fn numbered(&self, branch: usize, number: u32) -> Option<u32> {
        self.line(self.branches[branch].head)
            .into_iter()
            .find(|id| self.revised(*id).any(|(_, other)| other == number))
    }

    /// A step and all that it supersedes, with their numbers.
    fn revised(&self, id: u32) -> impl Iterator<Item = (u32, u32)> + use<'_> {
        let first = self.get(id);
        std::iter::successors(first, |node| self.get(node.revises?))
            .map(|node| (node.id, node.number))
    }
}
