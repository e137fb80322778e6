//! The list of functions, a page at a time.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use prost::Message as _;

use super::definition::Definition;
use crate::error::Error;
use crate::proto::opdbus::agent::commands::v1::{ListFunctionsRequest, ListFunctionsResponse};

/// How many functions a page has if nothing is said, and at most.
const PAGE: usize = 100;
const PAGE_MAX: usize = 1000;
/// When a page has so many bytes, it has enough, so that every transport takes it.
const PAGE_BYTES: usize = 512 << 10;

/// A page of the functions whose names begin as asked. A page token is the last name of the page.
pub(super) fn page(
    known: &BTreeMap<String, Arc<Definition>>,
    request: &ListFunctionsRequest,
) -> Result<ListFunctionsResponse, Error> {
    let size = match usize::try_from(request.page_size).unwrap_or(usize::MAX) {
        0 => PAGE,
        size if size <= PAGE_MAX => size,
        _ => {
            return Err(Error::invalid("page_size", format!("must be at most {PAGE_MAX}")));
        }
    };
    let (prefix, token) = (request.prefix.as_str(), request.page_token.as_str());
    let from = match token > prefix {
        true => Bound::Excluded(token),
        false => Bound::Included(prefix),
    };
    let mut found = known
        .range::<str, _>((from, Bound::Unbounded))
        .take_while(|(name, _)| name.starts_with(prefix))
        .map(|(_, definition)| &definition.function)
        .peekable();
    let (mut functions, mut bytes) = (Vec::new(), 0);
    while functions.len() < size
        && bytes < PAGE_BYTES
        && let Some(function) = found.next()
    {
        bytes += function.encoded_len();
        functions.push(function.clone());
    }
    let more = functions.last().filter(|_| found.peek().is_some());
    let next_page_token = more.map(|last| last.name.clone()).unwrap_or_default();
    Ok(ListFunctionsResponse { functions, next_page_token })
}
