//! Arguments typed by the schemas of the compiled-in contract.

use serde_json::json;

use super::*;
use crate::contract::{Contract, message_schema};

/// The request schema of an operation.
fn schema_of(agent: &str, operation: &str) -> Value {
    let contract = Contract::built_in().unwrap();
    let service = contract.services.iter().find(|service| service.id == agent).unwrap();
    message_schema(&service.operation(operation).unwrap().input)
}

fn built(agent: &str, operation: &str, pairs: &[&str]) -> Result<Value, (String, String)> {
    let schema = schema_of(agent, operation);
    let pairs: Vec<String> = pairs.iter().map(|pair| (*pair).to_owned()).collect();
    build(&Schema::new(&schema), &pairs).map_err(|problem| {
        let Problem::Usage(message, hint) = problem else {
            panic!("{problem:?} is no usage problem")
        };
        (message, hint)
    })
}

fn remember(pairs: &[&str]) -> Result<Value, (String, String)> {
    built("memory", "Remember", &[&["key=k", "value=1"], pairs].concat())
}

#[test]
fn every_kind_is_typed() {
    let request = remember(&[
        "ttl=1h30m",
        "tags=a,b",
        "tags=c",
        "tags=[\"d,e\"]",
        "if_version=18446744073709551615",
        "if_absent=Yes",
        "namespace=a=b",
    ]);
    assert_eq!(
        request.unwrap(),
        json!({
            "key": "k", "value": 1, "ttl": "5400s", "tags": ["a", "b", "c", "d,e"],
            "if_version": "18446744073709551615", "if_absent": true, "namespace": "a=b",
        })
    );
    assert_eq!(
        built("memory", "List", &["page_size=10"]).unwrap(),
        json!({"page_size": 10}),
        "a 32-bit integer is a number"
    );
}

#[test]
fn a_value_is_json_or_else_text() {
    let value = |text: &str| {
        built("memory", "Remember", &["key=k", &format!("value={text}")])
            .map(|r| r["value"].clone())
    };
    assert_eq!(value("5").unwrap(), json!(5));
    assert_eq!(value("5.5").unwrap(), json!(5.5));
    assert_eq!(value("true").unwrap(), json!(true));
    assert_eq!(value("\"5\"").unwrap(), json!("5"));
    assert_eq!(value("{\"a\":[1]}").unwrap(), json!({"a": [1]}));
    assert_eq!(value("hello, world").unwrap(), json!("hello, world"));
    assert_eq!(value("1e300").unwrap(), json!(1e300));
    for text in ["9007199254740993", "123456789012345678901", "[1,-9007199254740993]"] {
        let (message, _) = value(text).unwrap_err();
        assert!(message.starts_with("value: holds a whole number"), "{message}");
    }
    assert_eq!(
        built("memory", "Remember", &["key=k", "value.a.b=1", "value.c=x"]).unwrap()["value"],
        json!({"a": {"b": 1}, "c": "x"})
    );
}

#[test]
fn keys_lead_into_messages_and_lists() {
    let request = built(
        "memory",
        "Transact",
        &[
            "compare.0.key=a",
            "compare.0.version=0",
            "compare={\"key\":\"b\",\"version\":\"3\"}",
            "success.0.remember.key=a",
            "success.0.remember.ttl=90s",
            "success.0.remember.value=x",
        ],
    );
    assert_eq!(
        request.unwrap(),
        json!({
            "compare": [{"key": "a", "version": "0"}, {"key": "b", "version": "3"}],
            "success": [{"remember": {"key": "a", "ttl": "90s", "value": "x"}}],
        })
    );
    let (message, hint) = built("memory", "Transact", &["compare.1.key=a"]).unwrap_err();
    assert_eq!(message, "compare.1.key: \"1\" is no position in the list");
    assert!(hint.contains("next one is 0"), "{hint}");
}

#[test]
fn a_wrong_key_is_named_with_the_right_one() {
    let (message, hint) = remember(&["namspace=x"]).unwrap_err();
    assert_eq!(message, "unknown key namspace, did you mean namespace?");
    assert!(hint.starts_with("it takes key=TEXT value=JSON [namespace=TEXT] [ttl=90s]"), "{hint}");
    let (message, _) = built("memory", "Remember", &["value=1"]).unwrap_err();
    assert_eq!(message, "missing: key");
    let (message, _) = built("memory", "Remember", &["key"]).unwrap_err();
    assert_eq!(message, "\"key\" is not key=value");
    let (message, hint) = built("agents", "GetStatus", &["x=1"]).unwrap_err();
    assert_eq!((message.as_str(), hint.as_str()), ("unknown key x", "it takes no arguments"));
    let (message, _) = built("memory", "Transact", &["compare.0.kee=1"]).unwrap_err();
    assert_eq!(message, "unknown key kee in compare.0.kee, did you mean key?");
    let (message, _) = remember(&["key=again"]).unwrap_err();
    assert_eq!(message, "key: was given before");
    let (message, _) = remember(&["key.a=1"]).unwrap_err();
    assert_eq!(message, "key.a: nothing can stand below a text");
}

#[test]
fn a_wrong_value_is_named_with_its_form() {
    for (pair, problem, form) in [
        ("ttl=5", "ttl: \"5\" is not a length of time", "write ttl=90s"),
        ("if_version=-1", "if_version: -1 is not between 0 and", "write if_version=NUMBER"),
        ("if_version=1.5", "if_version: \"1.5\" is not a whole number", "write if_version=NUMBER"),
        ("if_absent=maybe", "if_absent: \"maybe\" is not true or", "write if_absent=true|false"),
    ] {
        let (message, hint) = remember(&[pair]).unwrap_err();
        assert!(message.starts_with(problem), "{message}");
        assert_eq!(hint, form);
    }
}

#[cfg(feature = "testing")]
#[test]
fn every_type_of_the_mapping_has_a_form() {
    use crate::contract::json_to_message;

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("data");
    std::fs::write(&file, b"\0\xff").unwrap();
    let data = format!("data=@{}", file.display());
    let request = built(
        "probe",
        "Echo",
        &[
            "text=t",
            &data,
            "everything.a_colour=dark-green",
            "everything.colours=COLOUR_RED,unspecified",
            "everything.a_double=-inf",
            "everything.a_float=1.5",
            "everything.a_sint32=-2147483648",
            "everything.some_bytes=AP8=",
            "everything.a_timestamp=2026-01-31T12:00:00+02:00",
            "everything.a_duration=-1.5s",
            "everything.a_struct.x.y=1",
            "everything.a_list=1,two",
            "everything.nested_by_int32.7.a_bool=on",
            "everything.string_by_string={\"a\":\"b\"}",
            "everything.blob_by_bool.true=AA==",
        ],
    )
    .unwrap();
    let everything = &request["everything"];
    assert_eq!(request["data"], "AP8=");
    assert_eq!(everything["a_colour"], "COLOUR_DARK_GREEN");
    assert_eq!(everything["colours"], json!(["COLOUR_RED", "COLOUR_UNSPECIFIED"]));
    assert_eq!(everything["a_double"], "-Infinity");
    assert_eq!(everything["a_timestamp"], "2026-01-31T10:00:00Z");
    assert_eq!(everything["a_duration"], "-1.5s");
    assert_eq!(everything["a_list"], json!([1, "two"]));
    assert_eq!(everything["nested_by_int32"], json!({"7": {"a_bool": true}}));

    // What was typed is what the service reads.
    let contract = Contract::built_in().unwrap();
    let probe = contract.service("opdbus.agent.probe.v1.ProbeService").unwrap();
    let input = &probe.operation("Echo").unwrap().input;
    json_to_message(input, &request.to_string()).unwrap();

    let (message, _) =
        built("probe", "Echo", &["text=t", &data, "everything.a_colour=blue"]).unwrap_err();
    assert_eq!(message, "everything.a_colour: \"blue\" is none of unspecified, red, dark_green");
}
