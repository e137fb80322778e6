//! Framing: messages in one piece and in many, and what is none.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};

use super::{Outgoing, Unread, answer, read};
use crate::error::ErrorKind;
use crate::metrics::Rejection;
use crate::transport::grpc::error::Refusal;
use crate::wire::COPIED_BYTES;

const LIMIT: usize = 100_000;

fn prefixed(flag: u8, length: usize, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(length).unwrap().to_be_bytes();
    [&[flag] as &[u8], &length, message].concat()
}

/// Reads `bytes` as they come in pieces of at most `piece` bytes.
async fn read_pieces(bytes: &[u8], piece: usize) -> Result<Bytes, Unread> {
    let frames: Vec<_> = bytes
        .chunks(piece)
        .map(|chunk| Ok::<_, Infallible>(Frame::data(Bytes::copy_from_slice(chunk))))
        .collect();
    read(StreamBody::new(stream::iter(frames)), LIMIT, |_| Ok(())).await
}

#[track_caller]
fn check_refused(unread: Unread, kind: ErrorKind, rejection: Rejection, text: &str) {
    let Refusal::Error(error) = unread.refusal else { panic!("{:?}", unread.refusal) };
    assert_eq!(error.kind(), kind);
    assert!(error.message().contains(text), "{error}");
    assert_eq!(unread.rejection, Some(rejection));
}

#[tokio::test]
async fn a_message_is_read_in_any_pieces() {
    for length in [0, 1, 7, 1000, LIMIT] {
        let message: Vec<u8> = (0..=u8::MAX).cycle().take(length).collect();
        let bytes = prefixed(0, length, &message);
        for piece in [1, 4, 5, 6, 1024, bytes.len()] {
            assert_eq!(read_pieces(&bytes, piece).await.unwrap(), message, "{length} by {piece}");
        }
    }
}

#[tokio::test]
async fn what_is_not_one_message_is_refused() {
    for (bytes, text) in [
        (Vec::new(), "no message"),
        (vec![0, 0, 0], "within its length"),
        (prefixed(0, 10, b"abc"), "after 3 of 10 bytes"),
        (prefixed(0, 10, b""), "after 0 of 10 bytes"),
        ([prefixed(0, 1, b"a"), prefixed(0, 1, b"a")].concat(), "more than one"),
        (prefixed(7, 0, b""), "flag 7"),
    ] {
        for piece in [1, 4096] {
            let unread = read_pieces(&bytes, piece).await.unwrap_err();
            check_refused(unread, ErrorKind::InvalidArgument, Rejection::InvalidRequest, text);
        }
    }
    let unread = read_pieces(&prefixed(1, 1, b"a"), 64).await.unwrap_err();
    assert!(matches!(unread.refusal, Refusal::CompressedSomehow));
}

#[tokio::test]
async fn a_length_over_the_limit_is_refused_before_the_bytes_come() {
    for length in [LIMIT + 1, usize::try_from(u32::MAX).unwrap()] {
        let unread = read_pieces(&prefixed(0, length, b""), 5).await.unwrap_err();
        check_refused(
            unread,
            ErrorKind::LimitExceeded,
            Rejection::TooLarge,
            "grpc.max_request_bytes is 100000",
        );
    }
}

#[tokio::test]
async fn an_answer_is_prefix_message_and_status() {
    for length in [0, 3, COPIED_BYTES, COPIED_BYTES + 1, LIMIT] {
        let message = Bytes::from(vec![b'x'; length]);
        let outgoing = Outgoing::default();
        let body = answer(message.clone(), LIMIT, &outgoing).unwrap().into_body();
        let counted = if length > COPIED_BYTES { length } else { 0 };
        assert_eq!(outgoing.bytes(), counted);
        let body = body.collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
        assert_eq!(body.to_bytes(), prefixed(0, length, &message));
        assert_eq!(outgoing.bytes(), 0);
    }
    let Err(error) = answer(Bytes::from(vec![0; LIMIT + 1]), LIMIT, &Outgoing::default()) else {
        panic!("a response over the limit was let through");
    };
    assert_eq!(error.fact("limit"), Some("grpc.max_response_bytes"));
}

#[tokio::test]
async fn a_body_that_breaks_off_is_a_call_given_up() {
    let frames = stream::iter([Ok(Frame::data(Bytes::from_static(&[0, 0]))), Err("reset")]);
    let unread = read(StreamBody::new(frames.boxed()), LIMIT, |_| Ok(())).await.unwrap_err();
    let Refusal::Error(error) = unread.refusal else { panic!("{:?}", unread.refusal) };
    assert_eq!(error.kind(), ErrorKind::Cancelled);
}
