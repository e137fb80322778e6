//! Search: what a request may ask for. The index is elsewhere.

use super::fields;
use super::tables::{Found, Join, expression};
use crate::error::Error;
use crate::proto::opdbus::agent::context_manager::v1::SearchRequest;

const DEFAULT_LIMIT: u32 = 20;
const MAX_LIMIT: u32 = 100;

pub(super) fn check(request: SearchRequest) -> Result<Found, Error> {
    fields::query("query", &request.query)?;
    let name = Some(request.name).filter(|name| !name.is_empty());
    if let Some(name) = &name {
        fields::name("name", name)?;
    }
    Ok(Found {
        expression: expression(&request.query, Join::All)?,
        name,
        tags: fields::tags(request.tags)?,
        limit: fields::count("limit", request.limit, DEFAULT_LIMIT, MAX_LIMIT)?,
    })
}
