//! What is done to a command that runs: its input, signals, and the size of its terminal.

use std::time::Duration;

use op_dbus::proto::opdbus::agent::commands::v1::{
    CloseInputRequest, CloseInputResponse, Command, InputRequest, InputResponse, OutputRequest,
    OutputResponse, ResizeRequest, ResizeResponse, Run, SignalRequest, SignalResponse, Stdin,
    TerminalSize, WaitUntil,
};
use tonic::{Code, Status};

use super::{CLOSE_INPUT, INPUT, OUTPUT, RESIZE, SIGNAL, World, ended, in_time, seconds};
use crate::grpc::check_error;

fn piped() -> Run {
    Run { stdin: Stdin::Pipe.into(), ..Run::default() }
}

fn input(command: &Command, data: &[u8], close: bool) -> InputRequest {
    InputRequest { id: command.id.clone(), data: data.to_vec().into(), close }
}

impl World {
    async fn input(&self, request: InputRequest) -> Result<InputResponse, Status> {
        self.client.call(INPUT, request).await
    }

    /// Waits until the command has printed something that matches.
    async fn printed(&self, command: &Command, pattern: &str) {
        let request = OutputRequest {
            id: command.id.clone(),
            wait: seconds(20),
            until: WaitUntil::Pattern.into(),
            pattern: pattern.into(),
            ..OutputRequest::default()
        };
        let output: OutputResponse = self.client.call(OUTPUT, request).await.unwrap();
        assert!(output.matched, "{pattern}: {output:?}");
    }
}

#[tokio::test]
async fn what_is_written_arrives_in_order_and_the_input_is_closed_once() {
    let world = World::new().await;
    let command = world.start_argv(&["cat"], piped()).await.unwrap();
    assert!(command.input_open);
    assert_eq!(world.input(input(&command, b"one\n", false)).await.unwrap().written_bytes, 4);
    world.printed(&command, "one\n").await;
    assert_eq!(world.input(input(&command, b"two\n", true)).await.unwrap().written_bytes, 4);
    for _ in 0..2 {
        let close = CloseInputRequest { id: command.id.clone() };
        let _: CloseInputResponse = world.client.call(CLOSE_INPUT, close).await.unwrap();
    }
    let done = world.wait(&command.id).await;
    assert_eq!(
        (done.stdout.unwrap().text.as_str(), ended(&done.command).code),
        ("one\ntwo\n", Some(0))
    );
    let late = world.input(input(&command, b"x", false)).await;
    check_error(late, Code::Aborted, "CONFLICT");
}

#[tokio::test]
async fn a_program_that_does_not_read_holds_up_its_writer() {
    let world = World::new().await;
    let script = "until [ -e go ]; do sleep 0.02; done; cat >got; wc -c <got";
    let command = world.start("script", script, piped()).await;
    let data = vec![b'x'; 2_000_000];
    let request = in_time(input(&command, &data, false), Duration::from_secs(2));
    let first: InputResponse = world.client.request(INPUT, request).await.unwrap().into_inner();
    let written = usize::try_from(first.written_bytes).unwrap();
    assert!(written > 0 && written < data.len() / 2, "{written}");
    std::fs::write(world.folder.path().join("go"), "").unwrap();
    let rest = world.input(input(&command, &data[written..], true)).await.unwrap();
    assert_eq!(rest.written_bytes, (data.len() - written) as u64);
    assert_eq!(world.wait(&command.id).await.stdout.unwrap().text, "2000000\n");
}

#[tokio::test]
async fn a_program_that_closes_its_input_is_told_of() {
    let world = World::new().await;
    let script = "exec 0<&-; echo closed; sleep 600";
    let command = world.start("script", script, piped()).await;
    world.printed(&command, "closed").await;
    let outcome = world.input(input(&command, b"x", false)).await;
    check_error(outcome, Code::Aborted, "CONFLICT");
    let none = world.start_argv(&["sleep", "600"], Run::default()).await.unwrap();
    assert!(!none.input_open);
    let outcome = world.input(input(&none, b"x", false)).await;
    check_error(outcome, Code::Aborted, "CONFLICT");
}

#[tokio::test]
async fn signals_go_by_name() {
    let world = World::new().await;
    let script = "trap 'echo hup' HUP; echo ready; while :; do sleep 0.05; done";
    let command = world.start("script", script, Run::default()).await;
    world.printed(&command, "ready").await;
    let signal = async |name: &str| {
        let request = SignalRequest { id: command.id.clone(), signal: name.into() };
        world.client.call::<_, SignalResponse>(SIGNAL, request).await
    };
    signal("HUP").await.unwrap();
    world.printed(&command, "hup").await;
    check_error(signal("NOTHING").await, Code::InvalidArgument, "INVALID_ARGUMENT");
    signal("SIGKILL").await.unwrap();
    let done = world.wait(&command.id).await;
    assert_eq!(&*ended(&done.command).signal, "KILL");
    check_error(signal("HUP").await, Code::Aborted, "CONFLICT");
}

#[tokio::test]
async fn a_terminal_changes_its_size_and_takes_lines() {
    let world = World::new().await;
    let script = "stty size; read line; stty size; echo got $line; cat";
    let run = Run { stdin: Stdin::Terminal.into(), ..Run::default() };
    let command = world.start("script", script, run).await;
    assert!(command.terminal && command.input_open);
    world.printed(&command, "24 80").await;
    let resize = async |rows, columns| {
        let size = Some(TerminalSize { rows, columns });
        let request = ResizeRequest { id: command.id.clone(), size };
        world.client.call::<_, ResizeResponse>(RESIZE, request).await
    };
    resize(11, 55).await.unwrap();
    check_error(resize(0, 5).await, Code::InvalidArgument, "INVALID_ARGUMENT");
    world.input(input(&command, b"hello\n", false)).await.unwrap();
    world.printed(&command, r"11 55\r\ngot hello").await;
    // At the beginning of a line, what ends the input of a terminal ends it.
    let close = CloseInputRequest { id: command.id.clone() };
    let _: CloseInputResponse = world.client.call(CLOSE_INPUT, close).await.unwrap();
    assert_eq!(ended(&world.wait(&command.id).await.command).code, Some(0));
    let none = world.start_argv(&["sleep", "600"], Run::default()).await.unwrap();
    let size = Some(TerminalSize { rows: 1, columns: 1 });
    let request = ResizeRequest { id: none.id, size };
    let outcome = world.client.call::<_, ResizeResponse>(RESIZE, request).await;
    check_error(outcome, Code::Aborted, "CONFLICT");
}
