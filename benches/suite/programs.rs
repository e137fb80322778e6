//! Programs through the process runner, beside a bare loop that spawns and waits, and their output
//! beside a pipe that is read and thrown away.

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use op_dbus::process::{Config, Keep, Profile, Runner, Spec};
use tokio::runtime::{Builder, Runtime};

use crate::measure::{Party, Plan, Sample, heading, in_turns, median, rows};

/// A program that does nothing.
pub const PROGRAM: &str = "/bin/true";
/// How much the program of [`output_argv`] writes.
pub const OUTPUT_BYTES: u64 = 1 << 30;
/// What the memory of the parent is raised to, to see that a start does not depend on it.
const HEAP_BYTES: usize = 2 << 30;

/// Measures starts and output.
pub fn run(plan: &Plan) {
    let folder = tempfile::tempdir().unwrap();
    let runner = Runner::new(Config {
        stub: env!("CARGO_BIN_EXE_op-dbusd").into(),
        temporary: folder.path().into(),
        cgroup: None,
    });
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let spec = |profile| {
        let mut spec = Spec::new([PROGRAM], "/usr");
        spec.profile = profile;
        spec
    };
    for in_flight in [1, 16] {
        heading(&format!("{PROGRAM} from start to end, {in_flight} in flight"));
        let mut parties: Vec<Party<'_>> = vec![
            ("bare spawn and wait", Box::new(|| bare(plan, in_flight))),
            (
                "runner, profile exec",
                Box::new(|| confined(plan, &runtime, &runner, in_flight, &|| spec(Profile::Exec))),
            ),
            (
                "runner, profile none (a stub for each)",
                Box::new(|| confined(plan, &runtime, &runner, in_flight, &|| spec(Profile::None))),
            ),
        ];
        let figures = in_turns(plan, &mut parties);
        rows(&parties, &figures);
    }
    with_heap(&runtime, &runner);
    output(plan, &runtime, &runner);
}

/// Spawns and waits, in as many threads as there are programs at a time.
pub fn bare(plan: &Plan, in_flight: usize) -> Sample {
    let nanos = Mutex::new(Vec::new());
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..in_flight {
            scope.spawn(|| {
                let mut own = Vec::new();
                while start.elapsed() < plan.time() {
                    let before = Instant::now();
                    let mut child = Command::new(PROGRAM).env_clear().spawn().unwrap();
                    assert!(child.wait().unwrap().success());
                    own.push(nanos_since(before));
                }
                nanos.lock().unwrap().extend(own);
            });
        }
    });
    Sample { nanos: nanos.into_inner().unwrap(), wall: start.elapsed() }
}

fn confined(
    plan: &Plan,
    runtime: &Runtime,
    runner: &Runner,
    in_flight: usize,
    spec: &dyn Fn() -> Spec,
) -> Sample {
    let start = Instant::now();
    let one_after_the_other = || async {
        let mut own = Vec::new();
        while start.elapsed() < plan.time() {
            let before = Instant::now();
            let running = runner.start(spec()).await.unwrap();
            assert!(running.finish(Keep::default()).await.unwrap().is_success());
            own.push(nanos_since(before));
        }
        own
    };
    let all = futures_util::future::join_all((0..in_flight).map(|_| one_after_the_other()));
    let nanos = runtime.block_on(all).concat();
    Sample { nanos, wall: start.elapsed() }
}

/// The first start of a fresh runner, which must start a stub, in a process that has much memory.
fn with_heap(runtime: &Runtime, runner: &Runner) {
    println!("\nThe start of a program, from the call to its running");
    let time = |fresh: bool| {
        let mut all = Vec::new();
        for _ in 0..21 {
            let folder = std::env::temp_dir();
            let stub = env!("CARGO_BIN_EXE_op-dbusd").into();
            let own = Runner::new(Config { stub, temporary: folder, cgroup: None });
            let of = if fresh { &own } else { runner };
            let before = Instant::now();
            let running = runtime.block_on(of.start(Spec::new([PROGRAM], "/usr"))).unwrap();
            all.push(nanos_since(before) as f64 / 1e6);
            runtime.block_on(running.finish(Keep::default())).unwrap();
        }
        median(all)
    };
    let line = |name: &str, value: f64| println!("  {name:<44} {value:>10.2} ms");
    line("a stub is ready", time(false));
    line("a stub must be started", time(true));
    let heap = vec![1_u8; HEAP_BYTES];
    line("a stub is ready, heap of 2 GiB", time(false));
    line("a stub must be started, heap of 2 GiB", time(true));
    assert!(heap.iter().step_by(4096).all(|byte| *byte == 1));
}

fn output(plan: &Plan, runtime: &Runtime, runner: &Runner) {
    println!("\n{OUTPUT_BYTES} bytes of output of head -c, MB/s");
    let (mut pipe, mut chunks) = (Vec::new(), Vec::new());
    for _ in 0..plan.runs {
        pipe.push(rate(plain_pipe()));
        let before = Instant::now();
        runtime.block_on(async {
            let mut running = runner.start(Spec::new(output_argv(), "/usr")).await.unwrap();
            let mut left = OUTPUT_BYTES;
            while let Some(chunk) = running.next().await.unwrap() {
                left -= chunk.bytes.len() as u64;
            }
            assert_eq!(left, 0);
        });
        chunks.push(rate(before.elapsed()));
    }
    let (pipe, chunks) = (median(pipe), median(chunks));
    println!("  {:<44} {pipe:>10.0}", "plain pipe of 64 KiB");
    println!("  {:<44} {chunks:>10.0} {:>9.2}", "chunks of the runner", chunks / pipe);
}

/// A program that writes much.
pub fn output_argv() -> Vec<String> {
    ["/usr/bin/head", "-c", &OUTPUT_BYTES.to_string(), "/dev/zero"].map(str::to_owned).into()
}

/// Megabytes in a second, if all of the output takes so long.
pub fn rate(time: Duration) -> f64 {
    OUTPUT_BYTES as f64 / 1e6 / time.as_secs_f64()
}

/// How long all of the output takes through a pipe that is read and thrown away.
pub fn plain_pipe() -> Duration {
    let before = Instant::now();
    let argv = output_argv();
    let mut child = Command::new(&argv[0]).args(&argv[1..]).stdout(Stdio::piped()).spawn().unwrap();
    let mut reader = child.stdout.take().unwrap();
    let (mut buffer, mut left) = (vec![0; 64 << 10], OUTPUT_BYTES);
    while left > 0 {
        left -= reader.read(&mut buffer).unwrap() as u64;
    }
    child.wait().unwrap();
    before.elapsed()
}

fn nanos_since(before: Instant) -> u64 {
    u64::try_from(before.elapsed().as_nanos()).unwrap()
}
