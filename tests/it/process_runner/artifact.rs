//! All output in a file: its pieces, its bounds, and that it has no name.

use std::fs;
use std::sync::Arc;

use bytes::Bytes;
use op_dbus::error::ErrorKind;
use op_dbus::process::{ArtifactWriter, Bounds, Full, Space};

use super::Place;

fn own(own: u64) -> Bounds {
    Bounds { own, together: u64::MAX }
}

#[tokio::test]
async fn all_output_is_kept_and_read_in_pieces() {
    let place = Place::new();
    let mut running = place.runner.start(place.spec(["seq", "200000"])).await.unwrap();
    let folder = place.folder.path();
    let mut writer = ArtifactWriter::new(folder, own(10 << 20), Arc::default()).unwrap();
    let artifact = writer.artifact();
    let expected: String = (1..=200_000).map(|number| format!("{number}\n")).collect();
    while let Some(chunk) = running.next().await.unwrap() {
        let (begin, end) = (chunk.offset, chunk.offset + chunk.bytes.len() as u64);
        writer.push(chunk.bytes).unwrap();
        // At once, whether it is written or not, and across both.
        let from = begin.saturating_sub(100_000);
        let read = artifact.read(from, 1 << 20).await.unwrap();
        let [begin, end] = [from, end].map(|offset| usize::try_from(offset).unwrap());
        assert!(expected.as_bytes()[begin..end] == read, "{begin} to {end}");
        writer.keep_up().await.unwrap();
    }
    writer.flush().await.unwrap();
    assert_eq!(artifact.len(), expected.len() as u64);
    let mut read = Vec::new();
    loop {
        let piece = artifact.read(read.len() as u64, 77_777).await.unwrap();
        if piece.is_empty() {
            break;
        }
        read.extend_from_slice(&piece);
    }
    assert_eq!(read, expected.as_bytes());
    assert_eq!(
        artifact.read(1_000_000, 5).await.unwrap(),
        expected.as_bytes()[1_000_000..1_000_005]
    );
    assert!(artifact.read(u64::MAX, 5).await.unwrap().is_empty());
    // It has no name, so nobody finds it and nothing of it stays.
    let names: Vec<_> = fs::read_dir(folder).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[tokio::test]
async fn the_bound_that_is_met_is_named() {
    let place = Place::new();
    let space = Arc::new(Space::default());
    let bounds = Bounds { own: 1_000_000, together: 1_500_000 };
    let writer = || ArtifactWriter::new(place.folder.path(), bounds, Arc::clone(&space)).unwrap();
    let piece = || Bytes::from(vec![b'x'; 300_000]);
    let mut first = writer();
    for _ in 0..3 {
        first.push(piece()).unwrap();
    }
    assert_eq!(first.push(piece()), Err(Full::Own));
    first.flush().await.unwrap();
    let end = first.artifact().read(999_999, 10).await.unwrap();
    assert_eq!(
        (&end[..], first.artifact().len(), space.taken()),
        (&b"x"[..], 1_000_000, 1_000_000)
    );

    let mut second = writer();
    second.push(piece()).unwrap();
    assert_eq!(second.push(piece()), Err(Full::Together));
    assert_eq!((second.artifact().len(), space.taken()), (500_000, 1_500_000));
    drop(first);
    assert_eq!(space.taken(), 500_000, "who lets go gives back");
}

#[tokio::test]
async fn where_no_file_can_be_there_is_no_artifact() {
    let error = ArtifactWriter::new("/proc".as_ref(), own(1), Arc::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BackendUnavailable);
}
