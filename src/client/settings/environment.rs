//! What the variables of the environment say.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::{
    CONNECT_TIMEOUT_MS, MAX_RETRIES, Number, REQUEST_TIMEOUT_MS, Settings, SettingsError,
    check_client_name, millis,
};
use crate::client::credentials::Credentials;

/// What the names of the variables begin with.
const PREFIX: &str = "OP_DBUS_";

/// Variables with this prefix are the tests' of op-dbus.
const TEST_PREFIX: &str = "OP_DBUS_TEST_";

/// The most that is read of a file with a certificate, a key or a token, in bytes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// The variables that there are, as the table in the documentation of [`Settings`] explains them.
pub const VARIABLES: [&str; 17] = [
    "OP_DBUS_ADDRESS",
    "OP_DBUS_BUS",
    "OP_DBUS_CA",
    "OP_DBUS_CERT",
    "OP_DBUS_CLIENT_NAME",
    "OP_DBUS_CONFIG",
    "OP_DBUS_CONNECT_TIMEOUT_MS",
    "OP_DBUS_KEY",
    "OP_DBUS_MAX_RETRIES",
    "OP_DBUS_MINT_REQUEST_IDS",
    "OP_DBUS_NAME",
    "OP_DBUS_POOL_CONNECTIONS",
    "OP_DBUS_ROUTES_FILE",
    "OP_DBUS_SESSION",
    "OP_DBUS_TIMEOUT_MS",
    "OP_DBUS_TOKEN_FILE",
    "OP_DBUS_VIA",
];

/// A variable and its value.
type Variable = (OsString, OsString);

/// The variables of this process.
pub(super) fn own() -> Vec<Variable> {
    std::env::vars_os().collect()
}

/// The file that the variables name.
///
/// # Errors
/// If it is no text.
pub(super) fn config_file(variables: &[Variable]) -> Result<Option<PathBuf>, SettingsError> {
    let file = variables.iter().find(|(name, _)| name == "OP_DBUS_CONFIG");
    Ok(file.filter(|(_, path)| !path.is_empty()).map(|(_, path)| PathBuf::from(path)))
}

impl Settings {
    /// Takes what `variables` say, as [`std::env::vars_os`] gives them. Those that are not op-dbus's are
    /// passed over.
    ///
    /// # Errors
    /// The first that is unknown or makes no sense, by its name.
    pub fn read_variables(
        &mut self,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<(), SettingsError> {
        let (mut certificate, mut key) = (None, None);
        for (name, value) in variables {
            let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else {
                continue;
            };
            if name.starts_with(TEST_PREFIX) || value.is_empty() {
                continue;
            }
            let wrong = |problem: String| SettingsError::new(name, problem);
            let path = PathBuf::from(&value);
            match name {
                "OP_DBUS_CONFIG" => {}
                "OP_DBUS_CA" => {
                    let ca = read(&path).map_err(wrong)?;
                    self.credentials = std::mem::take(&mut self.credentials).with_ca(&ca);
                }
                "OP_DBUS_CERT" => certificate = Some(read(&path).map_err(wrong)?),
                "OP_DBUS_KEY" => key = Some(read(&path).map_err(wrong)?),
                "OP_DBUS_ROUTES_FILE" => self.routes_file = Some(path),
                "OP_DBUS_TOKEN_FILE" => {
                    let credentials = std::mem::take(&mut self.credentials);
                    self.credentials = with_token_of(credentials, &path).map_err(wrong)?;
                }
                _ => {
                    let value = value.to_str().ok_or_else(|| wrong("is not UTF-8".to_owned()))?;
                    self.take_text(name, value).map_err(wrong)?;
                }
            }
        }
        match (certificate, key) {
            (Some(certificate), Some(key)) => {
                let credentials = std::mem::take(&mut self.credentials);
                self.credentials = credentials.with_certificate(&certificate, &key);
                Ok(())
            }
            (None, None) => Ok(()),
            (Some(_), None) => Err(SettingsError::new("OP_DBUS_CERT", "needs OP_DBUS_KEY")),
            (None, Some(_)) => Err(SettingsError::new("OP_DBUS_KEY", "needs OP_DBUS_CERT")),
        }
    }

    fn take_text(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "OP_DBUS_VIA" => self.via = value.parse()?,
            "OP_DBUS_ADDRESS" => self.addresses = vec![value.parse()?],
            "OP_DBUS_BUS" => self.bus = value.parse()?,
            "OP_DBUS_NAME" => self.name = value.to_owned(),
            "OP_DBUS_CONNECT_TIMEOUT_MS" => {
                self.connect_timeout = millis(number(value, &CONNECT_TIMEOUT_MS)?);
            }
            "OP_DBUS_TIMEOUT_MS" => {
                self.request_timeout = millis(number(value, &REQUEST_TIMEOUT_MS)?);
            }
            "OP_DBUS_MAX_RETRIES" => self.max_retries = number(value, &MAX_RETRIES)?,
            "OP_DBUS_MINT_REQUEST_IDS" => self.mint_request_ids = truth(value)?,
            "OP_DBUS_POOL_CONNECTIONS" => self.pool_connections = truth(value)?,
            "OP_DBUS_CLIENT_NAME" => {
                check_client_name(value)?;
                self.client_name = Some(value.to_owned());
            }
            "OP_DBUS_SESSION" => self.session = Some(value.to_owned()),
            _ => return Err(format!("is not known; there are {}", VARIABLES.join(", "))),
        }
        Ok(())
    }
}

fn truth(value: &str) -> Result<bool, String> {
    bool::from_str(value).map_err(|_| format!("{value:?} must be true or false"))
}

fn number(value: &str, known: &Number) -> Result<u32, String> {
    let number = value.parse().map_err(|_| format!("{value:?} must be a whole number"))?;
    known.checked(number)
}

fn with_token_of(credentials: Credentials, path: &Path) -> Result<Credentials, String> {
    let wrong = |problem: String| format!("{}: {problem}", path.display());
    let token =
        String::from_utf8(read(path)?).map_err(|_| wrong("it holds no token".to_owned()))?;
    credentials.with_token(&token).map_err(wrong)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let file = File::open(path).and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut bytes));
    file.map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(bytes)
}
