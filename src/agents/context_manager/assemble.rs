//! Assemble: several contexts within one budget.

use rusqlite::Connection;

use super::choice::select::select;
use super::choice::share::{Claim, by_priority, share};
use super::choice::tokens;
use super::config::MAX_ASSEMBLE_BYTES;
use super::fields;
use super::item::{Item, role_name};
use super::space::Space;
use super::tables;
use crate::error::Error;
use crate::proto::opdbus::agent::context_manager::v1::section::Source;
use crate::proto::opdbus::agent::context_manager::v1::{
    AssembleRequest, AssembleResponse, AssembledItem, Section, SectionUse, Strategy,
};
use crate::storage::Failure;

const MAX_SECTIONS: usize = 32;

/// A request to assemble, checked.
pub(super) struct Assemble {
    budget: u64,
    sections: Vec<Wanted>,
    as_text: bool,
}

struct Wanted {
    title: String,
    context: String,
    space: Space,
    min: u64,
    max: u64,
    priority: i32,
    query: String,
}

/// A section with what could be in it. Texts are read beforehand only if there is a query.
struct Loaded<'a> {
    wanted: &'a Wanted,
    version: u64,
    items: Vec<Item>,
    heading: String,
}

impl Assemble {
    /// `space` gives the contexts that a scope means.
    pub(super) fn check(
        request: AssembleRequest,
        space: impl Fn(i32) -> Result<Space, Error>,
    ) -> Result<Self, Error> {
        if request.budget_tokens == 0 {
            return Err(Error::invalid("budget_tokens", "must be more than 0"));
        }
        let count = request.sections.len();
        if !(1..=MAX_SECTIONS).contains(&count) {
            let problem = format!("must be 1 to {MAX_SECTIONS}, not {count}");
            return Err(Error::invalid("sections", problem));
        }
        let sections = request.sections.into_iter().enumerate();
        let sections = sections.map(|(index, section)| {
            let space = space(section.scope)?;
            check_section(index, section, space)
        });
        Ok(Self {
            budget: request.budget_tokens,
            sections: sections.collect::<Result<_, _>>()?,
            as_text: request.as_text,
        })
    }

    pub(super) fn apply(
        &self,
        database: &Connection,
        now: i64,
    ) -> Result<AssembleResponse, Failure> {
        let mut loaded = Vec::with_capacity(self.sections.len());
        let mut bytes = 0;
        for (index, wanted) in self.sections.iter().enumerate() {
            let head = tables::require(database, &wanted.space, &wanted.context, now)
                .map_err(|failure| in_section(index, failure))?;
            let read = if wanted.query.is_empty() { tables::outlines } else { tables::items };
            bytes += if wanted.query.is_empty() { 0 } else { head.size };
            if bytes > MAX_ASSEMBLE_BYTES {
                let problem = "sections: these contexts are too large together; compact one";
                let limit = "context_manager.max_assemble_bytes";
                return Err(Error::limit(limit, MAX_ASSEMBLE_BYTES, problem).into());
            }
            let items = read(database, &head, head.version)?;
            let heading = match (self.as_text, items.is_empty()) {
                (true, false) => format!("## {}\n\n", wanted.title),
                _ => String::new(),
            };
            let version = head.version.unsigned_abs();
            loaded.push(Loaded { wanted, version, items, heading });
        }
        let taken = choose(self.budget, &loaded)?;
        self.answer(database, loaded, &taken)
    }

    fn answer(
        &self,
        database: &Connection,
        loaded: Vec<Loaded<'_>>,
        taken: &[Vec<bool>],
    ) -> Result<AssembleResponse, Failure> {
        let mut response = AssembleResponse::default();
        for (index, (section, taken)) in loaded.into_iter().zip(taken).enumerate() {
            let mut used = SectionUse {
                title: section.wanted.title.clone(),
                version: section.version,
                ..SectionUse::default()
            };
            for (mut item, taken) in section.items.into_iter().zip(taken) {
                if !taken {
                    used.dropped.push(item.as_dropped());
                    continue;
                }
                if section.wanted.query.is_empty() {
                    item.text = tables::text(database, &item)?;
                }
                if self.as_text {
                    if used.items == 0 {
                        response.text += &section.heading;
                        used.tokens += tokens::estimate(&section.heading);
                    }
                    push_text(&item, &mut response.text);
                }
                used.items += 1;
                used.tokens += item.tokens;
                if !self.as_text {
                    let section = u32::try_from(index).unwrap_or(u32::MAX);
                    let item = Some(item.into_message());
                    response.items.push(AssembledItem { section, item });
                }
            }
            response.tokens += used.tokens;
            response.sections.push(used);
        }
        response.text.truncate(response.text.trim_end().len());
        Ok(response)
    }
}

fn check_section(index: usize, section: Section, space: Space) -> Result<Wanted, Error> {
    let at = |field: &str| format!("sections[{index}].{field}");
    let not_served =
        |field| Err(Error::invalid(at(field), "is not served in this release; only contexts are"));
    let context = match section.source {
        Some(Source::Context(name)) => name,
        Some(Source::Memory(_)) => return not_served("memory"),
        Some(Source::Mem0(_)) => return not_served("mem0"),
        Some(Source::File(_)) => return not_served("file"),
        Some(Source::Task(_)) => return not_served("task"),
        None => return Err(Error::invalid(at("context"), "must name a context")),
    };
    fields::name(&at("context"), &context)?;
    fields::query(&at("query"), &section.query)?;
    let title = if section.title.is_empty() { context.clone() } else { section.title };
    fields::name(&at("title"), &title)?;
    let max = if section.max_tokens == 0 { u64::MAX } else { section.max_tokens };
    if section.min_tokens > max {
        return Err(Error::invalid(at("min_tokens"), "must not be more than max_tokens"));
    }
    Ok(Wanted {
        title,
        context,
        space,
        min: section.min_tokens,
        max,
        priority: section.priority,
        query: section.query,
    })
}

/// Says in which section a context is missing.
fn in_section(index: usize, failure: Failure) -> Failure {
    match failure {
        Failure::Refused(error) => {
            Error::new(error.kind(), format!("sections[{index}].context: {}", error.message()))
                .with_fact("field", format!("sections[{index}].context"))
                .into()
        }
        other @ Failure::Sqlite(_) => other,
    }
}

/// Which items of each section are taken.
fn choose(budget: u64, sections: &[Loaded<'_>]) -> Result<Vec<Vec<bool>>, Error> {
    let claims: Vec<Claim> = sections
        .iter()
        .map(|section| {
            let items: u64 = section.items.iter().map(|item| item.tokens).sum();
            Claim {
                needs: items + tokens::estimate(&section.heading),
                min: section.wanted.min,
                max: section.wanted.max,
                priority: section.wanted.priority,
            }
        })
        .collect();
    let mut shares = share(budget, &claims).map_err(|minimums| {
        let problem = format!("{budget} is less than the sections' minimums, {minimums} together");
        Error::invalid("budget_tokens", problem)
    })?;
    let mut taken: Vec<Vec<bool>> =
        sections.iter().zip(&shares).map(|(section, share)| section.take(*share)).collect();
    // Items are taken whole, so something is left; it goes round once more.
    for index in by_priority(&claims).into_iter().flatten() {
        let used: u64 =
            sections.iter().zip(&taken).map(|(section, taken)| section.used(taken)).sum();
        let own = sections[index].used(&taken[index]);
        shares[index] = claims[index].most().min(own + (budget - used));
        taken[index] = sections[index].take(shares[index]);
    }
    Ok(taken)
}

impl Loaded<'_> {
    fn take(&self, share: u64) -> Vec<bool> {
        let query = &self.wanted.query;
        let strategy = if query.is_empty() { Strategy::Tail } else { Strategy::Relevance };
        let share = share.saturating_sub(tokens::estimate(&self.heading));
        select(&self.items, share, strategy, query)
    }

    fn used(&self, taken: &[bool]) -> u64 {
        let taken = self.items.iter().zip(taken).filter(|(_, taken)| **taken);
        let items: u64 = taken.map(|(item, _)| item.tokens).sum();
        if items == 0 { 0 } else { items + tokens::estimate(&self.heading) }
    }
}

fn push_text(item: &Item, text: &mut String) {
    let role = role_name(item.role);
    if !role.is_empty() {
        *text += role;
        *text += ": ";
    }
    *text += item.text.trim_end();
    *text += "\n\n";
}
