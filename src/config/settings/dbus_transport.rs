//! The settings of the D-Bus transport. Whether the bus gives the names is seen when they are asked for.

use super::super::keys::dbus::Section;
use super::checker::Checker;
use crate::transport::dbus;

/// How many older names are served at most: the bus has a bound for each connection.
const MAX_LEGACY_NAMES: usize = 64;

/// The transport, unless it is disabled.
pub(super) fn dbus(c: &mut Checker<'_>, keys: &Section) -> Option<dbus::Config> {
    let config = dbus::Config {
        bus: bus(&keys.bus.value),
        name: keys.name.value.clone(),
        max_body_bytes: c.size(&keys.max_body_bytes, 1024..=128 * 1024 * 1024, "bytes"),
        legacy: legacy_names(c, keys),
    };
    if let dbus::Bus::Address(address) = &config.bus
        && !address.contains(':')
    {
        c.reject(&keys.bus, "it must be \"system\", \"session\" or a D-Bus address, as \"unix:path=/run/dbus/system_bus_socket\"");
    }
    if zbus::names::WellKnownName::try_from(config.name.as_str()).is_err() {
        c.reject(&keys.name, "it is no well-known bus name, as \"org.opdbus.Agents1\"");
    }
    keys.enabled.value.then_some(config)
}

/// The older names that are to be served.
fn legacy_names(c: &mut Checker<'_>, keys: &Section) -> Vec<dbus::LegacyName> {
    let mut names = Vec::new();
    for text in &keys.legacy_names.value {
        match dbus::LegacyName::parse(text) {
            Ok(name) if names.contains(&name) => {
                c.reject(&keys.legacy_names, format!("{text:?} is named twice"));
            }
            Ok(name) => names.push(name),
            Err(problem) => c.reject(&keys.legacy_names, problem),
        }
    }
    if names.len() > MAX_LEGACY_NAMES {
        c.reject(&keys.legacy_names, format!("it has more than {MAX_LEGACY_NAMES} names"));
    }
    if keys.legacy.value { names } else { Vec::new() }
}

/// The bus that `[dbus] bus` or `--bus` names.
pub(crate) fn bus(text: &str) -> dbus::Bus {
    match text {
        "system" => dbus::Bus::System,
        "session" => dbus::Bus::Session,
        address => dbus::Bus::Address(address.to_owned()),
    }
}
