//! How a client reaches the service, from the configuration file, the environment and the program itself.
//! Nothing is connected here.

mod environment;
mod file;

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::address::{Bus, GrpcAddress, Target};
use super::credentials::Credentials;

pub use environment::VARIABLES;

/// Where the service listens unless it is told otherwise.
pub(crate) const DEFAULT_SOCKET: &str = "/run/op-dbus/grpc.sock";

/// The service's name on the bus unless it is told otherwise.
pub(crate) const DEFAULT_NAME: &str = "org.opdbus.Agents1";

/// The longest name that a client gives itself, in bytes.
const MAX_CLIENT_NAME_BYTES: usize = 64;

/// A number of `[client]`, which the service checks as the client does.
#[derive(Clone, Debug)]
pub(crate) struct Number {
    pub(crate) default: u32,
    pub(crate) range: RangeInclusive<u32>,
}

/// `connect_timeout_ms`.
pub(crate) const CONNECT_TIMEOUT_MS: Number = Number { default: 5000, range: 1..=600_000 };

/// `request_timeout_ms`; at most a day.
pub(crate) const REQUEST_TIMEOUT_MS: Number = Number { default: 30_000, range: 1..=86_400_000 };

/// `max_retries`.
pub(crate) const MAX_RETRIES: Number = Number { default: 3, range: 0..=100 };

impl Number {
    /// `value`, if it is in the range.
    fn checked(&self, value: i64) -> Result<u32, String> {
        let number = u32::try_from(value).ok().filter(|number| self.range.contains(number));
        number.ok_or_else(|| {
            format!("{value} must be from {} to {}", self.range.start(), self.range.end())
        })
    }
}

/// A number of milliseconds.
fn millis(number: u32) -> Duration {
    Duration::from_millis(number.into())
}

/// Which ways calls may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Via {
    /// The way of each call's stage in the rollout, which the service tells. While no stage is known: D-Bus,
    /// and gRPC where that cannot be reached.
    #[default]
    Auto,
    /// gRPC.
    Grpc,
    /// The interfaces of op-dbus on D-Bus.
    Dbus,
    /// The older interface on D-Bus.
    Legacy,
}

impl FromStr for Via {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "grpc" => Ok(Self::Grpc),
            "dbus" => Ok(Self::Dbus),
            "legacy" => Ok(Self::Legacy),
            _ => Err(format!("{text:?} must be grpc, dbus, legacy or auto")),
        }
    }
}

/// How the service is reached, and what holds for every call.
///
/// ```
/// use op_dbus::client::{Settings, Via};
///
/// let mut settings = Settings::default();
/// settings.read_variables([("OP_DBUS_VIA".into(), "grpc".into())])?;
/// assert_eq!(settings.via, Via::Grpc);
/// let wrong = settings.read_variables([("OP_DBUS_ADRESS".into(), "/run/x.sock".into())]);
/// assert_eq!(wrong.unwrap_err().place, "OP_DBUS_ADRESS");
/// # Ok::<(), op_dbus::client::SettingsError>(())
/// ```
///
/// # Where settings come from
///
/// [`Settings::load`] takes each from the first of these that says it: the environment, the files
/// (`/etc/op-dbus/grpc.toml` and then `grpc.toml.d/*.toml`, or the file that `OP_DBUS_CONFIG` names and
/// what stands in the folder beside it), the default. A program that sets a field afterwards has the last
/// word.
///
/// | variable | key in the files | default | what |
/// |---|---|---|---|
/// | `OP_DBUS_CONFIG` | | `/etc/op-dbus/grpc.toml` | the file, which must then be there |
/// | `OP_DBUS_VIA` | | `auto` | `grpc`, `dbus`, `legacy`, or `auto`: the way of each call's stage in the rollout |
/// | `OP_DBUS_ADDRESS` | `[client] address`, then `[grpc] unix` | `unix:/run/op-dbus/grpc.sock` | the gRPC address |
/// | `OP_DBUS_BUS` | `[dbus] bus` | `system` | `system`, `session` or a D-Bus address |
/// | `OP_DBUS_NAME` | `[dbus] name` | `org.opdbus.Agents1` | the service's name on the bus |
/// | `OP_DBUS_CONNECT_TIMEOUT_MS` | `[client] connect_timeout_ms` | 5000 | how long connecting may take |
/// | `OP_DBUS_TIMEOUT_MS` | `[client] request_timeout_ms` | 30000 | how long a call may take, unless it says |
/// | `OP_DBUS_MAX_RETRIES` | `[client] max_retries` | 3 | how often a call that is safe to repeat is tried again |
/// | `OP_DBUS_POOL_CONNECTIONS` | `[client] pool_connections` | true | whether calls share a connection that is kept |
/// | `OP_DBUS_CLIENT_NAME` | | none | what the client calls itself |
/// | `OP_DBUS_MINT_REQUEST_IDS` | | false | whether calls that are not idempotent get a request id, so that they too can be made again |
/// | `OP_DBUS_ROUTES_FILE` | | none | a file for the last known stages, for a start without the service |
/// | `OP_DBUS_SESSION` | | none | the session that calls belong to, unless they say |
/// | `OP_DBUS_TOKEN_FILE` | | none | a file with a token, for gRPC |
/// | `OP_DBUS_CA` | | none | the roots that the server's certificate must come from, as PEM, for https |
/// | `OP_DBUS_CERT`, `OP_DBUS_KEY` | | none | the client's certificate and its key, as PEM, for https |
///
/// A variable that is empty says nothing. One that begins with `OP_DBUS_` and is none of these is refused,
/// and so is a value that makes no sense: nothing that somebody meant is passed over.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which ways calls may take.
    pub via: Via,
    /// The gRPC addresses, tried in their order.
    pub addresses: Vec<GrpcAddress>,
    /// The bus.
    pub bus: Bus,
    /// The service's name on the bus.
    pub name: String,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long a call may take, unless it says so itself. Streams have no time but their own.
    pub request_timeout: Duration,
    /// How often a call that is safe to repeat is tried again.
    pub max_retries: u32,
    /// Whether each call that is not idempotent gets a request id, unless it has one, so that it too can be
    /// made again when its answer is lost.
    pub mint_request_ids: bool,
    /// Where the last known stages are kept, for a start without the service; `None`: nowhere.
    pub routes_file: Option<PathBuf>,
    /// Whether calls share a connection, which is then kept; else each makes its own and closes it.
    pub pool_connections: bool,
    /// What the client calls itself, as `op-chat`: 1 to 64 of `A-Z a-z 0-9 . _ -`. Nothing is permitted by
    /// it; the record of who still uses D-Bus shows it.
    pub client_name: Option<String>,
    /// The session that calls belong to, unless they say so themselves.
    pub session: Option<String>,
    /// By what the client is known where the service does not see its process.
    pub credentials: Credentials,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            via: Via::Auto,
            addresses: vec![GrpcAddress::Unix(PathBuf::from(DEFAULT_SOCKET))],
            bus: Bus::System,
            name: DEFAULT_NAME.to_owned(),
            connect_timeout: millis(CONNECT_TIMEOUT_MS.default),
            request_timeout: millis(REQUEST_TIMEOUT_MS.default),
            max_retries: MAX_RETRIES.default,
            mint_request_ids: false,
            routes_file: None,
            pool_connections: true,
            client_name: None,
            session: None,
            credentials: Credentials::default(),
        }
    }
}

/// A setting that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsError {
    /// Where it stands: a variable, or a key with its file.
    pub place: String,
    /// What is wrong with it. Nothing of a token or a key is in it.
    pub problem: String,
}

impl SettingsError {
    fn new(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { place: place.into(), problem: problem.into() }
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.problem)
    }
}

impl std::error::Error for SettingsError {}

impl Settings {
    /// The settings of this process: from its environment and from the files.
    ///
    /// # Errors
    /// The first variable or key that makes no sense, by its name; a file that is named and cannot be read.
    pub fn load() -> Result<Self, SettingsError> {
        let variables = environment::own();
        let mut settings = Self::default();
        match environment::config_file(&variables)? {
            Some(path) => settings.read_file(&path)?,
            None => settings.read_default_file()?,
        }
        settings.read_variables(variables)?;
        Ok(settings)
    }

    /// The ways that calls may take, in the order in which they are tried.
    #[must_use]
    pub fn targets(&self) -> Vec<Target> {
        let dbus = Target::Dbus { bus: self.bus.clone(), name: self.name.clone() };
        let grpc = self.addresses.iter().cloned().map(Target::Grpc);
        match self.via {
            Via::Auto => grpc.chain([dbus]).collect(),
            Via::Grpc => grpc.collect(),
            Via::Dbus => vec![dbus],
            Via::Legacy => vec![Target::Legacy { bus: self.bus.clone() }],
        }
    }
}

/// Checks what a client calls itself.
fn check_client_name(name: &str) -> Result<(), String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    match (1..=MAX_CLIENT_NAME_BYTES).contains(&name.len()) && name.bytes().all(fits) {
        true => Ok(()),
        false => Err("must be 1 to 64 letters, digits, dots, underscores and dashes".to_owned()),
    }
}

#[cfg(test)]
mod tests;
