//! Clients under steady load, each on its own: a script on the older interface, programs with the client
//! library for Rust, and one with that for Python. What becomes of their calls, others decide.

use std::io::{BufRead as _, BufReader};
use std::ops::Range;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use op_dbus::client::prost_types::value::Kind;
use op_dbus::client::{AgentClient, Error, MemoryClient, Request, Settings, Way};
use op_dbus::proto::opdbus::agent::memory::v1::{
    IncrementRequest, IncrementResponse, RecallRequest, RecallResponse,
};

/// What one client has seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// Increments that were tried.
    pub steps: AtomicU64,
    /// Those that were answered.
    pub counted: AtomicU64,
    /// Those of which nobody knows whether they were carried out.
    pub unknown: AtomicU64,
    /// Tries over gRPC, of any call, that got no answer or would have got none.
    pub lost: AtomicU64,
    /// What must not be.
    pub problems: Mutex<Vec<String>>,
    over: AtomicBool,
}

impl Seen {
    pub fn of(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::SeqCst)
    }

    pub fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    fn problem(&self, text: String) {
        self.problems.lock().unwrap().push(text);
    }
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::SeqCst);
}

/// Counts and reads what was counted, until it is over or goes wrong.
pub async fn count(client: AgentClient, key: String, seen: Arc<Seen>) {
    while !seen.is_over() {
        if let Err(problem) = step(&client, &key, &seen).await {
            seen.problem(problem);
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    client.close().await;
}

async fn step(client: &AgentClient, key: &str, seen: &Seen) -> Result<(), String> {
    let memory = MemoryClient::new(client.clone());
    add(&seen.steps);
    let id = format!("{key}-{}", Seen::of(&seen.steps));
    let increment = IncrementRequest { key: key.into(), ..IncrementRequest::default() };
    let sum: Result<IncrementResponse, Error> =
        memory.increment(Request::new(increment).request_id(id)).await;
    let sum = match sum {
        Ok(sum) => {
            add(&seen.counted);
            u64::try_from(sum.value).ok()
        }
        Err(Error::Failed(failure)) if failure.lost => {
            add(&seen.unknown);
            None
        }
        Err(error) => return Err(format!("Increment: {error:?}")),
    };
    let recall = RecallRequest { key: key.into(), ..RecallRequest::default() };
    let recalled: Result<RecallResponse, Error> = memory.recall(recall).await;
    let recalled = recalled.map_err(|error| format!("Recall: {error:?}"))?;
    let value = number(recalled).ok_or("Recall: that is no number")?;
    let (counted, unknown) = (Seen::of(&seen.counted), Seen::of(&seen.unknown));
    for value in sum.into_iter().chain([value]) {
        if !(counted..=counted + unknown).contains(&value) {
            return Err(format!("{value} is there, {counted} counted, {unknown} unknown"));
        }
    }
    let figures = client.agent_metrics().unwrap().snapshot().operations;
    let ways = figures.iter().filter(|it| it.agent == "memory").flat_map(|it| &it.ways);
    let lost = ways.filter(|it| it.way == Way::Grpc).map(|it| {
        let errors = it.errors.iter();
        let lost = errors.filter(|(reason, _)| ["LOST", "UNREACHABLE"].contains(reason));
        lost.map(|(_, count)| count).sum::<u64>() + it.forgone
    });
    seen.lost.store(lost.sum(), Ordering::SeqCst);
    Ok(())
}

/// The number that was recalled.
pub fn number(recalled: RecallResponse) -> Option<u64> {
    let Kind::NumberValue(number) = recalled.value?.kind? else { return None };
    number.to_string().parse().ok()
}

/// A program that says what it does, line by line. It ends with this value.
pub struct Script {
    process: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Script {
    fn start(command: &mut Command, told: impl Fn(Option<&str>) + Send + 'static) -> Self {
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (output, all) = (BufReader::new(process.stdout.take().unwrap()), Arc::clone(&lines));
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                told(Some(&line));
                all.lock().unwrap().push(line);
            }
            told(None);
        });
        Self { process, lines }
    }

    /// The script on the older interface.
    pub fn desktop(bus: &str) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/migration/story/desktop.sh");
        Self::start(Command::new("bash").args([script, bus]), |_| {})
    }

    /// The program in Python, with one of these places among the 10,000 that go over. What it says goes to `seen`.
    pub fn python(
        (interpreter, places): (&str, Range<u32>),
        bus: &str,
        settings: &Settings,
        seen: &Arc<Seen>,
    ) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/migration/story/count.py");
        let mut command = Command::new(interpreter);
        command.args([script, &places.start.to_string(), &places.end.to_string()]);
        command.env("OP_DBUS_BUS", bus);
        command.env("OP_DBUS_ADDRESS", settings.addresses[0].to_string());
        command.env("OP_DBUS_MAX_RETRIES", settings.max_retries.to_string());
        let seen = Arc::clone(seen);
        Self::start(&mut command, move |line| {
            let words: Vec<&str> = line.unwrap_or_default().split(' ').collect();
            if let ["at", numbers @ ..] = &words[..] {
                let counters = [&seen.steps, &seen.counted, &seen.unknown, &seen.lost];
                for (counter, number) in counters.into_iter().zip(numbers) {
                    counter.store(number.parse().unwrap(), Ordering::SeqCst);
                }
            }
            if line.is_none() && !seen.is_over() {
                seen.problem("it has ended".to_owned());
            }
        })
    }

    /// How many lines there are, and the last one that begins with `word`, without that.
    pub fn last(&self, word: &str) -> (usize, Option<String>) {
        let lines = self.lines.lock().unwrap();
        let found: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix(word)).collect();
        (found.len(), found.last().map(|line| line.trim().to_owned()))
    }

    /// Has it end well.
    pub fn end(mut self) {
        kill(Pid::from_raw(self.process.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        assert!(self.process.wait().unwrap().success());
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
