//! Where the service may be found: the texts that people write for it. Nothing is connected here.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// One way to the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// gRPC at an address.
    Grpc(GrpcAddress),
    /// A name on a message bus.
    Dbus {
        /// Which bus.
        bus: Bus,
        /// The service's well-known name.
        name: String,
    },
    /// The older names on a message bus, for the agents that have one.
    Legacy {
        /// Which bus.
        bus: Bus,
    },
}

/// A gRPC address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GrpcAddress {
    /// A Unix socket.
    Unix(PathBuf),
    /// `http://host:port`.
    Http(String),
    /// `https://host:port`.
    Https(String),
}

/// A message bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bus {
    /// The system bus.
    System,
    /// The session bus of the user.
    Session,
    /// The bus at a D-Bus address.
    Address(String),
}

impl FromStr for GrpcAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let secured = text.starts_with("https://");
        if secured || text.starts_with("http://") {
            let uri: http::Uri =
                text.parse().map_err(|error| format!("{text:?} is no address: {error}"))?;
            return match (uri.host(), uri.port_u16(), uri.path()) {
                (Some(_), Some(_), "/" | "") if secured => Ok(Self::Https(text.to_owned())),
                (Some(_), Some(_), "/" | "") => Ok(Self::Http(text.to_owned())),
                _ => Err(format!("{text:?} must be http(s)://HOST:PORT without a path")),
            };
        }
        let path = text.strip_prefix("unix:").unwrap_or(text);
        let path = path.strip_prefix("//").filter(|path| path.starts_with('/')).unwrap_or(path);
        if path.starts_with('/') {
            Ok(Self::Unix(PathBuf::from(path)))
        } else {
            Err(format!("{text:?} must be unix:/PATH, http://HOST:PORT or https://HOST:PORT"))
        }
    }
}

impl FromStr for Bus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "system" => Ok(Self::System),
            "session" => Ok(Self::Session),
            address if address.contains(':') => Ok(Self::Address(address.to_owned())),
            _ => Err(format!(
                "{text:?} must be system, session or a D-Bus address as unix:path=/run/dbus/bus"
            )),
        }
    }
}

impl fmt::Display for GrpcAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Http(uri) | Self::Https(uri) => f.write_str(uri),
        }
    }
}

impl fmt::Display for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("the system bus"),
            Self::Session => f.write_str("the session bus"),
            Self::Address(address) => write!(f, "the bus {address}"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Grpc(address) => write!(f, "gRPC at {address}"),
            Self::Dbus { bus, name } => write!(f, "{name} on {bus}"),
            Self::Legacy { bus } => write!(f, "the older names on {bus}"),
        }
    }
}
