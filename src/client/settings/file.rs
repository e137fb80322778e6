//! What the files say: `[client]`, and where the service listens. The other sections are the service's
//! own, which checks them.

use std::path::Path;

use toml::{Table, Value};

use super::{
    CONNECT_TIMEOUT_MS, MAX_RETRIES, Number, REQUEST_TIMEOUT_MS, Settings, SettingsError, millis,
};
use crate::client::address::GrpcAddress;
use crate::files::{self, Source, Unreadable};

impl Settings {
    /// Takes what the file at `path` and its drop-ins say.
    ///
    /// # Errors
    /// A key that makes no sense, by its name and file; a file that cannot be read or is no TOML.
    pub fn read_file(&mut self, path: &Path) -> Result<(), SettingsError> {
        self.take(files::sources(path, false))
    }

    /// The same for the file that is there unless another is named. A file that is not there, or that this
    /// user may not read, says nothing.
    ///
    /// # Errors
    /// As [`Settings::read_file`].
    pub fn read_default_file(&mut self) -> Result<(), SettingsError> {
        match files::sources(Path::new(files::DEFAULT_PATH), true) {
            Err(unreadable) if unreadable.error.kind() == std::io::ErrorKind::PermissionDenied => {
                Ok(())
            }
            sources => self.take(sources),
        }
    }

    fn take(&mut self, sources: Result<Vec<Source>, Unreadable>) -> Result<(), SettingsError> {
        let sources = sources.map_err(|Unreadable { path, error }| {
            SettingsError::new(path.display().to_string(), format!("cannot be read: {error}"))
        })?;
        let (mut client, mut unix) = (None, None);
        for Source { path, text } in sources {
            let place = path.display().to_string();
            let table: Table = text
                .parse()
                .map_err(|error: toml::de::Error| SettingsError::new(&place, error.message()))?;
            let file = File { table: &table, place: &place };
            client = file.parsed("client", "address")?.or(client);
            unix = file.text("grpc", "unix")?.filter(|path| !path.is_empty()).or(unix);
            self.take_keys(&file)?;
        }
        let unix = unix.map(|path| GrpcAddress::Unix(path.into()));
        let mut addresses: Vec<GrpcAddress> = client.into_iter().chain(unix).collect();
        addresses.dedup();
        if !addresses.is_empty() {
            self.addresses = addresses;
        }
        Ok(())
    }

    fn take_keys(&mut self, file: &File<'_>) -> Result<(), SettingsError> {
        if let Some(bus) = file.parsed("dbus", "bus")? {
            self.bus = bus;
        }
        if let Some(name) = file.text("dbus", "name")? {
            self.name = name;
        }
        if let Some(time) = file.number("connect_timeout_ms", &CONNECT_TIMEOUT_MS)? {
            self.connect_timeout = millis(time);
        }
        if let Some(time) = file.number("request_timeout_ms", &REQUEST_TIMEOUT_MS)? {
            self.request_timeout = millis(time);
        }
        if let Some(retries) = file.number("max_retries", &MAX_RETRIES)? {
            self.max_retries = retries;
        }
        if let Some(value) = file.get("client", "pool_connections") {
            let pool = value.as_bool();
            let wrong = || file.error("client", "pool_connections", "must be true or false");
            self.pool_connections = pool.ok_or_else(wrong)?;
        }
        file.known(&[
            "address",
            "connect_timeout_ms",
            "request_timeout_ms",
            "max_retries",
            "pool_connections",
        ])
    }
}

/// One file.
struct File<'a> {
    table: &'a Table,
    place: &'a str,
}

impl File<'_> {
    fn get(&self, section: &str, key: &str) -> Option<&Value> {
        self.table.get(section)?.get(key)
    }

    fn error(&self, section: &str, key: &str, problem: impl Into<String>) -> SettingsError {
        SettingsError::new(format!("{}: {section}.{key}", self.place), problem)
    }

    fn text(&self, section: &str, key: &str) -> Result<Option<String>, SettingsError> {
        let Some(value) = self.get(section, key) else { return Ok(None) };
        match value.as_str() {
            Some(text) => Ok(Some(text.to_owned())),
            None => Err(self.error(section, key, "must be a text")),
        }
    }

    fn parsed<T: std::str::FromStr<Err = String>>(
        &self,
        section: &str,
        key: &str,
    ) -> Result<Option<T>, SettingsError> {
        let text = self.text(section, key)?;
        let parsed = text.map(|text| text.parse()).transpose();
        parsed.map_err(|problem| self.error(section, key, problem))
    }

    /// A number of `[client]`.
    fn number(&self, key: &str, known: &Number) -> Result<Option<u32>, SettingsError> {
        let Some(value) = self.get("client", key) else { return Ok(None) };
        let number = value.as_integer().ok_or_else(|| "must be a whole number".to_owned());
        let number = number.and_then(|number| known.checked(number));
        number.map(Some).map_err(|problem| self.error("client", key, problem))
    }

    /// Refuses a key of `[client]` that is none of `keys`.
    fn known(&self, keys: &[&str]) -> Result<(), SettingsError> {
        let section = self.table.get("client").and_then(Value::as_table);
        let unknown =
            section.and_then(|table| table.keys().find(|key| !keys.contains(&key.as_str())));
        match unknown {
            None => Ok(()),
            Some(key) => {
                let problem = format!("there is no such key; there are {}", keys.join(", "));
                Err(self.error("client", key, problem))
            }
        }
    }
}
