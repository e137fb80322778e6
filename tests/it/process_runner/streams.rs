//! What programs read and write: chunks, limits, input, terminals.

use std::fs;
use std::time::{Duration, Instant};

use op_dbus::error::ErrorKind;
use op_dbus::process::{Exit, Keep, Limit, Running, Stdio, Stream, WindowSize};

use super::Place;

/// Reads until the output so far holds `wanted`.
async fn read_until(running: &mut Running, wanted: &str) -> String {
    let mut text = String::new();
    while !text.contains(wanted) {
        let next = tokio::time::timeout(crate::process::PATIENCE, running.next()).await;
        let chunk = next.unwrap_or_else(|_| panic!("{wanted:?} is missing in {text:?}")).unwrap();
        text.push_str(&chunk.unwrap_or_else(|| panic!("the end after {text:?}")).text());
    }
    text
}

#[tokio::test]
async fn output_and_errors_come_apart_and_with_the_exit_code() {
    let place = Place::new();
    let finished = place.run(place.script("echo out; echo err >&2; exit 3", &[])).await;
    assert_eq!(finished.stdout.text(), "out\n");
    assert_eq!(finished.stderr.text(), "err\n");
    assert_eq!(finished.ended.exit, Exit::Code(3));
    assert!(!finished.is_success());
    assert_eq!(finished.ended.limit, None);
    assert!(finished.ended.usage.memory_max_bytes > 0);
    place.assert_nothing_is_left();
}

#[tokio::test]
async fn chunks_carry_offsets_and_whole_characters() {
    let place = Place::new();
    let script = r"printf 'a\342\202'; sleep 0.2; printf '\254b'; sleep 0.2; printf '\377\342'";
    let mut running = place.runner.start(place.script(script, &[])).await.unwrap();
    let (mut bytes, mut texts) = (Vec::new(), Vec::new());
    while let Some(chunk) = running.next().await.unwrap() {
        assert_eq!((chunk.stream, chunk.offset), (Stream::Stdout, bytes.len() as u64));
        texts.push(chunk.text().into_owned());
        bytes.extend_from_slice(&chunk.bytes);
    }
    assert_eq!(bytes, b"a\xe2\x82\xacb\xff\xe2");
    assert_eq!(texts.concat(), "a€b\u{fffd}\u{fffd}");
    assert_eq!(texts[0], "a");
}

#[tokio::test]
async fn a_gigabyte_is_counted_and_its_ends_are_kept() {
    let place = Place::new();
    let script = "printf begin; head -c 1073741824 /dev/zero; printf end";
    let running = place.runner.start(place.script(script, &[])).await.unwrap();
    let keep = Keep { head_bytes: 1000, tail_bytes: 500 };
    let finished = running.finish(keep).await.unwrap();
    assert!(finished.is_success(), "{finished:?}");
    assert_eq!(finished.stdout.total(), (1 << 30) + 8);
    assert_eq!((finished.stdout.head().len(), finished.stdout.tail().len()), (1000, 500));
    assert_eq!(finished.stdout.left_out(), (1 << 30) + 8 - 1500);
    assert!(finished.stdout.head().starts_with(b"begin"));
    assert!(finished.stdout.tail().ends_with(b"end"));
}

#[tokio::test]
async fn a_program_that_nobody_reads_waits() {
    let place = Place::new();
    // It writes less at a time than a pipe holds; only what is written whole is counted.
    let running = place.runner.start(place.spec(["yes"])).await.unwrap();
    let written = || -> u64 {
        let io = fs::read_to_string(format!("/proc/{}/io", running.pid())).unwrap();
        io.lines().find_map(|line| line.strip_prefix("wchar: ")).unwrap().parse().unwrap()
    };
    let deadline = Instant::now() + crate::process::PATIENCE;
    while written() == 0 {
        assert!(Instant::now() < deadline, "nothing was written");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(written() <= 4 << 20, "{} bytes were written", written());
    drop(running);
    place.wait_until_nothing_is_left();
}

#[tokio::test]
async fn the_limit_on_output_ends_the_program_and_gives_what_fits() {
    let place = Place::new();
    let mut spec = place.spec(["cat", "/dev/zero"]);
    spec.limits.output_bytes = Some(1_000_000);
    let finished = place.run(spec).await;
    assert_eq!(finished.ended.limit, Some(Limit::Output));
    assert_eq!(finished.stdout.total(), 1_000_000);
    let error = finished.within_limits().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    assert_eq!(error.fact("limit"), Some("limits.output_bytes"));
    assert_eq!(error.fact("limit_value"), Some("1000000"));
    place.assert_nothing_is_left();
}

#[tokio::test]
async fn without_input_a_program_reads_the_end() {
    let place = Place::new();
    let finished = place.run(place.spec(["cat"])).await;
    assert!(finished.is_success());
    assert_eq!(finished.stdout.total(), 0);
}

#[tokio::test]
async fn input_is_written_and_closed() {
    let place = Place::new();
    let mut spec = place.spec(["cat"]);
    spec.stdio = Stdio::Piped;
    let mut running = place.runner.start(spec).await.unwrap();
    let mut input = running.take_input().unwrap();
    // More than pipes hold, so that it has to wait for the program, which waits for its reader.
    let written = tokio::spawn(async move {
        input.write_all(&vec![b'x'; 3_000_000]).await?;
        input.close().await
    });
    let finished = running.finish(Keep::default()).await.unwrap();
    written.await.unwrap().unwrap();
    assert_eq!(finished.stdout.total(), 3_000_000);
    assert!(finished.is_success());
}

#[tokio::test]
async fn input_that_the_program_has_closed_is_refused() {
    let place = Place::new();
    let mut spec = place.script("exec 0<&-; echo closed; sleep 60", &[]);
    spec.stdio = Stdio::Piped;
    let mut running = place.runner.start(spec).await.unwrap();
    let mut input = running.take_input().unwrap();
    read_until(&mut running, "closed").await;
    let error = input.write_all(b"x").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn a_terminal_has_a_size_that_changes() {
    let place = Place::new();
    let script = "stty size; tty; echo on the terminal > /dev/tty; read line; stty size; echo bye";
    let mut spec = place.script(script, &[]);
    spec.stdio = Stdio::Terminal(WindowSize { rows: 24, columns: 80 });
    let mut running = place.runner.start(spec).await.unwrap();
    let before = read_until(&mut running, "on the terminal").await;
    assert!(before.contains("24 80") && before.contains("/dev/pts/"), "{before}");
    running.handle().resize(WindowSize { rows: 50, columns: 120 }).unwrap();
    running.take_input().unwrap().write_all(b"\n").await.unwrap();
    let after = read_until(&mut running, "bye").await;
    assert!(after.contains("50 120"), "{after}");
    assert_eq!(running.wait().await.unwrap().exit, Exit::Code(0));
    assert_eq!(running.handle().stop().unwrap_err().kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn a_terminal_turns_control_characters_into_signals_and_ends() {
    let place = Place::new();
    let mut spec = place.script("echo ready; cat; exec sleep 60", &[]);
    spec.stdio = Stdio::Terminal(WindowSize { rows: 24, columns: 80 });
    let mut running = place.runner.start(spec).await.unwrap();
    let mut input = running.take_input().unwrap();
    read_until(&mut running, "ready").await;
    input.write_all(b"typed\n").await.unwrap();
    read_until(&mut running, "typed\r\ntyped\r\n").await;
    // Control-C.
    input.write_all(&[3]).await.unwrap();
    let finished = running.finish(Keep::default()).await.unwrap();
    assert_eq!(finished.ended.exit, Exit::Signal(2));
}

#[tokio::test]
async fn what_has_no_terminal_cannot_be_resized() {
    let place = Place::new();
    let running = place.runner.start(place.spec(["sleep", "60"])).await.unwrap();
    let error = running.handle().resize(WindowSize { rows: 1, columns: 1 }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
}
