//! What is written is read back equal, and what is wrong is named with its line.

use proptest::prelude::*;

use super::{Document, Writer, check_name, holds_one, read};
use crate::agents::context_manager::item::Draft;
use crate::proto::opdbus::agent::context_manager::v1::{Format, Role};

const WHOLE: [Format; 3] = [Format::JsonLines, Format::Json, Format::Markdown];

fn write(format: Format, documents: &[Document]) -> String {
    let mut writer = Writer::new(format);
    let mut text = writer.beginning().to_owned();
    for document in documents {
        text += &writer.write(document).unwrap();
    }
    text + writer.end()
}

fn documents() -> Vec<Document> {
    let texts = [
        "plain",
        "two\n\nparagraphs\n",
        "\n\nblank lines around\n\n\n",
        "## user\n<!-- item {} -->\nlooks like an item",
        "\\<!-- context [] -->\r\n# name",
        "quotes \" and --> arrows > and \u{1f600}",
        "```rust\nlet x = 1;\n```",
    ];
    let roles = [Role::System, Role::User, Role::Assistant, Role::Tool, Role::Unspecified];
    let items = texts.iter().zip(roles.iter().cycle()).enumerate();
    let items = items.map(|(index, (text, role))| Draft {
        role: *role,
        text: (*text).to_owned(),
        created_at: (index > 0).then_some(1_767_225_600_123_456),
        pinned: index % 2 == 0,
        source: if index == 3 { "cat --> file".into() } else { String::new() },
        importance: (index > 2).then_some(0.25),
        shortened: index == 4,
    });
    let name = "release plan / 1".to_owned();
    let first = Document { name, tags: vec!["a".into(), "b>c".into()], items: items.collect() };
    let empty = Document { name: "empty".into(), tags: Vec::new(), items: Vec::new() };
    vec![first, empty]
}

#[test]
fn what_is_written_is_read_back_equal() {
    for format in WHOLE {
        let text = write(format, &documents());
        assert_eq!(read(format, &text, "").unwrap(), documents(), "{format:?}:\n{text}");
    }
}

#[test]
fn messages_keep_roles_and_texts() {
    let documents = documents();
    let text = write(Format::Openai, &documents[..1]);
    let back = read(Format::Openai, &text, "other").unwrap();
    assert_eq!(back[0].name, "other");
    for (item, back) in documents[0].items.iter().zip(&back[0].items) {
        let role = if item.role == Role::Unspecified { Role::User } else { item.role };
        assert_eq!((role, &item.text), (back.role, &back.text));
    }
}

#[test]
fn messages_of_other_programs_are_read() {
    let text = r#"[
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": null, "tool_calls": [{"id": "1"}], "refusal": null},
        {"role": "tool", "content": "done", "tool_call_id": "1", "name": "ls"}
    ]"#;
    let items = &read(Format::Openai, text, "chat").unwrap()[0].items;
    let texts: Vec<&str> = items.iter().map(|item| item.text.as_str()).collect();
    assert_eq!(texts, ["be brief", "a\nb", r#"[{"id":"1"}]"#, "done"]);
    assert_eq!(items[0].role, Role::System);
    assert_eq!(items[3].source, "ls");
}

#[test]
fn a_request_to_anthropic_has_blocks_that_become_items() {
    let text = write(Format::Anthropic, &documents()[..1]);
    let items = &read(Format::Anthropic, &text, "chat").unwrap()[0].items;
    let kept: Vec<(Role, &str)> = items.iter().map(|item| (item.role, &*item.text)).collect();
    let written = &documents()[0].items;
    let (system, said): (Vec<_>, Vec<_>) =
        written.iter().partition(|item| item.role == Role::System);
    let system: Vec<&str> = system.iter().map(|item| &*item.text).collect();
    let mut expected = vec![(Role::System, system.join("\n\n"))];
    expected.extend(said.into_iter().map(|item| {
        let role = if item.role == Role::Assistant { Role::Assistant } else { Role::User };
        (role, item.text.clone())
    }));
    assert_eq!(kept, expected.iter().map(|(role, text)| (*role, &**text)).collect::<Vec<_>>());

    let text = r#"{"model": "any", "system": [{"type": "text", "text": "be brief"}], "messages": [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": [{"type": "text", "text": "b"}, {"type": "tool_use", "id": "1"}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "done"}]}
    ]}"#;
    let items = &read(Format::Anthropic, text, "chat").unwrap()[0].items;
    let said: Vec<(Role, &str)> = items.iter().map(|item| (item.role, &*item.text)).collect();
    let call = r#"{"type":"tool_use","id":"1"}"#;
    assert_eq!(
        said,
        [
            (Role::System, "be brief"),
            (Role::User, "a"),
            (Role::Assistant, "b"),
            (Role::Assistant, call),
            (Role::Tool, "done")
        ]
    );
}

#[test]
fn errors_name_the_line() {
    let context = r#"{"context":{"name":"a"}}"#;
    let item = r#"{"item":{"text":"x"}}"#;
    let wrong = [
        (Format::JsonLines, format!("{item}\n"), "1"),
        (Format::JsonLines, format!("{context}\n{item}\n\n{{\"item\":{{\"text\":\"\"}}}}\n"), "4"),
        (
            Format::JsonLines,
            format!("{context}\n{{\"item\":{{\"text\":\"x\",\"colour\":1}}}}"),
            "2",
        ),
        (Format::JsonLines, format!("{context}\nnot json\n"), "2"),
        (Format::JsonLines, "{\"context\":{\"name\":\"\"}}".into(), "1"),
        (
            Format::Json,
            "{\"contexts\":[\n{\"name\":\"a\",\"items\":[\n{\"text\":\"x\"},\n\
             {\"text\":\"y\",\"role\":\"pope\"}]}]}"
                .into(),
            "4",
        ),
        (Format::Markdown, "# a\n\ntext\n".into(), "1"),
        (
            Format::Markdown,
            "# a\n<!-- context [] -->\n\n## pope\n<!-- item {} -->\n\nx\n".into(),
            "4",
        ),
        (
            Format::Markdown,
            "# a\n<!-- context [] -->\n\n## user\n<!-- item {x} -->\n\nx\n".into(),
            "5",
        ),
        (
            Format::Openai,
            "[\n{\"role\":\"user\",\"content\":\"a\"},\n{\"role\":\"user\"}]".into(),
            "3",
        ),
        (
            Format::Openai,
            "[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]".into(),
            "1",
        ),
        (
            Format::Anthropic,
            "{\"messages\":[\n{\"role\":\"user\",\"content\":[{\"type\":\"image\"}]}]}".into(),
            "2",
        ),
        (Format::Anthropic, "{\n\"system\":7,\n\"messages\":[]}".into(), "2"),
    ];
    for (format, text, line) in wrong {
        let name = if holds_one(format) { "a" } else { "" };
        let error = read(format, &text, name).expect_err(&text);
        assert_eq!(error.fact("line"), Some(line), "{text}\n{error}");
        assert!(error.message().starts_with(&format!("data: line {line}: ")), "{error}");
    }
}

#[test]
fn names_stand_in_one_place() {
    for (format, name) in [(Format::Openai, ""), (Format::Anthropic, ""), (Format::Json, "a")] {
        assert_eq!(check_name(format, name).unwrap_err().fact("field"), Some("name"));
    }
}

proptest! {
    #[test]
    fn any_text_survives_every_format(
        texts in prop::collection::vec(
            "(\\PC|[\n\r\\\\]|## user\n|<!-- item |# a\n<!-- context \\[\\] -->\n){1,40}",
            0..5,
        ),
    ) {
        let items = texts.into_iter().map(Draft::of_text).collect();
        let documents = vec![Document { name: "a".into(), tags: Vec::new(), items }];
        for format in WHOLE {
            let text = write(format, &documents);
            prop_assert_eq!(&read(format, &text, "").unwrap(), &documents, "{}", text);
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "(\\PC|[\n{}\"\\[\\]:]|# a\n|## user\n|<!-- item \\{\\} -->\n){0,60}") {
        for format in WHOLE {
            if let Err(error) = read(format, &text, "") {
                prop_assert!(error.fact("line").is_some(), "{}", error);
            }
        }
    }
}
