//! Which way to the service: from the command line, and through the client library from the environment
//! and the service's own configuration file.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use super::args::{Credentials as Named, Global, Via};
use super::output::clean;
use super::problem::Problem;
use super::restart::Waiting;
use crate::call::NAME_OF_COMPARISON;
use crate::client::{self, AgentClient, Credentials, Settings, Way};
use crate::files;

/// Where the service keeps its state unless its configuration says otherwise.
const DEFAULT_STATE: &str = "/var/lib/op-dbus";
/// The most that is read of a file with a certificate, a key or a token.
const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// The variables that are options of the command line as well, which has read them.
const OPTIONS: [&str; 5] =
    ["OP_DBUS_CA", "OP_DBUS_CERT", "OP_DBUS_KEY", "OP_DBUS_TOKEN_FILE", "OP_DBUS_VIA"];

/// Connects the way that the command line asks for.
///
/// # Errors
/// A usage problem for a wrong variable; else that the service cannot be reached.
pub(super) async fn connect(global: &Global) -> Result<AgentClient, Problem> {
    open(global, settings(global)?).await
}

/// Connects over one way, whichever the command line asks for, to compare it.
///
/// # Errors
/// As [`connect`].
pub(super) async fn connect_by(global: &Global, via: client::Via) -> Result<AgentClient, Problem> {
    let client_name = Some(NAME_OF_COMPARISON.to_owned());
    open(global, Settings { via, client_name, ..settings(global)? }).await
}

/// What tells about agents where `client` calls them: the older interface on D-Bus does not, and that of
/// today is beside it.
///
/// # Errors
/// As [`connect`].
pub(super) fn describer(global: &Global, client: &AgentClient) -> Result<AgentClient, Problem> {
    match client.way() {
        Way::Dbus | Way::Grpc => Ok(client.clone()),
        Way::Legacy => {
            let settings = Settings { via: client::Via::Dbus, ..settings(global)? };
            Ok(AgentClient::direct(&settings).carried_by(Waiting::around))
        }
    }
}

async fn open(global: &Global, settings: Settings) -> Result<AgentClient, Problem> {
    let credentials = credentials(&global.credentials)?;
    let client = AgentClient::direct(&Settings { credentials, ..settings });
    let client = client.carried_by(Waiting::around);
    client.ready().await?;
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

/// How the service is reached, as far as command line, environment and configuration tell.
///
/// # Errors
/// A usage problem for a wrong variable.
pub(super) fn settings(global: &Global) -> Result<Settings, Problem> {
    settings_with(global, std::env::vars_os())
}

fn settings_with(
    global: &Global,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Settings, Problem> {
    let mut settings = from_file(global.config.as_deref());
    let variables = variables.into_iter().filter(|(name, _)| !OPTIONS.iter().any(|it| name == it));
    let read = settings.read_variables(variables);
    read.map_err(|error| Problem::usage(format!("${error}"), ""))?;
    if let Some(address) = &global.address {
        settings.addresses = vec![address.clone()];
    }
    if let Some(bus) = &global.bus {
        settings.bus = bus.clone();
    }
    if let Some(name) = &global.name {
        settings.name.clone_from(name);
    }
    // What is named on the command line is meant: the other transport is no substitute for it.
    let (address, bus) = (global.address.is_some(), global.bus.is_some() || global.name.is_some());
    settings.via = match global.via {
        Via::Grpc => client::Via::Grpc,
        Via::Dbus => client::Via::Dbus,
        Via::Legacy => client::Via::Legacy,
        Via::Auto if address && !bus => client::Via::Grpc,
        Via::Auto if bus && !address => client::Via::Dbus,
        Via::Auto => client::Via::Auto,
    };
    Ok(settings)
}

/// What the configuration says. One that is wrong or cannot be read gives no hints: whether it is right is
/// the service's matter, and `config check` tells.
fn from_file(path: Option<&Path>) -> Settings {
    let mut settings = Settings::default();
    let read = match path {
        Some(path) => settings.read_file(path),
        None => settings.read_default_file(),
    };
    read.map_or_else(|_| Settings::default(), |()| settings)
}

/// The folder for state, as the configuration file says, as far as it can be read.
pub(super) fn state_folder(global: &Global) -> PathBuf {
    let file = global.config.as_deref().unwrap_or(Path::new(files::DEFAULT_PATH));
    let sources = files::sources(file, true).unwrap_or_default();
    let read = |source: files::Source| {
        let table: toml::Table = source.text.parse().ok()?;
        table.get("storage")?.get("path")?.as_str().map(PathBuf::from)
    };
    let last = sources.into_iter().filter_map(read).next_back();
    last.unwrap_or_else(|| PathBuf::from(DEFAULT_STATE))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::ctl::args::Args;

    fn address(value: Option<&str>) -> Vec<(OsString, OsString)> {
        value.map(|value| ("OP_DBUS_ADDRESS".into(), value.into())).into_iter().collect()
    }

    fn shown(words: &[&str], variable: Option<&str>, config: &Path) -> Vec<String> {
        let config = config.display().to_string();
        let words = [&["op-dbusctl", "--config", &config], words, &["agents"]].concat();
        let args = Args::try_parse_from(words).unwrap();
        let settings = settings_with(&args.global, address(variable)).unwrap();
        settings.targets().iter().map(ToString::to_string).collect()
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
        let problem = settings_with(&args.global, address(Some("ftp://x"))).unwrap_err();
        assert!(
            matches!(&problem, Problem::Usage(text, _) if text.starts_with("$OP_DBUS_ADDRESS: "))
        );
    }
}
