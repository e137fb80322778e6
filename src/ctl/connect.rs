//! Which way to the service: from the command line, the environment and the service's own
//! configuration file. The client library does the connecting.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use super::args::{Credentials as Named, Global, Via};
use super::output::clean;
use super::problem::Problem;
use crate::client::{AgentClient, Bus, Credentials, GrpcAddress, Target};

/// Where the service listens unless it is told otherwise.
const DEFAULT_SOCKET: &str = "/run/op-dbus/grpc.sock";
/// The service's configuration file unless another is named.
const DEFAULT_CONFIG: &str = "/etc/op-dbus/grpc.toml";

/// Where the service keeps its state unless its configuration says otherwise.
const DEFAULT_STATE: &str = "/var/lib/op-dbus";
/// The service's name on the bus unless it is told otherwise.
const DEFAULT_NAME: &str = "org.opdbus.Agents1";
/// The most that is read of a file with a certificate, a key or a token.
const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// The environment variable with the gRPC address.
const ADDRESS_VARIABLE: &str = "OP_DBUS_ADDRESS";

/// Connects the way that the command line asks for.
///
/// # Errors
/// A usage problem for a wrong `$OP_DBUS_ADDRESS`; else that the service cannot be reached.
pub(super) async fn connect(global: &Global) -> Result<AgentClient, Problem> {
    let targets = Places::here(global)?.targets(global);
    let client = AgentClient::connect(&targets, &credentials(&global.credentials)?).await?;
    if global.verbose {
        let mut stderr = io::stderr().lock();
        for attempt in client.earlier() {
            writeln!(stderr, "not by {}: {}", attempt.target, clean(&attempt.problem))?;
        }
        writeln!(stderr, "by {}", client.target())?;
    }
    Ok(client)
}

/// By what the user is known, from the files that the command line or the environment name.
///
/// # Errors
/// A usage problem that names the option. Nothing that the files hold is in it.
pub(super) fn credentials(named: &Named) -> Result<Credentials, Problem> {
    let mut credentials = Credentials::default();
    if let Some(ca) = &named.ca {
        credentials = credentials.with_ca(&read("--ca", ca)?);
    }
    match (&named.cert, &named.key) {
        (Some(cert), Some(key)) => {
            credentials =
                credentials.with_certificate(&read("--cert", cert)?, &read("--key", key)?);
        }
        (None, None) => {}
        (Some(_), None) => return Err(Problem::usage("--cert needs --key", "")),
        (None, Some(_)) => return Err(Problem::usage("--key needs --cert", "")),
    }
    if let Some(path) = &named.token_file {
        let token = String::from_utf8(read("--token-file", path)?).unwrap_or_default();
        let wrong =
            |problem| Problem::usage(format!("--token-file {}: {problem}", path.display()), "");
        credentials = credentials.with_token(&token).map_err(wrong)?;
    }
    Ok(credentials)
}

fn read(option: &str, path: &Path) -> Result<Vec<u8>, Problem> {
    let problem = |error| Problem::usage(format!("{option} {}: {error}", path.display()), "");
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(problem)?;
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes).map_err(problem)?;
    Ok(bytes)
}

/// Where the service may be, as far as command line, environment and configuration tell.
#[derive(Debug)]
pub(super) struct Places {
    /// The gRPC addresses, at least one.
    pub(super) addresses: Vec<GrpcAddress>,
    /// The bus.
    pub(super) bus: Bus,
    /// The name on the bus.
    pub(super) name: String,
}

impl Places {
    /// The places, given the value of `$OP_DBUS_ADDRESS`.
    pub(super) fn new(global: &Global, variable: Option<&str>) -> Result<Self, Problem> {
        let hints = Hints::read(global.config.as_deref().unwrap_or(Path::new(DEFAULT_CONFIG)));
        let addresses = match (&global.address, variable) {
            (Some(address), _) => vec![address.clone()],
            (None, Some(text)) if !text.is_empty() => {
                let wrong = |problem| Problem::usage(format!("${ADDRESS_VARIABLE}: {problem}"), "");
                vec![text.parse().map_err(wrong)?]
            }
            (None, _) if hints.addresses.is_empty() => {
                vec![GrpcAddress::Unix(PathBuf::from(DEFAULT_SOCKET))]
            }
            (None, _) => hints.addresses,
        };
        Ok(Self {
            addresses,
            bus: global.bus.clone().or(hints.bus).unwrap_or(Bus::System),
            name: global.name.clone().or(hints.name).unwrap_or_else(|| DEFAULT_NAME.to_owned()),
        })
    }

    /// The places of this process.
    pub(super) fn here(global: &Global) -> Result<Self, Problem> {
        Self::new(global, std::env::var(ADDRESS_VARIABLE).ok().as_deref())
    }

    /// The ways to try, in order.
    pub(super) fn targets(self, global: &Global) -> Vec<Target> {
        // What is named on the command line is meant: the other transport is no substitute for it.
        let (grpc, dbus) = match global.via {
            Via::Grpc => (true, false),
            Via::Dbus => (false, true),
            Via::Auto => {
                let address = global.address.is_some();
                let bus = global.bus.is_some() || global.name.is_some();
                (address || !bus, bus || !address)
            }
        };
        let grpc = self.addresses.into_iter().filter(|_| grpc).map(Target::Grpc);
        grpc.chain(dbus.then_some(Target::Dbus { bus: self.bus, name: self.name })).collect()
    }
}

/// What the configuration file says about where the service is.
#[derive(Debug, Default)]
struct Hints {
    /// `[client] address`, then `[grpc] unix`.
    addresses: Vec<GrpcAddress>,
    /// `[dbus] bus`.
    bus: Option<Bus>,
    /// `[dbus] name`.
    name: Option<String>,
}

impl Hints {
    /// Reads the file and its drop-ins. What cannot be read gives no hints: whether the
    /// configuration is right is the service's matter, and `config check` tells.
    fn read(file: &Path) -> Self {
        let mut hints = Self::default();
        let (mut client, mut unix) = (None, None);
        for file in files(file) {
            let Ok(text) = fs::read_to_string(&file) else { continue };
            let Ok(table) = text.parse::<toml::Table>() else { continue };
            let text = |section: &str, key: &str| {
                table.get(section).and_then(|section| section.get(key)).and_then(|v| v.as_str())
            };
            client = text("client", "address").and_then(|text| text.parse().ok()).or(client);
            unix = text("grpc", "unix").and_then(|text| text.parse().ok()).or(unix);
            hints.bus = text("dbus", "bus").and_then(|text| text.parse().ok()).or(hints.bus);
            hints.name = text("dbus", "name").map(str::to_owned).or(hints.name);
        }
        hints.addresses = client.into_iter().chain(unix).collect();
        hints
    }
}

/// The folder for state, as the configuration file says, as far as it can be read.
pub(super) fn state_folder(global: &Global) -> PathBuf {
    let file = global.config.as_deref().unwrap_or(Path::new(DEFAULT_CONFIG));
    let read = |file: PathBuf| {
        let table: toml::Table = fs::read_to_string(file).ok()?.parse().ok()?;
        table.get("storage")?.get("path")?.as_str().map(PathBuf::from)
    };
    let last = files(file).into_iter().filter_map(read).next_back();
    last.unwrap_or_else(|| PathBuf::from(DEFAULT_STATE))
}

/// The file and its drop-ins, in the order in which the service reads them.
fn files(file: &Path) -> Vec<PathBuf> {
    let mut folder = file.as_os_str().to_owned();
    folder.push(".d");
    let mut drop_ins: Vec<PathBuf> = match fs::read_dir(&folder) {
        Ok(entries) => entries
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
            .collect(),
        Err(_) => Vec::new(),
    };
    drop_ins.sort();
    [file.to_owned()].into_iter().chain(drop_ins).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::ctl::args::Args;

    fn shown(words: &[&str], variable: Option<&str>, config: &Path) -> Vec<String> {
        let config = config.display().to_string();
        let words = [&["op-dbusctl", "--config", &config], words, &["agents"]].concat();
        let args = Args::try_parse_from(words).unwrap();
        let places = Places::new(&args.global, variable).unwrap();
        places.targets(&args.global).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_command_line_comes_before_the_environment_and_that_before_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("grpc.toml");
        let default =
            ["gRPC at unix:/run/op-dbus/grpc.sock", "org.opdbus.Agents1 on the system bus"];
        assert_eq!(shown(&[], None, &config), default);
        assert_eq!(shown(&["--via", "dbus"], None, &config), default[1..]);

        fs::write(
            &config,
            "[client]\naddress = \"http://127.0.0.1:50051\"\n[grpc]\nunix = \"/a.sock\"\n",
        )
        .unwrap();
        fs::create_dir(folder.path().join("grpc.toml.d")).unwrap();
        fs::write(
            folder.path().join("grpc.toml.d/10.toml"),
            "[dbus]\nbus = \"session\"\nname = \"org.example.X\"\n[grpc]\nunix = \"/b.sock\"\n",
        )
        .unwrap();
        assert_eq!(
            shown(&[], None, &config),
            [
                "gRPC at http://127.0.0.1:50051",
                "gRPC at unix:/b.sock",
                "org.example.X on the session bus"
            ]
        );
        assert_eq!(shown(&["--via", "grpc"], Some("/c.sock"), &config), ["gRPC at unix:/c.sock"]);
        assert_eq!(
            shown(&["--address", "/d.sock"], Some("/c.sock"), &config),
            ["gRPC at unix:/d.sock"],
            "a named address is not replaced by the bus"
        );
        assert_eq!(shown(&["--bus", "system"], None, &config), ["org.example.X on the system bus"]);
    }

    #[test]
    fn a_wrong_variable_is_named() {
        let args =
            Args::try_parse_from(["op-dbusctl", "--config", "/nonexistent", "agents"]).unwrap();
        let problem = Places::new(&args.global, Some("ftp://x")).unwrap_err();
        assert!(
            matches!(&problem, Problem::Usage(text, _) if text.starts_with("$OP_DBUS_ADDRESS: "))
        );
    }
}
