//! The introspection XML of an agent's typed interface, with the documentation as annotations.

use prost_reflect::{FieldDescriptor, MessageDescriptor};

use super::dbus::{Argument, MESSAGES};
use super::docs::Docs;
use super::service::{Operation, Service, is_required};

/// The options of calls that become tasks.
const TASK_OPTIONS: &str = "Of the call: handle-token (s), session-id (s), on-disconnect (s), \
    output-fd (h), output-format (s), deadline-ms (u), traceparent (s).";

/// The further ones of calls with a stream of requests.
const INPUT_OPTIONS: &str = " In place of messages: input-fd (h), input-format (s).";

/// The interface element of a service, indented by two, for an object's introspection document.
/// `is_deprecated`: which operations should no longer be called there; if none should, nor the interface.
#[must_use]
pub fn interface_xml(service: &Service, is_deprecated: impl Fn(&Operation) -> bool) -> String {
    let mut xml = format!("  <interface name=\"{}\">\n", service.interface);
    push_doc(&mut xml, 4, &service.docs);
    let on_bus = || service.operations.iter().filter(|operation| operation.is_on_bus());
    if on_bus().all(|operation| is_deprecated(operation)) {
        push_deprecated(&mut xml, 4);
    }
    for operation in on_bus() {
        xml.push_str(&method_xml(operation, is_deprecated(operation)));
    }
    xml.push_str("  </interface>\n");
    xml
}

/// The method element of an operation; `is_deprecated`: it should no longer be called there.
#[must_use]
pub fn method_xml(operation: &Operation, is_deprecated: bool) -> String {
    let mut xml = format!("    <method name=\"{}\">\n", operation.name);
    push_doc(&mut xml, 6, &operation.docs);
    if is_deprecated {
        push_deprecated(&mut xml, 6);
    }
    let shape = &operation.shape;
    let input_docs = Docs::of(&operation.input.parent_file());
    if shape.takes_messages {
        let docs = fields_docs(&operation.input, &input_docs, |_| true);
        let docs = format!("The requests, in order. Each has:\n{docs}");
        push_plain(&mut xml, "messages", MESSAGES, "in", &docs);
    }
    for argument in &shape.inputs {
        push_argument(&mut xml, argument, "in", &input_docs);
    }
    let mut docs = String::new();
    if !shape.takes_messages {
        docs = fields_docs(&operation.input, &input_docs, |field| !is_required(field));
    }
    if shape.gives_task {
        if !docs.is_empty() {
            docs.push('\n');
        }
        docs.push_str(TASK_OPTIONS);
    }
    if shape.takes_messages {
        docs.push_str(INPUT_OPTIONS);
    }
    push_plain(&mut xml, "options", "a{sv}", "in", &docs);
    let output_docs = Docs::of(&operation.output.parent_file());
    if shape.gives_task {
        let docs = fields_docs(&operation.output, &output_docs, |_| true);
        let docs = format!("The task that the call has become. Each of its messages has:\n{docs}");
        push_plain(&mut xml, "task", "o", "out", &docs);
    }
    for argument in &shape.outputs {
        push_argument(&mut xml, argument, "out", &output_docs);
    }
    if shape.has_extra {
        let docs = match shape.gives_task {
            true => "Empty.".to_owned(),
            false => fields_docs(&operation.output, &output_docs, |field| !is_required(field)),
        };
        push_plain(&mut xml, "extra", "a{sv}", "out", &docs);
    }
    xml.push_str("    </method>\n");
    xml
}

fn push_argument(xml: &mut String, argument: &Argument, direction: &str, docs: &Docs) {
    let field = &argument.field;
    push_plain(xml, field.name(), &argument.signature, direction, docs.at(field.path()));
}

fn push_plain(xml: &mut String, name: &str, signature: &str, direction: &str, docs: &str) {
    xml.push_str(&format!(
        "      <arg name=\"{name}\" type=\"{signature}\" direction=\"{direction}\">\n"
    ));
    push_doc(xml, 8, docs);
    xml.push_str("      </arg>\n");
}

/// One line for each field that is meant: name, type, documentation.
fn fields_docs(
    message: &MessageDescriptor,
    docs: &Docs,
    is_meant: impl Fn(&FieldDescriptor) -> bool,
) -> String {
    let mut fields: Vec<_> = message.fields().filter(is_meant).collect();
    fields.sort_by_key(FieldDescriptor::number);
    let lines: Vec<String> = fields
        .iter()
        .map(|field| {
            let text = docs.at(field.path()).replace('\n', " ");
            format!("{} ({}): {text}", field.name(), super::dbus::signature(field))
        })
        .collect();
    lines.join("\n")
}

/// Adds the documentation annotation that GDBus tools show and all others ignore.
fn push_doc(xml: &mut String, indent: usize, text: &str) {
    if !text.is_empty() {
        xml.push_str(&format!(
            "{:indent$}<annotation name=\"org.gtk.GDBus.DocString\" value=\"{}\"/>\n",
            "",
            escape(text)
        ));
    }
}

/// Adds the annotation of what should no longer be called.
pub fn push_deprecated(xml: &mut String, indent: usize) {
    xml.push_str(&format!(
        "{:indent$}<annotation name=\"org.freedesktop.DBus.Deprecated\" value=\"true\"/>\n",
        ""
    ));
}

/// Escapes a text for an XML attribute; line breaks survive as character references.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\n', "&#10;")
}
