//! Addresses, and what is said when nothing can be reached.

use std::path::PathBuf;

use super::*;

#[test]
fn addresses_are_read_in_every_form_that_people_write() {
    let socket = GrpcAddress::Unix(PathBuf::from("/run/op-dbus/grpc.sock"));
    for text in
        ["unix:/run/op-dbus/grpc.sock", "unix:///run/op-dbus/grpc.sock", "/run/op-dbus/grpc.sock"]
    {
        assert_eq!(text.parse::<GrpcAddress>().unwrap(), socket, "{text}");
    }
    let http = "http://127.0.0.1:50051".parse::<GrpcAddress>().unwrap();
    assert_eq!(http.to_string(), "http://127.0.0.1:50051");
    for text in ["https://host:1", "unix:relative", "http://host", "http://host:1/path", ""] {
        assert!(text.parse::<GrpcAddress>().is_err(), "{text}");
    }
    assert_eq!("system".parse::<Bus>().unwrap(), Bus::System);
    assert!("sytsem".parse::<Bus>().is_err());
}

#[tokio::test]
async fn what_was_tried_is_said_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("grpc.sock");
    let targets = [
        Target::Grpc(GrpcAddress::Unix(socket.clone())),
        Target::Dbus {
            bus: Bus::Address(format!("unix:path={}/bus", folder.path().display())),
            name: "org.opdbus.Agents1".to_owned(),
        },
    ];
    let Err(Error::Unreachable(attempts)) = Client::connect(&targets).await else {
        panic!("nothing listens there");
    };
    assert_eq!(attempts.len(), 2);
    assert_eq!(attempts[0].target, format!("gRPC at unix:{}", socket.display()));
    assert!(attempts[0].problem.contains("No such file"), "{}", attempts[0].problem);
    assert!(attempts[1].target.starts_with("org.opdbus.Agents1 on the bus"));
}

#[test]
fn an_answer_of_a_newer_service_is_read() {
    let json = r#"{"agents":[{"id":"memory","activation":"ACTIVATION_ON_DEMAND","new":1}]}"#;
    let answer: Answer<ListAgentsResponse> =
        Answer::new("ListAgentsResponse", json.to_owned()).unwrap();
    assert_eq!(answer.message.agents[0].id, "memory");
    assert_eq!(answer.json, json);
}
