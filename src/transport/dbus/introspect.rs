//! Introspection documents, for the objects that are served and for the files in `dbus/interfaces`.
//! The elements of typed interfaces come from the contract.

use super::objects::{AGENT_INTERFACE, Object};
use super::properties::{self, Property};
use super::session::SESSION_INTERFACE;
use super::task::TASK_INTERFACE;
use super::{legacy, text};
use crate::contract::{Operation, Service, interface_xml, push_deprecated};

const DOCTYPE: &str = r#"<!DOCTYPE node PUBLIC "-//freedesktop//DTD D-BUS Object Introspection 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd">
"#;

const INTERFACE_END: &str = "  </interface>\n";

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
    <signal name="PropertiesChanged">
      <arg name="interface_name" type="s"/>
      <arg name="changed_properties" type="a{sv}"/>
      <arg name="invalidated_properties" type="as"/>
    </signal>
  </interface>
"#;

const OBJECT_MANAGER: &str = r#"  <interface name="org.freedesktop.DBus.ObjectManager">
    <method name="GetManagedObjects">
      <arg name="object_paths_interfaces_and_properties" type="a{oa{sa{sv}}}" direction="out"/>
    </method>
    <signal name="InterfacesAdded">
      <arg name="object_path" type="o"/>
      <arg name="interfaces_and_properties" type="a{sa{sv}}"/>
    </signal>
    <signal name="InterfacesRemoved">
      <arg name="object_path" type="o"/>
      <arg name="interfaces" type="as"/>
    </signal>
  </interface>
"#;

const SESSION_MEMBERS: &str = include_str!("session_members.xml");

const TASK_MEMBERS: &str = include_str!("task_members.xml");

const AGENT_MEMBERS: &str = r#"    <annotation name="org.gtk.GDBus.DocString" value="What every agent has, whatever its operations are."/>
    <method name="CallJson">
      <annotation name="org.gtk.GDBus.DocString" value="Calls an operation of the agent with its request as JSON and gives the response as JSON, both in protobuf's canonical mapping."/>
      <arg name="operation" type="s" direction="in">
        <annotation name="org.gtk.GDBus.DocString" value="The operation, as BulkRecall or bulk_recall."/>
      </arg>
      <arg name="arguments" type="s" direction="in">
        <annotation name="org.gtk.GDBus.DocString" value="The request as a JSON object; an empty text is an empty object."/>
      </arg>
      <arg name="options" type="a{sv}" direction="in">
        <annotation name="org.gtk.GDBus.DocString" value="request-id (s), deadline-ms (u), traceparent (s), session-id (s), client-name (s) and detach (b). With detach the call becomes a task and the reply is its path (o) in place of the text; then there are handle-token (s), on-disconnect (s), output-fd (h) and output-format (s) too."/>
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
    format!("{DOCTYPE}<node>\n{}</node>\n", typed_interface(service, |_| false))
}

/// The introspection document with `org.opdbus.Agent1`, which every agent has.
#[must_use]
pub fn agent_interface_document() -> String {
    format!("{DOCTYPE}<node>\n{}</node>\n", agent_interface())
}

/// The introspection document with `org.dbusmcp.Agent`, which every older agent has.
#[must_use]
pub fn legacy_interface_document() -> String {
    let [(name, members), _] = legacy::interfaces("");
    format!("{DOCTYPE}<node>\n{}</node>\n", own_interface(name, members, &[]))
}

/// The introspection document with `org.opdbus.Task1`, which every task has.
#[must_use]
pub fn task_interface_document() -> String {
    format!("{DOCTYPE}<node>\n{}</node>\n", task_interface())
}

/// The introspection document with `org.opdbus.Session1`, which every session has.
#[must_use]
pub fn session_interface_document() -> String {
    format!("{DOCTYPE}<node>\n{}</node>\n", session_interface())
}

/// The introspection document of a task.
pub(super) fn task_object() -> String {
    format!("{DOCTYPE}<node>\n{}{STANDARD}</node>\n", task_interface())
}

/// The introspection document of a session.
pub(super) fn session_object() -> String {
    format!("{DOCTYPE}<node>\n{}{STANDARD}</node>\n", session_interface())
}

fn task_interface() -> String {
    own_interface(TASK_INTERFACE, TASK_MEMBERS, properties::TASK)
}

fn session_interface() -> String {
    own_interface(SESSION_INTERFACE, SESSION_MEMBERS, properties::SESSION)
}

/// An interface that is not derived from a contract.
fn own_interface(name: &str, members: &str, properties: &[Property]) -> String {
    let mut xml = format!("  <interface name=\"{name}\">\n{members}");
    push_properties(&mut xml, properties);
    xml.push_str(INTERFACE_END);
    xml
}

/// The introspection document of an object. `is_deprecated`: which operations should no longer be called
/// over D-Bus.
pub(super) fn object(object: &Object, is_deprecated: impl Fn(&Operation) -> bool) -> String {
    let mut xml = format!("{DOCTYPE}<node>\n");
    for served in &object.services {
        xml.push_str(&typed_interface(&served.service, &is_deprecated));
    }
    if object.agent().is_some() {
        xml.push_str(&agent_interface());
    }
    if let Some(older) = &object.older {
        let mut about = String::new();
        if older.service().operations.iter().all(|operation| is_deprecated(operation)) {
            push_deprecated(&mut about, 4);
        }
        for (name, members) in legacy::interfaces(older.first_interface()) {
            xml.push_str(&own_interface(name, &format!("{about}{members}"), &[]));
        }
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

fn typed_interface(service: &Service, is_deprecated: impl Fn(&Operation) -> bool) -> String {
    let mut xml = interface_xml(service, is_deprecated);
    let properties = properties::of_service(service);
    if let Some(open) = xml.strip_suffix(INTERFACE_END).map(str::len) {
        xml.truncate(open);
        push_properties(&mut xml, properties);
        xml.push_str(INTERFACE_END);
    }
    xml
}

fn agent_interface() -> String {
    own_interface(AGENT_INTERFACE, AGENT_MEMBERS, properties::AGENT)
}

fn push_properties(xml: &mut String, properties: &[Property]) {
    for Property { name, signature, emits, docs } in properties {
        xml.push_str(&format!(
            r#"    <property name="{name}" type="{signature}" access="read">
      <annotation name="org.freedesktop.DBus.Property.EmitsChangedSignal" value="{emits}"/>
      <annotation name="org.gtk.GDBus.DocString" value="{docs}"/>
    </property>
"#
        ));
    }
}
