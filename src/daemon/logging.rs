//! Where the log goes: to standard error, or to the journal with its fields. What is logged is the
//! matter of those who log it.

use std::fmt;
use std::io::{IsTerminal as _, stderr};
use std::os::fd::AsFd as _;
use std::panic;

use tracing::Subscriber;
use tracing::dispatcher;
use tracing::field::Field;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::DefaultGuard;
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::registry::{LookupSpan, Registry};
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{Log, LogTarget};
use crate::events;

/// The log, once the configuration says where it goes.
pub(super) struct Logging {
    filter: reload::Handle<Targets, Registry>,
}

/// Logs to standard error until the guard is dropped: nobody has said yet where to.
pub(super) fn to_stderr_for_now() -> DefaultGuard {
    let filter = targets(LevelFilter::INFO);
    tracing::subscriber::set_default(Registry::default().with(filter).with(stderr_layer()))
}

impl Logging {
    /// Logs to where `log` says.
    pub(super) fn start(log: Log) -> Self {
        let (filter, handle) = reload::Layer::new(targets(log.level));
        let registry = Registry::default().with(filter);
        let wanted = match log.target {
            LogTarget::Stderr => false,
            LogTarget::Journald => true,
            LogTarget::Auto => stderr_is_the_journal(),
        };
        match wanted.then(journal_layer) {
            Some(Ok(journal)) => registry.with(journal).init(),
            Some(Err(error)) => {
                registry.with(stderr_layer()).init();
                tracing::warn!("the journal cannot be reached, so the log goes to stderr: {error}");
            }
            None => registry.with(stderr_layer()).init(),
        }
        Self { filter: handle }
    }

    /// Changes the level.
    pub(super) fn set_level(&self, level: LevelFilter) {
        if let Err(error) = self.filter.reload(targets(level)) {
            tracing::error!("the log's level cannot be changed: {error}");
        }
    }
}

/// True if the log goes to the journal.
pub(super) fn to_journal() -> bool {
    dispatcher::get_default(|log| log.downcast_ref::<tracing_journald::Layer>().is_some())
}

/// Logs every panic, with its place, before the panicking thread unwinds.
pub(super) fn log_panics() {
    panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(
            message_id = events::PANICKED,
            place,
            "op-dbus has a fault, please report it: panicked at {place}: {}",
            text.unwrap_or("without a text")
        );
    }));
}

/// `level` for op-dbus's own events; of the libraries below it only what is wrong.
fn targets(level: LevelFilter) -> Targets {
    Targets::new().with_default(level.min(LevelFilter::WARN)).with_target("op_dbus", level)
}

/// systemd says in `JOURNAL_STREAM` which device and inode it connected with the journal. Comparing
/// them tells whether standard error still is that.
fn stderr_is_the_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    rustix::fs::fstat(stderr().as_fd())
        .is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

fn journal_layer() -> std::io::Result<tracing_journald::Layer> {
    Ok(tracing_journald::layer()?
        // The fields' own names, as AGENT= and MESSAGE_ID=.
        .with_field_prefix(None)
        .with_syslog_identifier("op-dbusd".to_owned())
        .with_priority_mappings(PriorityMappings {
            info: Priority::Informational,
            debug: Priority::Debug,
            ..PriorityMappings::new()
        }))
}

fn stderr_layer<S>() -> impl Layer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let wants_colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    tracing_subscriber::fmt::layer()
        .with_writer(stderr)
        .with_ansi(wants_colour && stderr().is_terminal())
        .with_target(false)
        .fmt_fields(debug_fn(write_field))
}

/// The message, which comes first, and then the fields, without the id that only the journal's catalog
/// knows.
fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    match field.name() {
        "message" => write!(writer, "{value:?}"),
        "message_id" => Ok(()),
        name => write!(writer, " {name}={value:?}"),
    }
}
