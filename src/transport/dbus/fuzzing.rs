//! The door for fuzzing: the transcoder without a bus. Part of a build only with feature `testing`.

use std::sync::Arc;

use bytes::Bytes;
use zbus::Message;

use super::options::Options;
use super::plan::{self, Method};
use super::{begin, call, decode, encode};
use crate::contract::Service;
use crate::error::Error;

/// The plan of one operation.
pub struct Transcoder(Arc<Method>);

impl Transcoder {
    /// The transcoder of the operation called `operation`.
    ///
    /// # Errors
    /// `Internal` if the service has no such operation or its types have no form on D-Bus.
    pub fn new(service: &Service, operation: &str) -> Result<Self, Error> {
        plan::compile(service)?
            .into_iter()
            .find(|(found, _)| found.name == operation)
            .map(|(_, method)| Self(method))
            .ok_or_else(|| Error::internal(format!("there is no operation {operation}")))
    }

    /// Reads the body of a call, as the dispatcher does, into the encoded requests.
    ///
    /// # Errors
    /// `InvalidArgument` naming the argument or option.
    pub fn requests(&self, call: &Message) -> Result<Vec<Bytes>, Error> {
        let body = call.body();
        call::check_signature(&self.0, body.signature())?;
        let request = decode::request(&self.0, &body, &mut Options::default())?;
        Ok(match self.0.takes_messages {
            true => begin::split(&request.into()),
            false => vec![request.into()],
        })
    }

    /// Writes an encoded response as the reply to `call`, as the dispatcher does.
    ///
    /// # Errors
    /// `Internal` or `LimitExceeded` naming the field or limit.
    pub fn reply(&self, call: &Message, response: &[u8]) -> Result<Message, Error> {
        encode::reply(&self.0, &call.header(), response)
    }
}
