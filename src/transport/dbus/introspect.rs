//! Introspection documents, for the objects that are served and for the files in `dbus/interfaces`.
//! The elements of typed interfaces come from the contract.

use super::objects::{AGENT_INTERFACE, Object};
use super::properties::{self, Property};
use super::text;
use crate::contract::{Service, interface_xml};

const DOCTYPE: &str = r#"<!DOCTYPE node PUBLIC "-//freedesktop//DTD D-BUS Object Introspection 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd">
"#;

const STANDARD: &str = r#"  <interface name="org.freedesktop.DBus.Peer">
    <method name="Ping"/>
    <method name="GetMachineId">
      <arg name="machine_uuid" type="s" direction="out"/>
    </method>
  </interface>
  <interface name="org.freedesktop.DBus.Introspectable">
    <method name="Introspect">
      <arg name="xml_data" type="s" direction="out"/>
    </method>
  </interface>
  <interface name="org.freedesktop.DBus.Properties">
    <method name="Get">
      <arg name="interface_name" type="s" direction="in"/>
      <arg name="property_name" type="s" direction="in"/>
      <arg name="value" type="v" direction="out"/>
    </method>
    <method name="GetAll">
      <arg name="interface_name" type="s" direction="in"/>
      <arg name="props" type="a{sv}" direction="out"/>
    </method>
    <method name="Set">
      <arg name="interface_name" type="s" direction="in"/>
      <arg name="property_name" type="s" direction="in"/>
      <arg name="value" type="v" direction="in"/>
    </method>
  </interface>
"#;

/// The agents are there from the start of the service to its end, so no signals are declared.
const OBJECT_MANAGER: &str = r#"  <interface name="org.freedesktop.DBus.ObjectManager">
    <method name="GetManagedObjects">
      <arg name="object_paths_interfaces_and_properties" type="a{oa{sa{sv}}}" direction="out"/>
    </method>
  </interface>
"#;

const CALL_JSON: &str = r#"    <method name="CallJson">
      <annotation name="org.gtk.GDBus.DocString" value="Calls an operation of the agent with its request as JSON and gives the response as JSON, both in protobuf's canonical mapping."/>
      <arg name="operation" type="s" direction="in">
        <annotation name="org.gtk.GDBus.DocString" value="The operation, as BulkRecall or bulk_recall."/>
      </arg>
      <arg name="arguments" type="s" direction="in">
        <annotation name="org.gtk.GDBus.DocString" value="The request as a JSON object; an empty text is an empty object."/>
      </arg>
      <arg name="options" type="a{sv}" direction="in">
        <annotation name="org.gtk.GDBus.DocString" value="request-id (s), deadline-ms (u) and traceparent (s)."/>
      </arg>
      <arg name="result" type="s" direction="out">
        <annotation name="org.gtk.GDBus.DocString" value="The response as a JSON object."/>
      </arg>
    </method>
"#;

/// The introspection document with the typed interface of a service, as its file in
/// `dbus/interfaces` holds it.
#[must_use]
pub fn interface_document(service: &Service) -> String {
    format!("{DOCTYPE}<node>\n{}</node>\n", typed_interface(service))
}

/// The introspection document with `org.opdbus.Agent1`, which every agent has.
#[must_use]
pub fn agent_interface_document() -> String {
    format!("{DOCTYPE}<node>\n{}</node>\n", agent_interface())
}

/// The introspection document of an object.
pub(super) fn object(object: &Object) -> String {
    let mut xml = format!("{DOCTYPE}<node>\n");
    for served in &object.services {
        xml.push_str(&typed_interface(&served.service));
    }
    if object.agent().is_some() {
        xml.push_str(&agent_interface());
    }
    xml.push_str(STANDARD);
    if object.is_manager() {
        xml.push_str(OBJECT_MANAGER);
    }
    for child in &object.children {
        xml.push_str(&format!("  <node name=\"{child}\"/>\n"));
    }
    xml.push_str("</node>\n");
    text::shown(&xml).into_owned()
}

fn typed_interface(service: &Service) -> String {
    const END: &str = "  </interface>\n";
    let mut xml = interface_xml(service);
    let properties = properties::of_service(service);
    if let Some(open) = xml.strip_suffix(END).map(str::len) {
        xml.truncate(open);
        push_properties(&mut xml, properties);
        xml.push_str(END);
    }
    xml
}

fn agent_interface() -> String {
    let mut xml = format!(
        "  <interface name=\"{AGENT_INTERFACE}\">\n    <annotation name=\"org.gtk.GDBus.DocString\" value=\"What every agent has, whatever its operations are.\"/>\n{CALL_JSON}"
    );
    push_properties(&mut xml, properties::AGENT);
    xml.push_str("  </interface>\n");
    xml
}

fn push_properties(xml: &mut String, properties: &[Property]) {
    for Property { name, signature, docs } in properties {
        xml.push_str(&format!(
            r#"    <property name="{name}" type="{signature}" access="read">
      <annotation name="org.freedesktop.DBus.Property.EmitsChangedSignal" value="const"/>
      <annotation name="org.gtk.GDBus.DocString" value="{docs}"/>
    </property>
"#
        ));
    }
}
