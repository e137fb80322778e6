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
    let https = "https://op.example.org:443".parse::<GrpcAddress>().unwrap();
    assert_eq!(https, GrpcAddress::Https("https://op.example.org:443".to_owned()));
    for text in ["https://host", "unix:relative", "http://host", "http://host:1/path", ""] {
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
    let Err(Error::Unreachable(attempts)) =
        AgentClient::connect(&targets, &Credentials::default()).await
    else {
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

#[tokio::test]
async fn a_token_is_not_sent_in_the_open() {
    let secret = "opdbus_ci_secret";
    let credentials = Credentials::default().with_token(&format!("{secret}\n")).unwrap();
    assert!(!format!("{credentials:?}").contains(secret));
    let problem = async |address: &str| {
        let target = Target::Grpc(address.parse().unwrap());
        match AgentClient::connect(&[target], &credentials).await.unwrap_err() {
            Error::Unreachable(attempts) => attempts[0].problem.clone(),
            Error::Failed(failure) => panic!("{failure:?}"),
        }
    };
    assert!(problem("http://192.0.2.1:1").await.contains("without TLS"));
    assert!(problem("https://127.0.0.1:1").await.contains("--ca"), "https needs a root");
    let here = problem("http://127.0.0.1:1").await;
    assert!(here.contains("refused"), "{here}");
    let broken = Credentials::default().with_token("a\nb").unwrap_err();
    assert_eq!(broken, "it holds no token");
}
