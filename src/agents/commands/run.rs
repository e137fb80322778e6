//! From what a request says about a program to what the runner takes: limits, profile, paths, folder
//! and environment, each within what the configuration allows. Whether the program may run at all is
//! `policy`'s.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::config::{self, Config};
use crate::error::{Error, ErrorKind};
use crate::process::{
    Access, Directory, Extra, Keep, Limits, Policy, Profile, Spec, Stdio, WindowSize,
};
use crate::proto::opdbus::agent::commands::v1::{
    self as proto, AccessMode, Confinement, PathAccess, Run, Stdin, TerminalSize,
};

/// How many paths a request may name.
const ACCESS_MAX: usize = 64;
/// How much of each end of a stream is kept if nothing is said.
const KEEP_BYTES: usize = 64 << 10;
/// The size of a terminal if nothing is said.
const TERMINAL: WindowSize = WindowSize { rows: 24, columns: 80 };
/// What is passed on from the worker's environment, which has the user's own.
const OF_USER: [&str; 3] = ["USER", "LOGNAME", "SHELL"];

/// The program `argv` as the runner takes it.
///
/// # Errors
/// `InvalidArgument` naming the field, `AccessDenied` or `LimitExceeded` naming the setting.
pub(super) fn spec(
    argv: Vec<String>,
    directory: &str,
    run: &Run,
    config: &Config,
) -> Result<Spec, Error> {
    let directory = folder(directory)?;
    let profile = profile(&run.profile, config)?;
    let extra = run.access.iter().map(extra).collect::<Result<Vec<_>, _>>()?;
    if extra.len() > ACCESS_MAX {
        return Err(Error::invalid("run.access", format!("names more than {ACCESS_MAX} paths")));
    }
    let environment = environment(run, &directory, profile, &extra);
    Ok(Spec {
        argv: argv.into_iter().map(Into::into).collect(),
        environment,
        stdio: stdio(run)?,
        limits: limits(run.limits.as_ref().unwrap_or(&proto::Limits::default()), config)?,
        profile,
        extra,
        policy: policy(run.confinement(), config)?,
        directory: Directory::Path(directory),
    })
}

/// How much of each stream is kept for the answer.
///
/// # Errors
/// `LimitExceeded` naming `commands.keep_bytes_max`.
pub(super) fn keep_bytes(run: &Run, config: &Config) -> Result<usize, Error> {
    if run.keep_bytes == 0 {
        return Ok(KEEP_BYTES.min(config.keep_bytes_max));
    }
    let asked =
        usize::try_from(run.keep_bytes).ok().filter(|asked| *asked <= config.keep_bytes_max);
    asked.ok_or_else(|| {
        let text = format!("run.keep_bytes: {} is more than may be", run.keep_bytes);
        Error::limit("commands.keep_bytes_max", config.keep_bytes_max, text)
    })
}

/// What is kept of a stream that is read elsewhere: nothing but how long it is.
pub(super) const KEEP_NOTHING: Keep = Keep { head_bytes: 0, tail_bytes: 0 };

/// What is kept of a stream: a beginning, and of the end as much as can be read on from.
pub(super) fn keep(keep_bytes: usize, config: &Config) -> Keep {
    Keep { head_bytes: keep_bytes, tail_bytes: keep_bytes.max(config.ring_bytes) }
}

/// A size of a terminal; 0 is the usual one.
///
/// # Errors
/// `InvalidArgument` naming `field`.
pub(super) fn window(size: TerminalSize, field: &str) -> Result<WindowSize, Error> {
    let number = |asked, usual| match asked {
        0 => Ok(usual),
        asked => u16::try_from(asked)
            .map_err(|_| Error::invalid(field, "has at most 65535 rows and columns")),
    };
    Ok(WindowSize {
        rows: number(size.rows, TERMINAL.rows)?,
        columns: number(size.columns, TERMINAL.columns)?,
    })
}

/// A time that a request names; none if it does not.
///
/// # Errors
/// `InvalidArgument` naming `field` for one that is negative.
pub(super) fn time(
    asked: Option<prost_types::Duration>,
    field: &str,
) -> Result<Option<Duration>, Error> {
    let time = asked.map(Duration::try_from).transpose();
    time.map_err(|_| Error::invalid(field, "must not be negative"))
}

/// The folder in which a program runs, for people.
pub(super) fn directory(spec: &Spec) -> String {
    match &spec.directory {
        Directory::Path(path) | Directory::Beneath(_, path) => path.display().to_string(),
    }
}

/// The caller's home: of the user that the worker is.
pub(super) fn home() -> PathBuf {
    std::env::var_os("HOME").filter(|home| !home.is_empty()).map_or_else(|| "/".into(), Into::into)
}

fn folder(directory: &str) -> Result<PathBuf, Error> {
    if directory.contains('\0') {
        return Err(Error::invalid("directory", "has a zero byte"));
    }
    match directory {
        "" => Ok(home()),
        path if !path.starts_with('/') => {
            Err(Error::invalid("directory", "must be an absolute path"))
        }
        path => Ok(path.into()),
    }
}

fn profile(name: &str, config: &Config) -> Result<Profile, Error> {
    let name = if name.is_empty() { Profile::Exec.rules().name } else { name };
    let profile = Profile::named(name).ok_or_else(|| {
        let known = Profile::ALL.map(|profile| profile.rules().name).join(", ");
        Error::invalid("run.profile", format!("{name:?} is none of {known}"))
    })?;
    if config.profiles.iter().any(|allowed| allowed == name) {
        return Ok(profile);
    }
    let allowed = config.profiles.join(", ");
    let text = format!("run.profile: {name} may not be asked for ([commands] profiles: {allowed})");
    Err(Error::new(ErrorKind::AccessDenied, text)
        .with_fact("field", "run.profile")
        .with_fact("limit", "commands.profiles")
        .with_fact("limit_value", allowed))
}

fn policy(asked: Confinement, config: &Config) -> Result<Policy, Error> {
    let asked = match asked {
        Confinement::Unspecified => config.confinement,
        Confinement::Off => config::Confinement::Off,
        Confinement::Prefer => config::Confinement::Prefer,
        Confinement::Require => config::Confinement::Require,
    };
    if asked < config.confinement {
        let text = format!(
            "run.confinement: {} is less than [commands] confinement, which is {}",
            asked.name(),
            config.confinement.name()
        );
        return Err(Error::new(ErrorKind::AccessDenied, text)
            .with_fact("field", "run.confinement")
            .with_fact("limit", "commands.confinement")
            .with_fact("limit_value", config.confinement.name()));
    }
    Ok(match asked {
        config::Confinement::Off => Policy::Off,
        config::Confinement::Prefer => Policy::Prefer,
        config::Confinement::Require => Policy::Require,
    })
}

fn extra(asked: &PathAccess) -> Result<Extra, Error> {
    let path = Path::new(&asked.path);
    if !path.is_absolute() || !path.exists() {
        let problem = format!("{:?} is no absolute path that exists", asked.path);
        return Err(Error::invalid("run.access", problem));
    }
    let access = match asked.mode() {
        AccessMode::Unspecified | AccessMode::Read => Access::Read,
        AccessMode::Execute => Access::Execute,
        AccessMode::Write => Access::Write,
    };
    Ok(Extra { path: path.to_owned(), access })
}

/// What the request gives, and the user's own. `HOME` is the user's if the program may touch it; else
/// the runner gives it an empty one, which programs take better than one that they may not read.
fn environment(
    run: &Run,
    directory: &Path,
    profile: Profile,
    extra: &[Extra],
) -> Vec<(OsString, OsString)> {
    let given = |name: &str| run.environment.contains_key(name);
    let mut environment: Vec<(OsString, OsString)> =
        run.environment.iter().map(|(name, value)| (name.into(), value.into())).collect();
    for name in OF_USER {
        if let Some(value) = std::env::var_os(name).filter(|_| !given(name)) {
            environment.push((name.into(), value));
        }
    }
    let home = home();
    let mut open = extra.iter().map(|extra| extra.path.as_path()).chain([directory]);
    if !given("HOME")
        && (profile.rules().files.is_none() || open.any(|folder| home.starts_with(folder)))
    {
        environment.push(("HOME".into(), home.into()));
    }
    environment
}

fn stdio(run: &Run) -> Result<Stdio, Error> {
    let stdio = match run.stdin() {
        Stdin::Unspecified if run.input.is_empty() => Stdio::Null,
        Stdin::Null if run.input.is_empty() => Stdio::Null,
        Stdin::Null => return Err(Error::invalid("run.input", "there is none with STDIN_NULL")),
        Stdin::Unspecified | Stdin::Pipe => Stdio::Piped,
        Stdin::Terminal => {
            let size = run.terminal.unwrap_or_default();
            return Ok(Stdio::Terminal(window(size, "run.terminal")?));
        }
    };
    match run.terminal {
        Some(_) => Err(Error::invalid("run.terminal", "has no meaning without STDIN_TERMINAL")),
        None => Ok(stdio),
    }
}

fn limits(asked: &proto::Limits, config: &Config) -> Result<Limits, Error> {
    let bounds = &config.limits;
    let number = |asked: u64| Some(asked).filter(|asked| *asked != 0);
    let ms = |asked, field: &str| -> Result<Option<u64>, Error> {
        // A part of a millisecond is one: 0 would be none.
        let whole = |time: Duration| u64::try_from(time.as_nanos().div_ceil(1_000_000));
        Ok(time(asked, field)?.map(|time| whole(time).unwrap_or(u64::MAX)))
    };
    let wall = ms(asked.wall, "run.limits.wall")?;
    let cpu = ms(asked.cpu, "run.limits.cpu")?;
    let grace = ms(asked.grace, "run.limits.grace")?;
    let admit = |bound: config::Bound, asked, field: &str, key| bound.admit(asked, field, key);
    let processes = admit(
        bounds.processes,
        number(asked.processes.into()),
        "run.limits.processes",
        "commands.max_processes",
    )?;
    let wall = admit(bounds.wall_ms, wall, "run.limits.wall", "commands.max_wall_ms")?;
    let cpu = admit(bounds.cpu_ms, cpu, "run.limits.cpu", "commands.max_cpu_ms")?;
    // No grace at all is a good one.
    let grace = match grace {
        Some(0) => Some(0),
        grace => admit(bounds.grace_ms, grace, "run.limits.grace", "commands.max_grace_ms")?,
    };
    Ok(Limits {
        wall: wall.map(Duration::from_millis),
        cpu: cpu.map(Duration::from_millis),
        memory_bytes: admit(
            bounds.memory_bytes,
            number(asked.memory_bytes),
            "run.limits.memory_bytes",
            "commands.max_memory_bytes",
        )?,
        processes: processes.map(|count| u32::try_from(count).unwrap_or(u32::MAX)),
        file_size_bytes: admit(
            bounds.file_size_bytes,
            number(asked.file_size_bytes),
            "run.limits.file_size_bytes",
            "commands.max_file_size_bytes",
        )?,
        output_bytes: admit(
            bounds.output_bytes,
            number(asked.output_bytes),
            "run.limits.output_bytes",
            "commands.max_output_bytes",
        )?,
        grace: Duration::from_millis(grace.unwrap_or_default()),
        ..Limits::default()
    })
}
