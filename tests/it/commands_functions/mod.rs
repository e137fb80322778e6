//! Functions: a real daemon, its worker, and a client on each transport.

mod kept;

use op_dbus::client::{
    AgentClient, Bus, CallOptions, Credentials, Error, Failure, GrpcAddress, Target,
};
use op_dbus::error::ErrorKind;
use serde_json::{Value, json};

use crate::process::{Daemon, Prepared};

const NAME: &str = "org.opdbus.Agents1";

/// A daemon whose workers run under the tests' own uid, and a client on each transport.
struct World {
    daemon: Daemon,
    clients: [AgentClient; 2],
}

impl World {
    async fn new(config: &str) -> Self {
        Self::of(Prepared::new(&format!("[worker]\nmin_uid = 0\n{config}")).start()).await
    }

    async fn of(daemon: Daemon) -> Self {
        let bus = Bus::Address(daemon.bus.address.clone());
        let over_dbus = Target::Dbus { bus, name: NAME.to_owned() };
        let over_grpc = Target::Grpc(GrpcAddress::Unix(daemon.grpc_socket()));
        let clients = [
            AgentClient::connect(&[over_dbus], &Credentials::default()).await.unwrap(),
            AgentClient::connect(&[over_grpc], &Credentials::default()).await.unwrap(),
        ];
        Self { daemon, clients }
    }

    /// Calls an operation over both transports in turn: `number` is the transport's.
    async fn on(&self, number: usize, operation: &str, arguments: Value) -> Result<Value, Failure> {
        let client = &self.clients[number % 2];
        let options = CallOptions::default();
        match client.call_json("commands", operation, &arguments.to_string(), &options).await {
            Ok(answer) => Ok(serde_json::from_str(&answer).unwrap()),
            Err(Error::Failed(failure)) => Err(failure),
            Err(error) => panic!("{error}"),
        }
    }

    async fn register(&self, function: Value) -> Result<Value, Failure> {
        self.on(0, "RegisterFunction", json!({"function": function, "replace": true})).await
    }

    /// Calls a function over gRPC and gives what it printed.
    async fn call(&self, name: &str, arguments: Value) -> Result<String, Failure> {
        let answer =
            self.on(1, "CallFunction", json!({"name": name, "arguments": arguments})).await?;
        assert_eq!(answer["running"], false, "{answer}");
        Ok(answer["stdout"]["text"].as_str().unwrap().to_owned())
    }

    async fn names(&self) -> Vec<String> {
        let answer = self.on(1, "ListFunctions", json!({})).await.unwrap();
        let name = |function: &Value| function["name"].as_str().unwrap().to_owned();
        answer["functions"].as_array().unwrap().iter().map(name).collect()
    }
}

/// A function that prints its elements, one a line.
fn printing(name: &str, properties: Value, argv: &[&str]) -> Value {
    let argv: Vec<&str> = ["printf", "%s\\n"].into_iter().chain(argv.iter().copied()).collect();
    let schema = json!({"type": "object", "properties": properties, "additionalProperties": false});
    json!({"name": name, "schema": schema, "argv": argv, "directory": "/usr"})
}

#[track_caller]
fn refused<T: std::fmt::Debug>(outcome: Result<T, Failure>, kind: ErrorKind, text: &str) {
    let failure = outcome.expect_err("it must be refused");
    assert_eq!(failure.kind, kind, "{failure:?}");
    assert!(failure.message.contains(text), "{failure:?}");
}

#[tokio::test]
async fn a_function_is_registered_listed_called_and_removed_over_both_transports() {
    let world = World::new("").await;
    for number in 0..2 {
        let text = json!({"text": {"type": "string"}});
        let mut function = printing("say", text, &["hello {text}"]);
        function["description"] = "Says something.".into();
        let request = json!({"function": function});
        let answer = world.on(number, "RegisterFunction", request.clone()).await.unwrap();
        let by = nix::unistd::geteuid().as_raw();
        assert_eq!(answer["function"]["registered_by"], by);
        let again = world.on(number + 1, "RegisterFunction", request).await;
        refused(again, ErrorKind::AlreadyExists, "say");
        let listed = world.on(number + 1, "ListFunctions", json!({"prefix": "s"})).await.unwrap();
        assert_eq!(listed["functions"], json!([answer["function"]]));
        assert_eq!(listed["functions"][0]["schema"], function["schema"]);

        let arguments = json!({"name": "say", "arguments": {"text": "a  b"}, "tag": "mine"});
        let called = world.on(number, "CallFunction", arguments).await.unwrap();
        assert_eq!(called["stdout"]["text"], "hello a  b\n");
        assert_eq!(
            (&called["command"]["tag"], &called["command"]["directory"]),
            (&json!("mine"), &json!("/usr"))
        );

        for removed in [true, false] {
            let answer = world.on(number, "RemoveFunction", json!({"name": "say"})).await.unwrap();
            assert_eq!(answer["removed"], removed);
        }
        let gone = world.on(number, "CallFunction", json!({"name": "say"})).await;
        refused(gone, ErrorKind::NotFound, "say");
    }
}

#[tokio::test]
async fn arguments_go_where_their_places_are_and_nowhere_else() {
    let world = World::new("").await;
    let properties = json!({
        "text": {"type": "string"}, "number": {"type": "number"}, "flag": {"type": "boolean"},
        "list": {"type": "array", "items": {"type": "string"}},
    });
    let argv =
        ["--text={text}", "{number}{{{flag}}}", "{list...}", "fixed", "--", "{text}", "{list...}"];
    world.register(printing("all", properties, &argv)).await.unwrap();
    let odd = "a b\n'\"$(id) {number} *";
    let arguments = json!({"text": odd, "number": 5, "flag": true, "list": ["x y", ""]});
    let printed = world.call("all", arguments).await.unwrap();
    assert_eq!(printed, format!("--text={odd}\n5{{true}}\nx y\n\nfixed\n--\n{odd}\nx y\n\n"));
    // What is not given leaves its element out.
    let printed = world.call("all", json!({"number": 2.5})).await.unwrap();
    assert_eq!(printed, "fixed\n--\n");
    // After `--` nothing is an option.
    let printed = world.call("all", json!({"text": "-x"})).await.unwrap();
    assert_eq!(printed, "--text=-x\nfixed\n--\n-x\n");
    let dash = world.call("all", json!({"list": ["x", "-rf"]})).await;
    refused(dash, ErrorKind::InvalidArgument, "arguments/list/1");

    let properties =
        json!({"a": {"type": "string"}, "b": {"type": "string"}, "n": {"type": "integer"}});
    world.register(printing("dashes", properties, &["{a}{b}", "{-n}"])).await.unwrap();
    for arguments in [json!({"a": "-x", "b": ""}), json!({"a": "", "b": "--x"})] {
        refused(world.call("dashes", arguments).await, ErrorKind::InvalidArgument, "option");
    }
    let printed = world.call("dashes", json!({"a": "x", "b": "-", "n": -5})).await.unwrap();
    assert_eq!(printed, "x-\n-5\n");
    refused(
        world.call("dashes", json!({"a": "a\u{0}", "b": ""})).await,
        ErrorKind::InvalidArgument,
        "zero byte",
    );
}

#[tokio::test]
async fn arguments_are_checked_against_the_schema() {
    let world = World::new("").await;
    let schema = json!({
        "type": "object", "required": ["who"], "additionalProperties": false,
        "properties": {
            "who": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 8},
            "times": {"$ref": "#/$defs/count", "type": "integer"},
            "deep": {"type": "object", "properties": {"list": {"items": {"type": "integer"}}}},
        },
        "$defs": {"count": {"minimum": 1, "maximum": 3}},
    });
    let function = json!({"name": "greet", "schema": schema, "argv": ["echo", "{who}", "{times}"]});
    world.register(function).await.unwrap();
    assert_eq!(world.call("greet", json!({"who": "you", "times": 2})).await.unwrap(), "you 2\n");
    for (arguments, place) in [
        (json!({}), "arguments: "),
        (json!({"who": "You"}), "arguments/who: "),
        (json!({"who": "you", "times": 4}), "arguments/times: "),
        (json!({"who": "you", "times": 1.5}), "arguments/times: "),
        (json!({"who": "you", "deep": {"list": [1, "secret"]}}), "arguments/deep/list/1: "),
        (json!({"who": "you", "other": 1}), "arguments: "),
    ] {
        let failure = world.call("greet", arguments.clone()).await.unwrap_err();
        assert_eq!(failure.kind, ErrorKind::InvalidArgument, "{arguments}");
        let text = failure.message.as_str();
        assert!(text.contains(place) && !text.contains("secret"), "{arguments}: {text}");
    }
    // Without a schema there are no arguments.
    world.register(json!({"name": "date", "argv": ["echo", "now"]})).await.unwrap();
    assert_eq!(world.call("date", json!({})).await.unwrap(), "now\n");
    refused(world.call("date", json!({"x": 1})).await, ErrorKind::InvalidArgument, "arguments");
}

#[tokio::test]
async fn a_definition_that_cannot_be_is_refused_and_says_where() {
    let world = World::new("[commands]\nmax_function_bytes = 20000").await;
    let text = || json!({"a": {"type": "string"}, "l": {"type": "array", "items": {"type": "string"}}, "o": {"type": "object"}});
    for (argv, place) in [
        (vec!["{a}"], "function.argv[0]: the program"),
        (vec!["echo", "x", "{b}"], "function.argv[2]: the schema has no property \"b\""),
        (vec!["echo", "{a"], "function.argv[1]: { stands alone"),
        (vec!["echo", "a}"], "function.argv[1]: } stands alone"),
        (vec!["echo", "{}"], "function.argv[1]: {} names no argument"),
        (vec!["echo", "x{l...}"], "function.argv[1]: {l...} must be all"),
        (vec!["echo", "{l}"], "function.argv[1]: \"l\" is a list"),
        (vec!["echo", "{a...}"], "function.argv[1]: \"a\" is no list"),
        (vec!["echo", "{o}"], "function.argv[1]: the property \"o\""),
        (vec![], "function.argv: "),
    ] {
        let mut function = printing("bad", text(), &[]);
        function["argv"] = json!(argv);
        refused(world.register(function).await, ErrorKind::InvalidArgument, place);
    }
    let mut nested = json!({"type": "object"});
    for _ in 0..28 {
        nested = json!({"type": "object", "not": nested});
    }
    for (schema, place) in [
        (
            json!({"type": "object", "properties": {"a": {"type": "strin"}}}),
            "at /properties/a/type",
        ),
        (json!({"type": "object", "properties": {"a": {"pattern": "("}}}), "/properties/a/pattern"),
        (
            json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/none"}}}),
            "function.schema",
        ),
        (json!({"type": "object", "$ref": "https://example.org/schema"}), "function.schema"),
        (json!({"type": "object", "$ref": "file:///etc/passwd"}), "function.schema"),
        (json!({"type": "array"}), "function.schema: its `type`"),
        (nested, "function.schema: is nested"),
    ] {
        let function = json!({"name": "bad", "schema": schema, "argv": ["echo"]});
        refused(world.register(function).await, ErrorKind::InvalidArgument, place);
    }
    for (field, value, place) in [
        ("name", json!("Bad"), "function.name"),
        ("name", json!("1a"), "function.name"),
        ("name", json!("a".repeat(65)), "function.name"),
        ("directory", json!("usr"), "function.directory"),
        ("input_argument", json!("l"), "function.input_argument"),
        ("description", json!("a\u{0}"), "function.description"),
        ("run", json!({"environment": {"A": "\u{0}"}}), "function.run.environment"),
        ("run", json!({"stdin": "STDIN_TERMINAL"}), "function.run.stdin"),
        ("run", json!({"environment": {"LD_PRELOAD": "x"}}), "function.run.environment"),
    ] {
        let mut function = printing("bad", text(), &[]);
        function[field] = value;
        refused(world.register(function).await, ErrorKind::InvalidArgument, place);
    }
    let mut large = printing("bad", text(), &[]);
    large["description"] = "x".repeat(20_000).into();
    refused(world.register(large).await, ErrorKind::LimitExceeded, "commands.max_function_bytes");
    assert!(world.names().await.is_empty());
}

/// The rights are the caller's, and what his worker refuses is refused: a function is no way around it.
#[tokio::test]
async fn a_function_runs_as_its_caller_may() {
    let world = World::new("").await;
    let mut function = printing("free", json!({}), &["x"]);
    function["run"] = json!({"profile": "none"});
    world.register(function).await.unwrap();
    refused(world.call("free", json!({})).await, ErrorKind::AccessDenied, "profile");
    let text = json!({"name": "text", "argv": ["sh", "-c", "id -u"]});
    world.register(text).await.unwrap();
    refused(world.call("text", json!({})).await, ErrorKind::AccessDenied, "ExecShell");
    let function = json!({
        "name": "count", "argv": ["wc", "-c"], "input_argument": "text",
        "schema": {"type": "object", "properties": {"text": {"type": "string"}}},
    });
    world.register(function).await.unwrap();
    assert_eq!(world.call("count", json!({"text": "four"})).await.unwrap().trim(), "4");
    assert_eq!(world.call("count", json!({})).await.unwrap().trim(), "0");
}
