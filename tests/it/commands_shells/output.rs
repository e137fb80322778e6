//! What texts print: while they run, in the background, and more than anybody wants.

use std::time::Duration;

use op_dbus::proto::opdbus::agent::commands::v1::{Limits, Run};

use super::{POSIX, World, finish};
use crate::process::PATIENCE;

#[tokio::test]
async fn output_comes_while_the_text_runs() {
    let world = World::new().await;
    for (kind, text) in [
        ("sh", "printf one; while [ ! -e go ]; do sleep 0.02; done; printf two; rm go"),
        (
            "python3",
            "import os, time\nprint('one', end='')\nwhile not os.path.exists('go'): time.sleep(0.02)\n\
             print('two', end='')",
        ),
    ] {
        let shell = world.open(kind).await;
        let mut replies = world.begin(&shell, text, None).await.unwrap();
        let first = replies.message().await.unwrap().unwrap().chunk.unwrap();
        assert_eq!(first.data.as_ref(), b"one", "{kind}");
        std::fs::write(world.folder.path().join("go"), "").unwrap();
        let ran = tokio::time::timeout(PATIENCE, finish(&mut replies)).await.unwrap().unwrap();
        assert_eq!(ran.ok(), "two", "{kind}");
    }
}

/// The end of a text does not wait for what runs on in the background, even if that holds the output
/// open and goes on printing; what it prints comes with the next text.
#[tokio::test]
async fn the_background_does_not_hold_up_a_text() {
    let world = World::new().await;
    for kind in POSIX {
        let shell = world.open(kind).await;
        let ran = world.run(&shell, "sleep 1000 & echo started").await;
        assert_eq!(ran.ok(), "started\n", "{kind}");
        world
            .run(&shell, "(while [ ! -e go ]; do sleep 0.02; done; echo late; rm go) &")
            .await
            .ok();
        std::fs::write(world.folder.path().join("go"), "").unwrap();
        let ran = world.run(&shell, "while [ -e go ]; do sleep 0.02; done; echo next").await;
        assert_eq!(ran.ok(), "late\nnext\n", "{kind}");
        // One that never stops printing.
        world.run(&shell, "yes & sleep 0.1").await;
        let ran = world.run(&shell, "kill $!; wait $!; echo done").await;
        assert!(ran.stdout.ends_with("done\n"), "{kind}: {:?}", ran.done);
        assert_eq!(world.run(&shell, "echo on").await.ok(), "on\n", "{kind}");
        world.close(&shell).await.unwrap();
    }
}

#[tokio::test]
async fn much_output_comes_whole_and_no_faster_than_it_is_read() {
    const BYTES: usize = 8 << 20;
    let world = World::new().await;
    let shell = world.open("bash").await;
    let text = format!("head -c {BYTES} /dev/zero | tr '\\0' 'a'; touch done; echo");
    let mut replies = world.begin(&shell, &text, None).await.unwrap();
    let first = replies.message().await.unwrap().unwrap().chunk.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!world.folder.path().join("done").exists(), "nobody has read it yet");
    let ran = tokio::time::timeout(PATIENCE, finish(&mut replies)).await.unwrap().unwrap();
    assert_eq!(first.data.len() + ran.stdout.len(), BYTES + 1);
    assert!(world.folder.path().join("done").exists());
    // The places of the next text's output follow.
    let mut replies = world.begin(&shell, "echo next", None).await.unwrap();
    let chunk = replies.message().await.unwrap().unwrap().chunk.unwrap();
    assert_eq!(chunk.offset, BYTES as u64 + 1);
}

#[tokio::test]
async fn the_limit_of_the_output_ends_the_shell_and_is_named() {
    let world = World::new().await;
    for kind in ["sh", "bash", "python3"] {
        let limits = Limits { output_bytes: 10_000, ..Limits::default() };
        let mut request = world.request(kind);
        request.run = Some(Run { limits: Some(limits), ..Run::default() });
        let shell = world.open_as(request).await.unwrap();
        let text = match kind {
            "python3" => "while True: print('x')",
            _ => "while :; do echo x; done",
        };
        let ran = world.run(&shell, text).await;
        assert!(ran.done.shell_ended && !ran.done.timed_out, "{kind}: {ran:?}");
        let ended = ran.done.ended.unwrap();
        assert_eq!((&*ended.limit, &*ended.limit_value), ("limits.output_bytes", "10000 bytes"));
        assert!((9_000..=10_000).contains(&ran.stdout.len()), "{kind}: {}", ran.stdout.len());
        assert!(world.list().await.is_empty());
    }
}

#[tokio::test]
async fn a_text_that_closes_its_output_still_has_an_end() {
    let world = World::new().await;
    for kind in POSIX {
        let shell = world.open(kind).await;
        assert_eq!(world.run(&shell, "exec >&- 2>&-").await.ok(), "", "{kind}");
        assert_eq!(world.run(&shell, "sleep 0.2; cd /usr").await.done.directory, "/usr", "{kind}");
        let ran = world.run(&shell, "exit 4").await;
        assert!(ran.done.shell_ended && ran.done.code == 4, "{kind}: {ran:?}");
    }
}
