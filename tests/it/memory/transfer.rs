//! Export and Import: what is stored leaves as text and comes back the same.

use op_dbus::error::{Error, ErrorKind};
use op_dbus::proto::opdbus::agent::memory::v1::{
    ExportRequest, ExportResponse, ImportConflict, ImportOptions, ImportRequest, ImportResponse,
};
use serde_json::{Value, json};

use super::User;

async fn export(user: &User, request: ExportRequest) -> String {
    let pieces: Vec<ExportResponse> = user.replies("Export", request).await.unwrap();
    assert!(pieces.iter().all(|piece| (1..=65_536).contains(&piece.data.len())));
    String::from_utf8(pieces.into_iter().flat_map(|piece| piece.data).collect()).unwrap()
}

/// The text in pieces of `size` bytes.
fn pieces(text: &[u8], size: usize, options: ImportOptions) -> Vec<ImportRequest> {
    let mut options = Some(options);
    text.chunks(size)
        .map(|piece| ImportRequest { data: piece.to_vec().into(), options: options.take() })
        .collect()
}

async fn import(user: &User, text: &str, options: ImportOptions) -> Result<ImportResponse, Error> {
    user.send("Import", pieces(text.as_bytes(), 4096, options), None).await
}

fn counts(answer: &ImportResponse) -> (u64, u64, u64) {
    (answer.imported, answer.skipped, answer.failed)
}

#[tokio::test]
async fn what_was_exported_comes_back_the_same_however_it_is_cut() {
    let user = User::new();
    let values = [
        json!("Grüße, 世界\n\"quoted\"\u{1}"),
        json!([1, -0.5, 9_007_199_254_740_992_i64, 0.1, 1e300, 5e-324, 0.30000000000000004]),
        json!({"a": {"b": [null, true]}, "": ""}),
        json!(null),
        json!(123_456_789.123_456_78),
    ];
    for (number, value) in values.iter().enumerate() {
        let key = format!("ключ {number}");
        user.ok("Remember", json!({"key": key, "value": value, "tags": ["t", "ü"]})).await;
    }
    user.ok("Remember", json!({"key": "k", "value": 1, "namespace": "other", "ttl": "900s"})).await;
    user.ok("Remember", json!({"key": "over", "value": 1, "ttl": "0.01s"})).await;
    user.gone("over").await;
    let text = export(&user, ExportRequest::default()).await;
    assert_eq!(text.lines().count(), 6);
    let first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(first["value"], values[0]);
    for (uid, size) in [(1, 1), (2, 7), (3, 1 << 20)] {
        let other = User { uid, ..user.clone() };
        let requests = pieces(text.as_bytes(), size, ImportOptions::default());
        let answer: ImportResponse = other.send("Import", requests, None).await.unwrap();
        assert_eq!(counts(&answer), (6, 0, 0), "{answer:?}");
        let again = export(&other, ExportRequest::default()).await;
        let without_version = |text: &str| -> Vec<Value> {
            let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
            lines
                .map(|mut line: Value| {
                    line["version"].take();
                    line
                })
                .collect()
        };
        assert_eq!(without_version(&again), without_version(&text), "in pieces of {size}");
    }
    let chosen = ExportRequest { namespaces: vec!["other".into()], ..ExportRequest::default() };
    assert_eq!(export(&user, chosen).await.lines().count(), 1);
    let chosen = ExportRequest { pattern: "*[02]".into(), ..ExportRequest::default() };
    assert_eq!(export(&user, chosen).await.lines().count(), 2);
    let chosen = ExportRequest { tags: vec!["ü".into()], ..ExportRequest::default() };
    assert_eq!(export(&user, chosen).await.lines().count(), 5);
}

#[tokio::test]
async fn a_key_that_exists_stays_changes_or_is_refused() {
    let user = User::new();
    user.remember("a", json!("old")).await;
    let text = "{\"key\": \"a\", \"value\": \"new\"}\n\n{\"key\": \"b\", \"value\": 1}";
    let with = |on_conflict: ImportConflict| ImportOptions {
        on_conflict: on_conflict.into(),
        ..ImportOptions::default()
    };
    let dry = ImportOptions { dry_run: true, ..with(ImportConflict::Overwrite) };
    assert_eq!(counts(&import(&user, text, dry).await.unwrap()), (2, 0, 0));
    assert_eq!(user.value("b").await, None);
    let strict = ImportOptions { atomic: true, ..with(ImportConflict::Fail) };
    let error = import(&user, text, strict).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.fact("line")),
        (ErrorKind::AlreadyExists, Some("line 1")),
        "{error}"
    );
    assert_eq!(user.value("b").await, None);
    let skip = import(&user, text, with(ImportConflict::Skip)).await.unwrap();
    assert_eq!(counts(&skip), (1, 1, 0));
    assert_eq!(user.value("a").await, Some(json!("old")));
    let fail = import(&user, text, with(ImportConflict::Fail)).await.unwrap();
    assert_eq!(counts(&fail), (0, 0, 2));
    assert_eq!((fail.errors[1].number, &*fail.errors[1].reason), (3, "ALREADY_EXISTS"));
    let over = import(&user, text, with(ImportConflict::Overwrite)).await.unwrap();
    assert_eq!(counts(&over), (2, 0, 0));
    assert_eq!(user.value("a").await, Some(json!("new")));
}

#[tokio::test]
async fn lines_that_are_wrong_are_named() {
    let user = User::new();
    let long = format!("{{\"key\": \"k\", \"value\": \"{}\"}}", "x".repeat(2 << 20));
    let deep = format!("{{\"key\": \"k\", \"value\": {}1{}}}", "[".repeat(16), "]".repeat(16));
    let lines = [
        "{\"key\": \"good\", \"value\": 1}",
        "not json",
        "{\"key\": \"k\"}",
        "{\"key\": \"\", \"value\": 1}",
        "{\"key\": \"k\", \"value\": 9007199254740993}",
        "{\"key\": \"k\", \"value\": 1, \"kye\": 2}",
        "{\"key\": \"k\", \"value\": 1, \"expires_at\": \"tomorrow\"}",
        &deep,
        &long,
        "{\"key\": \"over\", \"value\": 1, \"expires_at\": \"2001-01-01T00:00:00Z\"}",
        "{\"key\": \"also good\", \"value\": 1}",
    ];
    let text = lines.join("\n");
    let answer = import(&user, &text, ImportOptions::default()).await.unwrap();
    assert_eq!(counts(&answer), (2, 1, 8), "{answer:?}");
    let numbers: Vec<u64> = answer.errors.iter().map(|error| error.number).collect();
    assert_eq!(numbers, (2..=9).collect::<Vec<u64>>());
    assert!(answer.errors[7].message.contains("line 9 has more than"), "{answer:?}");
    let bad = [b"{\"key\": \"k\", \"value\": \"\xff\"}\n".as_slice(), b"{\"key\": "].concat();
    let requests = pieces(&bad, 5, ImportOptions::default());
    let answer: ImportResponse = user.send("Import", requests, None).await.unwrap();
    assert_eq!(counts(&answer), (0, 0, 2), "{answer:?}");

    let atomic = ImportOptions { atomic: true, ..ImportOptions::default() };
    let error = import(&user.other(), &text, atomic).await.unwrap_err();
    assert_eq!(error.fact("line"), Some("line 2"), "{error}");
    assert_eq!(user.other().keys(json!({})).await, Vec::<String>::new());
    let mut twice = pieces(b"\n\n", 1, ImportOptions::default());
    twice[1].options = Some(ImportOptions::default());
    let error = user.send::<ImportResponse>("Import", twice, None).await.unwrap_err();
    assert_eq!(error.fact("field"), Some("options"));
}

#[tokio::test]
async fn a_text_that_breaks_off_leaves_whole_batches_or_nothing() {
    let user = User::new();
    let lines: Vec<String> =
        (0..300).map(|number| format!("{{\"key\": \"k{number}\", \"value\": 1}}\n")).collect();
    let text = lines.concat();
    let gone = || Some(Error::new(ErrorKind::Cancelled, "the client went away"));
    let requests = pieces(text.as_bytes(), 100, ImportOptions::default());
    let error = user.send::<ImportResponse>("Import", requests, gone()).await.unwrap_err();
    assert_eq!((error.kind(), user.gauge("keys")), (ErrorKind::Cancelled, 256));
    let atomic = ImportOptions { atomic: true, ..ImportOptions::default() };
    let requests = pieces(text.as_bytes(), 100, atomic);
    let error = user.other().send::<ImportResponse>("Import", requests, gone()).await.unwrap_err();
    assert_eq!((error.kind(), user.gauge("keys")), (ErrorKind::Cancelled, 256));
}

#[tokio::test]
async fn stats_count_what_is_stored() {
    let user = User::new();
    let empty = user.ok("Stats", json!({})).await;
    assert_eq!((&empty["keys"], &empty["revision"]), (&json!("0"), &json!("0")));
    user.remember("a", json!("x")).await;
    user.remember("a", json!("y")).await;
    user.ok("Remember", json!({"key": "b", "value": 1, "namespace": "n"})).await;
    let stats = user.ok("Stats", json!({})).await;
    assert_eq!((&stats["keys"], &stats["revision"]), (&json!("2"), &json!("3")));
    assert_eq!(stats["bytes"], json!(user.gauge("bytes").to_string()));
    assert_ne!(stats["history_bytes"], json!("0"));
    let names: Vec<&Value> =
        stats["namespaces"].as_array().unwrap().iter().map(|n| &n["namespace"]).collect();
    assert_eq!(names, [&json!("default"), &json!("n")]);
    assert_eq!(stats["max_keys"], json!("100000"));
}
