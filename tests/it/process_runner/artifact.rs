//! All output in a file: its pieces, its bound, and that it has no name.

use std::fs;

use bytes::Bytes;
use op_dbus::error::ErrorKind;
use op_dbus::process::ArtifactWriter;

use super::Place;

#[tokio::test]
async fn all_output_is_kept_and_read_in_pieces() {
    let place = Place::new();
    let mut running = place.runner.start(place.spec(["seq", "200000"])).await.unwrap();
    let folder = place.folder.path();
    let mut writer = ArtifactWriter::new(folder, 10 << 20).unwrap();
    let artifact = writer.artifact();
    while let Some(chunk) = running.next().await.unwrap() {
        writer.push(chunk.bytes).await.unwrap();
    }
    writer.flush().await.unwrap();
    let expected: String = (1..=200_000).map(|number| format!("{number}\n")).collect();
    assert_eq!((artifact.len(), writer.left_out()), (expected.len() as u64, 0));
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
async fn what_is_beyond_the_bound_is_counted() {
    let place = Place::new();
    let mut writer = ArtifactWriter::new(place.folder.path(), 1_000_000).unwrap();
    for _ in 0..4 {
        writer.push(Bytes::from(vec![b'x'; 300_000])).await.unwrap();
    }
    writer.push(Bytes::from_static(b"y")).await.unwrap();
    writer.flush().await.unwrap();
    assert_eq!((writer.artifact().len(), writer.left_out()), (1_000_000, 200_001));
    let end = writer.artifact().read(999_999, 10).await.unwrap();
    assert_eq!(&end[..], b"x");
}

#[tokio::test]
async fn where_no_file_can_be_there_is_no_artifact() {
    let error = ArtifactWriter::new("/proc".as_ref(), 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BackendUnavailable);
}
