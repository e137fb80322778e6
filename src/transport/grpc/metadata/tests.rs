//! What is read from metadata, and what is refused by name.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::Metadata;
use crate::call::OnDisconnect;
use crate::error::ErrorKind;

fn read(pairs: &[(&'static str, &[u8])]) -> Result<Metadata, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap());
    }
    Metadata::read(&headers).map_err(|error| {
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        error.fact("field").unwrap().to_owned()
    })
}

#[test]
fn timeouts_have_every_unit() {
    for (text, expected) in [
        ("1H", Duration::from_secs(3600)),
        ("99999999H", Duration::from_secs(99_999_999 * 3600)),
        ("2M", Duration::from_secs(120)),
        ("0S", Duration::ZERO),
        ("50m", Duration::from_millis(50)),
        ("00000007u", Duration::from_micros(7)),
        ("8n", Duration::from_nanos(8)),
    ] {
        let metadata = read(&[("grpc-timeout", text.as_bytes())]).unwrap();
        assert_eq!(metadata.timeout, Some(expected), "{text}");
    }
    for text in ["", "m", "1", "1s", "-1S", "1.5S", "123456789S", " 1S", "1 S"] {
        assert_eq!(read(&[("grpc-timeout", text.as_bytes())]).unwrap_err(), "grpc-timeout");
    }
}

#[test]
fn ids_are_short_and_visible() {
    let longest = [b'~'; 128];
    for id in [b"a" as &[u8], b"0af7-651!", &longest] {
        let metadata = read(&[("opdbus-request-id", id), ("opdbus-session-id", id)]).unwrap();
        assert_eq!(metadata.request_id.unwrap().as_bytes(), id);
        assert_eq!(metadata.session.unwrap().as_bytes(), id);
    }
    for id in [b"" as &[u8], b"a b", b"a\tb", "é".as_bytes(), &[b'a'; 129]] {
        for name in ["opdbus-request-id", "opdbus-session-id"] {
            assert_eq!(read(&[(name, id)]).unwrap_err(), name);
        }
    }
}

#[test]
fn a_client_says_what_its_going_away_means() {
    let name = "opdbus-on-disconnect";
    for (text, choice) in
        [(b"continue" as &[u8], OnDisconnect::Continue), (b"cancel", OnDisconnect::Cancel)]
    {
        assert_eq!(read(&[(name, text)]).unwrap().on_disconnect, Some(choice));
    }
    for text in [b"" as &[u8], b"Cancel", b"ignore"] {
        assert_eq!(read(&[(name, text)]).unwrap_err(), name);
    }
}

#[test]
fn a_client_says_whether_somebody_may_be_asked() {
    let name = "opdbus-interactive";
    for (text, choice) in [(b"true" as &[u8], true), (b"false", false)] {
        assert_eq!(read(&[(name, text)]).unwrap().interactive, Some(choice));
    }
    for text in [b"" as &[u8], b"True", b"1"] {
        assert_eq!(read(&[(name, text)]).unwrap_err(), name);
    }
}

#[test]
fn trace_contexts_are_checked() {
    for text in [
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
    ] {
        let metadata = read(&[("traceparent", text.as_bytes())]).unwrap();
        assert_eq!(metadata.traceparent.as_deref(), Some(text));
    }
    for text in [
        "",
        "00",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01more",
    ] {
        assert_eq!(read(&[("traceparent", text.as_bytes())]).unwrap_err(), "traceparent", "{text}");
    }
}

#[test]
fn op_dbus_metadata_that_is_not_served_is_refused() {
    for name in ["opdbus-detach", "opdbus-request-idd", "opdbus-"] {
        assert_eq!(read(&[(name, b"1")]).unwrap_err(), name);
    }
    for name in ["opdbus", "x-opdbus-detach", "user-agent", "tracestate"] {
        assert_eq!(read(&[(name, b"1")]).unwrap(), Metadata::default());
    }
}

#[test]
fn nothing_comes_twice() {
    for (name, value) in [
        ("grpc-timeout", b"1S" as &[u8]),
        ("opdbus-request-id", b"a"),
        ("opdbus-session-id", b"a"),
        ("opdbus-on-disconnect", b"cancel"),
        ("opdbus-interactive", b"true"),
        ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ] {
        assert_eq!(read(&[(name, value), (name, value)]).unwrap_err(), name);
    }
}

#[test]
fn identity_is_no_compression() {
    assert!(!read(&[("grpc-encoding", b"identity")]).unwrap().compressed);
    assert!(read(&[("grpc-encoding", b"gzip")]).unwrap().compressed);
}
