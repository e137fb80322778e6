//! A request on its way into the body of a call, and what can be wrong with it. How its fields are written
//! is `encode.rs`.

use zbus::message::Message;

use super::encode::{Body, Encoder, MAX_MESSAGE_BYTES};
use super::plan::{MAX_LEVELS, Method};
use super::slot::{self, Slot};
use super::wire::Malformed;
use crate::error::Error;

/// A request on its way into the body of a call.
pub(crate) struct Request<'p> {
    method: &'p Method,
    encoder: Encoder<'p>,
    slots: Vec<Slot<'p>>,
    options: &'p [(&'p str, zbus::Variant<'p>)],
}

impl<'p> Request<'p> {
    /// A request, encoded, with the options that belong to the call.
    ///
    /// # Errors
    /// `InvalidArgument` if the bytes are no such message, `LimitExceeded` if they are more than D-Bus
    /// carries.
    pub(crate) fn new(
        method: &'p Method,
        request: &'p [u8],
        options: &'p [(&'p str, zbus::Variant<'p>)],
    ) -> Result<Self, Error> {
        let slots = slot::read(method.arena.message(method.input), request)
            .map_err(|Malformed| Error::invalid("request", "cannot be decoded"))?;
        let this = Self { method, encoder: Encoder::new(&method.arena), slots, options };
        if request.len() < SMALL_BYTES {
            return Ok(this);
        }
        // What a bus does not carry makes it close the connection, with every call on it.
        let written = Message::method_call("/", "M").build(&this.body());
        match written {
            Ok(message) if message.data().len() <= MAX_MESSAGE_BYTES => Ok(this),
            Ok(message) => Err(request_too_large(message.data().len())),
            Err(error) => Err(this
                .into_error(error)
                .unwrap_or_else(|error| Error::internal(error.to_string()))),
        }
    }

    /// The body to send.
    pub(crate) fn body(&self) -> Body<'_, 'p> {
        Body {
            encoder: &self.encoder,
            fields: &self.method.arena.message(self.method.input).fields,
            slots: &self.slots,
            arguments: &self.method.inputs,
            rest: Some(self.options),
            signature: &self.method.in_signature,
        }
    }

    /// The error in the request on which sending it has failed with `error`, if that is why.
    ///
    /// # Errors
    /// `error` if the request is not to blame.
    pub(crate) fn into_error(self, error: zbus::Error) -> Result<Error, zbus::Error> {
        if self.encoder.is_too_deep(&error) {
            let text = "the request is nested deeper than D-Bus carries; call it over gRPC";
            return Ok(Error::limit("D-Bus nesting", MAX_LEVELS, text));
        }
        if matches!(error, zbus::Error::ExcessData) {
            return Ok(request_too_large(MAX_MESSAGE_BYTES));
        }
        match std::mem::take(&mut *self.encoder.fault()) {
            fault if fault.is_noted() => {
                let (place, problem) = fault.into_parts(error, "request");
                Ok(Error::invalid(place, problem))
            }
            _ => Err(error),
        }
    }
}

/// A request of fewer bytes cannot become so many that D-Bus does not carry them.
const SMALL_BYTES: usize = 256 * 1024;

fn request_too_large(size: usize) -> Error {
    Error::limit(
        "D-Bus message size",
        MAX_MESSAGE_BYTES,
        format_args!(
            "the request takes {size} bytes, more than the bus carries; call it over gRPC"
        ),
    )
}
