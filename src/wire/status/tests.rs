//! Statuses carry what the error knows and stay small enough to travel.

use std::time::Duration;

use http::HeaderMap;
use tonic_types::StatusExt as _;

use super::{DOMAIN, code, status};
use crate::error::{Error, ErrorKind};

#[test]
fn each_kind_has_its_reason_and_facts() {
    for kind in ErrorKind::ALL {
        let status = status(&Error::new(kind, "a text").with_fact("origin", "here"));
        assert_eq!(status.code(), code(kind));
        assert_eq!(status.message(), "a text");
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), (kind.reason(), DOMAIN));
        assert_eq!(info.metadata["origin"], "here");
        assert!(details.bad_request().is_none() && details.retry_info().is_none());
    }
}

#[test]
fn a_wrong_field_and_a_delay_have_details_of_their_own() {
    let wrong = status(&Error::invalid("key", "is empty"));
    let details = wrong.get_error_details();
    let violation = &details.bad_request().unwrap().field_violations[0];
    assert_eq!(
        (violation.field.as_str(), violation.description.as_str()),
        ("key", "key: is empty")
    );

    let delay = Duration::from_millis(100);
    let busy = status(&Error::limit("executor.queue", 5, "too many").with_retry_after(delay));
    assert_eq!(busy.get_error_details().retry_info().unwrap().retry_delay, Some(delay));
}

#[test]
fn any_text_fits_into_the_trailers() {
    for text in ["x", "%", "é\n", "\u{1F980}", "\0", "a b\r\n"] {
        let long = text.repeat(100_000);
        let error = Error::invalid(long.clone(), &long)
            .with_fact("limit", long.clone())
            .with_fact("limit_value", long.clone())
            .with_fact("origin", long.clone())
            .with_fact("more", long);
        let status = status(&error);
        assert!(status.message().ends_with(" ..."));
        let mut headers = HeaderMap::new();
        status.add_header(&mut headers).unwrap();
        let size: usize =
            headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
        assert!(size <= 8 * 1024, "{size} bytes of trailers for {text:?}");
    }
}

#[test]
fn a_short_text_is_kept_whole() {
    for length in [0, 1, 2043, 2044, 2045, 2048] {
        let text = "x".repeat(length);
        assert_eq!(status(&Error::internal(text.clone())).message(), text);
    }
    assert_eq!(status(&Error::internal("x".repeat(2049))).message().len(), 2048);
}
