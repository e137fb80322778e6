//! Which commands there are, and the tags by which they are found.

use super::{Programs, check_tag};
use crate::error::Error;
use crate::proto::opdbus::agent::commands::v1::{
    ListRequest, ListResponse, TagRequest, TagResponse,
};

/// How many commands a page has if nothing is said, and at most.
const PAGE: u32 = 100;
const PAGE_MAX: u32 = 1000;

impl Programs {
    /// Lists commands, the latest first.
    ///
    /// # Errors
    /// `InvalidArgument` for the page.
    pub(in crate::agents::commands) fn list(
        &self,
        request: &ListRequest,
    ) -> Result<ListResponse, Error> {
        let size = match request.page_size {
            0 => PAGE,
            size if size > PAGE_MAX => {
                return Err(Error::invalid("page_size", format!("is more than {PAGE_MAX}")));
            }
            size => size,
        };
        let before = match request.page_token.as_str() {
            "" => u64::MAX,
            token => token
                .parse()
                .map_err(|_| Error::invalid("page_token", "is of no answer of this operation"))?,
        };
        let all = self.table.all();
        let mut wanted = all.iter().filter(|command| {
            command.number < before
                && (request.tag.is_empty() || command.tag() == request.tag)
                && !(request.running_only && command.has_ended())
        });
        let page: Vec<_> = wanted.by_ref().take(size as usize).collect();
        let next_page_token = match (wanted.next(), page.last()) {
            (Some(_), Some(last)) => last.number.to_string(),
            (None, _) | (_, None) => String::new(),
        };
        let commands = page.into_iter().map(|command| command.describe()).collect();
        Ok(ListResponse { commands, next_page_token })
    }

    /// Puts a tag on a command.
    ///
    /// # Errors
    /// `NotFound` if there is no such command.
    pub(in crate::agents::commands) fn tag(
        &self,
        request: TagRequest,
    ) -> Result<TagResponse, Error> {
        check_tag(&request.tag)?;
        self.find(&request.id)?.set_tag(request.tag);
        Ok(TagResponse {})
    }
}
