//! Export and Import: contexts as text, and back.

use op_dbus::error::ErrorKind;
use op_dbus::proto::opdbus::agent::context_manager::v1::*;

use super::{Client, load, says, texts, user};

fn export(format: Format, names: &[&str]) -> ExportRequest {
    let names = names.iter().map(|name| (*name).into()).collect();
    ExportRequest { names, format: format.into() }
}

fn import(format: Format, data: &str) -> ImportRequest {
    ImportRequest { data: data.into(), format: format.into(), ..ImportRequest::default() }
}

#[tokio::test]
async fn what_is_exported_can_be_imported() {
    for format in [Format::JsonLines, Format::Json, Format::Markdown] {
        let client = Client::new();
        let mut items = user(&["one\ntwo", "# heading", "three"]);
        items.push(NewItem { pinned: true, importance: Some(1.0), ..says(Role::Tool, "out") });
        client.save("a", items).await;
        client.save("b", user(&["other"])).await;
        let out: ExportResponse = client.call("Export", export(format, &[])).await.unwrap();
        assert_eq!((out.contexts, out.items), (2, 5));
        assert!(!out.media_type.is_empty());
        let other = client.other();
        let done: ImportResponse = other.call("Import", import(format, &out.data)).await.unwrap();
        assert_eq!(done.contexts.len(), 2);
        assert!(done.contexts.iter().all(|context| context.created));
        assert_eq!(other.load("a").await.items, client.load("a").await.items);
        let again: ExportResponse = other.call("Export", export(format, &[])).await.unwrap();
        assert_eq!(again.data, out.data);
        assert_eq!(other.versions("a").await.versions[0].cause(), Cause::Import);
    }
}

#[tokio::test]
async fn an_import_is_all_or_nothing() {
    let client = Client::new();
    client.save("b", user(&["old"])).await;
    let good = "{\"context\":{\"name\":\"a\"}}\n{\"item\":{\"text\":\"x\"}}\n";
    let bad = format!("{good}{{\"context\":{{\"name\":\"c\"}}}}\n{{\"item\":{{}}}}\n");
    let request = import(Format::JsonLines, &bad);
    let error = client.refused("Import", request, ErrorKind::InvalidArgument, "line 4").await;
    assert_eq!(error.fact("line"), Some("4"));
    client.refused("Load", load("a"), ErrorKind::NotFound, "name").await;

    let taken =
        format!("{good}{{\"context\":{{\"name\":\"b\"}}}}\n{{\"item\":{{\"text\":\"new\"}}}}\n");
    let request = import(Format::JsonLines, &taken);
    client.refused("Import", request.clone(), ErrorKind::AlreadyExists, "replace").await;
    client.refused("Load", load("a"), ErrorKind::NotFound, "name").await;
    let request = ImportRequest { replace: true, ..request };
    let done: ImportResponse = client.call("Import", request).await.unwrap();
    assert_eq!(done.contexts.iter().map(|c| c.created).collect::<Vec<_>>(), [true, false]);
    assert_eq!(texts(&client.load("b").await.items), ["new"]);
    assert_eq!(client.versions("b").await.versions.len(), 2);

    for (data, names) in [("", "data"), (&*good.repeat(2), "twice")] {
        let request = import(Format::JsonLines, data);
        client.refused("Import", request, ErrorKind::InvalidArgument, names).await;
    }
    let wrong = ImportRequest { format: 9, ..import(Format::Json, "{}") };
    client.refused("Import", wrong, ErrorKind::InvalidArgument, "format").await;
}

#[tokio::test]
async fn chat_messages_become_a_context() {
    let client = Client::new();
    let data = r#"[{"role":"system","content":"be kind"},{"role":"user","content":"hello"}]"#;
    let request = ImportRequest { name: "chat".into(), ..import(Format::Openai, data) };
    client.call::<ImportResponse>("Import", request).await.unwrap();
    let items = client.load("chat").await.items;
    assert_eq!(texts(&items), ["be kind", "hello"]);
    assert_eq!(items[0].role(), Role::System);
    let out: ExportResponse =
        client.call("Export", export(Format::Openai, &["chat"])).await.unwrap();
    let (out, data): (serde_json::Value, serde_json::Value) =
        (serde_json::from_str(&out.data).unwrap(), serde_json::from_str(data).unwrap());
    assert_eq!(out, data);
    let missing = export(Format::Openai, &["none"]);
    client.refused("Export", missing, ErrorKind::NotFound, "none").await;
}
