//! What a call says beside its request, as options of a D-Bus method.

use zbus::Variant;

use crate::client::call::CallOptions;
use crate::client::error::Failure;
use crate::error::ErrorKind;
use crate::wire::dbus::text;

/// The options of a method, by name.
pub(super) type Options<'a> = Vec<(&'a str, Variant<'a>)>;

/// What `options` say. Whether somebody may be asked to authenticate is no option but a flag of the
/// message, and what becomes of a stream goes with the stream.
///
/// # Errors
/// `InvalidArgument` naming the option that D-Bus cannot carry.
pub(super) fn write<'a>(
    options: &'a CallOptions,
    client_name: Option<&'a str>,
) -> Result<Options<'a>, Failure> {
    let mut written = Options::new();
    if let Some(timeout) = options.timeout {
        let milliseconds = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        written.push(("deadline-ms", Variant::from(milliseconds.max(1))));
    }
    let texts = [
        ("request-id", options.request_id.as_deref()),
        ("session-id", options.session.as_deref()),
        ("approval-id", options.approval_id.as_deref()),
        ("traceparent", options.traceparent.as_deref()),
        ("client-name", client_name),
    ];
    for (name, value) in texts {
        if let Some(value) = value {
            let value = text::checked(value.as_bytes()).map_err(|problem| {
                Failure::new(ErrorKind::InvalidArgument, format!("{name}: {problem}"))
            })?;
            written.push((name, Variant::from(value)));
        }
    }
    Ok(written)
}
