//! What the runner says about a program, as the contract has it.

use nix::sys::signal::Signal;

use crate::error::Error;
use crate::process::{self, Exit, Kept, Limit, Limits, Report, State};
use crate::proto::opdbus::agent::commands::v1::{
    Chunk, Ended, Mechanism, MechanismState, Printed, Stream,
};

/// How a program ended that ran under `limits`.
pub(super) fn ended(ended: &process::Ended, limits: &Limits) -> Ended {
    let (code, signal) = match ended.exit {
        Exit::Code(code) => (Some(code), String::new()),
        Exit::Signal(number) => (None, signal_name(number)),
    };
    Ended {
        code,
        signal,
        limit: ended.limit.map(Limit::name).unwrap_or_default().to_owned(),
        limit_value: ended.limit.map(|limit| limit_value(limit, limits)).unwrap_or_default(),
        stopped: ended.stopped,
        wall: ended.wall.try_into().ok(),
        user: ended.usage.user.try_into().ok(),
        system: ended.usage.system.try_into().ok(),
        memory_max_bytes: ended.usage.memory_max_bytes,
        left_behind: ended.left_behind,
        unkillable: ended.unkillable,
        problem: String::new(),
    }
}

/// The same, or why nobody knows.
pub(super) fn outcome(outcome: &Result<process::Ended, Error>, limits: &Limits) -> Ended {
    match outcome {
        Ok(known) => ended(known, limits),
        Err(error) => Ended { problem: error.to_string(), ..Ended::default() },
    }
}

/// A signal's name, as `KILL`.
fn signal_name(number: i32) -> String {
    let name = Signal::try_from(number).map(Signal::as_str);
    name.map_or_else(|_| number.to_string(), |name| name.trim_start_matches("SIG").to_owned())
}

fn limit_value(limit: Limit, limits: &Limits) -> String {
    let with = |value: Option<u64>, unit: &str| {
        value.map(|value| format!("{value} {unit}")).unwrap_or_default()
    };
    match limit {
        Limit::Wall => limits.wall.map(|wall| format!("{wall:?}")).unwrap_or_default(),
        Limit::Cpu => limits.cpu.map(|cpu| format!("{cpu:?}")).unwrap_or_default(),
        Limit::Memory => with(limits.memory_bytes, "bytes"),
        Limit::Processes => with(limits.processes.map(u64::from), "processes"),
        Limit::FileSize => with(limits.file_size_bytes, "bytes"),
        Limit::Output => with(limits.output_bytes, "bytes"),
    }
}

/// How it stands with each mechanism of the confinement.
pub(super) fn sandbox(report: &Report) -> Vec<Mechanism> {
    let mechanism = |(mechanism, state): (process::Mechanism, &State)| {
        let (state, detail) = match state {
            State::Enforced(by) => (MechanismState::Enforced, by.as_str()),
            State::Unavailable(why) => (MechanismState::Unavailable, why.as_str()),
            State::Off => (MechanismState::Off, ""),
        };
        Mechanism {
            name: mechanism.name().to_owned(),
            state: state.into(),
            detail: detail.to_owned(),
        }
    };
    report.iter().map(mechanism).collect()
}

/// True if an answer with at most `end_bytes` of the beginning and of the end of a stream does not hold all.
pub(super) fn is_cut(kept: &Kept, end_bytes: usize) -> bool {
    kept.total() > 2 * end_bytes as u64
}

/// What is kept of a stream, of its end at most `tail_bytes`. `recorded` bytes of its beginning are in a
/// file, and `problem` says why not all.
pub(super) fn printed(kept: &Kept, tail_bytes: usize, recorded: u64, problem: &str) -> Printed {
    let lost = kept.left_out().saturating_sub(recorded.saturating_sub(kept.head().len() as u64));
    let kept = kept.shortened(tail_bytes);
    Printed {
        // No text on D-Bus has a zero byte.
        text: kept.text().replace('\0', "\u{fffd}"),
        total_bytes: kept.total(),
        left_out_bytes: kept.left_out(),
        lost_bytes: lost,
        lost_reason: if lost == 0 { String::new() } else { problem.to_owned() },
        tail: kept.tail().into(),
        head: kept.head().to_vec().into(),
    }
}

/// A piece of what a program printed.
pub(super) fn chunk(chunk: process::Chunk) -> Chunk {
    Chunk { stream: stream(chunk.stream).into(), offset: chunk.offset, data: chunk.bytes }
}

fn stream(stream: process::Stream) -> Stream {
    match stream {
        process::Stream::Stdout => Stream::Stdout,
        process::Stream::Stderr => Stream::Stderr,
    }
}
