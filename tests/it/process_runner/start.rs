//! What is needed to start a program: finding it, its folder, its environment, its descriptors.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use op_dbus::error::ErrorKind;
use op_dbus::process::{DESCRIPTORS_MAX, Directory, Exit, Keep, Spec, Stdio};

use super::Place;
use crate::process::PATIENCE;

async fn refusal(place: &Place, spec: Spec) -> (ErrorKind, String) {
    let error = place.runner.start(spec).await.unwrap_err();
    (error.kind(), error.message().to_owned())
}

#[tokio::test]
async fn a_program_is_found_by_name_by_path_and_beneath_its_folder() {
    let place = Place::new();
    let tool = place.work().join("tool");
    fs::write(&tool, "#!/bin/sh\necho tool\n").unwrap();
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
    symlink("/bin/true", place.work().join("outside")).unwrap();
    for (name, found) in
        [("true", "/usr/bin/true"), ("/bin/true", "/bin/true"), ("./tool", "./tool")]
    {
        let running = place.runner.start(place.spec([name])).await.unwrap();
        assert_eq!(running.program(), Path::new(found));
        assert!(running.finish(Keep::default()).await.unwrap().is_success(), "{name}");
    }
    for name in ["no-such-program", "/no/such", "../work/tool", "./outside", "/etc/passwd", "tool"]
    {
        assert_eq!(
            refusal(&place, place.spec([name])).await.0,
            ErrorKind::BackendMissing,
            "{name}"
        );
    }
    let nothing: [&str; 0] = [];
    assert_eq!(refusal(&place, place.spec(nothing)).await.0, ErrorKind::InvalidArgument);
    assert_eq!(refusal(&place, place.spec(["true", "a\0b"])).await.0, ErrorKind::InvalidArgument);
    let (kind, text) = refusal(&place, place.spec(["true", &"x".repeat(1 << 20)])).await;
    assert_eq!(kind, ErrorKind::LimitExceeded);
    assert!(text.contains("process.arguments_bytes is 1048576"), "{text}");
    place.assert_nothing_is_left();
}

#[tokio::test]
async fn what_cannot_be_executed_is_an_error_of_the_start() {
    let place = Place::new();
    for (name, content, kind) in [
        ("empty", "", ErrorKind::InvalidArgument),
        ("lost", "#!/no/such/interpreter\n", ErrorKind::AccessDenied),
    ] {
        let path = place.work().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let (found, text) = refusal(&place, place.spec([path])).await;
        // Confined, a file that is not there is not even looked for.
        let is_expected = found == kind || (name == "lost" && found == ErrorKind::BackendMissing);
        assert!(is_expected, "{name}: {found:?}: {text}");
    }
    place.wait_until_nothing_is_left();
}

#[tokio::test]
async fn a_folder_beneath_a_root_cannot_lead_out_of_it() {
    let place = Place::new();
    fs::create_dir(place.work().join("inner")).unwrap();
    symlink("/tmp", place.work().join("link")).unwrap();
    let spec = |path: &str| {
        let root = File::open(place.work()).unwrap();
        Spec::new(["pwd", "-P"], Directory::Beneath(root.into(), path.into()))
    };
    let at =
        |path: &str| format!("{}\n", place.work().canonicalize().unwrap().join(path).display());
    assert_eq!(place.run(spec("inner")).await.stdout.text(), at("inner"));
    assert_eq!(place.run(spec("")).await.stdout.text().trim_end(), at("").trim_end_matches("/\n"));
    for path in ["..", "link", "inner/../..", "/tmp"] {
        assert_eq!(refusal(&place, spec(path)).await.0, ErrorKind::PathOutsideRoot, "{path}");
    }
    assert_eq!(refusal(&place, spec("nowhere")).await.0, ErrorKind::NotFound);
    let relative = Spec::new(["true"], "tmp");
    assert_eq!(refusal(&place, relative).await.0, ErrorKind::InvalidArgument);
}

#[tokio::test]
async fn the_environment_is_built_up_from_nothing() {
    let place = Place::new();
    let finished = place.run(place.spec(["env"])).await;
    let text = finished.stdout.text();
    let names: BTreeSet<_> = text.lines().filter_map(|line| line.split('=').next()).collect();
    let ours = BTreeSet::from(["HOME", "NO_COLOR", "OPDBUS_TEST_PLACE", "PATH", "TERM", "TMPDIR"]);
    let passed_on: BTreeSet<_> = op_dbus::process::environment::PASSED_ON.iter().copied().collect();
    assert!(names.is_superset(&ours), "{text}");
    assert!(names.difference(&ours).all(|name| passed_on.contains(name)), "{text}");
}

#[tokio::test]
async fn secrets_and_what_loads_code_are_refused() {
    let place = Place::new();
    for name in [
        "GITHUB_TOKEN",
        "client_secret",
        "DB_PASSWORD",
        "OPENAI_API_KEY",
        "AWS_PROFILE",
        "LD_PRELOAD",
        "DBUS_SESSION_BUS_ADDRESS",
        "BASH_ENV",
        "NOTIFY_SOCKET",
        "SSH_AUTH_SOCK",
        "",
        "A=B",
        "OPDBUS_TEST_PLACE",
    ] {
        let mut spec = place.spec(["true"]);
        spec.environment.push((name.into(), OsString::from("hidden value")));
        let (kind, text) = refusal(&place, spec).await;
        assert_eq!(kind, ErrorKind::InvalidArgument, "{name}");
        assert!(text.starts_with("environment") && !text.contains("hidden"), "{text}");
    }
}

#[tokio::test]
async fn a_program_gets_three_descriptors() {
    let place = Place::new();
    // One that would be inherited: it does not close by itself on execution.
    let leak = rustix::io::dup(File::open("/etc/passwd").unwrap()).unwrap();
    let finished = place.run(place.spec(["ls", "/proc/self/fd"])).await;
    drop(leak);
    // The fourth is the folder that ls reads.
    assert_eq!(finished.stdout.text(), "0\n1\n2\n3\n");
}

/// A fork copies the page tables: with this heap it takes some ten milliseconds more.
#[tokio::test]
async fn starting_does_not_depend_on_the_memory_of_the_parent() {
    const HEAP: usize = 1 << 30;
    let place = Place::new();
    let before = least_time(&place).await;
    let heap = vec![1_u8; HEAP];
    let with_heap = least_time(&place).await;
    assert_eq!(
        heap.iter().step_by(4096).map(|byte| usize::from(*byte)).sum::<usize>(),
        HEAP / 4096
    );
    eprintln!("start to end of true: {before:?}, with a heap of 1 GiB {with_heap:?}");
    assert!(with_heap < before * 2 + Duration::from_millis(4), "{before:?}, {with_heap:?}");
}

async fn least_time(place: &Place) -> Duration {
    let mut least = Duration::MAX;
    for _ in 0..20 {
        let started = Instant::now();
        place.run(place.spec(["/bin/true"])).await;
        least = least.min(started.elapsed());
    }
    least
}

#[tokio::test]
async fn many_programs_run_at_once_and_keep_apart() {
    let place = std::sync::Arc::new(Place::new());
    let mut all = tokio::task::JoinSet::new();
    for number in 0..32 {
        let place = std::sync::Arc::clone(&place);
        all.spawn(async move {
            let script = "echo $1 > $TMPDIR/number; sleep 0.1; cat $TMPDIR/number; exit $1";
            let finished = place.run(place.script(script, &[&number.to_string()])).await;
            assert_eq!(finished.stdout.text(), format!("{number}\n"));
            assert_eq!(finished.ended.exit, Exit::Code(number));
        });
    }
    while let Some(outcome) = all.join_next().await {
        outcome.unwrap();
    }
    place.assert_nothing_is_left();
}

/// A program gets the descriptors that it is given, with the numbers that follow the standard streams,
/// and no other.
#[tokio::test]
async fn further_descriptors_are_there_and_no_other() {
    let place = Place::new();
    let (reader, writer) = std::io::pipe().unwrap();
    let text = File::open(place.beside("text", "from a file\n")).unwrap();
    let mut spec = place.script("read line <&4; echo \"$line\" >&3; ls /proc/self/fd; ls >&5", &[]);
    spec.descriptors = vec![writer.into(), text.into()];
    let finished = place.run(spec).await;
    // Besides these, `ls` has the folder that it lists open.
    assert_eq!(finished.stdout.text(), "0\n1\n2\n3\n4\n5\n", "{}", finished.stderr.text());
    assert!(!finished.is_success(), "descriptor 5 is open");
    // The pipe is at its end when the program has ended: nobody else holds it.
    assert_eq!(std::io::read_to_string(reader).unwrap(), "from a file\n");

    let mut spec = place.spec(["true"]);
    let null = || File::open("/dev/null").unwrap().into();
    spec.descriptors = (0..=DESCRIPTORS_MAX).map(|_| null()).collect();
    let error = place.runner.start(spec).await.unwrap_err();
    assert_eq!(error.fact("limit"), Some("process.descriptors"), "{error}");
}

/// What was printed before a moment is told apart from what comes later, also if it ends within a
/// character.
#[tokio::test]
async fn output_is_read_up_to_a_mark() {
    let place = Place::new();
    let mut spec =
        place.script("printf 'a\\303'; echo err >&2; read x; printf '\\251b'; read x", &[]);
    spec.stdio = Stdio::Piped;
    let mut running = place.runner.start(spec).await.unwrap();
    let mut input = running.take_input().unwrap();
    let mut read = Vec::new();
    while read.len() < 6 {
        let mark = running.mark().unwrap();
        while let Some(chunk) = running.next_before(mark).unwrap() {
            read.extend_from_slice(&chunk.bytes);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(read, b"a\xc3err\n".as_slice());
    input.write_all(b"\n").await.unwrap();
    let chunk = running.next().await.unwrap().unwrap();
    assert_eq!((chunk.offset, chunk.bytes.as_ref()), (2, b"\xa9b".as_slice()));
    input.close().await.unwrap();
    let ended = tokio::time::timeout(PATIENCE, running.wait()).await.unwrap().unwrap();
    assert_eq!(ended.exit, Exit::Code(1));
}
