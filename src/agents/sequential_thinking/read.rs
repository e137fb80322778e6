//! GetChain and ListChains.

use prost::Message as _;
use rusqlite::{Connection, params};

use super::chain::{Chain, beginning, chain_columns};
use super::graph::View;
use super::time::Moment;
use super::{chain, limits, steps, wire};
use crate::error::Error;
use crate::proto::opdbus::agent::sequential_thinking::v1::{
    ChainStatus, ChainView, GetChainRequest, GetChainResponse, ListChainsRequest,
    ListChainsResponse,
};
use crate::storage::Failure;

/// A page ends with the step that makes it larger than this, in bytes.
const PAGE_BYTES: usize = 256 * 1024;

/// How many characters of a thought the view of the tree shows.
const TREE_CHARACTERS: usize = 120;

/// A GetChain that was found to make sense.
pub(super) struct Get {
    chain_id: String,
    view: View,
    since: i64,
    page_size: u32,
    /// The last step of the page before.
    after: Option<u32>,
}

impl Get {
    pub(super) fn check(request: GetChainRequest) -> Result<Self, Error> {
        let view = match wire::number::<ChainView>("view", request.view)? {
            ChainView::Unspecified | ChainView::Active => View::Active,
            ChainView::Full => View::Full,
            ChainView::Tree => View::Tree,
        };
        let after = match request.page_token.as_str() {
            "" => None,
            token => Some(token.parse().map_err(|_no_number| not_a_token())?),
        };
        Ok(Self {
            chain_id: request.chain_id,
            view,
            since: i64::try_from(request.since).map_err(|_large| in_the_future())?,
            page_size: limits::PAGE.check("page_size", request.page_size)?,
            after,
        })
    }

    pub(super) fn apply(
        &self,
        database: &Connection,
        uid: u32,
        moment: Moment,
    ) -> Result<GetChainResponse, Failure> {
        let chain = Chain::find(database, uid, &self.chain_id, moment)?;
        if self.since > chain.revision {
            return Err(in_the_future().into());
        }
        let graph = steps::load(database, chain.row)?;
        let mut placed = graph.view(self.view);
        if let Some(after) = self.after {
            // A step may have left the view since the page before, but it is still in the chain.
            graph.get(after).ok_or_else(not_a_token)?;
            let gone = match self.view {
                View::Tree => placed.iter().position(|placed| placed.id == after),
                View::Active | View::Full => placed.iter().rposition(|placed| placed.id <= after),
            };
            placed.drain(..gone.map_or(0, |position| position + 1));
        }
        placed.retain(|placed| graph.get(placed.id).is_some_and(|node| node.changed > self.since));

        let (mut page, mut bytes) = (Vec::new(), 0);
        let page_size = usize::try_from(self.page_size).unwrap_or(usize::MAX);
        for placed in &placed {
            if page.len() >= page_size || bytes >= PAGE_BYTES {
                break;
            }
            let content = steps::content(database, chain.row, placed.id)?;
            let Some(mut step) = wire::step(&graph, *placed, content) else { continue };
            if self.view == View::Tree {
                let shown = beginning(&step.thought, TREE_CHARACTERS);
                step.truncated = shown != step.thought;
                step.thought = shown;
            }
            bytes += step.encoded_len();
            page.push(step);
        }
        let more = page.len() < placed.len();
        let last = page.last().filter(|_| more).map(|step| step.step.to_string());
        let texts = chain.texts(database)?;
        Ok(GetChainResponse {
            chain: Some(chain.info(moment)),
            steps: page,
            problem: texts.problem,
            context: texts.context,
            goals: texts.goals,
            branches: graph.branches.iter().map(wire::branch).collect(),
            conclusion: texts.conclusion,
            revision: u64::try_from(chain.revision).unwrap_or(0),
            next_page_token: last.unwrap_or_default(),
        })
    }
}

/// A ListChains that was found to make sense.
pub(super) struct List {
    status: ChainStatus,
    tags: String,
    query: String,
    page_size: u32,
    /// The last chain of the page before: when it was started, and its name.
    before: (i64, String),
}

impl List {
    pub(super) fn check(request: ListChainsRequest) -> Result<Self, Error> {
        limits::query("query", &request.query)?;
        let before = match request.page_token.as_str() {
            "" => (i64::MAX, String::new()),
            token => token
                .split_once('-')
                .and_then(|(at, name)| Some((at.parse().ok()?, name.to_owned())))
                .ok_or_else(not_a_token)?,
        };
        Ok(Self {
            status: wire::number("status", request.status)?,
            tags: chain::array(&limits::tags(request.tags)?),
            query: request.query,
            page_size: limits::PAGE.check("page_size", request.page_size)?,
            before,
        })
    }

    pub(super) fn apply(
        &self,
        database: &Connection,
        uid: u32,
        moment: Moment,
    ) -> Result<ListChainsResponse, Failure> {
        let mut chains = database
            .prepare_cached(concat!(
                "SELECT ",
                chain_columns!(),
                " FROM chain
                 WHERE uid = ?1 AND updated_at >= ?2 AND (created_at, name) < (?3, ?4)
                     AND (?5 = 0 OR status = ?5)
                     AND NOT EXISTS (
                         SELECT 1 FROM json_each(?6) AS wanted
                         WHERE wanted.value NOT IN (SELECT value FROM json_each(chain.tags)))
                     AND (?7 = '' OR instr(lower(problem), lower(?7)) > 0)
                 ORDER BY created_at DESC, name DESC LIMIT ?8"
            ))?
            .query_map(
                params![
                    uid,
                    moment.horizon(),
                    self.before.0,
                    self.before.1,
                    i32::from(self.status),
                    self.tags,
                    self.query,
                    self.page_size + 1,
                ],
                Chain::read,
            )?
            .collect::<Result<Vec<_>, _>>()?;
        let page_size = usize::try_from(self.page_size).unwrap_or(usize::MAX);
        let more = chains.len() > page_size;
        chains.truncate(page_size);
        let last = chains.last().filter(|_| more);
        Ok(ListChainsResponse {
            next_page_token: last
                .map(|chain| format!("{}-{}", chain.created_at, chain.name))
                .unwrap_or_default(),
            chains: chains.iter().map(|chain| chain.info(moment)).collect(),
        })
    }
}

fn not_a_token() -> Error {
    Error::invalid("page_token", "is not one that an earlier page gave")
}

fn in_the_future() -> Error {
    Error::invalid("since", "is beyond the chain's revision")
}
