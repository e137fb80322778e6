//! The introspection XML of an agent's typed interface, with the documentation as annotations.

use super::dbus::Argument;
use super::docs::Docs;
use super::service::{Operation, Service};

/// The interface element of a service, indented by two, for an object's introspection document.
#[must_use]
pub fn interface_xml(service: &Service) -> String {
    let mut xml = format!("  <interface name=\"{}\">\n", service.interface);
    push_doc(&mut xml, 4, &service.docs);
    // A method of today must not bear a signature that the stream of tomorrow will not have.
    let unary = service.operations.iter().filter(|o| !o.client_streaming && !o.server_streaming);
    for operation in unary {
        xml.push_str(&method_xml(operation));
    }
    xml.push_str("  </interface>\n");
    xml
}

/// The method element of an operation.
#[must_use]
pub fn method_xml(operation: &Operation) -> String {
    let mut xml = format!("    <method name=\"{}\">\n", operation.name);
    push_doc(&mut xml, 6, &operation.docs);
    let input_docs = Docs::of(&operation.input.parent_file());
    for argument in &operation.shape.inputs {
        push_argument(&mut xml, argument, "in", &input_docs);
    }
    push_trailing(&mut xml, "options", "in", &optional_docs(&operation.input, &input_docs));
    let output_docs = Docs::of(&operation.output.parent_file());
    for argument in &operation.shape.outputs {
        push_argument(&mut xml, argument, "out", &output_docs);
    }
    if operation.shape.has_extra {
        push_trailing(&mut xml, "extra", "out", &optional_docs(&operation.output, &output_docs));
    }
    xml.push_str("    </method>\n");
    xml
}

fn push_argument(xml: &mut String, argument: &Argument, direction: &str, docs: &Docs) {
    xml.push_str(&format!(
        "      <arg name=\"{}\" type=\"{}\" direction=\"{direction}\">\n",
        argument.field.name(),
        argument.signature
    ));
    push_doc(xml, 8, docs.at(argument.field.path()));
    xml.push_str("      </arg>\n");
}

fn push_trailing(xml: &mut String, name: &str, direction: &str, docs: &str) {
    xml.push_str(&format!(
        "      <arg name=\"{name}\" type=\"a{{sv}}\" direction=\"{direction}\">\n"
    ));
    push_doc(xml, 8, docs);
    xml.push_str("      </arg>\n");
}

/// One line for each field that travels in the trailing dictionary: name, type, documentation.
fn optional_docs(message: &prost_reflect::MessageDescriptor, docs: &Docs) -> String {
    let mut fields: Vec<_> =
        message.fields().filter(|field| !super::service::is_required(field)).collect();
    fields.sort_by_key(prost_reflect::FieldDescriptor::number);
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

/// Escapes a text for an XML attribute; line breaks survive as character references.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\n', "&#10;")
}
