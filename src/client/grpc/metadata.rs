//! What a call says beside its request, as gRPC metadata.

use tonic::metadata::{Ascii, MetadataMap, MetadataValue};

use crate::client::call::CallOptions;
use crate::client::error::Failure;
use crate::error::ErrorKind;
use crate::proto::opdbus::v1::OnDisconnect;
use crate::wire::timeout_text;

/// Adds what `options` say to `metadata`.
///
/// # Errors
/// `InvalidArgument` naming the option that gRPC cannot carry.
pub(super) fn write(
    mut metadata: MetadataMap,
    options: &CallOptions,
) -> Result<MetadataMap, Failure> {
    if let Some(timeout) = options.timeout {
        metadata.insert("grpc-timeout", text("timeout", &timeout_text(timeout))?);
    }
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
    Ok(metadata)
}

fn text(field: &str, text: &str) -> Result<MetadataValue<Ascii>, Failure> {
    MetadataValue::try_from(text).map_err(|_| {
        let problem = format!("{field}: must be visible ASCII characters");
        Failure::new(ErrorKind::InvalidArgument, problem)
    })
}
