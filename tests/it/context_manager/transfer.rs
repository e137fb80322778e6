//! Export and Import: contexts as text, and back, in pieces.

use bytes::Bytes;
use op_dbus::error::{Error, ErrorKind};
use op_dbus::proto::opdbus::agent::context_manager::v1::*;

use super::{Client, check, load, says, texts, user};

fn export(format: Format, names: &[&str]) -> ExportRequest {
    let names = names.iter().map(|name| (*name).into()).collect();
    ExportRequest { names, format: format.into(), ..ExportRequest::default() }
}

fn import(format: Format) -> ImportRequest {
    ImportRequest { format: format.into(), ..ImportRequest::default() }
}

fn piece(text: &str) -> ImportRequest {
    ImportRequest { data: Bytes::copy_from_slice(text.as_bytes()), ..ImportRequest::default() }
}

#[tokio::test]
async fn what_is_exported_can_be_imported_in_pieces_of_any_size() {
    for format in [Format::JsonLines, Format::Json, Format::Markdown] {
        let client = Client::new();
        let mut items = user(&["one\ntwo", "# heading", "drei \u{1f600} für vier"]);
        items.push(NewItem { pinned: true, importance: Some(1.0), ..says(Role::Tool, "out") });
        client.save("a", items).await;
        client.save("b", user(&["other"])).await;
        let (text, last) = client.export(export(format, &[])).await.unwrap();
        assert_eq!((last.contexts, last.items), (2, 5));
        let mut other = client.other();
        for size in [1, 7, 64 * 1024] {
            let done = other.import(import(format), &text, size).await.unwrap();
            assert_eq!(done.contexts.len(), 2);
            assert!(done.contexts.iter().all(|context| context.created));
            assert_eq!(other.load("a").await.items, client.load("a").await.items);
            assert_eq!(other.export(export(format, &[])).await.unwrap().0, text);
            assert_eq!(other.versions("a").await.versions[0].cause(), Cause::Import);
            other = other.other();
        }
    }
}

#[tokio::test]
async fn a_long_text_comes_in_several_pieces() {
    let client = Client::new();
    let long: Vec<String> = (0..8).map(|number| format!("{number}é").repeat(10_000)).collect();
    let long: Vec<&str> = long.iter().map(String::as_str).collect();
    client.save("a", user(&long)).await;
    client.save("b", user(&long)).await;
    let operation = ("context_manager", "Export");
    let request = export(Format::JsonLines, &[]);
    let replies: Vec<ExportResponse> =
        client.service.stream(operation, client.context(), [Ok(request)]).await.unwrap();
    let (last, others) = replies.split_last().unwrap();
    assert!(others.len() >= 7, "{} pieces", replies.len());
    assert!(others.iter().all(|piece| piece.data.len() == 64 * 1024));
    assert!(last.data.len() <= 64 * 1024);
    assert!(others[1..].iter().all(|piece| piece.media_type.is_empty() && piece.contexts == 0));
}

#[tokio::test]
async fn an_import_is_all_or_nothing() {
    let client = Client::new();
    client.save("b", user(&["old"])).await;
    let good = "{\"context\":{\"name\":\"a\"}}\n{\"item\":{\"text\":\"x\"}}\n";
    let bad = format!("{good}{{\"context\":{{\"name\":\"c\"}}}}\n{{\"item\":{{}}}}\n");
    let lines = import(Format::JsonLines);
    let error = client.import(lines.clone(), &bad, 9).await.unwrap_err();
    check(&error, ErrorKind::InvalidArgument, "line 4");
    assert_eq!(error.fact("line"), Some("4"));
    client.refused("Load", load("a"), ErrorKind::NotFound, "name").await;

    let taken =
        format!("{good}{{\"context\":{{\"name\":\"b\"}}}}\n{{\"item\":{{\"text\":\"new\"}}}}\n");
    let error = client.import(lines.clone(), &taken, 9).await.unwrap_err();
    check(&error, ErrorKind::AlreadyExists, "replace");
    client.refused("Load", load("a"), ErrorKind::NotFound, "name").await;
    let replace = ImportRequest { replace: true, ..lines.clone() };
    let done = client.import(replace, &taken, 9).await.unwrap();
    assert_eq!(done.contexts.iter().map(|c| c.created).collect::<Vec<_>>(), [true, false]);
    assert_eq!(texts(&client.load("b").await.items), ["new"]);
    assert_eq!(client.versions("b").await.versions.len(), 2);

    for (text, names) in [("", "data"), (&*good.repeat(2), "twice")] {
        let error = client.import(lines.clone(), text, 9).await.unwrap_err();
        check(&error, ErrorKind::InvalidArgument, names);
    }
    let unknown = ImportRequest { format: 9, ..ImportRequest::default() };
    let error = client.import(unknown, "{}", 9).await.unwrap_err();
    check(&error, ErrorKind::InvalidArgument, "format");
    let error = client.import_pieces(Vec::new()).await.unwrap_err();
    check(&error, ErrorKind::InvalidArgument, "data");
}

#[tokio::test]
async fn a_stream_that_breaks_or_is_cut_off_leaves_nothing() {
    let client = Client::new();
    let text = "{\"context\":{\"name\":\"a\"}}\n{\"item\":{\"text\":\"x\"}}\n";
    let gone = Err(Error::new(ErrorKind::Cancelled, "the client went away"));
    let error = client.import_pieces(vec![Ok(piece(text)), gone]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    client.refused("Load", load("a"), ErrorKind::NotFound, "name").await;

    // The text is whole up to here, only the size tells that there was more.
    let size = |size| ImportRequest { size_bytes: Some(size), ..piece(text) };
    for wrong in [size(1000), size(3)] {
        let error = client.import_pieces(vec![Ok(wrong)]).await.unwrap_err();
        check(&error, ErrorKind::InvalidArgument, "size_bytes");
    }
    let error = client.import_pieces(vec![Ok(size(1 << 40))]).await.unwrap_err();
    check(&error, ErrorKind::LimitExceeded, "size_bytes");
    assert_eq!(error.fact("limit"), Some("context_manager.max_import_bytes"));
    client.refused("Load", load("a"), ErrorKind::NotFound, "name").await;
    client.import_pieces(vec![Ok(size(text.len() as u64))]).await.unwrap();
    assert_eq!(texts(&client.load("a").await.items), ["x"]);
}

#[tokio::test]
async fn a_text_is_bounded_and_says_once_what_it_is() {
    let client = Client::new();
    let mega = piece(&" ".repeat(1 << 20));
    let error = client.import_pieces(vec![Ok(mega); 17]).await.unwrap_err();
    check(&error, ErrorKind::LimitExceeded, "data");
    assert_eq!(error.fact("limit"), Some("context_manager.max_import_bytes"));

    let again = [
        ImportRequest { format: Format::Json.into(), ..ImportRequest::default() },
        ImportRequest { name: "x".into(), ..ImportRequest::default() },
        ImportRequest { replace: true, ..ImportRequest::default() },
        ImportRequest { scope: Scope::User.into(), ..ImportRequest::default() },
        ImportRequest { size_bytes: Some(0), ..ImportRequest::default() },
    ];
    for (second, field) in again.into_iter().zip(["format", "name", "replace", "scope", "size"]) {
        let error = client.import_pieces(vec![Ok(piece("")), Ok(second)]).await.unwrap_err();
        check(&error, ErrorKind::InvalidArgument, field);
    }
    let broken = ImportRequest { data: Bytes::from_static(&[0xff]), ..ImportRequest::default() };
    let error = client.import_pieces(vec![Ok(broken)]).await.unwrap_err();
    check(&error, ErrorKind::InvalidArgument, "data");
}

#[tokio::test]
async fn a_user_imports_one_text_at_a_time() {
    let client = Client::new();
    let route = client.service.executor.find("context_manager", "Import").unwrap();
    let (sender, received) = op_dbus::contract::RawRequests::bounded(1);
    let input = op_dbus::executor::Input::Many(received);
    let task = client.service.executor.start(&route, client.context(), input).await.unwrap();
    let first = || Ok(Bytes::from(prost::Message::encode_to_vec(&piece(" "))));
    // The second is taken from the queue only after the first one was begun with.
    for _ in 0..3 {
        sender.send(first()).await.unwrap();
    }
    let text = "{\"context\":{\"name\":\"a\"}}\n";
    let error = client.import(import(Format::JsonLines), text, 9).await.unwrap_err();
    check(&error, ErrorKind::LimitExceeded, "another");
    client.other().import(import(Format::JsonLines), text, 9).await.unwrap();
    let mut reader = task.read(op_dbus::task::Reading::default()).unwrap();
    task.cancel();
    while reader.next().await.is_some() {}
    client.import(import(Format::JsonLines), text, 9).await.unwrap();
}

#[tokio::test]
async fn chat_messages_become_a_context() {
    let client = Client::new();
    let data = r#"[{"role":"system","content":"be kind"},{"role":"user","content":"hello"}]"#;
    let request = ImportRequest { name: "chat".into(), ..import(Format::Openai) };
    client.import(request, data, 5).await.unwrap();
    let items = client.load("chat").await.items;
    assert_eq!(texts(&items), ["be kind", "hello"]);
    assert_eq!(items[0].role(), Role::System);
    let (out, _) = client.export(export(Format::Openai, &["chat"])).await.unwrap();
    let (out, data): (serde_json::Value, serde_json::Value) =
        (serde_json::from_str(&out).unwrap(), serde_json::from_str(data).unwrap());
    assert_eq!(out, data);

    let (out, _) = client.export(export(Format::Anthropic, &["chat"])).await.unwrap();
    let out: serde_json::Value = serde_json::from_str(&out).unwrap();
    let hello = serde_json::json!([{"type": "text", "text": "hello"}]);
    let messages = serde_json::json!([{"role": "user", "content": hello}]);
    assert_eq!(out, serde_json::json!({"system": "be kind", "messages": messages}));
    let request = ImportRequest { name: "again".into(), ..import(Format::Anthropic) };
    client.import(request, &out.to_string(), 5).await.unwrap();
    assert_eq!(texts(&client.load("again").await.items), ["be kind", "hello"]);

    let error = client.export(export(Format::Openai, &["none"])).await.unwrap_err();
    check(&error, ErrorKind::NotFound, "none");
    for format in [Format::Openai, Format::Anthropic] {
        let error = client.export(export(format, &[])).await.unwrap_err();
        check(&error, ErrorKind::InvalidArgument, "names");
        let nameless = client.import(import(format), "[]", 5).await.unwrap_err();
        check(&nameless, ErrorKind::InvalidArgument, "name");
    }
}
