//! The introspection files in `dbus/interfaces` are what the contract gives.

use std::path::Path;
use std::{env, fs};

use super::super::introspect;
use crate::contract::Contract;

/// Compares each file with what it should be; with `OPDBUS_BLESS=1` writes it instead.
#[test]
fn the_interface_files_are_up_to_date() {
    let contract = Contract::built_in().unwrap();
    let mut files = vec![
        ("org.dbusmcp.Agent".to_owned(), introspect::legacy_interface_document()),
        ("org.opdbus.Agent1".to_owned(), introspect::agent_interface_document()),
        ("org.opdbus.Session1".to_owned(), introspect::session_interface_document()),
        ("org.opdbus.Task1".to_owned(), introspect::task_interface_document()),
    ];
    for service in &contract.services {
        // The probe is in no release, and a gateway is not on D-Bus.
        if service.id != "probe" && !service.gateway {
            files.push((service.interface.clone(), introspect::interface_document(service)));
        }
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("dbus/interfaces");
    for (interface, document) in &files {
        let path = folder.join(format!("{interface}.xml"));
        if env::var_os("OPDBUS_BLESS").is_some_and(|value| value == "1") {
            fs::create_dir_all(&folder).unwrap();
            fs::write(&path, document).unwrap();
        }
        let found = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == *document,
            "{} does not match the contract; run this test with OPDBUS_BLESS=1 and look at the difference",
            path.display()
        );
    }
    let mut expected: Vec<String> =
        files.into_iter().map(|(interface, _)| format!("{interface}.xml")).collect();
    expected.sort();
    let mut found: Vec<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    assert_eq!(found, expected, "dbus/interfaces holds other files than the contract has");
}
