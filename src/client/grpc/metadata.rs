//! What a call says beside its request, as gRPC metadata.

use std::time::Duration;

use tonic::metadata::{Ascii, MetadataMap, MetadataValue};

use crate::client::call::CallOptions;
use crate::client::error::Failure;
use crate::error::ErrorKind;
use crate::proto::opdbus::v1::OnDisconnect;
use crate::wire::timeout_text;

/// What every call says, written once.
#[derive(Debug)]
pub(super) struct Usual {
    metadata: MetadataMap,
    /// The time of calls that do not say another one, and what they all say with it.
    timeout: Duration,
    with_timeout: MetadataMap,
}

impl Usual {
    /// # Errors
    /// As [`Usual::with`].
    pub(super) fn new(metadata: MetadataMap, timeout: Duration) -> Result<Self, Failure> {
        let mut with_timeout = metadata.clone();
        insert_timeout(&mut with_timeout, timeout)?;
        Ok(Self { metadata, timeout, with_timeout })
    }

    /// The same with what `options` say.
    ///
    /// # Errors
    /// `InvalidArgument` naming the option that gRPC cannot carry.
    pub(super) fn with(&self, options: &CallOptions) -> Result<MetadataMap, Failure> {
        let mut metadata = match options.timeout {
            Some(timeout) if timeout == self.timeout => self.with_timeout.clone(),
            Some(timeout) => {
                let mut metadata = self.metadata.clone();
                insert_timeout(&mut metadata, timeout)?;
                metadata
            }
            None => self.metadata.clone(),
        };
        write(&mut metadata, options)?;
        Ok(metadata)
    }
}

fn insert_timeout(metadata: &mut MetadataMap, timeout: Duration) -> Result<(), Failure> {
    metadata.insert("grpc-timeout", text("timeout", &timeout_text(timeout))?);
    Ok(())
}

/// Adds what `options` say beside the time.
fn write(metadata: &mut MetadataMap, options: &CallOptions) -> Result<(), Failure> {
    let texts = [
        ("opdbus-request-id", "request_id", &options.request_id),
        ("opdbus-session-id", "session", &options.session),
        ("opdbus-approval-id", "approval_id", &options.approval_id),
        ("traceparent", "traceparent", &options.traceparent),
    ];
    for (name, field, value) in texts {
        if let Some(value) = value {
            metadata.insert(name, text(field, value)?);
        }
    }
    if options.interactive {
        metadata.insert("opdbus-interactive", MetadataValue::from_static("true"));
    }
    let choice = match options.on_disconnect {
        OnDisconnect::Unspecified => None,
        OnDisconnect::Continue => Some("continue"),
        OnDisconnect::Cancel => Some("cancel"),
    };
    if let Some(choice) = choice {
        metadata.insert("opdbus-on-disconnect", MetadataValue::from_static(choice));
    }
    Ok(())
}

fn text(field: &str, text: &str) -> Result<MetadataValue<Ascii>, Failure> {
    MetadataValue::try_from(text).map_err(|_| {
        let problem = format!("{field}: must be visible ASCII characters");
        Failure::new(ErrorKind::InvalidArgument, problem)
    })
}
