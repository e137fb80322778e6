//! gRPC's statuses as the client's errors: what the service says, what the connection says, and whether
//! anything was called at all.

use std::io;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::client::error::{Error, Failure};
use crate::wire;

/// A status as an error.
pub(super) fn failed(status: &Status, https: bool) -> Error {
    // What HTTP/2 says came from this side or from somebody between; the service gives details.
    if let Some(source) = std::error::Error::source(status) {
        return Failure::lost(format!("{}; {}", innermost(source), closed(https))).into();
    }
    if status.code() == Code::Cancelled && status.details().is_empty() {
        return Failure::lost(closed(https)).into();
    }
    failure(status).into()
}

/// What to do about a socket that cannot be connected to.
const ADVICE: [(io::ErrorKind, &str); 3] = [
    (
        io::ErrorKind::NotFound,
        "the service is not started (systemctl start op-dbus.socket) or listens elsewhere \
         (OP_DBUS_ADDRESS)",
    ),
    (
        io::ErrorKind::ConnectionRefused,
        "nobody listens there (systemctl status op-dbus) or the service listens elsewhere \
         (OP_DBUS_ADDRESS)",
    ),
    (
        io::ErrorKind::PermissionDenied,
        "only members of the group op-dbus may open the socket (usermod -aG op-dbus USER)",
    ),
];

/// Why no connection came about, and what to do about it.
pub(super) fn no_connection(error: &(dyn std::error::Error + 'static)) -> String {
    let problem = innermost(error);
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            let advice = ADVICE.into_iter().find(|(kind, _)| *kind == error.kind());
            let Some((_, advice)) = advice else { return problem };
            return format!("{problem}; {advice}");
        }
        cause = error.source();
    }
    problem
}

/// Why the service may have closed the connection. In TLS 1.3 a client learns only after the handshake
/// that its certificate is refused, and the alert that says so can be lost.
const fn closed(https: bool) -> &'static str {
    match https {
        true => {
            "the service closed it; over https it may not take the client's certificate, or lack of one"
        }
        false => "the service closed it",
    }
}

/// A status as a failure: by the reason that op-dbus gives, else by the code.
fn failure(status: &Status) -> Failure {
    let details = status.get_error_details();
    let mut failure = Failure::new(wire::kind(status, &details), status.message());
    if let Some(info) = details.error_info() {
        failure.facts = info.metadata.clone().into_iter().collect();
    }
    failure.retry_after = details.retry_info().and_then(|info| info.retry_delay);
    if failure.message.is_empty() {
        failure.message = status.code().description().to_owned();
    }
    failure
}

/// The innermost cause of an error, which is the one that says something.
pub(super) fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::Duration;

    use tonic_types::ErrorDetails;

    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn the_reason_decides_the_kind_and_its_facts_come_along() {
        for kind in ErrorKind::ALL {
            let facts = HashMap::from([("field".to_owned(), "key".to_owned())]);
            let mut details = ErrorDetails::with_error_info(kind.reason(), "op-dbus", facts);
            details.set_retry_info(Some(Duration::from_millis(250)));
            let status = Status::with_error_details(Code::Unknown, "broken", details);
            let failure = failure(&status);
            assert_eq!(failure.kind, kind);
            assert_eq!(failure.message, "broken");
            assert_eq!(failure.facts["field"], "key");
            assert_eq!(failure.retry_after, Some(Duration::from_millis(250)));
        }
    }

    #[test]
    fn a_foreign_status_goes_by_its_code() {
        let failure = failure(&Status::new(Code::Unimplemented, ""));
        assert_eq!(failure.kind, ErrorKind::UnknownOperation);
        assert!(!failure.message.is_empty());
    }
}
