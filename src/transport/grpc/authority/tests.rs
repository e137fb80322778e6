//! The rewriting on its own: what is changed, what is not, and that no input upsets it.

use proptest::prelude::*;

use super::Authority;
use super::frames::PREFACE;

/// A frame of a stream.
fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
    frame.extend_from_slice(payload);
    frame
}

/// An HPACK integer whose first byte has the bits `pattern` above those of `mask`.
fn integer(pattern: u8, mask: u8, value: usize) -> Vec<u8> {
    if value < usize::from(mask) {
        return vec![pattern | u8::try_from(value).unwrap()];
    }
    let mut bytes = vec![pattern | mask];
    let mut rest = value - usize::from(mask);
    while rest >= 0x80 {
        bytes.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
        rest >>= 7;
    }
    bytes.push(u8::try_from(rest).unwrap());
    bytes
}

fn string(text: &[u8]) -> Vec<u8> {
    let mut bytes = integer(0, 0x7f, text.len());
    bytes.extend_from_slice(text);
    bytes
}

/// A literal field that enters the table, its name in letters.
fn literal(name: &str, value: &[u8]) -> Vec<u8> {
    [vec![0x40], string(name.as_bytes()), string(value)].concat()
}

/// A literal field whose name has the index 1.
fn indexed(value: &[u8]) -> Vec<u8> {
    [vec![0x41], string(value)].concat()
}

fn connection(frames: &[Vec<u8>]) -> Vec<u8> {
    [PREFACE.to_vec(), frame(4, 0, &[0; 6]), frames.concat()].concat()
}

fn followed(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    Authority::new().follow(&mut bytes);
    bytes
}

/// Checks that a client's `before` arrives as `after`, in both forms of the name, in a block between
/// others, and with the bytes cut at every place.
#[track_caller]
fn check(before: &[u8], after: &[u8]) {
    let whole = |authority: &[u8]| {
        let first = [vec![0x83, 0x86], literal(":authority", authority), literal("a", b"/%/")];
        let second = [indexed(authority), vec![0x3f, 0xe1, 0x1f], literal("b", &[b'/'; 300])];
        let data = frame(0, 0, &[&[0, 0, 0, 0, 3], b"/%/" as &[u8]].concat());
        connection(&[
            frame(1, 4, &first.concat()),
            data.clone(),
            frame(1, 5, &second.concat()),
            data,
        ])
    };
    let (sent, expected) = (whole(before), whole(after));
    assert_eq!(followed(&sent), expected);
    for cut in 0..sent.len() {
        let mut bytes = sent.clone();
        let mut authority = Authority::new();
        let (head, tail) = bytes.split_at_mut(cut);
        authority.follow(head);
        authority.follow(tail);
        assert_eq!(bytes, expected, "cut at {cut}");
    }
}

#[test]
fn a_socket_path_becomes_legal() {
    check(b"/run/op-dbus/grpc.sock", b"-run-op-dbus-grpc.sock");
    check(b"%2Frun%2Fgrpc.sock", b"-2Frun-2Fgrpc.sock");
    check(b"run/a:b:c[", b"run-a-b-c-");
    check(b"/a b\xc3\xa9@:1", b"-a-b----1");
    check(&[b'/'; 260], &[b'-'; 260]);
}

#[test]
fn a_legal_authority_is_untouched() {
    for legal in ["localhost", "localhost:50051", "[::1]:50051", "user@host.example", "x"] {
        check(legal.as_bytes(), legal.as_bytes());
    }
}

#[test]
fn what_comes_out_is_an_authority() {
    for path in ["/run/op-dbus/grpc.sock", "%2Ftmp%2Fa%3Ab", "./x:y:z", "a/b@c", "/[x]", "tmp/[::1"]
    {
        let sent = connection(&[frame(1, 5, &indexed(path.as_bytes()))]);
        let got = followed(&sent);
        let authority = &got[got.len() - path.len()..];
        http::uri::Authority::try_from(authority).unwrap();
    }
}

#[test]
fn a_value_goes_on_in_the_next_frame() {
    let block = indexed(b"/run/grpc.sock");
    let (head, tail) = block.split_at(7);
    let sent = connection(&[frame(1, 1, head), frame(9, 4, tail), frame(0, 1, b"/")]);
    let after = indexed(b"-run-grpc.sock");
    let (head, tail) = after.split_at(7);
    let expected = connection(&[frame(1, 1, head), frame(9, 4, tail), frame(0, 1, b"/")]);
    assert_eq!(followed(&sent), expected);
}

#[test]
fn padding_and_priority_are_no_headers() {
    let padded = |authority: &[u8]| {
        let payload =
            [vec![4, b'/', b'/', b'/', b'/', b'/'], indexed(authority), vec![b'/'; 4]].concat();
        connection(&[frame(1, 0x2d, &payload), frame(1, 4, &indexed(authority))])
    };
    assert_eq!(followed(&padded(b"/a")), padded(b"-a"));
}

#[test]
fn huffman_coded_values_are_untouched() {
    let block = [vec![0x41, 0x83], b"/%/".to_vec(), literal("c", b"/")].concat();
    let sent = connection(&[frame(1, 4, &block)]);
    assert_eq!(followed(&sent), sent);
}

#[test]
fn what_is_no_http2_is_untouched() {
    for sent in [
        b"GET / HTTP/1.1\r\nhost: /\r\n\r\n".to_vec(),
        // A header block that another frame interrupts.
        connection(&[frame(1, 0, &[0x41]), frame(0, 0, b"/"), frame(9, 4, &string(b"/"))]),
        // A continuation of nothing.
        connection(&[frame(9, 4, &indexed(b"/"))]),
        // More padding than payload.
        connection(&[frame(1, 0xc, &[200, 0x41, 1, b'/'])]),
        // An integer without end.
        connection(&[frame(1, 4, &[0x41, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0, b'/'])]),
    ] {
        assert_eq!(followed(&sent), sent);
    }
}

/// Some header block that is HPACK, with a legal authority.
fn legal_block() -> impl Strategy<Value = Vec<u8>> {
    let field =
        prop_oneof![
            (1_usize..200).prop_map(|index| integer(0x80, 0x7f, index)),
            (0_usize..5000).prop_map(|size| integer(0x20, 0x1f, size)),
            ("[a-z-]{0,12}", proptest::collection::vec(any::<u8>(), 0..300))
                .prop_map(|(name, value)| literal(&name, &value)),
            (2_usize..200, proptest::collection::vec(any::<u8>(), 0..40))
                .prop_map(|(index, value)| [integer(0x10, 0x0f, index), string(&value)].concat()),
            "[a-z0-9][a-z0-9.-]{0,20}(:[0-9]{1,5})?".prop_map(|host| indexed(host.as_bytes())),
        ];
    proptest::collection::vec(field, 0..8).prop_map(|fields| fields.concat())
}

proptest! {
    #[test]
    fn no_bytes_upset_it(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..400),
        blocks in proptest::collection::vec(
            (any::<u8>(), proptest::collection::vec(any::<u8>(), 0..60)), 0..6),
    ) {
        let length = bytes.len();
        Authority::new().follow(&mut bytes);
        prop_assert_eq!(bytes.len(), length);
        let frames: Vec<_> = blocks.iter().map(|(flags, block)| frame(1, *flags, block)).collect();
        let mut sent = connection(&frames);
        Authority::new().follow(&mut sent);
    }

    #[test]
    fn legal_traffic_is_untouched(
        blocks in proptest::collection::vec((legal_block(), any::<prop::sample::Index>()), 1..5),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..5),
    ) {
        let mut frames = Vec::new();
        for (block, cut) in &blocks {
            let (head, tail) = block.split_at(cut.index(block.len() + 1));
            frames.push(frame(1, 0, head));
            frames.push(frame(9, 4, tail));
            frames.push(frame(0, 1, b"/%/"));
        }
        let sent = connection(&frames);
        let mut got = sent.clone();
        let mut authority = Authority::new();
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(sent.len())).collect();
        cuts.sort_unstable();
        cuts.push(sent.len());
        let mut from = 0;
        for cut in cuts {
            authority.follow(&mut got[from..cut]);
            from = cut;
        }
        prop_assert_eq!(got, sent);
    }
}
